"""Choices that decide which types and operators a graph has.

This module imports no library, so that the command line starts without torch.
"""

from typing import Literal

Precision = Literal["fp32", "fp16", "bf16"]
"""The type of the matrix products."""

GraphForm = Literal["fused", "elementary", "packed"]
"""Which operators express attention, rotation, sums and norms; see `export.graph.forms`."""
