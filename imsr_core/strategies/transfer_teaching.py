"""SML, step 2: teach the transfer on the span that follows the parameters it merged (SIGIR 2020, section 4.3).

Given the last update, old and newly trained rows of items and interests, the transfer's parameters are
trained so that the merged rows rank the events of the next span: L_SS of stored interests and items, as the model is
tested. Interests of users and rows of items that the last update did not move take part as they are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from imsr_core.dense_adam import DenseAdam
from imsr_core.draws import Purpose, seeded
from imsr_core.interests import InterestStore
from imsr_core.objectives import label_aware, sampled_softmax, unit
from imsr_core.ragged import SpanSequences
from imsr_core.state import ModelState
from imsr_core.strategies.row_transfer import Transfer, Transfers


@dataclass(frozen=True)
class LastUpdate:
    """What a span moved: ``rows`` (m,) of the item table with old and new values (m, d), and the interests (r,) of the
    span's users with old and new values (r, d)."""

    rows: Tensor
    old_items: Tensor
    new_items: Tensor
    user: Tensor
    interest_id: Tensor
    old_interests: Tensor
    new_interests: Tensor

    @classmethod
    def of(cls, state: ModelState, owner: str, transfers: Transfers) -> LastUpdate:
        """The one that a state carries. An empty one if there is none, or if another strategy has learnt since: the
        state's rows are then not those that the transfers made."""
        found = cls._carried(state, owner)
        served = transfers.item.merged(found.old_items, found.new_items)
        if torch.allclose(served, state.items.weight[found.rows], atol=1e-5):
            return found
        return cls._carried(replace(state, memory={}, user_memory={}), owner)

    @classmethod
    def _carried(cls, state: ModelState, owner: str) -> LastUpdate:
        none, empty = torch.zeros(0, dtype=torch.int64), torch.zeros(0, state.config.model.dim)
        return cls(
            rows=state.memory.get(f"{owner}.rows", none),
            old_items=state.memory.get(f"{owner}.old_items", empty),
            new_items=state.memory.get(f"{owner}.new_items", empty),
            user=state.user_memory.get(f"{owner}.user", none),
            interest_id=state.user_memory.get(f"{owner}.interest_id", none),
            old_interests=state.user_memory.get(f"{owner}.old", empty),
            new_interests=state.user_memory.get(f"{owner}.new", empty),
        )

    def memory(self, owner: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """As `ModelState.memory` and `ModelState.user_memory` carry it."""
        weights = {"rows": self.rows, "old_items": self.old_items, "new_items": self.new_items}
        interests = {"user": self.user, "interest_id": self.interest_id}
        interests |= {"old": self.old_interests, "new": self.new_interests}
        own = ({f"{owner}.{name}": t for name, t in part.items()} for part in (weights, interests))
        return next(own), next(own)

    def places_in(self, store: InterestStore) -> Tensor:
        """(R,) where each interest of ``store`` stands in this update, -1 if it does not."""
        if not len(self.user) or not len(store):
            return torch.full((len(store),), -1)
        width = int(max(self.interest_id.max(), store.interest_id.max())) + 1
        own, wanted = self.user * width + self.interest_id, store.user * width + store.interest_id
        place = torch.searchsorted(own, wanted).clamp(max=len(own) - 1)
        return torch.where(own[place] == wanted, place, -1)


def teach(state: ModelState, span: SpanSequences, transfers: Transfers, last: LastUpdate) -> bool:
    """Train the transfers in place; False if there is nothing to learn from."""
    config, training = state.config.sml, state.config.training
    users, targets = torch.from_numpy(span.users[span.rows]), torch.from_numpy(span.items)
    known = (targets < state.n_items) & (state.store.counts_of(users) > 0)
    users, targets = users[known], targets[known]
    if not len(targets) or not len(last.rows) or not config.epochs:
        return False
    lesson = _Lesson(state, transfers, last)
    transfers.requires_grad_(True)
    optimizer = DenseAdam(transfers.named_parameters(), config.learning_rate)
    generator = seeded(training.seed, state.spans, Purpose.TEACHING)
    for _ in range(config.epochs):
        for part in torch.randperm(len(targets), generator=generator).split(training.batch_size):
            optimizer.zero_grad()
            loss = lesson.loss(users[part], targets[part], generator)
            decay = sum((parameter.square().sum() for parameter in transfers.parameters()), torch.zeros(()))
            (loss + config.decay * decay).backward()
            optimizer.step()
    return True


class _Lesson:
    """The loss of merged rows on events of the next span."""

    def __init__(self, state: ModelState, transfers: Transfers, last: LastUpdate) -> None:
        self.state, self.transfers, self.last = state, transfers, last
        self.item_place = torch.full((state.n_items,), -1)
        self.item_place[last.rows] = torch.arange(len(last.rows))
        self.interest_place = last.places_in(state.store)

    def loss(self, users: Tensor, targets: Tensor, generator: torch.Generator) -> Tensor:
        """L_SS of stored interests (B, K, d) and items, merged."""
        model, state, last = self.state.config.model, self.state, self.last
        wanted = self.state.config.training.negatives or state.n_items
        negatives = torch.randint(state.n_items, (min(wanted, state.n_items),), generator=generator)
        ids, place = torch.unique(torch.cat([targets, negatives]), return_inverse=True)
        rows = self._merged(
            self.transfers.item, state.items.weight[ids], self.item_place[ids], last.old_items, last.new_items
        )
        vectors = unit(rows, model.normalize_items)
        target, negative = (functional.embedding(part, vectors) for part in place.split([len(targets), len(negatives)]))
        found = state.store.rows_of(users)
        own, back = torch.unique(found.rows[found.mask], return_inverse=True)
        changed = (last.old_interests, last.new_interests)
        merged = self._merged(self.transfers.user, state.store.vectors[own], self.interest_place[own], *changed)
        interests = torch.zeros(*found.mask.shape, state.store.dim)
        interests = interests.masked_scatter(found.mask[..., None], functional.embedding(back, merged))
        user = label_aware(interests, found.mask, target, model.logit_scale, model.label_attention == "hard")
        return sampled_softmax(user, target, negative, targets[:, None] == negatives, model.logit_scale)

    @staticmethod
    def _merged(transfer: Transfer, as_they_are: Tensor, place: Tensor, old: Tensor, new: Tensor) -> Tensor:
        """Rows (n, d), those with a place in the last update merged anew."""
        moved = place >= 0
        if not bool(moved.any()):
            return as_they_are
        merged = transfer(old[place[moved]], new[place[moved]])
        return as_they_are.masked_scatter(moved[:, None], merged)
