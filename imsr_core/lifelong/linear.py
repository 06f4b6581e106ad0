"""Softmax regression on which items a user had: a model without an encoder, and the wide part of those with one.

    score(y | user) = b_y + sum over the user's different items i of W_iy / sqrt(number of different items)

The scale lets every user count alike. The penalty of W is chosen by log-likelihood on users that the weights have not
seen: the validation users, and each training user by the model of the folds without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from imsr_core.encoders.tokens import FIRST_ITEM
from imsr_core.lifelong.tasks import Examples

#: Strengths of the L2 penalty to choose from, strongest first.
PENALTIES = (3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4)
LEAST_USERS = 3
"""An item that fewer training users had has no weight: it says nothing of anybody else."""
MOST_EXAMPLES = 50_000
"""The weights are fitted on this many training examples at most, the first ones."""
FOLDS, FEW_FOLDS, MANY_EXAMPLES = 5, 2, 10_000
"""Folds of the training users; above this many examples only a few."""


@dataclass(frozen=True, eq=False)
class Linear:
    """The fitted model.

    Attributes:
        items: (V,) table rows that have a weight, ascending.
        weight: (V, Y).
        bias: (Y,).
        length: the most recent items of a user that are read.
    """

    items: Tensor
    weight: Tensor
    bias: Tensor
    length: int

    def logits(self, inputs: Tensor) -> Tensor:
        """Table rows (B, N) -> (B, Y)."""
        owners, places, values = _features(inputs[:, -self.length :], self.items)
        starts = torch.searchsorted(owners, torch.arange(len(inputs), device=inputs.device))
        if not len(self.items):
            return self.bias.expand(len(inputs), -1)
        return F.embedding_bag(places, self.weight, starts, mode="sum", per_sample_weights=values) + self.bias


class Fitted(NamedTuple):
    """A model, and what the folds say of its training examples: (N, Y) logits, each by a model without the user."""

    model: Linear
    unseen: Tensor


def fit_linear(train: Examples, judges: Examples, n_labels: int, length: int, seed: int) -> Fitted:
    """Fit the regression on ``train``; ``judges`` (validation) and the folds choose its penalty."""
    chosen = min(len(train), MOST_EXAMPLES)
    inputs, owners = train.inputs[:, -length:], train.rows[:chosen]
    items = _items_that_count(inputs, train.rows.unique())
    table = _matrix(inputs, items)
    labels, folds = train.labels[:chosen], _folds(train, chosen, seed)
    design = table.index_select(0, owners)
    parts = [torch.nonzero(folds != fold).squeeze(1) for fold in range(int(folds.max()) + 1)]
    parts = [part for part in parts if len(part)] if len(parts) > 1 else []
    inner = [design.index_select(0, part) for part in parts]
    start = torch.zeros(len(items) + 1, n_labels, device=inputs.device)
    weights, fold_weights = start, [start] * len(parts)
    best: tuple[float, Tensor, Tensor] | None = None
    for penalty in PENALTIES:
        weights = _regress(design, labels, weights, penalty)
        unseen = (table @ weights).index_select(0, train.rows)
        for fold, (part, rows) in enumerate(zip(parts, inner, strict=True)):
            fold_weights[fold] = _regress(rows, labels[part], fold_weights[fold], penalty)
            out = torch.nonzero(folds == fold).squeeze(1)
            unseen[out] = design.index_select(0, out) @ fold_weights[fold]
        judged = Linear(items, weights[:-1], weights[-1], length).logits(judges.inputs).index_select(0, judges.rows)
        loss = F.cross_entropy(judged, judges.labels, reduction="sum")
        if parts:
            loss = loss + F.cross_entropy(unseen[:chosen], labels, reduction="sum")
        if best is not None and float(loss) >= best[0]:
            break  # the loss has one valley along the path, and weaker penalties cost more
        best = float(loss), weights, unseen
    assert best is not None
    _, weights, unseen = best
    return Fitted(Linear(items, weights[:-1].clone(), weights[-1].clone(), length), unseen)


def _features(inputs: Tensor, items: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(n,) user, (n,) place in ``items`` and (n,) value of each different item that the users (B, N) had."""
    ordered = inputs.sort(dim=1).values
    new = ordered >= FIRST_ITEM
    new[:, 1:] &= ordered[:, 1:] != ordered[:, :-1]
    scale = new.sum(dim=1).clamp(min=1).float().rsqrt()
    owners, columns = torch.nonzero(new, as_tuple=True)
    rows = ordered[owners, columns]
    places = torch.searchsorted(items, rows)
    known = torch.zeros_like(rows, dtype=torch.bool)
    inside = places < len(items)
    known[inside] = items[places[inside]] == rows[inside]
    return owners[known], places[known], scale[owners[known]]


def _matrix(inputs: Tensor, items: Tensor) -> Tensor:
    """(U, V + 1) sparse: the features of each user, and a 1 for the bias."""
    owners, places, values = _features(inputs, items)
    everybody = torch.arange(len(inputs), device=inputs.device)
    bias = torch.stack([everybody, torch.full_like(everybody, len(items))])
    index = torch.cat([torch.stack([owners, places]), bias], dim=1)
    content = torch.cat([values, torch.ones(len(inputs), device=inputs.device)])
    return torch.sparse_coo_tensor(index, content, (len(inputs), len(items) + 1), check_invariants=True).coalesce()


def _items_that_count(inputs: Tensor, users: Tensor) -> Tensor:
    """(V,) the items that at least ``LEAST_USERS`` of these rows have, ascending."""
    everything = torch.unique(inputs[users])
    everything = everything[everything >= FIRST_ITEM]
    _, places, _ = _features(inputs[users], everything)
    return everything[torch.bincount(places, minlength=len(everything)) >= LEAST_USERS]


def _folds(train: Examples, chosen: int, seed: int) -> Tensor:
    """(chosen,) the fold of each example: all of a user are in one."""
    _, own = np.unique(train.users[:chosen], return_inverse=True)
    count = min(FOLDS if chosen <= MANY_EXAMPLES else FEW_FOLDS, int(own.max()) + 1)
    order = np.random.default_rng(seed).permutation(int(own.max()) + 1)
    return torch.from_numpy(order[own] % count).to(train.rows.device)


def _regress(design: Tensor, labels: Tensor, start: Tensor, penalty: float) -> Tensor:
    """Weights (V + 1, Y) that minimise cross-entropy + penalty / 2 |W|^2; the last row, the bias, is not penalised."""
    weights = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([weights], max_iter=100, tolerance_grad=1e-5, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(design @ weights, labels) + penalty / 2 * weights[:-1].square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return weights.detach()
