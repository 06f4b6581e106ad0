"""Softmax regression with a penalty: the weights of least loss.

    mean cross-entropy + penalty / 2 * (|W|^2 - (1 - eased) |D' W|^2 + |C|^2)

W are the weights of items and C those of nearness to `landmarks`; the bias is not penalised.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from imsr_core.lifelong.sparse_rows import SparseRows

PSEUDO_USERS = 0.5
"""Average users of each label that nobody saw: a label that no training user has is rare, not impossible."""
MOST_STEPS, LEAST_GAIN = 100, 1e-6
"""A fit ends after so many steps, or where one gains less loss than this."""


class Design(NamedTuple):
    """What the users are regressed on: ``items`` (U, V), and nearness to landmarks, ``near`` (U, J).

    Weights are (V + 1 + J, Y): of the items, the bias, and nearness; or (V + 1, Y) without that.
    """

    items: SparseRows
    near: Tensor

    def of(self, users: Tensor) -> Design:
        """The rows of these users, ascending."""
        return Design(self.items.of(users), self.near[users])

    def scores(self, weights: Tensor) -> Tensor:
        """(U, Y)."""
        own, bias, near = self.parts(weights)
        scores = self.items @ own + bias
        return scores + self.near @ near if len(near) else scores

    def turned(self, table: Tensor, near: bool) -> Tensor:
        """What each row of weights is multiplied by, summed over users: (U, Y) -> (V + 1 (+ J), Y)."""
        sums = [self.items.turned(table), table.sum(dim=0, keepdim=True)]
        return torch.cat([*sums, self.near.t() @ table] if near else sums)

    def parts(self, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The weights of items, bias and nearness: (V, Y), (Y,), (J or 0, Y)."""
        columns = self.items.shape[1]
        return weights[:columns], weights[columns], weights[columns + 1 :]


class Penalty(NamedTuple):
    """How weights (V, Y) are held small: with ``strength``, ``eased`` to a share of it along ``directions`` (V, k); and
    whether nearness has weights (J, Y), which are held with ``strength``."""

    strength: float
    directions: Tensor | None = None
    eased: float = 1.0
    near: bool = False

    def of(self, weight: Tensor, near: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The penalty of these weights, and its gradients by them."""
        held = weight
        if self.directions is not None:
            held = weight - (1.0 - self.eased) * self.directions @ (self.directions.t() @ weight)
        whole = (weight * held).sum() + near.square().sum()
        return self.strength / 2 * whole, self.strength * held, self.strength * near


@torch.no_grad()
def regress(design: Design, counts: Tensor, start: Tensor, penalty: Penalty) -> Tensor:
    """Weights that minimise the mean cross-entropy + penalty for users with so many of each label (U, Y).

    Args:
        start: where it begins; weights that it lacks begin at 0.
    """
    rows = design.items.shape[1] + 1 + (design.near.shape[1] if penalty.near else 0)
    weights = F.pad(start[:rows], (0, 0, 0, max(0, rows - len(start)))).clone()
    each, examples = counts.sum(dim=1, keepdim=True), counts.sum()
    average = design.turned(each, penalty.near) / examples  # (rows, 1)
    optimizer = torch.optim.LBFGS(
        [weights],
        max_iter=MOST_STEPS,
        history_size=8,
        tolerance_grad=1e-5,
        tolerance_change=LEAST_GAIN,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        logits, pseudo = design.scores(weights), average.t() @ weights  # (U, Y), (1, Y)
        own, _, near = design.parts(weights)
        held, by_own, by_near = penalty.of(own, near)
        loss = lost(logits, counts) / examples + held - PSEUDO_USERS / examples * F.log_softmax(pseudo, dim=1).sum()
        by_logits = (each * logits.softmax(dim=1) - counts) / examples
        by_pseudo = PSEUDO_USERS / examples * (pseudo.shape[1] * pseudo.softmax(dim=1) - 1.0)
        gradient = design.turned(by_logits, penalty.near) + average * by_pseudo
        gradient[: len(own)] += by_own
        gradient[len(own) + 1 :] += by_near
        weights.grad = gradient
        return loss

    optimizer.step(closure)
    return weights


def lost(logits: Tensor, counts: Tensor) -> Tensor:
    """The sum of the cross-entropies of users (U, Y) with so many of each label (U, Y)."""
    return (counts.sum(dim=1) * logits.logsumexp(dim=1)).sum() - (counts * logits).sum()
