"""What a bench found: one row for each figure, tables for people.

    HR@n, NDCG@n    mean over the reported spans, then over seeds; +- is the standard deviation over seeds
    as it serves    the same chain with everything in the score that `imsr recommend` has; all other figures are the
                    interests' alone
    discover        events that are new to their user, ranked without what the user had before the span
    RI              relative gain of (HR + NDCG) / 2 over a reference, and its 95% interval: a paired bootstrap over
                    users of the values averaged over seeds (the reference's own mean is taken as given)
    forgetting      R[t, i] is the hit rate of version t on span i: the best of the versions since i less the last
    backward        the last version on span i less version i on it

A table counts the spans after those that hyper-parameters were chosen on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from imsr_core.bootstrap import Interval, paired_bootstrap
from imsr_core.metrics import backward_transfer, forgetting, hit_rate, ndcg
from pipelines.bench.cells import Cell, CellResult
from pipelines.bench.data import BenchData, BenchSpan

METRICS = {"hr": hit_rate, "ndcg": ndcg}
SLICES = ("all", "last", "repeat", "explore", "everything")
#: One cell and its result.
Done = tuple[Cell, CellResult]


@dataclass(frozen=True)
class Scope:
    """What figures are of: a log, the length of the lists, and whether only what is new to a user counts."""

    data: BenchData
    top_n: int
    discover: bool = False

    def member(self, span: BenchSpan) -> NDArray[np.bool_]:
        """The events (E,) of a span that decide."""
        return span.slices[self.data.slice_for(discover=self.discover)]


@dataclass(frozen=True)
class Figure:
    """One figure of one cell: a row of ``results.parquet``. ``scorer`` is "model" or "served", ``shown`` "everything"
    or "new" (items that the user had are left out of the list); ``n`` counts events."""

    variant: str
    extractor: str
    seed: int
    version: str
    span: str
    reported: bool
    scorer: str
    shown: str
    slice: str
    metric: str
    value: float
    n: int


@dataclass(frozen=True)
class Summary:
    """One line of the methods table: a variant with an extractor, over seeds."""

    variant: str
    extractor: str
    seeds: int
    hr: float
    hr_sd: float
    ndcg: float
    ndcg_sd: float
    repeat: float
    explore: float
    last: float
    everything: float
    served_hr: float
    served_ndcg: float
    gains: dict[str, Interval]
    forgetting: float
    backward: float
    interests: float
    floats: float
    seconds: float
    last_seconds: float
    peak_mb: float


def figures(done: Sequence[Done], data: BenchData, top_n: int) -> Iterator[Figure]:
    """All figures of all cells: scores by span and slice, everything shown or only what is new; R[t, i], costs."""
    reported = {span.id for span in data.reported}
    for cell, result in done:
        row = partial(Figure, cell.variant.name, cell.extractor, cell.seed)
        for number, span in enumerate(data.tested[: cell.until]):
            before = data.spans[number].id
            known = span.id in reported
            for (scorer, shown), found in _kinds(result).items():
                for name, member in span.slices.items() if span.id in found else ():
                    values = _both(found[span.id][member], top_n).mean(0) if member.any() else (np.nan, np.nan)
                    for metric, value in zip(METRICS, values, strict=True):
                        place = (before, span.id, known, scorer, shown, name)
                        yield row(*place, f"{metric}@{top_n}", float(value), int(member.sum()))
        for version, scores in enumerate(result.matrix):
            for span, value in zip(data.tested, scores, strict=False):
                made = data.spans[version].id
                yield row(made, span.id, False, "model", "everything", "sample", f"hr@{top_n}", float(value), 0)
        for record in result.records:
            for name, value in asdict(record).items():
                if name != "span":
                    yield row(record.span, record.span, False, "", "", "cost", name, float(value), 1)


def _kinds(result: CellResult) -> dict[tuple[str, str], dict[str, NDArray[np.int16]]]:
    """All ranks of a result by (scorer, shown)."""
    return {
        ("model", "everything"): result.ranks,
        ("served", "everything"): result.served,
        ("model", "new"): result.discover,
        ("served", "new"): result.discover_served,
    }


def summaries(done: Sequence[Done], scope: Scope, references: Sequence[str]) -> list[Summary]:
    """One line for each variant and extractor, in the order of the cells."""
    groups = grouped(done)
    return [_summary(key, groups, scope, references) for key in groups]


def grouped(done: Sequence[Done]) -> dict[tuple[str, str], list[Done]]:
    """The seeds of each (variant, extractor), in the order of the cells."""
    groups: dict[tuple[str, str], list[Done]] = {}
    for cell, result in done:
        groups.setdefault((cell.variant.name, cell.extractor), []).append((cell, result))
    return groups


def _summary(
    key: tuple[str, str],
    groups: dict[tuple[str, str], list[Done]],
    scope: Scope,
    references: Sequence[str],
) -> Summary:
    members = groups[key]
    scores = {name: [score_of(result, scope, name) for _, result in members] for name in SLICES}
    main = np.array(scores[scope.data.slice_for(discover=scope.discover)])
    served = [score_of(result, scope, served=True) for _, result in members]
    gains = {}
    for reference in references:
        others = _reference(reference, key[1], groups)
        if others and reference != key[0]:
            gains[reference] = gain(members, others, scope)
    matrices = [square for _, result in members if (square := _square(result)) is not None]
    learnt = [record for _, result in members for record in result.records[1:] or result.records]
    last = [result.records[-1] for _, result in members if result.records]
    return Summary(
        variant=key[0],
        extractor=key[1],
        seeds=len(members),
        hr=float(main[:, 0].mean()),
        hr_sd=float(main[:, 0].std(ddof=1)) if len(main) > 1 else float("nan"),
        ndcg=float(main[:, 1].mean()),
        ndcg_sd=float(main[:, 1].std(ddof=1)) if len(main) > 1 else float("nan"),
        repeat=_mean([hr for hr, _ in scores["repeat"]]),
        explore=_mean([hr for hr, _ in scores["explore"]]),
        last=_mean([hr for hr, _ in scores["last"]]),
        everything=_mean([hr for hr, _ in scores["everything"]]),
        served_hr=_mean([hr for hr, _ in served]),
        served_ndcg=_mean([value for _, value in served]),
        gains=gains,
        forgetting=_mean([forgetting(matrix) for matrix in matrices]),
        backward=_mean([backward_transfer(matrix) for matrix in matrices]),
        interests=_mean([record.mean_interests for record in last]),
        floats=_mean([record.stored_floats for record in last]),
        seconds=_mean([record.cpu_seconds for record in learnt]),
        last_seconds=_mean([record.cpu_seconds for record in last]),
        peak_mb=max((record.peak_mb for record in learnt), default=float("nan")),
    )


def _reference(name: str, extractor: str, groups: dict[tuple[str, str], list[Done]]) -> list[Done]:
    """The cells of a reference with the same extractor; a variant without one takes the first there are."""
    if extractor != "none":
        return groups.get((name, extractor), [])
    return next((members for key, members in groups.items() if key[0] == name), [])


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def score_of(result: CellResult, scope: Scope, name: str | None = None, *, served: bool = False) -> tuple[float, float]:
    """(HR, NDCG) on a slice, or on the one that decides, mean over the reported spans; NaN where there is none."""
    rows, found = [], result.ranks_of(served=served, discover=scope.discover)
    for span in scope.data.reported:
        member = span.slices[name] if name else scope.member(span)
        if span.id in found and member.any():
            ranks = found[span.id][member]
            rows.append(_both(ranks, scope.top_n).mean(0))
    hr, gain_ = np.mean(rows, axis=0) if rows else (np.nan, np.nan)
    return float(hr), float(gain_)


def _both(ranks: NDArray[np.int16], top_n: int) -> NDArray[np.float64]:
    """(E, 2): HR and NDCG of each event."""
    exact = torch.from_numpy(ranks.astype(np.int64))
    return np.stack([function(exact, top_n).numpy() for function in METRICS.values()], axis=1)


def gain(
    candidate: Sequence[Done],
    reference: Sequence[Done],
    scope: Scope,
    *,
    served: bool = False,
    over_served: bool = False,
) -> Interval:
    """RI of a candidate over a reference on the slice that decides, mean over the reported spans, with its interval;
    NaN where there is nothing to compare. ``served`` takes the candidate's scores as it serves, ``over_served`` the
    reference's."""
    kept = [result.ranks_of(served=served, discover=scope.discover) for _, result in candidate]
    others = [result.ranks_of(served=over_served, discover=scope.discover) for _, result in reference]
    reported = scope.data.reported
    if not all(span.id in ranks for span in reported for ranks in (*kept, *others)):
        return Interval(float("nan"), float("nan"), float("nan"))
    differences, users, base = [], [], []
    total = sum(int(scope.member(span).sum()) for span in reported)
    for span in reported:
        member = scope.member(span)
        if not member.any():
            continue
        mine, theirs = (_values([ranks[span.id] for ranks in cells], member, scope.top_n) for cells in (kept, others))
        # each span counts alike, however many events it has
        weight = total / (len(reported) * len(mine))
        differences.append(weight * (mine - theirs))
        users.append(span.users[member])
        base.append(theirs.mean())
    level = float(np.mean(base)) if base else 0.0
    if not level:
        return Interval(float("nan"), float("nan"), float("nan"))
    found = paired_bootstrap(np.concatenate(differences), np.concatenate(users))
    return Interval(found.mean / level, found.low / level, found.high / level)


def spans_hit_rates(result: CellResult, scope: Scope) -> list[float]:
    """HR on each tested span as it serves; NaN where it was not tested."""
    ranks, found = result.ranks_of(served=True, discover=scope.discover), []
    for span in scope.data.tested:
        member = scope.member(span)
        there = span.id in ranks and member.any()
        found.append(float((ranks[span.id][member] < scope.top_n).mean()) if there else float("nan"))
    return found


def _values(ranks: Sequence[NDArray[np.int16]], member: NDArray[np.bool_], top_n: int) -> NDArray[np.float64]:
    """(HR + NDCG) / 2 of each event of a slice, mean over seeds."""
    return np.mean([_both(each[member], top_n).mean(1) for each in ranks], axis=0)


def _square(result: CellResult) -> NDArray[np.float64] | None:
    """R[t, i] of the versions and spans 1 .. T - 1, of which version i has learnt span i; None if a part is missing."""
    square = result.matrix[1:, :-1]
    return square if len(square) > 1 and not np.isnan(square).any() else None
