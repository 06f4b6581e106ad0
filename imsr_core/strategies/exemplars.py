"""Exemplars of ADER: a bounded pool of sequences that stand for what was learnt before (RecSys 2020, section 3).

    candidates   sequences of the span, cut at random targets, and the exemplars so far
    shares       an item's share of the pool is proportional to how often it is a candidate's target
    herding      per item, with D the candidates' representations at length 1 and mu their mean: w = mu; take
                 i = argmax <w, D_i>, then w += mu - D_i; a pick that was made before counts as a step, and steps are
                 taken while they are fewer than 1.1 times the share (Welling 2009; iCaRL's released loop)
    logits       of each exemplar, by the model that chose it

Adapted to multi-interest models. In ADER a sequence alone makes the representation; here it also depends on the
user's stored interests, which drift, and those of absent users are not at hand. So an exemplar is read like the first
sequence of a new user: fixed random starts without mass, drawn once from the seed. Its representation is the
label-aware user vector of its target. Logits over the whole catalogue are too many to keep: the target's are, and
those of a sample of items that is kept with the exemplar.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from imsr_core.config import AderConfig, InterestsConfig
from imsr_core.draws import Purpose, seeded
from imsr_core.extractors import Prior
from imsr_core.objectives import label_aware
from imsr_core.ragged import SpanSequences
from imsr_core.state import ModelState

OWNER = "ader"
CHUNK = 2048
#: Steps of herding for each exemplar that an item may have.
PATIENCE = 1.1


@dataclass(frozen=True)
class Exemplars:
    """P exemplars: ``user`` (P,), ``history`` (P, n) items with -1 in front, ``target`` (P,), ``items`` (P, M) and the
    ``logits`` (P, 1 + M) of the target and those items."""

    user: Tensor
    history: Tensor
    target: Tensor
    items: Tensor
    logits: Tensor

    @classmethod
    def empty(cls, config: InterestsConfig) -> Exemplars:
        """No exemplar."""
        none, m = torch.zeros(0, dtype=torch.int64), config.ader.items
        return cls(none, none.view(0, config.model.history), none, none.view(0, m), torch.zeros(0, 1 + m))

    @classmethod
    def of(cls, state: ModelState) -> Exemplars:
        """The pool that a state carries. A pool of other shapes, of an older configuration, is left behind."""
        if f"{OWNER}.user" not in state.user_memory:
            return cls.empty(state.config)
        found = cls(*(state.user_memory[f"{OWNER}.{f.name}"] for f in fields(cls)))
        like = cls.empty(state.config)
        same = all(getattr(found, f.name).shape[1:] == getattr(like, f.name).shape[1:] for f in fields(cls))
        return found if same else like

    def memory(self) -> dict[str, Tensor]:
        """As `ModelState.user_memory` carries it."""
        return {f"{OWNER}.{f.name}": getattr(self, f.name) for f in fields(self)}

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: Tensor) -> Exemplars:
        """Those at these positions."""
        return Exemplars(*(getattr(self, f.name)[rows] for f in fields(self)))


@dataclass(frozen=True)
class Reader:
    """Reads exemplars with a model: ``start`` (K, d) and ``queries`` (K, q) are those of a new user."""

    start: Tensor
    queries: Tensor

    @classmethod
    def of(cls, config: InterestsConfig) -> Reader:
        """The same for every span of a chain."""
        model, generator = config.model, seeded(config.training.seed, 0, Purpose.EXEMPLAR_START)
        start = torch.randn(model.initial_interests, model.dim, generator=generator) * config.detector.new_scale
        queries = torch.randn(model.initial_interests, model.query_units, generator=generator)
        return cls(start, queries / max(model.query_units, 1) ** 0.5)

    def users(self, state: ModelState, history: Tensor, mask: Tensor, target: Tensor) -> Tensor:
        """User vectors (B, d) from items (B, n, d), their mask (B, n), and targets (B, d)."""
        size, k = len(target), len(self.start)
        real = torch.ones(size, k, dtype=torch.bool, device=target.device)
        prior = Prior(
            start=self.start.expand(size, -1, -1),
            mass=torch.zeros(size, k, device=target.device),
            mask=real,
            stored=~real,
            queries=self.queries.expand(size, -1, -1),
        )
        interests = state.extractor(history * mask[..., None], mask, prior)
        return label_aware(interests, real, target, state.config.model.logit_scale)


def choose_exemplars(state: ModelState, span: SpanSequences, old: Exemplars) -> Exemplars:
    """The pool after ``span``, chosen and read by the model that has learnt it."""
    config, generator = state.config, seeded(state.config.training.seed, state.spans, Purpose.EXEMPLAR_CHOICE)
    rng = np.random.default_rng([config.training.seed, state.spans, Purpose.EXEMPLAR_CHOICE])
    fresh = _candidates(span, config, rng)
    joined = Exemplars(*(torch.cat([getattr(old, f.name), getattr(fresh, f.name)]) for f in fields(Exemplars)))
    users = _representations(state, joined)
    if config.ader.selection == "random":
        chosen = torch.randperm(len(joined), generator=generator)[: config.ader.pool].sort().values
    else:
        chosen = herd(users, joined.target, config.ader.pool)
    return _with_logits(state, joined.take(chosen), users[chosen], generator)


def _candidates(span: SpanSequences, config: InterestsConfig, rng: np.random.Generator) -> Exemplars:
    """At most ``cuts`` sequences of each user: a random event with a history, and the history."""
    model, cuts = config.model, config.ader.cuts
    first = np.repeat(span.offsets[:-1], span.counts)
    events = np.flatnonzero(np.arange(span.n_events) > first)
    events = events[rng.permutation(len(events))]
    by_user = np.argsort(span.rows[events], kind="stable")
    owners = span.rows[events][by_user]
    rank = np.arange(len(owners)) - np.searchsorted(owners, owners)
    events = np.sort(events[by_user][rank < cuts])
    index = events[:, None] - np.arange(model.history, 0, -1)
    history = np.where(index >= first[events][:, None], span.items[index.clip(min=0)], -1)
    empty = Exemplars.empty(config)
    return Exemplars(
        user=torch.from_numpy(span.users[span.rows[events]]),
        history=torch.from_numpy(history),
        target=torch.from_numpy(span.items[events]),
        items=empty.items.new_zeros(len(events), config.ader.items),
        logits=empty.logits.new_zeros(len(events), 1 + config.ader.items),
    )


@torch.no_grad()
def _representations(state: ModelState, pool: Exemplars) -> Tensor:
    """User vectors (P, d) under the state's model."""
    vectors, reader = state.item_vectors(), Reader.of(state.config)
    parts = [torch.zeros(0, state.config.model.dim)]
    for rows in torch.arange(len(pool)).split(CHUNK):
        history, target = pool.history[rows], pool.target[rows]
        parts.append(reader.users(state, vectors[history.clamp(min=0)], history >= 0, vectors[target]))
    return torch.cat(parts)


