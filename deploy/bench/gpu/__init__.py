"""Measure the vision tower on an NVIDIA GPU."""
