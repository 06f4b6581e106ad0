"""The wide part of T1: whether the user had an item before, how often, and what followed the last two items in others.

    scores(y) = share * encoder(y) + had * [y was had] + often * log(1 + times) + again * [y is the last item]
                + after * lift(y after the last item) + after_second * lift(y after the one before)

An encoder of the last L items hardly learns that a film is not rated twice, or that bread is bought again, nor does it
remember a whole pair of items; a count does. Decided: the encoder is learnt first and as it always was: it is what
later tasks start from, prune and distil. The six numbers are fitted afterwards, on the last items of the validation
users, whom neither the encoder nor the table of followers has learnt from: by log-likelihood, a convex problem for
each of ``SHARES``. They are kept where those users gain more than two standard errors by them.

Only the items that somebody had, and the followers of two, have a term of their own. Of all others the encoder's
normaliser is enough, so that a fit does not grow with the catalogue.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from imsr_core.encoders.tokens import FIRST_ITEM
from imsr_core.lifelong.evidence import error_of_sum
from imsr_core.lifelong.followers import Followers
from imsr_core.lifelong.tasks import Examples

TERMS = ("had", "often", "again", "after", "after_second")
SHARES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4)
"""Shares of the encoder's scores to choose from."""
STANDARD_ERRORS = 2.0
"""What the counts add must be worth so many of the validation users."""
PENALTY = 0.1
"""Of the squares of the five weights, beside the sum of the examples' losses."""
MOST_STEPS = 50
_CELLS = 10_000_000  # scores held at once
_MOST_TERMS, _MOST_SCORES = 2_000_000, 300_000_000  # items, and scores, of all examples of a fit


class Entries(NamedTuple):
    """The labels that have terms: (E,) example, (E,) label, (E, ``TERMS``) what the terms are multiplied by."""

    rows: Tensor
    labels: Tensor
    values: Tensor


@dataclass(frozen=True, eq=False)
class NextItemCounts:
    """The fitted model.

    Attributes:
        followers: of the items that T1 knows.
        weights: (1 + ``TERMS``,) the encoder's share, and what each term is multiplied by.
        length: the most recent items of a user that are read.
    """

    followers: Followers
    weights: Tensor
    length: int

    def beside(self, scores: Tensor, inputs: Tensor) -> Tensor:
        """The encoder's scores (B, Y) of what follows table rows (B, N) -> those of both."""
        found = entries_of(self.followers, inputs[:, -self.length :])
        joint = self.weights[0] * scores
        joint[found.rows, found.labels] += (found.values * self.weights[1:]).sum(dim=1)
        return joint


