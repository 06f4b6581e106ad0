"""iALS inside the same score: factors of a retrained iALS in the place of the interests, beside all counting terms.

What interests are worth shows here: if an alternating least squares of half a second does as well in their place,
nothing is gained by keeping a chain of them. Before each span the weights of the score are fitted on the span before,
which neither the counts nor the factors that are asked had learnt, as a version's are.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rivals.ials import IALS
from rivals.protocol import Scores
from rivals.walk import Trials, quality_of, train
from torch import Tensor

from imsr_core.config import ScoreConfig
from imsr_core.score import Score, Scorer
from pipelines.bench.cells import CellResult
from pipelines.bench.data import BenchData
from pipelines.bench.kept import SpanRecord
from pipelines.bench.ranking import rank_everything, rank_what_is_new

NAME = "ials-in-score"
WHAT = "the score with iALS, retrained before each span, in the place of the interests"
#: iALS predicts 0 to 1; as a logit that is little.
SCALE = 10.0


@dataclass(frozen=True)
class FactorTerm:
    """A term of the score (see `imsr_core.score.protocol`): what iALS says of a user and an item."""

    scores: Scores

    columns = ("interest",)

    def add(self, scores: Tensor, users: NDArray[np.int64], weights: Tensor) -> None:
        """Add this term's part to ``scores`` (B, N) of ``users`` (B,), in place."""
        scores += SCALE * float(weights[0]) * torch.from_numpy(self.scores(users))[:, : scores.shape[1]]

    def at(self, users: NDArray[np.int64], items: NDArray[np.int64]) -> Tensor:
        """(B, C, 1) the column of ``items`` (B, C) for ``users`` (B,)."""
        return SCALE * torch.from_numpy(self.scores(users)).gather(1, torch.from_numpy(items))[..., None]

    def asked(
        self, users: NDArray[np.int64], shared: NDArray[np.int64], place: NDArray[np.int64], items: NDArray[np.int64]
    ) -> tuple[Tensor, Tensor]:
        """(B, C, 1) the column of the items ``shared`` (C,) for ``users`` (B,), and (P, 1) that of the pairs ``place``
        and ``items`` (P,)."""
        scores = SCALE * self.scores(users)
        return torch.from_numpy(scores[:, shared, None]), torch.from_numpy(scores[place, items, None])


def rank_ials_in_score(data: BenchData, top_n: int, trials: Trials) -> tuple[CellResult, str]:
    """The chain with the settings of iALS that were best alone in either table, each table with the better of them on
    the tuning spans; and what was chosen."""
    points = [trials.best("everything", "unseen").settings, trials.best("discover").settings]
    results = [_chain(data, top_n, settings) for settings in points]
    chosen = CellResult(NAME)
    best = [
        int(np.argmax([quality_of(getattr(result, kind), data, top_n, discover=discover) for result in results]))
        for kind, discover in (("ranks", False), ("discover", True))
    ]
    chosen.ranks, chosen.discover = results[best[0]].ranks, results[best[1]].discover
    chosen.records = results[best[0]].records
    chosen.seconds = sum(record.cpu_seconds for record in chosen.records)
    return chosen, f"{WHAT}; iALS with {points[best[0]]}, for discover {points[best[1]]}"


def _chain(data: BenchData, top_n: int, settings: Mapping[str, Any]) -> CellResult:
    result, factors = CellResult(NAME), None
    score = Score.empty(ScoreConfig(enabled=True, content=True), data.span_length).with_categories(data.categories)
    for number in range(1, len(data.spans)):
        before, span = data.spans[number - 1], data.spans[number]
        started, wall = time.process_time(), time.perf_counter()
        if factors is None:
            score = score.begun(before.learnt, before.n_items, 0)
        else:
            score = score.asked(before.learnt, factors, number).after(before.learnt, before.n_items)
        factors = FactorTerm(train(IALS, data, number, settings))
        cost = (time.process_time() - started, time.perf_counter() - wall)
        result.records.append(SpanRecord(before.id, *cost))
        users = span.sequences.users
        for which, rank, ranks in (
            ("everything", rank_everything, result.ranks),
            ("new", rank_what_is_new, result.discover),
        ):
            terms = [(term, score.weights.row(which, term.columns)) for term in score.terms(factors)]
            scorer = Scorer(terms, score.n_items, score.personal.pairs.owners)
            ranks[span.id] = rank(scorer.chunks(users), span, top_n)
    return result
