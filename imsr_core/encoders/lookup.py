"""Rows of a table, with a gradient that a large catalogue can afford."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

SPARSE_ROWS = 50_000
"""A table from this many rows on gets sparse gradients: a step's cost must not follow the catalogue."""


def lookup(table: Tensor, rows: Tensor) -> Tensor:
    """Rows of a table (V, d) -> (..., d); the gradient of a large table touches these rows only."""
    sparse = table.is_leaf and table.requires_grad and len(table) >= SPARSE_ROWS
    return F.embedding(rows, table, sparse=sparse)
