"""One score out of terms: what is known of a user and an item, weighed by what it was worth on unseen events.

    score(u, i) = sum over the columns f of all terms of w_f x_f(u, i)

    interest     how near the item is to the user's nearest interest      interest.py     the model's
    trend        how many took it of late, at six half-lives              trend.py        counted
    personal     how often and how lately this user had it                personal.py     counted
    neighbours   what goes with what the user had of late                 neighbours.py   counted
    factors      what users with the same things have                     factors.py      least squares
    content      how much the user had of the item's categories           content.py      counted

The counting terms learn a span exactly: one span after the other or all at once gives the same; factors are moved by
it. The weights come from the events of a span that the model has not learnt yet (`fitting`), before it learns them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from imsr_core.config import ScoreConfig
from imsr_core.holdout import kept_back
from imsr_core.ragged import SpanSequences, from_events
from imsr_core.score.content import Categories, ContentTerm
from imsr_core.score.contexts import Contexts
from imsr_core.score.factors import FactorsTerm
from imsr_core.score.fitting import fitted
from imsr_core.score.had import TermWithHad, had_columns
from imsr_core.score.interest import InterestTerm
from imsr_core.score.neighbours import NeighboursTerm
from imsr_core.score.pairs import IntArray, Pairs
from imsr_core.score.personal import PersonalTerm
from imsr_core.score.protocol import Term
from imsr_core.score.question import question, sample_events
from imsr_core.score.serving import Scorer
from imsr_core.score.strangers import weighed_alone
from imsr_core.score.trend import HALF_LIVES, TrendTerm
from imsr_core.score.weights import Evidence, Weights
from imsr_core.sorted_keys import is_in, union

#: What a span lasts where nobody says otherwise: a month of 30 days, in microseconds.
MONTH = 30 * 86_400_000_000
SECOND = 1_000_000  # microseconds
#: Stands for the categories of a score that has some, until they are read.
NOT_READ = Categories.none()


@dataclass(frozen=True)
class Score:
    """The counting terms, the columns in use and their weights.

    ``trend``, ``personal`` and ``neighbours`` always count; ``config`` says which of them are part of the score.
    ``personal`` and ``neighbours`` may hold some users only: those that will be asked about. ``strangers`` weighs the
    columns of ``trend`` for who is not known at all; empty until a span was asked about. ``categories`` say what items
    are; None where nobody says that.
    """

    config: ScoreConfig
    trend: TrendTerm
    personal: PersonalTerm
    neighbours: NeighboursTerm
    factors: FactorsTerm
    weights: Weights
    strangers: tuple[float, ...] = ()
    categories: Categories | None = None

    @classmethod
    def empty(cls, config: ScoreConfig, unit: int = MONTH) -> Score:
        """Nothing counted; ``unit`` is the length of a span in microseconds, which half-lives are measured in."""
        personal = PersonalTerm.empty(unit, config.history)
        neighbours = NeighboursTerm.empty(personal, config.neighbours_kept)
        factors = FactorsTerm.empty(personal)
        score = cls(config, TrendTerm.empty(unit), personal, neighbours, factors, Weights.start(()))
        return replace(score, weights=Weights.start(score.columns))

    def tensors(self) -> dict[str, Tensor]:
        """What is saved of it as tensors, by name; the tables of pairs are data and kept apart."""
        counts, degree = torch.from_numpy(self.trend.counts), torch.from_numpy(self.neighbours.degree)
        return {"trend": counts, "degree": degree, "weights": self.weights.values, "factors": self.factors.factors}

    def described(self) -> dict[str, Any]:
        """What is saved of it as JSON."""
        return {
            "span_length": self.unit,
            "until": self.trend.until,
            "columns": list(self.weights.columns),
            "evidence": {name: asdict(evidence) for name, evidence in self.weights.evidence.items()},
            "strangers": list(self.strangers),
        }

    @classmethod
    def of_description(cls, config: ScoreConfig, described: dict[str, Any]) -> Score:
        """The score of `described`, without tensors and tables."""
        score = cls.empty(config, int(described["span_length"]))
        until = int(described["until"])
        evidence = {name: Evidence(**values) for name, values in described["evidence"].items()}
        personal = replace(score.personal, until=until)
        return replace(
            score,
            trend=replace(score.trend, until=until),
            personal=personal,
            neighbours=replace(score.neighbours, personal=personal),
            factors=replace(score.factors, personal=personal),
            weights=replace(Weights.start(tuple(described["columns"])), evidence=evidence),
            strangers=tuple(described.get("strangers", ())),
            categories=NOT_READ if ContentTerm.columns[0] in described["columns"] else None,
        )

    def with_tensors(self, tensors: dict[str, Tensor]) -> Score:
        """With the tensors of `tensors`; what came later, factors or columns, is at its start."""
        counts, degree = tensors["trend"].numpy(), tensors["degree"].numpy()
        weights = replace(self.weights, values=tensors["weights"])
        score = replace(
            self,
            trend=replace(self.trend, counts=counts),
            neighbours=replace(self.neighbours, degree=degree),
            factors=replace(self.factors, factors=tensors.get("factors", self.factors.factors)),
        )
        return replace(score, weights=weights.for_columns(score.columns))

    def with_tables(
        self, personal: Pairs, tail: SpanSequences, base: Pairs, since: tuple[Contexts, ...], *, whole: bool
    ) -> Score:
        """With the tables of pairs: of everything, or (not ``whole``) of those that will be asked about."""
        own = replace(self.personal, pairs=personal)
        near = replace(self.neighbours, base=base, since=since, tail=tail, personal=own, whole=whole)
        return replace(self, personal=own, neighbours=near, factors=replace(self.factors, personal=own))

    def with_categories(self, categories: Categories | None) -> Score:
        """With what items are from now on; the weights of columns that stay are as they were."""
        score = replace(self, categories=categories)
        return replace(score, weights=self.weights.for_columns(score.columns))

    def configured(self, config: ScoreConfig) -> Score:
        """The same counts under another configuration: other columns have their weights, or their start."""
        personal = replace(self.personal, limit=config.history)
        near = replace(self.neighbours, limit=config.neighbours_kept, personal=personal)
        factors = replace(self.factors, personal=personal)
        score = replace(self, config=config, personal=personal, neighbours=near, factors=factors)
        return replace(score, weights=self.weights.for_columns(score.columns))

    @property
    def unit(self) -> int:
        """The length of a span in microseconds."""
        return self.trend.unit

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the terms in use, interest first."""
        own: tuple[str, ...] = InterestTerm.columns if self.config.interest else ()
        if self.config.personal:
            own = had_columns(own)
        return (*own, *(name for term in self.counters() for name in term.columns))

    @property
    def n_items(self) -> int:
        """N, the size of the catalogue that was counted."""
        return len(self.trend.counts)

    def counters(self) -> list[Term]:
        """The counting terms that are part of the score."""
        named: list[tuple[str, Term]] = [
            ("trend", self._with_had(self.trend)),
            ("personal", self.personal),
            ("neighbours", self.neighbours),
            ("factors", self._with_had(self.factors)),
        ]
        if self.categories is not None:
            named.append(("content", self._with_had(ContentTerm(self.categories, self.personal))))
        return [term for name, term in named if getattr(self.config, name)]

    def _with_had(self, term: Term) -> Term:
        return TermWithHad(term, self.personal) if self.config.personal else term

    def terms(self, interest: InterestTerm | None) -> list[Term]:
        """All terms of the score, in the order of ``columns``; without ``interest``, the counting ones."""
        if interest is None or not self.config.interest:
            return self.counters()
        return [self._with_had(interest), *self.counters()]

    def after(self, span: SpanSequences, n_items: int) -> Score:
        """With a span's events counted; the weights stay."""
        personal, trend = self.personal.after(span, n_items), self.trend.after(span, n_items)
        factors = replace(self.factors, personal=personal).after(span, n_items)
        # last: what it keeps of a large span is in nobody's way then
        neighbours = replace(self.neighbours.after(span, n_items), personal=personal)
        score = replace(self, trend=trend, personal=personal, neighbours=neighbours, factors=factors)
        return replace(score, weights=self.weights.for_columns(score.columns))  # a table of factors may have begun

    def asked_after(self, span: SpanSequences, n_items: int) -> Score:
        """The score to be asked after a span, and never to be stored: as `after`, but what items have to do with each
        other (neighbours, factors) is as it was, which saves most of the work."""
        personal = self.personal.after(span, n_items)
        factors, near = self.factors.asked_of(personal, n_items), self.neighbours.shared_with(personal)
        trend = self.trend.after(span, n_items)
        return replace(self, trend=trend, personal=personal, neighbours=near, factors=factors)

    def only_of(self, users: IntArray) -> Score:
        """As it is when asked about ``users`` (B,), ascending, who are known; never to be stored."""
        own = self.personal.only_of(users)
        return replace(self, personal=own, neighbours=self.neighbours.only_of(own), factors=self.factors.only_of(own))

    def found(self) -> Score:
        """The same with what is asked found already, and without what it was counted of; never to be stored."""
        return replace(self, neighbours=self.neighbours.found()) if self.config.neighbours else self

    def asked(self, span: SpanSequences, interest: InterestTerm | None, seed: int) -> Score:
        """With weights fitted on a span that neither this score nor ``interest`` has learnt; see `fitting`.

        Events of users or items that were never counted say nothing of the weights, those of new users only of what
        ``strangers`` are shown. The same ``seed`` gives the same.
        """
        told = replace(self, strangers=weighed_alone(self.strangers, self.trend, span))
        rng = np.random.default_rng(seed)
        known = is_in(span.users, self.personal.pairs.owners)[span.rows] & (span.items < self.n_items)
        if not known.any():
            return told
        users, items = sample_events(span, known, rng)
        popularity = self.trend.values()[:, HALF_LIVES.index(1.0)]
        asked = question(users, items, popularity, self.personal.pairs, rng)
        return replace(told, weights=fitted(self.weights, asked, self.only_of(asked.users).terms(interest)))

    def begun(self, span: SpanSequences, n_items: int, seed: int) -> Score:
        """The first score of a chain, from its pre-training: the weights of the counting terms come from events that
        are kept back for that (`kept_back`) and counted afterwards."""
        return self.weighed_by(span, n_items, seed).after(span, n_items)

    def weighed_by(self, span: SpanSequences, n_items: int, seed: int) -> Score:
        """This score, which has counted nothing, with the weights that it has after `begun`."""
        weighed = self
        for past, last in kept_back(span, self.unit):
            weighed = self.after(past, n_items).asked(last, None, seed)
            if weighed.weights.evidence:
                break
        return self.weighed_as(weighed)

    def weighed_as(self, other: Score) -> Score:
        """The same counts with the weights of ``other``."""
        return replace(self, weights=other.weights, strangers=other.strangers)

    def of_items(self, items: IntArray) -> Score:
        """The same score for one user alone (number 0), who had ``items`` (n,) just now, the most recent last."""
        times = self.personal.until - SECOND * np.arange(len(items))[::-1]
        session = from_events(np.zeros(len(items), dtype=np.int64), items, times)
        own = PersonalTerm.empty(self.unit, self.personal.limit).after(session, self.n_items)
        own = replace(own, until=self.personal.until)
        factors = self.factors.asked_of(own, self.n_items)
        return replace(self, personal=own, neighbours=self.neighbours.asked_of(own), factors=factors)

    def scorer(self, interest: InterestTerm | None, which: str = "everything") -> Scorer:
        """What serves: all terms with the weights of one of `imsr_core.score.weights.SETS`."""
        terms = [(term, self.weights.row(which, term.columns)) for term in self.terms(interest)]
        users = self.personal.pairs.owners
        if interest is not None:
            users = union(users, interest.store.users.numpy())
        return Scorer(terms, self.n_items, users)
