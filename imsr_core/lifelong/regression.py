"""Softmax regression with a penalty: the weights of least loss.

    mean cross-entropy + penalty / 2 * (|W|^2 - (1 - eased) |D' W|^2 + |C|^2)

W are the weights of items and C those of `curves`; the bias is not penalised.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

PSEUDO_USERS = 0.5
"""Average users of each label that nobody saw: a label that no training user has is rare, not impossible."""
MOST_STEPS, LEAST_GAIN = 100, 1e-6
"""A fit ends after so many steps, or where one gains less loss than this."""


class Design(NamedTuple):
    """What the users are regressed on: sparse ``items`` (U, V + 1), the last a 1 for the bias, and ``curves`` (U, J).

    Weights of them are (V + 1 + J, Y), or (V + 1, Y) of the items alone.
    """

    items: Tensor
    curves: Tensor

    def of(self, users: Tensor) -> Design:
        """The rows of these users."""
        return Design(self.items.index_select(0, users), self.curves[users])

    def scores(self, weights: Tensor) -> Tensor:
        """(U, Y)."""
        own, curved = self.parts(weights)
        return self.items @ own + self.curves @ curved if len(curved) else self.items @ own

    def parts(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """The weights of items and bias, and those of curves: (V + 1, Y), (J or 0, Y)."""
        columns = self.items.shape[1]
        return weights[:columns], weights[columns:]


class Penalty(NamedTuple):
    """How weights (V, Y) are held small: with ``strength``, ``eased`` to a share of it along ``directions`` (V, k); and
    whether there are curves, whose weights (J, Y) are held with ``strength``."""

    strength: float
    directions: Tensor | None = None
    eased: float = 1.0
    curves: bool = False

    def of(self, weight: Tensor, curved: Tensor) -> Tensor:
        whole = weight.square().sum() + curved.square().sum()
        if self.directions is not None:
            whole = whole - (1.0 - self.eased) * (self.directions.t() @ weight).square().sum()
        return self.strength / 2 * whole


def regress(design: Design, counts: Tensor, start: Tensor, penalty: Penalty) -> Tensor:
    """Weights that minimise the mean cross-entropy + penalty; the bias, last of the items' rows, is not penalised."""
    rows = design.items.shape[1] + (design.curves.shape[1] if penalty.curves else 0)
    weights = F.pad(start[:rows], (0, 0, 0, max(0, rows - len(start)))).clone().requires_grad_()
    each, examples = counts.sum(dim=1, keepdim=True), counts.sum()
    average = design.items.t() @ each / examples  # (V + 1, 1)
    if penalty.curves:
        average = torch.cat([average, design.curves.t() @ each / examples])
    optimizer = torch.optim.LBFGS(
        [weights],
        max_iter=MOST_STEPS,
        history_size=8,
        tolerance_grad=1e-5,
        tolerance_change=LEAST_GAIN,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        own, curved = design.parts(weights)
        loss = lost(design.scores(weights), counts) / examples + penalty.of(own[:-1], curved)
        loss = loss - PSEUDO_USERS / examples * F.log_softmax(average.t() @ weights, dim=1).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return weights.detach()


def lost(logits: Tensor, counts: Tensor) -> Tensor:
    """The sum of the cross-entropies of users (U, Y) with so many of each label (U, Y)."""
    return (counts.sum(dim=1) * logits.logsumexp(dim=1)).sum() - (counts * logits).sum()
