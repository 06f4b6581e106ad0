"""What to show somebody of whom nothing is known: the trend alone, weighed by what it said of the span before.

    p(i) = exp(w . x_i) / sum over items j of exp(w . x_j)            x_i: the columns of `TrendTerm` for item i
    loss = - sum over (user, item) of log p(i)  +  PULL |w - w before|^2

A score's own weights of the trend are not these: there the trend says only what other terms do not. All users of the
span are asked, each once of an item, not only those who came with it: they are more, and take much the same. The whole
catalogue is the same for everybody, so that a fit needs no sample.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from imsr_core.ragged import SpanSequences
from imsr_core.score.trend import TrendTerm
from imsr_core.score.weights import START
from imsr_core.sorted_keys import unique

#: With fewer pairs of a user and an item the weights stay.
ENOUGH = 30
#: How much weights are held to those before.
PULL = 30.0
STEPS, HALVINGS = 25, 20
#: The fit ends when a step gains less than this, in nats a pair.
ENOUGH_GAIN = 1e-5


def weighed_alone(before: Sequence[float], trend: TrendTerm, span: SpanSequences) -> tuple[float, ...]:
    """The weights (H,) of the columns of ``trend`` after ``span``, which it has not counted; ``before`` (H,) are those
    before, empty at first. Fewer than `ENOUGH` pairs, or none of an item that was counted, leave them as they were."""
    known = torch.from_numpy(trend.counts[:, -1] > 0)
    takers = _takers(span, len(trend.counts))[known]
    if int(takers.sum()) < ENOUGH:
        return tuple(before)
    columns = trend.values()[known].double()
    start = torch.tensor(list(before) or [START.get(name, 0.0) for name in trend.columns], dtype=torch.float64)
    return tuple(_fitted(columns, takers, start).tolist())


def best_alone(weights: Sequence[float], trend: TrendTerm, allowed: Tensor | None = None) -> Tensor:
    """(M,) the items that were ever taken, the best for a stranger first; ``allowed`` (N,) are those that may be."""
    shown = torch.from_numpy(trend.counts[:, -1] > 0)
    if allowed is not None:
        shown &= allowed
    items = shown.nonzero()[:, 0]
    scores = trend.values()[items].double() @ torch.tensor(list(weights), dtype=torch.float64)
    return items[scores.argsort(descending=True, stable=True)]


def _takers(span: SpanSequences, n_items: int) -> Tensor:
    """(N,) float64 how many users of the span took each item."""
    inside = span.items < n_items
    pairs = unique(span.rows[inside] * n_items + span.items[inside])
    return torch.from_numpy(np.bincount(pairs % max(n_items, 1), minlength=n_items).astype(np.float64))


def _fitted(columns: Tensor, takers: Tensor, before: Tensor) -> Tensor:
    """(H,) the weights by Newton's method; a step that makes it worse is halved."""
    weights, least = before, _loss(columns, takers, before, before)
    total, pull = takers.sum(), 2 * PULL * torch.eye(len(before), dtype=torch.float64)
    for _ in range(STEPS):
        chances = (columns @ weights).softmax(0)
        mean = chances @ columns
        slope = takers @ columns - total * mean - 2 * PULL * (weights - before)
        bend = total * ((columns * chances[:, None]).T @ columns - mean[:, None] * mean) + pull
        step = torch.linalg.solve(bend, slope)
        for _ in range(HALVINGS):
            if (loss := _loss(columns, takers, weights + step, before)) <= least:
                break
            step = step / 2
        else:
            return weights
        weights, gain, least = weights + step, least - loss, loss
        if gain < ENOUGH_GAIN * float(total):
            break
    return weights


def _loss(columns: Tensor, takers: Tensor, weights: Tensor, before: Tensor) -> float:
    held = PULL * (weights - before).square().sum()
    return float(held - takers @ (columns @ weights).log_softmax(0))
