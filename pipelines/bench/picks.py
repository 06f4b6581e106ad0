"""What a user would pick instead: everything that could be served, side by side, in both tables.

A chain of models is worth its while only if it beats what takes an afternoon: counters, a retrained factorisation.
The *subject* is imsr; each other line says what the subject gains over it, both as they serve, with its interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from imsr_core.bootstrap import Interval
from pipelines.bench.data import BenchData
from pipelines.bench.summary import Done, Scope, gain, grouped, score_of

SUBJECT = "imsr"


@dataclass(frozen=True)
class Side:
    """A line in one of the two tables: HR and NDCG as it serves, mean over seeds, and what the subject gains over it
    (None for the subject itself). ``best_rival`` marks the best of the lines that are no model of ours."""

    hr: float
    ndcg: float
    gain: Interval | None
    best_rival: bool = False


@dataclass(frozen=True)
class Pick:
    """One line; ``seconds`` are of the processor for one span's update or retraining; NaN for a list of counts."""

    variant: str
    extractor: str
    is_model: bool
    seeds: int
    everything: Side
    discover: Side
    seconds: float

    def rows(self) -> list[dict[str, Any]]:
        """As they stand in ``picks.parquet``: one row for each of the two tables."""
        nothing = Interval(float("nan"), float("nan"), float("nan"))
        return [
            {
                "variant": self.variant,
                "extractor": self.extractor,
                "is_model": self.is_model,
                "seeds": self.seeds,
                "table": table,
                "hr": side.hr,
                "ndcg": side.ndcg,
                **{f"gain_{name}": value for name, value in asdict(side.gain or nothing).items()},
                "best_rival": side.best_rival,
                "cpu_seconds": self.seconds,
            }
            for table, side in (("everything", self.everything), ("discover", self.discover))
        ]


def subject_of(done: Sequence[Done]) -> tuple[str, str] | None:
    """(variant, extractor) of the subject: the first imsr, or None without one."""
    return next((key for key in grouped(done) if key[0] == SUBJECT), None)


def picks(done: Sequence[Done], data: BenchData, top_n: int) -> list[Pick]:
    """All lines, in the order of the cells."""
    groups, subject = grouped(done), subject_of(done)
    found = []
    for key, members in groups.items():
        sides = []
        for scope in (Scope(data, top_n), Scope(data, top_n, discover=True)):
            over = None
            if subject and key != subject:
                over = gain(groups[subject], members, scope, served=True, over_served=True)
            hr, ndcg = np.mean([score_of(result, scope, served=True) for _, result in members], axis=0)
            sides.append(Side(float(hr), float(ndcg), over))
        spent = [r.cpu_seconds for _, result in members for r in result.records[1:] or result.records]
        seconds = float(np.mean(spent)) if spent else float("nan")
        is_model = members[0][0].variant.is_model
        found.append(Pick(key[0], key[1], is_model, len(members), sides[0], sides[1], seconds))
    return _marked(found)


def best_rival(found: Sequence[Pick], *, discover: bool) -> Pick | None:
    """The best line of those that are no model of ours, by (HR + NDCG) / 2."""
    others = [pick for pick in found if not pick.is_model and not np.isnan(_side(pick, discover).hr)]
    return max(others, key=lambda pick: _side(pick, discover).hr + _side(pick, discover).ndcg, default=None)


def _side(pick: Pick, discover: bool) -> Side:
    return pick.discover if discover else pick.everything


def _marked(found: list[Pick]) -> list[Pick]:
    best, best_new = (best_rival(found, discover=discover) for discover in (False, True))
    return [
        replace(
            pick,
            everything=replace(pick.everything, best_rival=pick is best),
            discover=replace(pick.discover, best_rival=pick is best_new),
        )
        for pick in found
    ]