def _with_logits(state: ModelState, pool: Exemplars, users: Tensor, generator: torch.Generator) -> Exemplars:
    """The pool with a sample of items, none of them the target, and the logits (P, 1 + M) of its ``users`` (P, d)."""
    other = torch.randint(max(state.n_items - 1, 1), pool.items.shape, generator=generator)
    items = (other + (other >= pool.target[:, None])).clamp(max=max(state.n_items - 1, 0))
    vectors, logits = state.item_vectors(), pool.logits.clone()
    listed = torch.cat([pool.target[:, None], items], 1)
    for rows in torch.arange(len(pool)).chunk(-(-len(pool) // CHUNK) or 1):  # their vectors are many times the pool
        found = (vectors[listed[rows]] @ users[rows, :, None]).squeeze(-1)  # (c, 1 + M, d) by (c, d, 1)
        logits[rows] = state.config.model.logit_scale * found
    return Exemplars(pool.user, pool.history, pool.target, items, logits)


def shares(groups: Tensor, size: int) -> Tensor:
    """How many of ``size`` each group gets (G,), in proportion to its members (G,) and never more than those.

    Rounded down, then the largest remainders up.
    """
    total = int(groups.sum())
    if total <= size:
        return groups.clone()
    exact = groups.double() * size / total
    whole = exact.floor().long()
    rest = (exact - whole).argsort(descending=True, stable=True)[: size - int(whole.sum())]
    whole[rest] += 1
    return whole


def herd(users: Tensor, target: Tensor, size: int) -> Tensor:
    """Positions, ascending, of at most ``size`` of the candidates (C, d) that stand best for their ``target`` (C,)."""
    directions = functional.normalize(users.double(), dim=-1)
    _, group, members = torch.unique(target, return_inverse=True, return_counts=True)
    wanted = shares(members, size)
    mean = torch.zeros(len(members), users.shape[1], dtype=torch.float64).index_add_(0, group, directions)
    mean /= members[:, None]
    pull, picked = mean.clone(), torch.zeros(len(target), dtype=torch.bool)
    place = torch.arange(len(target))
    count = torch.zeros_like(wanted)
    patience = PATIENCE * wanted.double()
    for step in range(int(patience.max().ceil()) if len(target) else 0):
        open_ = (count < wanted) & (step < patience)
        score = (pull[group] * directions).sum(-1)
        best = torch.full((len(members),), -torch.inf, dtype=torch.float64).scatter_reduce(0, group, score, "amax")
        winner = torch.where(score == best[group], place, len(target))
        first = torch.full((len(members),), len(target)).scatter_reduce(0, group, winner, "amin")[open_]
        picked[first] = True
        pull[open_] += mean[open_] - directions[first]
        count = torch.zeros_like(count).index_add_(0, group, picked.long())
    return picked.nonzero()[:, 0]


def adaptive_weight(config: AderConfig, known_items: int, n_items: int, exemplars: int, examples: int) -> float:
    """lambda_t = lambda_0 sqrt(items before / items now x exemplars / training examples) (ADER, section 3.3)."""
    return config.weight * (known_items / max(n_items, 1) * exemplars / max(examples, 1)) ** 0.5
