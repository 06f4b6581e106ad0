"""Whether a tensor is free of NaN and infinity, asked a piece at a time: the answer costs no copy of a large table."""

from __future__ import annotations

import math

import torch
from torch import Tensor

#: Rows that are looked at together.
ROWS = 16_384


def is_finite(tensor: Tensor) -> bool:
    """Whether every number is one."""
    parts = tensor.split(ROWS) if tensor.dim() else (tensor,)
    return all(_has_finite_sum(part) or bool(torch.isfinite(part).all()) for part in parts)


def _has_finite_sum(part: Tensor) -> bool:
    """NaN and infinity stay in a sum, which is quicker than to look at each; large numbers may overflow without any."""
    return math.isfinite(part.sum().item())
