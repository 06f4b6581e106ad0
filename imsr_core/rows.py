"""Tables of vectors that are optimised row by row: a step costs the rows that it touches, not the table.

A recommender's item table is its largest tensor, and a batch touches a fraction of it. `RowTable` keeps the
rows together with their Adam moments and gives each row a clock of its own, so that

- a step reads and writes touched rows only, whatever the size of the catalogue;
- growing the table leaves every old row, its moments and its clock as they were;
- a row that was born yesterday is bias-corrected as a young row, not as an old one.

Source: Adam (Kingma and Ba, 2015), applied lazily per row as in `torch.optim.SparseAdam`, which has one clock
for the whole table and cannot grow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


@dataclass
class RowTable:
    """N rows of length d with their optimiser state.

    ``weight``, ``moment1``, ``moment2`` are (N, d) float32, ``steps`` is (N,) float32: updates a row has had.
    """

    weight: Tensor
    moment1: Tensor
    moment2: Tensor
    steps: Tensor

    @classmethod
    def of(cls, weight: Tensor) -> RowTable:
        """A table of these rows (N, d), with an optimiser that has not stepped yet."""
        zeros = torch.zeros_like(weight)
        return cls(weight, zeros, zeros.clone(), torch.zeros(len(weight), device=weight.device))

    @classmethod
    def empty(cls, dim: int) -> RowTable:
        """A table without rows, of vectors of length ``dim``."""
        return cls.of(torch.zeros(0, dim))

    @classmethod
    def to_score_with(cls, weight: Tensor) -> RowTable:
        """A table of these rows (N, d) that is not trained: its moments are zeros that take no memory."""
        zero = torch.zeros((), dtype=weight.dtype)
        return cls(weight, zero.expand_as(weight), zero.expand_as(weight), zero.expand(len(weight)))

    @classmethod
    def random(cls, rows: int, dim: int, generator: torch.Generator) -> RowTable:
        """``rows`` fresh rows drawn from N(0, 1/d), so that their length is about 1."""
        return cls.of(torch.randn(rows, dim, generator=generator) / dim**0.5)

    def __len__(self) -> int:
        return len(self.weight)

    def append(self, other: RowTable) -> RowTable:
        """A longer table: these rows, untouched, then the rows of ``other``."""
        pairs = zip(self.tensors().values(), other.tensors().values(), strict=True)
        return RowTable(*(torch.cat(pair) for pair in pairs))

    def take(self, rows: Tensor) -> RowTable:
        """A copy of the rows that an index or a mask selects."""
        return RowTable(*(tensor[rows] for tensor in self.tensors().values()))

    def clone(self) -> RowTable:
        """A copy that shares no memory with this table."""
        return RowTable(*(tensor.clone() for tensor in self.tensors().values()))

    def reset_moments(self) -> None:
        """Forget the optimiser's past; the rows stay."""
        for tensor in (self.moment1, self.moment2, self.steps):
            tensor.zero_()

    def tensors(self) -> dict[str, Tensor]:
        """The four tensors by name, in the order of the fields."""
        return {name: getattr(self, name) for name in ("weight", "moment1", "moment2", "steps")}

    def take_stepped(self, other: RowTable) -> None:
        """The rows that ``other``, a copy of this table that was trained on some device, has stepped since: the rest is
        the same and need not be carried."""
        rows = (other.steps != self.steps.to(other.steps.device)).nonzero()[:, 0]
        here = rows.cpu()
        for mine, theirs in zip(self.tensors().values(), other.tensors().values(), strict=True):
            mine[here] = theirs[rows].cpu()

    def leaf(self, ids: Tensor) -> Tensor:
        """The rows ``ids`` (n,) as an (n, d) leaf that collects a gradient."""
        return self.weight[ids].requires_grad_()

    def step(self, ids: Tensor, gradient: Tensor, learning_rate: float) -> None:
        """One Adam step on the rows ``ids`` (n,), which must be distinct, with ``gradient`` (n, d)."""
        steps = self.steps[ids] + 1
        first = self.moment1[ids].lerp_(gradient, 1 - BETA1)
        second = self.moment2[ids].mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
        self.steps[ids] = steps
        self.moment1[ids] = first
        self.moment2[ids] = second
        # the bias corrections of Adam's algorithm 1, by each row's own clock
        scale = (1 - BETA2**steps).sqrt_() / (1 - BETA1**steps)
        root = second.sqrt_().add_(EPSILON * (1 - BETA2**steps).sqrt_()[:, None])
        self.weight.index_add_(0, ids, first.div_(root).mul_(scale[:, None]), alpha=-learning_rate)


def rows_at(table: Tensor, *places: Tensor) -> tuple[Tensor, ...]:
    """The rows (n, d) of ``table`` (N, d) at each of ``places`` (n,).

    As an embedding of each would give, but with one gradient (N, d) for all: of one for each, most would be zeros.
    """
    return _RowsAt.apply(table, *places)


class _RowsAt(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, *places: Tensor) -> tuple[Tensor, ...]:
        ctx.save_for_backward(*places)
        ctx.rows = len(table)
        ctx.set_materialize_grads(False)
        return tuple(functional.embedding(place, table) for place in places)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        found = [(place, each) for place, each in zip(ctx.saved_tensors, gradients, strict=True) if each is not None]
        total = found[0][1].new_zeros(ctx.rows, found[0][1].shape[1])
        for place, each in found:
            if total.is_cuda:  # where index_add_ adds in any order
                total.index_put_((place,), each, accumulate=True)
            else:
                total.index_add_(0, place, each)
        return total, *(None for _ in gradients)
