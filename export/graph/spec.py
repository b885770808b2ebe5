"""Choices that decide which types and operators a graph has. Imports nothing, so that command lines can name them."""

from typing import Literal

Precision = Literal["fp32", "fp16", "bf16"]
"""The type of the matrix products."""

GraphForm = Literal["fused", "elementary"]
"""Which operators express attention, rotation, sums and norms; see `export.graph.forms`."""
