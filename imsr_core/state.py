"""M_t: everything that the `interests` line knows after span t, and that span t + 1 starts from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from imsr_core.config import InterestsConfig
from imsr_core.draws import Purpose, seeded
from imsr_core.errors import NonFiniteError
from imsr_core.extractors import Extractor, build_extractor
from imsr_core.finite import is_finite
from imsr_core.interests import InterestStore
from imsr_core.item_vectors import ItemVectors
from imsr_core.members import Member, config_of, initial_members, remembered_of
from imsr_core.objectives import unit
from imsr_core.ragged import SpanSequences, empty_sequences
from imsr_core.rows import RowTable
from imsr_core.score import MONTH, Categories, InterestTerm, Score, Scorer
from imsr_core.score.bias import BiasTerm
from imsr_core.score.protocol import Term
from imsr_core.trend import Trend

#: Numbers of the item vectors that a state keeps at most, of each member: 64 MB.
KEPT_VECTORS = 16_777_216


@dataclass
class ModelState:
    """Item table, extractor, their optimiser, and the interests of the users that were loaded.

    ``spans`` counts the spans learnt so far: 1 after pre-training. ``extractor_optimizer`` maps a parameter's name
    to Adam's (first moment, second moment, step) of it. ``trend`` counts what is in fashion;
    ``score`` is what items are scored with where ``[score]`` is on (None: interests and trend alone). ``missed`` are
    events from before the next span that no model of the chain has learnt, since what learnt them was rejected: they
    happened, so they are counted with the next span. It is not saved.

    ``memory`` is what a strategy carries from span to span besides the model, each tensor named
    ``<strategy>.<name>``; it is saved with the version. ``user_memory`` holds such tensors as have a row for something
    that users did: of each strategy one table, rows along the first dimension, with the users in
    ``<strategy>.user``. It is kept apart so that a user can be forgotten.

    ``members`` are the further members of the model, none by default (see `imsr_core.members`).
    """

    config: InterestsConfig
    items: RowTable
    extractor: Extractor
    store: InterestStore
    spans: int = 0
    extractor_optimizer: dict[str, tuple[Tensor, Tensor, Tensor]] = field(default_factory=dict)
    trend: Trend = field(default_factory=Trend.empty)
    score: Score | None = None
    missed: SpanSequences = field(default_factory=empty_sequences)
    memory: dict[str, Tensor] = field(default_factory=dict)
    user_memory: dict[str, Tensor] = field(default_factory=dict)
    members: tuple[Member, ...] = ()

    @classmethod
    def initial(
        cls, config: InterestsConfig, span_length: int = MONTH, categories: Categories | None = None
    ) -> ModelState:
        """A model that has seen nothing: no item, no user, fresh extractor. ``span_length`` is in microseconds,
        ``categories`` say what items are."""
        dim, seed = config.model.dim, config.training.seed
        return cls(
            config=config,
            items=RowTable.empty(dim),
            extractor=build_extractor(config.model, seeded(seed, 0, Purpose.EXTRACTOR)),
            store=InterestStore.empty(dim, config.model.query_units),
            score=Score.empty(config.score, span_length).with_categories(categories) if config.score.enabled else None,
            members=initial_members(config),
        )

    @property
    def n_items(self) -> int:
        """Items that the model knows: rows of its table."""
        return len(self.items)

    def item_tables(self) -> list[RowTable]:
        """The item table of each member, the first one's first."""
        return [self.items, *(member.items for member in self.members)]

    def item_vectors(self, rows: Tensor | None = None) -> Tensor:
        """(N, d) item vectors as scores use them: at length 1 unless normalisation is off; of ``rows`` (n,) alone, if
        they are given."""
        if rows is None:
            return self._vectors_of(0, self.items).whole
        return unit(self.items.weight[rows], self.config.model.normalize_items)

    def _vectors_of(self, number: int, table: RowTable) -> ItemVectors:
        """The item vectors of a member; of a table that is not large they are kept until its weights change, since the
        test of a span, its training and its gate ask for them in turn. Nobody may write to them."""
        weight, kept = table.weight, vars(self).setdefault("_vectors", {})
        known = kept.get(number)
        if known is not None and known[0] is weight and known[1] == weight._version:
            return known[2]
        vectors = ItemVectors(weight, self.config.model.normalize_items)
        if weight.numel() <= KEPT_VECTORS:
            kept[number] = (weight, weight._version, vectors)
        return vectors

    def item_bias(self) -> Tensor:
        """(N,) what the trend adds to the inner products with `item_vectors`."""
        return self.trend.bias(self.config.trend, self.n_items, self.config.model.logit_scale)

    def member(self, number: int) -> ModelState:
        """The further member ``number`` (from 1) as a model: without counts, unless it learns what they leave."""
        own, config = self.members[number - 1], config_of(self.config, number)
        return ModelState(
            config=config,
            items=own.items,
            extractor=own.extractor,
            store=own.store,
            spans=self.spans,
            extractor_optimizer=own.extractor_optimizer,
            score=self.score if config.training.residual else None,
            memory=remembered_of(self.memory, number),
            user_memory=remembered_of(self.user_memory, number),
        )

    def vectors_of_members(self) -> tuple[Tensor, ...]:
        """`item_vectors` of each member, the first one's first."""
        return tuple(vectors.whole for vectors in self.items_of_members())

    def items_of_members(self) -> tuple[ItemVectors, ...]:
        """The same in the form that is asked for."""
        return tuple(self._vectors_of(number, table) for number, table in enumerate(self.item_tables()))

    def interest_term(self) -> InterestTerm:
        """The interests and item vectors as a term of the score."""
        first, *others = self.items_of_members()
        stores = (member.store for member in self.members)
        return InterestTerm(self.store, first, self.config.model.logit_scale, tuple(zip(stores, others, strict=True)))

    def scorer(self, which: str = "everything", interest: InterestTerm | None = None) -> Scorer:
        """What scores the catalogue for a user, with the weights of one of `imsr_core.score.SETS`; ``interest`` is
        `interest_term`, if it is at hand."""
        term = self.interest_term() if interest is None else interest
        if self.score is not None:
            return self.score.scorer(term, which)
        one = torch.ones(1)
        terms: list[tuple[Term, Tensor]] = [(replace(term, scale=1.0), one), (BiasTerm(self.item_bias()), one)]
        return Scorer(terms, self.n_items, self.store.users.numpy())

    def with_items(self, n_items: int) -> ModelState:
        """This state with fresh rows for items up to ``n_items``; old rows and their moments are untouched."""
        new = n_items - self.n_items
        if new <= 0:
            return self
        # by the row it starts from, so that growing twice within a span does not draw the same rows twice
        generator = seeded(self.config.training.seed, self.n_items, Purpose.ITEM_ROWS)
        fresh = RowTable.random(new, self.config.model.dim, generator)
        return replace(self, items=self.items.append(fresh))

    def clone(self) -> ModelState:
        """A copy that can be trained while this one stays as it is."""
        extractor = build_extractor(self.config.model, torch.Generator().manual_seed(0))
        extractor.load_state_dict(self.extractor.state_dict())
        moments = {
            name: (first.clone(), second.clone(), step.clone())
            for name, (first, second, step) in self.extractor_optimizer.items()
        }
        return replace(
            self,
            items=self.items.clone(),
            extractor=extractor,
            extractor_optimizer=moments,
            memory=dict(self.memory),
            user_memory=dict(self.user_memory),
        )

    def require_finite(self, when: str) -> None:
        """Raise `NonFiniteError` naming the tensor if anything in the state is NaN or infinite."""
        named = {
            "item table": self.items.weight,
            "interests": self.store.vectors,
            "queries": self.store.queries,
            "items' first moment": self.items.moment1,
            "items' second moment": self.items.moment2,
            "queries' moments": self.store.query_moments,
            "trend": self.trend.counts,
        }
        named |= {f"memory {name}": t for name, t in (self.memory | self.user_memory).items() if t.is_floating_point()}
        named |= dict(self.extractor.named_parameters())
        _require_finite(named, when)
        self.require_finite_score(when)

    def require_finite_score(self, when: str) -> None:
        """The same of the score's weights alone."""
        if self.score is not None:
            _require_finite({"score's weights": self.score.weights.values}, when)


def _require_finite(named: dict[str, Tensor], when: str) -> None:
    for name, tensor in named.items():
        if not is_finite(tensor):
            raise NonFiniteError(
                f"{when}: the {name} holds NaN or infinite values",
                hint="the current version stays in place; try a lower [training] learning_rate",
            )
