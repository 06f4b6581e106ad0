"""PeterRec's model patch: a two-layer bottleneck put into a frozen layer.

    bottleneck(x) = W_up gelu(W_down x + b_down) + b_up          W_down (d / r, d), W_up (d, d / r)
    serial        y -> y + bottleneck(y)       y = the layer's output
    parallel      y -> y + bottleneck(x)       x = the layer's input

Code: GELU (the slides' figure has ReLU), insertion before the norm. Decided: W_up and b_up start at 0 and the
parallel patch has no skip of its own (the released one adds x once more), so that a fresh patch changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from imsr_core.encoders.adapter import Patch
from imsr_core.encoders.tokens import FIRST_ITEM
from imsr_core.lifelong.config import Insertion
from imsr_core.lifelong.state import subset


@dataclass(frozen=True, eq=False)
class ModelPatch:
    """One patch; callable as an ``Adapter`` wants it."""

    parallel: bool
    down_weight: Tensor  # (d / r, d)
    down_bias: Tensor  # (d / r,)
    up_weight: Tensor  # (d, d / r)
    up_bias: Tensor  # (d,)

    def __call__(self, inputs: Tensor, outputs: Tensor) -> Tensor:
        """(B, L, d) input and output of the layer -> (B, L, d) patched output."""
        x = inputs if self.parallel else outputs
        narrow = F.gelu(F.linear(x, self.down_weight, self.down_bias), approximate="tanh")
        return outputs + F.linear(narrow, self.up_weight, self.up_bias)


PARTS = ("down_weight", "down_bias", "up_weight", "up_bias")


def patched_sites(insertion: Insertion, sites: int) -> range:
    """serial-2 and parallel: every site; serial-1: the second site of each block."""
    return range(1, sites, 2) if insertion == "serial-1" else range(sites)


def initial_patches(sites: range, dim: int, reduction: int, seed: int) -> dict[str, Tensor]:
    """Fresh tensors ``<site>/<part>``; together they are a no-op."""
    generator, narrow = torch.Generator().manual_seed(seed), max(1, dim // reduction)
    tensors: dict[str, Tensor] = {}
    for site in sites:
        bound = (6.0 / (dim + narrow)) ** 0.5
        down = torch.empty(narrow, dim).uniform_(-bound, bound, generator=generator)
        parts = (down, torch.zeros(narrow), torch.zeros(dim, narrow), torch.zeros(dim))
        tensors |= {f"{site}/{name}": part for name, part in zip(PARTS, parts, strict=True)}
    return tensors


def initial_item_patch(n_items: int, dim: int, rank: int, seed: int) -> dict[str, Tensor]:
    """Fresh tensors ``items/rows`` (V, r), at 0, and ``items/up`` (r, d); nothing at rank 0.

    Ours: patches in the layers alone cannot say anything of an item that the frozen table does not. For what an item
    says of its user a few numbers an item are enough, and a linear model on the items has them.
    """
    if not rank:
        return {}
    generator = torch.Generator().manual_seed(seed)
    bound = (6.0 / (rank + dim)) ** 0.5
    up = torch.empty(rank, dim).uniform_(-bound, bound, generator=generator)
    return {"items/rows": torch.zeros(FIRST_ITEM + n_items, rank), "items/up": up}


def item_patch_in(tensors: Mapping[str, Tensor]) -> tuple[Tensor, Tensor] | None:
    """The item table's patch among a task's patches, where it has one."""
    return (tensors["items/rows"], tensors["items/up"]) if "items/up" in tensors else None


def patches_in(tensors: Mapping[str, Tensor], insertion: Insertion) -> dict[int, Patch]:
    """site -> patch, from tensors ``<site>/<part>``."""
    sites = sorted({int(name.split("/")[0]) for name in tensors if not name.startswith("items/")})
    parallel = insertion == "parallel"
    return {s: ModelPatch(parallel, *(subset(str(s), tensors)[part] for part in PARTS)) for s in sites}
