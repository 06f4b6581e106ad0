"""Fit a score's weights on events that its parts have not learnt: a conditional logit over the catalogue.

    p(u, i) = exp(score(u, i)) / sum_j exp(score(u, j))
    loss    = mean over events (u, i) of -log(p(u, i) + chance)                    + PULL / events |w - w before|^2

The chance, CHANCE x the share of repeats among the events, is that of what nobody could foresee: an event comes from
the score or from anywhere. With 0 this is the likelihood, to which those events matter most. Where people take their
own things again, weights give way for new ones that they cannot bring into a list of twenty anyway, and the order of
what could be there pays for it. Where nobody repeats, and among what is new, all events are about as hard, and it is 0.

The catalogue of a user is that of its `Question`. Weights that are trained together with the interests, on the span
that both learn, do not work: the item vectors fit the span's own fashion, and the counts seem worthless. Out of sample
they are judged by what they are worth the day after.

One column stays as it is in the set *new* where people take their things again (`AGAIN`): what it says of them there is
mostly what they will take once more, and the new things are found worse with it.

A few columns are 0 for what a user did not have (`personal` and all ``had_``). The candidates that are the same for all
users are asked about without them, which is most of the work of a fit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from imsr_core.score.protocol import Term
from imsr_core.score.question import Question
from imsr_core.score.weights import SETS, Evidence, Weights

#: With fewer events the weights stay.
ENOUGH = 30
#: How many events' worth the weights before are.
PULL = 30.0
#: Where all events are repeats, one that is less likely than this hardly counts: it has no place in a list, whatever
#: the weights.
CHANCE = 0.003
#: What is left out among what is new where more than this share of the events are repeats.
AGAIN, ABOUT_REPEATS = 0.1, ("factors_often",)
#: The pull of a column that is left out, in events: it does not move.
FIXED = 1e9
STEPS = 25
#: Users whose candidates are summed up together: as many as stay in the processor's cache.
USERS_AT_ONCE = 32
#: The fit ends when a step gains less than this, in nats an event.
ENOUGH_GAIN = 1e-4
#: Below every score, and every sum of chances: what stands in for those of a user who has no candidate.
LEAST, LEAST_SUM = -1e30, 1e-30


def fitted(weights: Weights, asked: Question, terms: list[Term]) -> Weights:
    """The weights after what the events say, started from ``weights`` and pulled to them."""
    columns = tuple(name for term in terms for name in term.columns)
    told, again = _Values.of(asked, terms), float((~asked.new).double().mean())
    for which in SETS:
        fixed = ABOUT_REPEATS if which == "new" and again > AGAIN else ()
        pull = torch.tensor([FIXED if name in fixed else PULL for name in columns], dtype=torch.float64)
        chosen = torch.ones_like(asked.new) if which == "everything" else asked.new & asked.open
        if int(chosen.sum()) >= ENOUGH:
            before = weights.row(which, columns)
            chance = CHANCE * float((~asked.new[chosen]).double().mean())
            found, evidence = _fit(told.asked(asked, chosen, chance, own=which == "everything"), before, pull)
            weights = weights.with_row(which, columns, found, evidence)
    return weights


@dataclass(frozen=True)
class _Shared:
    """What terms say of the C candidates that are the same for all B users: ``items`` (C, G) what does not depend on
    the user, in the columns ``of_items`` (G,); ``pairs`` (H, B, C) what does, in the columns ``of_pairs`` (H,). In all
    other columns they are 0."""

    items: Tensor
    of_items: Tensor
    pairs: Tensor
    of_pairs: Tensor

    @classmethod
    def of(cls, values: list[tuple[int, Tensor]], users: int, items: int) -> _Shared:
        """Of the first column of each term and its values, (B, C, F') or (1, C, F')."""
        alike = [(first, part) for first, part in values if len(part) < users]
        apart = [(first, part) for first, part in values if len(part) == users]
        return cls(
            torch.cat([torch.zeros(items, 0), *(part[0] for _, part in alike)], 1),
            _numbers(alike),
            torch.cat([torch.zeros(0, users, items), *(part.permute(2, 0, 1) for _, part in apart)]),
            _numbers(apart),
        )

    def scores(self, weights: Tensor) -> Tensor:
        """(B, C) the scores under ``weights`` (F,)."""
        scores = (weights[self.of_pairs] @ self.pairs.flatten(1)).view(self.pairs.shape[1:])
        return scores.add_(self.items @ weights[self.of_items])

    def moments(self, chances: Tensor, share: Tensor, width: int) -> tuple[Tensor, Tensor]:
        """(B, F) the sum of the values of a user's candidates weighed by ``chances`` (B, C), and (F, F) the sum over
        users of ``share`` (B,) times that of their products; ``width`` is F."""
        mean = torch.zeros(len(share), width)
        mean[:, self.of_items] = chances @ self.items
        inner = torch.zeros(len(self.of_pairs), len(self.of_pairs), dtype=torch.float64)
        cross = torch.zeros(len(self.of_pairs), chances.shape[1])
        for users in torch.arange(len(share)).split(USERS_AT_ONCE):
            here = slice(int(users[0]), int(users[-1]) + 1)
            values = self.pairs[:, here]
            weighed = values * chances[here]
            mean[here, self.of_pairs] = weighed.sum(2).T
            weighed *= share[here, None]
            inner += (values.flatten(1) @ weighed.flatten(1).T).double()
            cross += weighed.sum(1)
        products = torch.zeros(width, width, dtype=torch.float64)
        products[self.of_pairs[:, None], self.of_pairs] = inner
        products[self.of_pairs[:, None], self.of_items] = (cross @ self.items).double()
        products[self.of_items[:, None], self.of_pairs] = products[self.of_pairs[:, None], self.of_items].T
        many = (share @ chances)[:, None]
        products[self.of_items[:, None], self.of_items] = (self.items.T @ (self.items * many)).double()
        return mean, products


def _numbers(values: list[tuple[int, Tensor]]) -> Tensor:
    """The columns of values, given the first one of each."""
    return torch.cat([torch.zeros(0, dtype=torch.int64), *(first + torch.arange(v.shape[2]) for first, v in values)])


@dataclass(frozen=True)
class _Values:
    """What the terms say of the ``shared`` candidates; ``own`` (P, F) of what users had; ``taken`` (E, F) of what they
    took."""

    shared: _Shared
    own: Tensor
    taken: Tensor

    @classmethod
    def of(cls, asked: Question, terms: list[Term]) -> _Values:
        """Ask all ``terms``."""
        place = np.concatenate([asked.own.place, asked.place])  # together: a term may look at a user's items once
        items = np.concatenate([asked.own.items, asked.wanted])
        shared, pairs, first = [], [], 0
        for term in terms:
            everybody, mine = term.asked(asked.users, asked.shared, place, items)
            shared.append((first, everybody))
            pairs.append(mine)
            first += len(term.columns)
        own, taken = torch.cat(pairs, 1).split([len(asked.own.place), len(asked.place)])
        return cls(_Shared.of(shared, len(asked.users), len(asked.shared)), own, taken)

    def asked(self, question: Question, chosen: Tensor, chance: float, *, own: bool) -> _Asked:
        """Of the ``chosen`` (E,) events; with what the users had among the candidates, or without."""
        rows = slice(None if own else 0)
        place, stands = (torch.from_numpy(part[rows]) for part in (question.own.place, question.own.stands))
        mine = _Had(self.own[rows], place, stands.float())
        users = torch.from_numpy(question.place)[chosen]
        return _Asked(self.shared, question.offset, mine, self.taken[chosen], users, chance)


def _fit(asked: _Asked, before: Tensor, pull: Tensor) -> tuple[Tensor, Evidence]:
    """The weights (F,) at which the loss is least, with the pull (F,) to those ``before``, by Newton's method on a
    bound of it that touches it where the step begins: -log p of each event, weighed by p / (p + chance) there. It is
    convex, and F is small."""
    before, hold = before.double(), pull / len(asked.taken)

    def pulled(weights: Tensor) -> tuple[float, _Answer]:
        answer = asked.answer(weights)
        return answer.loss + float((hold * (weights - before) ** 2).sum()), answer

    weights = before
    value, answer = pulled(weights)
    first = answer
    for _ in range(STEPS):
        slope, curve = asked.slopes(answer)
        slope += 2 * hold * (weights - before)
        step = torch.linalg.solve(curve + (2 * hold).diag(), slope)
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
    events, users = len(asked.taken), len(asked.place.unique())
    return weights.float(), Evidence(events, users, first.loss, answer.loss, knowing_nothing.loss)


@dataclass(frozen=True)
class _Answer:
    """Under some weights: the chances (B, C) of the shared candidates and (P,) of what users had, log p (E,) of the
    events, and their loss."""

    shared: Tensor
    own: Tensor
    logs: Tensor
    loss: float


@dataclass(frozen=True)
class _Had:
    """Candidates that users had: ``values`` (P, F), whose they are, ``place`` (P,), for how many each ``stands`` (P,),
    as a logarithm."""

    values: Tensor
    place: Tensor
    stands: Tensor


@dataclass(frozen=True)
class _Asked:
    """The ``shared`` candidates of all users, with what is added to their scores, ``offset`` (B, C); the ``own`` ones
    of each; ``taken`` (E, F) and ``place`` (E,) of what they took; ``chance`` of what nobody could foresee."""

    shared: _Shared
    offset: Tensor
    own: _Had
    taken: Tensor
    place: Tensor
    chance: float

    @property
    def unforeseen(self) -> Tensor:
        """() the logarithm of the chance."""
        return torch.tensor(self.chance, dtype=torch.float64).log()

    def answer(self, weights: Tensor) -> _Answer:
        """What ``weights`` (F,) say of it."""
        weights = weights.float()
        shared = self.shared.scores(weights).add_(self.offset)
        own = self.own.values @ weights + self.own.stands
        most = shared.amax(1).scatter_reduce(0, self.own.place, own, "amax").clamp(min=LEAST)
        shared, own = shared.sub_(most[:, None]).exp_(), (own - most[self.own.place]).exp()
        total = shared.sum(1).index_add(0, self.own.place, own).clamp(min=LEAST_SUM)
        logs = (self.taken @ weights - (most + total.log())[self.place]).double()
        loss = -float(torch.logaddexp(logs, self.unforeseen).mean())
        return _Answer(shared.div_(total[:, None]), own / total[self.own.place], logs, loss)

    def slopes(self, answer: _Answer) -> tuple[Tensor, Tensor]:
        """Slope (F,) and curvature (F, F) of the bound where the answer was given."""
        counts = (answer.logs - self.unforeseen).sigmoid() / len(answer.logs)  # (E,) p / (p + chance), of the mean
        share = torch.zeros(len(self.offset), dtype=torch.float64).index_add_(0, self.place, counts).float()
        mean, curve = self.shared.moments(answer.shared, share, self.taken.shape[1])
        weighed = self.own.values * answer.own[:, None]
        mean.index_add_(0, self.own.place, weighed)  # (B, F) of all that a user might have taken
        told = mean * share[:, None]
        curve += (self.own.values.T @ (weighed * share[self.own.place, None]) - mean.T @ told).double()
        return told.double().sum(0) - (self.taken.double() * counts[:, None]).sum(0), curve
