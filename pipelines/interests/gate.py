"""Whether a new version may go live: it is whole and finite, it answers, and it is not worse than the current one.

The verdict is a function of the version's folder and the settings. What is asked of quality, on the events that the
version was kept from learning (``gate.parquet``):

    bar        the hit rate and NDCG reach ``min_hr`` and ``min_ndcg``
    change     the confidence interval of (candidate - current) does not lie entirely below ``-max_drop``; users and
               items that the current version does not know are misses of it, as they are when it serves
    slices     the same for old and new users, old and new items, with ``slice_max_drop``; old items are ranked among
               old items by both, as a list that has places for new ones loses hits on old ones and forgets nothing
    preflight  a model that finds nothing would be rejected: where even that one would pass, a yes says so

A first version has nothing to be compared with: the bars alone decide. The form is that of model blessing in TFX
(evaluator and infra validator: a value and a change threshold, and a load before the push).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from imsr_core.bootstrap import paired_bootstrap
from imsr_core.counted import counted, plural
from imsr_core.metrics import hit_rate, ndcg
from imsr_core.retrieval import top_items
from pipelines.interests.gate_events import GateEvents
from pipelines.interests.read_once import Read, read_to_try
from pipelines.interests.version import Version
from pipelines.settings.sections import GateSettings
from pipelines.versions import pointer
from pipelines.workspace.seal import folder_problem

METRICS = {"ndcg": ndcg, "hr": hit_rate}
#: Users who are asked for when a version is tried out.
SMOKE_TEST_USERS = 16


@dataclass(frozen=True)
class Check:
    """One thing that was looked at. Numbers are None where it has none; ``n`` counts events."""

    name: str
    slice: str = "all"
    metric: str = ""
    current: float | None = None
    candidate: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    passed: bool = True


@dataclass(frozen=True)
class Verdict:
    """Whether the version may go live, why not or what could not be judged, and all that was looked at."""

    passed: bool
    reasons: tuple[str, ...]
    checks: tuple[Check, ...]

    def to_json(self) -> dict[str, Any]:
        """As it is kept in the version's summary."""
        return {"passed": self.passed, "reasons": list(self.reasons), "checks": [asdict(c) for c in self.checks]}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Verdict:
        """The verdict of a version's summary."""
        checks = tuple(Check(**check) for check in values["checks"])
        return cls(values["passed"], tuple(values["reasons"]), checks)


def judge_version(version: Version, settings: GateSettings, read: Read | None = None) -> Verdict:
    """The verdict on a version, which is ``read`` so. Nothing is written."""
    problem = smoke_test(version, read or read_to_try)
    serves = Check("serves", passed=problem is None)
    if problem is not None:
        return Verdict(False, (problem,), (serves,))
    if not settings.enabled:
        return Verdict(True, ("the gate is off",), (serves,))
    events = GateEvents.read(version.folder)
    if len(events) < settings.min_events:
        few = f"{counted(len(events), 'hidden event')}, fewer than {settings.min_events}: quality was not judged"
        return Verdict(True, (few,), (serves, Check("events", n=len(events))))
    checks = (serves, *_bars(events, settings), *_changes(events, settings))
    failed = [check for check in checks if not check.passed and check.name != "preflight"]
    doubts = [check for check in checks if not check.passed and check.name == "preflight"]
    reasons = [_reason(check, settings) for check in failed or doubts]
    if not (events.rank_current >= 0).any():
        reasons.append("there is no current version to compare with")
    return Verdict(not failed, tuple(reasons), checks)


