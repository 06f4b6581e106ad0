"""Softmax regression on which items a user had: a model without an encoder, and the wide part of those with one.

    score(y | user) = b_y + sum over the user's different items i of W_iy / sqrt(number of different items)

The scale lets every user count alike. The penalty of W is chosen by log-likelihood on users that the weights have not
seen: the validation users, and each training user by the model of the folds without it.

    penalty / 2 * (|W|^2 - (1 - eased) |D' W|^2)         D: the main directions in which users differ (`directions`)

Where labels are few, what users differ in most is what a label most probably follows: along D the penalty is eased if
that raises the log-likelihood. ``eased`` = 1 is the plain regression.

Classes may have `landmarks` along D, too, whose weights have the same penalty, where those raise the log-likelihood:
users who had much the same items are answered alike then, beyond what each item says by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from imsr_core.encoders.tokens import FIRST_ITEM
from imsr_core.lifelong.directions import main_directions
from imsr_core.lifelong.landmarks import Landmarks, find_landmarks
from imsr_core.lifelong.regression import Design, Penalty, lost, regress
from imsr_core.lifelong.sparse_rows import SparseRows
from imsr_core.lifelong.tasks import Examples

#: Strengths of the L2 penalty to choose from, strongest first.
PENALTIES = (3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4)
DIRECTIONS = 16
"""Along so many main directions the penalty may be eased ..."""
EASED = (1 / 5, 1 / 17)
"""... to one of these shares of it, tried in this order (a scale of 1 + 2^2 and 1 + 4^2)."""
NEAR = 32
"""Along so many main directions users may be near to landmarks."""
MOST_FITS = len(PENALTIES) + 2 * len(EASED) + 2
LEAST_USERS = 3
"""An item that fewer training users had has no weight: it says nothing of anybody else."""
MOST_EXAMPLES = 50_000
"""The weights are fitted on this many training examples at most, the first ones."""
MOST_WEIGHTS = 2_000_000
"""Where items times labels are more than this, only the items of the most users have weights, and where items times
``NEAR`` are, there are no landmarks."""
BATCH = 4096
"""Users whose items are sorted at once."""
FOLDS, FEW_FOLDS, MANY_EXAMPLES = 5, 2, 10_000
"""Folds of the training users; above this many examples only a few."""
MOST_LABELS = 2_000
"""A task of more labels is not for a linear model."""
MOST_SCORES, FEW_SCORES = 20_000_000, 1_000_000
"""Examples times labels at most: fewer examples are fitted. Above the second number the folds wait until the validation
users alone have chosen the penalty."""


@dataclass(frozen=True, eq=False)
class Linear:
    """The fitted model.

    Attributes:
        items: (V,) table rows that have a weight, ascending.
        weight: (V, Y).
        bias: (Y,).
        length: the most recent items of a user that are read.
        landmarks: m of them, and ``near`` (m, Y) the weights of being near; None = there are none.
    """

    items: Tensor
    weight: Tensor
    bias: Tensor
    length: int
    landmarks: Landmarks | None = None
    near: Tensor | None = None

    def logits(self, inputs: Tensor) -> Tensor:
        """Table rows (B, N) -> (B, Y)."""
        if not len(self.items) or not len(inputs):
            return self.bias.expand(len(inputs), -1)
        owners, rows, values = _different_items(inputs[:, -self.length :])
        known, places = _places(rows, self.items)
        starts = torch.searchsorted(owners[known], torch.arange(len(inputs), device=inputs.device))

        def summed(table: Tensor) -> Tensor:
            return F.embedding_bag(places, table, starts, mode="sum", per_sample_weights=values[known])

        scores = summed(self.weight) + self.bias
        if self.landmarks is None or self.near is None:
            return scores
        return scores + self.landmarks.nearness(summed(self.landmarks.directions)) @ self.near

    def beside(self, scores: Tensor, inputs: Tensor) -> Tensor:
        """The encoder's scores (B, Y) of table rows (B, N) -> those of both."""
        return scores + self.logits(inputs)

    def times(self, share: float) -> Linear:
        """The model of so much of these scores."""
        near = None if self.near is None else self.near * share
        return replace(self, weight=self.weight * share, bias=self.bias * share, near=near)


class Fitted(NamedTuple):
    """A model, and what the folds say of its training examples: (N, Y) logits, each by a model without the user."""

    model: Linear
    unseen: Tensor


Told = Callable[[int, int, float], None]
"""(fits so far, fits at most, mean loss of the validation users)"""


