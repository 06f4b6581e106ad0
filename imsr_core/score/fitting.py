"""Fit a score's weights on events that its parts have not learnt: a conditional logit over the catalogue.

    p(u, i) = exp(score(u, i)) / sum_j exp(score(u, j))
    loss    = mean over events (u, i) of -log(p(u, i) + chance)                    + PULL / events |w - w before|^2

The chance, CHANCE x the share of repeats among the events, is that of what nobody could foresee: an event comes from
the score or from anywhere. With 0 this is the likelihood, to which those events matter most. Where people take their
own things again, weights give way for new ones that they cannot bring into a list of twenty anyway, and the order of
what could be there pays for it. Where nobody repeats, and among what is new, all events are about as hard, and it is 0.

The catalogue of a user is made of: the items in fashion and those the user had, each of them; and a uniform sample of
the rest, whose terms in the sum count log(rest / sample) more, so that the sum is right on average. Weights that are
trained together with the interests, on the span that both learn, do not work: the item vectors fit the span's own
fashion, and the counts seem worthless. Out of sample they are judged by what they are worth the day after.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from imsr_core.ragged import SpanSequences
from imsr_core.score.pairs import FloatArray, IntArray, Pairs
from imsr_core.score.protocol import Term
from imsr_core.score.weights import SETS, Evidence, Weights
from imsr_core.sorted_keys import is_in, numbered, unique, without

#: Events that a fit rests on at most, of so many users at most; with fewer than `ENOUGH` the weights stay.
EVENTS, USERS, ENOUGH = 4_000, 1_000, 30
#: Items of the catalogue that stand for themselves (the most popular of late), and that stand for all others.
POPULAR, SAMPLED, OWN = 200, 400, 200
#: How many events' worth the weights before are.
PULL = 30.0
#: Where all events are repeats, one that is less likely than this hardly counts: it has no place in a list, whatever
#: the weights.
CHANCE = 0.003
STEPS = 25
#: Users whose candidates are summed up together: as many as stay in the processor's cache.
USERS_AT_ONCE = 32
#: The fit ends when a step gains less than this, in nats an event.
ENOUGH_GAIN = 1e-4


@dataclass(frozen=True)
class Question:
    """Which of the ``users`` (B,) took which item: ``place`` (E,) positions in ``users`` and ``wanted`` (E,) items.

    ``items`` (B, C) are the candidates, ``offset`` (2, B, C) what is added to their scores under each of `SETS`
    (-inf: no candidate), ``new`` (E,) marks what the user had not had.
    """

    users: IntArray
    place: IntArray
    wanted: IntArray
    items: IntArray
    offset: Tensor
    new: Tensor


def sample_events(span: SpanSequences, known: np.ndarray, rng: np.random.Generator) -> tuple[IntArray, IntArray]:
    """Users (E,) and items (E,) of at most `EVENTS` of the ``known`` (E',) events, of `USERS` users at most."""
    users, items = span.users[span.rows][known], span.items[known]
    chosen = rng.permutation(unique(users))[:USERS]
    inside = np.flatnonzero(is_in(users, chosen))
    kept = np.sort(rng.permutation(inside)[:EVENTS])
    return users[kept], items[kept]


def question(users: IntArray, items: IntArray, popularity: Tensor, had: Pairs, rng: np.random.Generator) -> Question:
    """The candidates of events (E,), given as users and items; ``popularity`` (N,), ``had`` what users had."""
    people, place = numbered(users)
    n = len(popularity)
    popular = np.sort(torch.topk(popularity, min(POPULAR, n)).indices.numpy())
    rest = without(np.arange(n), popular)
    drawn = np.sort(rng.permutation(rest)[:SAMPLED])
    shared = np.concatenate([popular, drawn])
    correction = np.zeros(len(shared))
    correction[len(popular) :] = np.log(max(len(rest), 1) / max(len(drawn), 1))
    own, weight = _own_items(had, people, popular, n, rng)
    everybody = np.broadcast_to(shared, (len(people), len(shared)))
    is_own = had.find(np.broadcast_to(people[:, None], everybody.shape), everybody) >= 0
    many = is_in(everybody, popular)
    # what the user had stands for itself, among the own items: not once more in the sample
    first = np.where(is_own & ~many, -np.inf, correction)
    unseen = np.where(is_own, -np.inf, correction)
    hidden = np.full(own.shape, -np.inf)
    offset = np.stack([np.concatenate([first, weight], 1), np.concatenate([unseen, hidden], 1)])
    new = had.find(users, items) < 0
    candidates = np.concatenate([everybody, own], 1)
    return Question(people, place, items, candidates, torch.from_numpy(offset).float(), torch.from_numpy(new))


def _own_items(
    had: Pairs, people: IntArray, popular: IntArray, n: int, rng: np.random.Generator
) -> tuple[IntArray, FloatArray]:
    """Items (B, H) that each of ``people`` (B,) had and that are not popular, and for how many each stands, as a log.

    Where there are more than `OWN` they are drawn: the oldest are taken again too, and count in the sum as the newest.
    """
    mine = had.of_owners(people)
    mine = mine.take((mine.other < n) & ~is_in(mine.other, popular))
    place, rows = mine.rows_of(people)
    count = np.bincount(place, minlength=len(people))
    order = rows[np.lexsort((rng.random(len(rows)), place))]
    column = np.arange(len(rows)) - np.repeat(np.cumsum(count) - count, count)
    kept = column < OWN
    place, column, order = place[kept], column[kept], order[kept]
    width = int(count.max(initial=0).clip(max=OWN))
    items, weight = np.zeros((len(people), width), dtype=np.int64), np.full((len(people), width), -np.inf)
    items[place, column] = mine.other[order]
    weight[place, column] = np.log(np.maximum(count / OWN, 1.0))[place]
    return items, weight


def fitted(weights: Weights, asked: Question, terms: list[Term]) -> Weights:
    """The weights after what the events say, started from ``weights`` and pulled to them."""
    taken, column = _by_user(asked)
    items = np.concatenate([asked.items, taken], 1)  # asked for together: a term may look at all of a user's items once
    columns = tuple(name for term in terms for name in term.columns)
    width, first = asked.items.shape[1], 0
    values = torch.empty(*asked.items.shape, len(columns))  # (B, C, F)
    own = torch.empty(*taken.shape, len(columns))
    for term in terms:
        part, found = slice(first, first + len(term.columns)), term.at(asked.users, items)
        values[..., part], own[..., part], first = found[:, :width], found[:, width:], part.stop
    place = torch.from_numpy(asked.place)
    own = own[place, torch.from_numpy(column)]  # (E, F)
    for number, which in enumerate(SETS):
        chosen = torch.ones_like(asked.new) if which == "everything" else asked.new
        if int(chosen.sum()) >= ENOUGH:
            before = weights.row(which, columns)
            chance = CHANCE * float((~asked.new[chosen]).double().mean())
            told = _Asked(values, asked.offset[number], own[chosen], place[chosen], chance)
            found, evidence = _fit(told, before)
            weights = weights.with_row(which, columns, found, evidence)
    return weights


def _by_user(asked: Question) -> tuple[IntArray, IntArray]:
    """The items that each user took, as a table (B, W), and the column of each event (E,) in it."""
    count = np.bincount(asked.place, minlength=len(asked.users))
    order = np.argsort(asked.place, kind="stable")
    column = np.empty(len(order), dtype=np.int64)
    column[order] = np.arange(len(order)) - np.repeat(np.cumsum(count) - count, count)
    table = np.zeros((len(asked.users), int(count.max(initial=0))), dtype=np.int64)
    table[asked.place, column] = asked.wanted
    return table, column


def _fit(asked: _Asked, before: Tensor) -> tuple[Tensor, Evidence]:
    """The weights (F,) at which the loss is least, by Newton's method on a bound of it that touches it where the step
    begins: -log p of each event, weighed by p / (p + chance) there. It is convex, and F is small."""
    before = before.double()
    hold = PULL / len(asked.own)

    def pulled(weights: Tensor) -> tuple[float, _Answer]:
        answer = asked.answer(weights)
        return answer.loss + hold * float(((weights - before) ** 2).sum()), answer

    weights = before
    value, answer = pulled(weights)
    first = answer
    for _ in range(STEPS):
        slope, curve = asked.slopes(answer)
        slope += 2 * hold * (weights - before)
        step = torch.linalg.solve(curve + 2 * hold * torch.eye(len(weights), dtype=torch.float64), slope)
        last, size = value, 1.0
        while size > 1e-3:
            tried, there = pulled(weights - size * step)
            if tried < value:
                weights, value, answer = weights - size * step, tried, there
                break
            size /= 2
        if last - value < ENOUGH_GAIN:
            break
    knowing_nothing = asked.answer(torch.zeros_like(weights))
    events, users = len(asked.own), len(asked.place.unique())
    return weights.float(), Evidence(events, users, first.loss, answer.loss, knowing_nothing.loss)


@dataclass(frozen=True)
class _Answer:
    """Under some weights: the chances (B, C) of the candidates, log p (E,) of the events, and their loss."""

    chances: Tensor
    logs: Tensor
    loss: float


@dataclass(frozen=True)
class _Asked:
    """``values`` (B, C, F) and ``offset`` (B, C) of the candidates of users; ``own`` (E, F) and ``place`` (E,) of what
    they took; ``chance`` of what nobody could foresee."""

    values: Tensor
    offset: Tensor
    own: Tensor
    place: Tensor
    chance: float

    @property
    def unforeseen(self) -> Tensor:
        """() the logarithm of the chance."""
        return torch.tensor(self.chance, dtype=torch.float64).log()

    def answer(self, weights: Tensor) -> _Answer:
        """What ``weights`` (F,) say of it."""
        scores = self.values @ weights.float() + self.offset
        total = scores.logsumexp(1)
        logs = (self.own @ weights.float() - total[self.place]).double()
        return _Answer((scores - total[:, None]).exp(), logs, -float(torch.logaddexp(logs, self.unforeseen).mean()))

    def slopes(self, answer: _Answer) -> tuple[Tensor, Tensor]:
        """Slope (F,) and curvature (F, F) of the bound where the answer was given."""
        counts = (answer.logs - self.unforeseen).sigmoid() / len(answer.logs)  # (E,) p / (p + chance), of the mean
        share = torch.zeros(len(self.values), dtype=torch.float64).index_add_(0, self.place, counts).float()
        slope = -(self.own.double() * counts[:, None]).sum(0)
        curve = torch.zeros(len(slope), len(slope), dtype=torch.float64)
        for part in torch.arange(len(self.values)).split(USERS_AT_ONCE):
            here = slice(int(part[0]), int(part[-1]) + 1)
            values, chances, weight = self.values[here], answer.chances[here], share[here, None]
            mean = (chances[:, None, :] @ values)[:, 0]  # (b, F)
            flat = values.reshape(-1, values.shape[2])
            spread = flat.T @ (flat * (chances * weight).reshape(-1, 1)) - (mean * weight).T @ mean
            slope, curve = slope + (mean * weight).double().sum(0), curve + spread.double()
        return slope, curve