def entries_of(followers: Followers, inputs: Tensor) -> Entries:
    """Of table rows (B, N) the labels with terms, by row and label; items that T1 does not know have none."""
    n_labels = len(followers.items)
    items = inputs - FIRST_ITEM
    known = (items >= 0) & (items < n_labels)
    rows = torch.arange(len(items), device=items.device).unsqueeze(1)
    had, times = torch.unique((rows * n_labels + items)[known], return_counts=True)
    last = [_followers(followers, items, known, back) for back in (1, 2)]
    again = (rows * n_labels + items)[:, -1:][known[:, -1:]]
    keys = torch.unique(torch.cat([had, *(keys for keys, _ in last)]))
    values = torch.zeros(len(keys), len(TERMS), device=inputs.device)
    place = torch.searchsorted(keys, had)
    values[place, 0] = 1.0
    values[place, 1] = torch.log1p(times.float())
    values[torch.searchsorted(keys, again), 2] = 1.0
    for column, (found, lift) in enumerate(last, 3):
        values[torch.searchsorted(keys, found), column] = lift
    return Entries(keys // n_labels, keys % n_labels, values)


def _followers(followers: Followers, items: Tensor, known: Tensor, back: int) -> tuple[Tensor, Tensor]:
    """(F,) row and follower as one number of each row's item ``back`` from the end, and (F,) its lift."""
    if items.shape[1] < back:
        return items.new_zeros(0), followers.lift.new_zeros(0)
    rows = torch.nonzero(known[:, -back]).squeeze(1)
    own = items[rows, -back]
    lift = followers.lift[own]
    keys = rows.unsqueeze(1) * len(followers.items) + followers.items[own].long()
    return keys[lift > 0], lift[lift > 0]


class _Cases(NamedTuple):
    """What a fit needs of N examples, whatever the size of the catalogue."""

    normalisers: Tensor  # (N, SHARES) log of the sum of exp(share * the encoder's log-probabilities)
    own: Tensor  # (N,) the encoder's log-probability of the label
    own_values: Tensor  # (N, TERMS) of the label; 0 where it has no term
    rows: Tensor  # (E,) example of each entry
    likely: Tensor  # (E,) the encoder's log-probability of its label
    values: Tensor  # (E, TERMS)


@torch.no_grad()
def _cases(scores_of: Callable[[Tensor], Tensor], followers: Followers, judges: Examples) -> _Cases:
    parts, step = [], max(1, _CELLS // max(1, len(followers.items), judges.inputs.shape[1]))
    for start in range(0, len(judges), step):
        inputs = judges.inputs[judges.rows[start : start + step]]
        labels = judges.labels[start : start + step]
        likely = scores_of(inputs).double().log_softmax(dim=1)
        found = entries_of(followers, inputs)
        own = torch.zeros(len(labels), len(TERMS), dtype=torch.double, device=labels.device)
        mine = labels[found.rows] == found.labels
        own[found.rows[mine]] = found.values[mine].double()
        normalisers = torch.stack([torch.logsumexp(share * likely, dim=1) for share in SHARES], dim=1)
        chosen = likely[found.rows, found.labels]
        label = likely.gather(1, labels.unsqueeze(1)).squeeze(1)
        parts.append(_Cases(normalisers, label, own, found.rows + start, chosen, found.values.double()))
    return _Cases(*(torch.cat(each) for each in zip(*parts, strict=True)))


def _likelihoods(cases: _Cases, share: int, weights: Tensor) -> Tensor:
    """(N,) log-likelihood of each example's label with this share and these weights of the terms."""
    own = SHARES[share] * cases.own + cases.own_values @ weights
    more = torch.exp(SHARES[share] * cases.likely) * torch.expm1(cases.values @ weights)
    total = torch.exp(cases.normalisers[:, share]).index_add(0, cases.rows, more)
    return own - torch.log(total.clamp(min=torch.finfo(total.dtype).tiny))


def _fit(cases: _Cases, share: int, start: Tensor) -> tuple[Tensor, float]:
    """The weights of the terms with one share, and the penalised loss that they reach."""
    weights = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([weights], max_iter=MOST_STEPS, line_search_fn="strong_wolfe")

    def loss_of() -> Tensor:
        optimizer.zero_grad()
        lost = -_likelihoods(cases, share, weights).sum() + PENALTY * weights.square().sum()
        loss = lost / len(cases.own)
        loss.backward()
        return loss

    optimizer.step(loss_of)
    return weights.detach(), float(loss_of().detach())


def most_examples(width: int, n_items: int) -> int:
    """How many examples of ``width`` items, and of as many scores as there are items, are enough for a fit."""
    return max(1, min(_MOST_TERMS // max(1, width), _MOST_SCORES // max(1, n_items)))


def fit_counts(
    scores_of: Callable[[Tensor], Tensor], followers: Followers, judges: Examples, length: int
) -> NextItemCounts | None:
    """The counts beside an encoder; None where the users of these examples do not clearly gain by them.

    Args:
        scores_of: table rows (B, N) -> the encoder's scores of all items (B, Y).
        judges: next items of users whom neither the encoder nor the table has learnt from.
        length: how many items of a user are read.
    """
    if not len(judges):
        return None
    cases = _cases(scores_of, followers, judges)
    weights, best = torch.zeros(len(TERMS), dtype=torch.double, device=cases.own.device), None
    for share in range(len(SHARES)):
        weights, loss = _fit(cases, share, weights)
        if best is None or loss < best[0]:
            best = loss, share, weights
    assert best is not None
    _, share, weights = best
    gains = (_likelihoods(cases, share, weights) - cases.own).cpu().numpy()
    if not np.isfinite(gains).all() or gains.sum() <= STANDARD_ERRORS * error_of_sum(gains, judges.users):
        return None
    joint = torch.cat([weights.new_tensor([SHARES[share]]), weights]).float()
    return NextItemCounts(followers, joint, length)