def unheard(fits: int, most: int, loss: float) -> None:
    """Say nothing."""


def fit_linear(
    train: Examples,
    judges: Examples,
    n_labels: int,
    length: int,
    seed: int,
    directions: int = DIRECTIONS,
    told: Told = unheard,
    near: int = NEAR,
) -> Fitted:
    """Fit the regression on ``train``; ``judges`` (validation) and the folds choose its penalty.

    Args:
        directions: along how many main directions the penalty may be eased; 0 = the plain regression.
        told: hears of every penalty that was tried.
        near: along how many there may be landmarks; 0 = none.
    """
    chosen = min(len(train), MOST_EXAMPLES, MOST_SCORES // n_labels)
    users, own = torch.unique(train.rows[:chosen], return_inverse=True)
    owners, rows, values = _different_items(train.inputs[users][:, -length:])
    items = _items_that_count(rows, n_labels)
    known, places = _places(rows, items)
    of_users = SparseRows(owners[known], places, values[known], (len(users), len(items)))
    labels = train.labels[:chosen]
    told_of = torch.zeros(len(users), n_labels, device=own.device)
    told_of.index_put_((own, labels), torch.ones(chosen, device=own.device), accumulate=True)
    folds = _folds(len(users), chosen, n_labels, seed).to(own.device)
    eased = directions if len(items) > 2 * directions else 0
    near = near if eased and 2 * near < len(items) <= MOST_WEIGHTS // max(1, near) else 0
    design, along, landmarks = _design(of_users, eased, near, seed)
    problem = _Problem(design, told_of, folds, items, length, landmarks, judges, told)
    best = _best(problem, along, landmarks is not None)
    unseen = problem.unseen(best) if best.unseen is None else best.unseen
    return Fitted(best.model, torch.cat([unseen[own], in_batches(best.model, train.inputs, train.rows[chosen:])]))


def _design(of_users: SparseRows, eased: int, near: int, seed: int) -> tuple[Design, Tensor, Landmarks | None]:
    """What users (U, V) are regressed on, the directions (V, eased), and landmarks along ``near`` of them."""
    known = main_directions(of_users, max(eased, near), seed)
    landmarks = find_landmarks(of_users @ known[:, :near], known[:, :near], seed) if near else None
    if landmarks is None:
        return Design(of_users, (of_users @ known)[:, :0]), known[:, :eased], None
    nearness = landmarks.nearness(of_users @ landmarks.directions)
    return Design(of_users, nearness @ landmarks.root()), known[:, :eased], landmarks


class _Trial(NamedTuple):
    """A fit with one penalty: the loss on users that the weights have not seen; ``unseen`` where folds judged, too."""

    loss: float
    weights: Tensor
    model: Linear
    penalty: Penalty
    unseen: Tensor | None


def _best(problem: _Problem, directions: Tensor, landmarks: bool) -> _Trial:
    """The fit that users whom the weights have not seen are likeliest by, of those that are tried one after another."""
    best, strength = problem.fit(Penalty(PENALTIES[0])), 0
    for place in range(1, len(PENALTIES)):
        found = problem.fit(Penalty(PENALTIES[place]))
        if found.loss >= best.loss:
            break  # the loss has one valley along the path, and weaker penalties cost more
        best, strength = found, place
    changes = [Penalty(0.0, directions, eased) for eased in EASED if directions.shape[1]]
    for penalty in changes:
        found = problem.best_of(penalty, strength)
        if found.loss >= best.loss:
            break
        best = found
    if landmarks:
        found = problem.best_of(best.penalty._replace(near=True), PENALTIES.index(best.penalty.strength))
        best = found if found.loss < best.loss else best
    return best


class _Problem:
    """The regression on the first examples, whole and without each fold; a fit starts from the one before it.

    Users stand in it once, however many labels they have: ``counts`` (U, Y) of their labels.
    """

    def __init__(
        self,
        design: Design,
        counts: Tensor,
        folds: Tensor,
        items: Tensor,
        length: int,
        landmarks: Landmarks | None,
        judges: Examples,
        told: Told,
    ) -> None:
        self._design, self._counts, self._folds, self._judges = design, counts, folds, judges
        self._items, self._length, self._landmarks, self._told, self._fits = items, length, landmarks, told, 0
        self._many = _many(int(counts.sum()), counts.shape[1])
        inside = [torch.nonzero(folds != fold).squeeze(1) for fold in range(int(folds.max()) + 1)]
        self._inside = inside if len(inside) > 1 else []
        self._parts = [design.of(part) for part in self._inside]
        self._weights = torch.zeros(len(items) + 1, counts.shape[1], device=counts.device)
        self._of_folds = [self._weights] * len(self._parts)

    def fit(self, penalty: Penalty) -> _Trial:
        """The model with this penalty, judged."""
        self._weights = regress(self._design, self._counts, self._weights, penalty)
        model, judges = self._model(self._weights), self._judges
        loss = F.cross_entropy(in_batches(model, judges.inputs, judges.rows), judges.labels, reduction="sum")
        trial = _Trial(float(loss), self._weights, model, penalty, None)
        self._fits += 1
        self._told(self._fits, MOST_FITS, float(loss) / max(1, len(judges)))
        if self._many:
            return trial
        unseen = self.unseen(trial)
        if self._parts:
            loss = loss + lost(unseen, self._counts)
        return trial._replace(loss=float(loss), unseen=unseen)

    def best_of(self, penalty: Penalty, strength: int) -> _Trial:
        """The better fit with this strength and the next stronger one: where a part is held less, or there is more of
        it, the rest bears, or wants, a stronger penalty."""
        tried = [self.fit(penalty._replace(strength=PENALTIES[n])) for n in (strength, max(0, strength - 1))]
        return min(tried, key=lambda each: each.loss)

    def unseen(self, trial: _Trial) -> Tensor:
        """(U, Y) logits of the users by the folds without them, and by the whole where there are no folds."""
        self._of_folds = [
            regress(part, self._counts[rows], trial.weights if self._many else start, trial.penalty)
            for part, rows, start in zip(self._parts, self._inside, self._of_folds, strict=True)
        ]
        logits = self._design.scores(trial.weights)
        for fold, each in enumerate(self._of_folds):
            out = torch.nonzero(self._folds == fold).squeeze(1)
            logits[out] = self._design.of(out).scores(each)
        return logits

    def _model(self, weights: Tensor) -> Linear:
        own, bias, near = (part.clone() for part in self._design.parts(weights))
        model = Linear(self._items, own, bias, self._length)
        if self._landmarks is None or not len(near):
            return model
        return replace(model, landmarks=self._landmarks, near=self._landmarks.root() @ near)


def in_batches(model: Linear, inputs: Tensor, rows: Tensor) -> Tensor:
    """The model's logits (N, Y) of the rows (N,) of ``inputs``, in bounded memory."""
    return torch.cat([model.logits(inputs[part]) for part in rows.split(BATCH)])


def _different_items(inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(n,) user, (n,) table row and (n,) value of each different item that the users (B, N) had, by user and row."""
    found = []
    for start in range(0, len(inputs), BATCH):
        ordered = inputs[start : start + BATCH].sort(dim=1).values
        new = ordered >= FIRST_ITEM
        new[:, 1:] &= ordered[:, 1:] != ordered[:, :-1]
        scale = new.sum(dim=1).clamp(min=1).float().rsqrt()
        owners, columns = torch.nonzero(new, as_tuple=True)
        found.append((owners + start, ordered[owners, columns], scale[owners]))
    owners, rows, values = (torch.cat(each) for each in zip(*found, strict=True))
    return owners, rows, values


def _places(rows: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
    """(n,) which of the rows are among ``items``, and (k,) the places there of those that are."""
    if not len(items):
        return torch.zeros_like(rows, dtype=torch.bool), rows[:0]
    places = torch.searchsorted(items, rows).clamp(max=len(items) - 1)
    known = items[places] == rows
    return known, places[known]


def _items_that_count(rows: Tensor, n_labels: int) -> Tensor:
    """(V,) the items among these rows that ``LEAST_USERS`` have, ascending: the most frequent where they are many."""
    items, users = torch.unique(rows, return_counts=True)
    often = torch.argsort(users, descending=True, stable=True)[: max(1, MOST_WEIGHTS // n_labels)]
    return items[often[users[often] >= LEAST_USERS]].sort().values


def _folds(users: int, examples: int, n_labels: int, seed: int) -> Tensor:
    """(U,) the fold of each user."""
    few = examples > MANY_EXAMPLES or _many(examples, n_labels)
    order = np.random.default_rng(seed).permutation(users)
    return torch.from_numpy(order % min(FEW_FOLDS if few else FOLDS, users))


def _many(examples: int, n_labels: int) -> bool:
    return examples * n_labels > FEW_SCORES