def smoke_test(version: Version, read: Read = read_to_try) -> str | None:
    """Load a version as a reader would and ask for lists; what is wrong with it, or None.

    Of the interests it looks at those that the version wrote itself, and of everybody else's at whether their files
    are there: a chain's files are immutable, and each was looked at when it was new.
    """

    def ask() -> str | None:
        for folder in version.read_folders():
            problem = folder_problem(folder, deep=False)
            if problem is not None:
                return f"{folder.name}, which it reads: {problem}"
        users = version.some_users(SMOKE_TEST_USERS)
        state = read(version, users)
        state.require_finite(f"version {version.row.version_id}")
        asked = torch.from_numpy(users)
        lists = top_items(state.store, asked, state.item_vectors(), 10, bias=state.item_bias())
        if len(users) and state.n_items and not bool((torch.isfinite(lists.scores) & (lists.items >= 0)).all()):
            return f"version {version.row.version_id} recommends nothing, or with scores that are no numbers"
        return None

    return pointer.smoke_test(version, ask)


def _bars(events: GateEvents, settings: GateSettings) -> Iterator[Check]:
    for name, bar in (("hr", settings.min_hr), ("ndcg", settings.min_ndcg)):
        value = float(_values(events.rank_candidate, name, events.top_n).mean())
        yield Check("bar", metric=f"{name}@{events.top_n}", candidate=value, n=len(events), passed=value >= bar)


def _changes(events: GateEvents, settings: GateSettings) -> Iterator[Check]:
    everything = np.ones(len(events), dtype=bool)
    whole = _change("change", "all", events, everything, settings, settings.max_drop)
    if whole is None:
        return
    yield whole
    nothing = replace(events, rank_candidate=np.full_like(events.rank_candidate, events.top_n))
    blind = _change("preflight", "all", nothing, everything, settings, settings.max_drop)
    assert blind is not None
    yield replace(blind, passed=not blind.passed)
    slices = {
        "old users": ~events.new_user,
        "new users": events.new_user,
        "old items": ~events.new_item,
        "new items": events.new_item,
    }
    among_known = replace(events, rank_candidate=events.rank_among_known)
    for name, member in slices.items():
        ranked = among_known if name == "old items" else events
        check = _change("change", name, ranked, member, settings, settings.slice_max_drop)
        if check is not None:
            yield check


def _change(
    name: str, part: str, events: GateEvents, member: NDArray[np.bool_], settings: GateSettings, max_drop: float
) -> Check | None:
    """Candidate against current on a slice; None if it has too few events to judge."""
    member = member & (events.rank_current >= 0)
    n = int(member.sum())
    if n < settings.min_events:
        return None
    current = _values(events.rank_current[member], settings.metric, events.top_n)
    candidate = _values(events.rank_candidate[member], settings.metric, events.top_n)
    found = paired_bootstrap(
        candidate - current,
        events.user_index[member],
        resamples=settings.resamples,
        confidence=settings.confidence,
    )
    return Check(
        name=name,
        slice=part,
        metric=f"{settings.metric}@{events.top_n}",
        current=float(current.mean()),
        candidate=float(candidate.mean()),
        difference=found.mean,
        low=found.low,
        high=found.high,
        n=n,
        passed=not found.high < -max_drop,
    )


def _values(ranks: NDArray[np.int64], metric: str, top_n: int) -> NDArray[np.float64]:
    return METRICS[metric](torch.from_numpy(ranks), top_n).numpy()


def _reason(check: Check, settings: GateSettings) -> str:
    """A check that did not pass, in words."""
    if check.name == "bar":
        bar = settings.min_hr if check.metric.startswith("hr") else settings.min_ndcg
        return f"{check.metric} {check.candidate:.4f} on {counted(check.n, 'hidden event')} is below the bar of {bar:g}"
    if check.name == "preflight":
        events = f"{counted(check.n, 'hidden event')} {plural(check.n, 'is')}"
        return f"{events} too few to tell even a model that finds nothing from the current one"
    return (
        f"{check.metric} of {check.slice} fell from {check.current:.4f} to {check.candidate:.4f} "
        f"({settings.confidence:.0%} interval of the change {check.low:+.4f} .. {check.high:+.4f}, "
        f"{counted(check.n, 'event')})"
    )
