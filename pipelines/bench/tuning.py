"""`imsr tune`: find a workspace's settings on the newest stretch of its pre-training, before anything depends on them.

    pre-training   |-------------- learnt first --------------|-- tested, learnt --|-- tested --|
    afterwards                                                            nothing of it is looked at

The last two spans of the pre-training stand in for the nights to come: each trial pre-trains on what lies before them,
is tested on the first, learns it, and is tested on the second, as it serves. So the nights that follow say honestly
what the choice is worth. Trials are cells of a bench (`pipelines.bench.cells`) in the workspace's ``trials/``; a search
that was ended goes on.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np

from imsr_core.bootstrap import Interval
from imsr_core.config import InterestsConfig
from imsr_core.counted import counted
from imsr_core.ragged import SpanSequences, between, concatenate, drop_empty, take_rows
from imsr_core.sorted_keys import unique
from imsr_core.state import ModelState
from imsr_core.strategies import strategy_named
from pipelines.bench.cells import Cell, CellFiles
from pipelines.bench.data import (
    BenchData,
    BenchError,
    cut,
    described,
    filtered,
    renumbered,
    sequence_folders,
    span_length,
)
from pipelines.bench.grid import Watch, work_of
from pipelines.bench.search import Trial, planned, search
from pipelines.bench.summary import Scope, gain
from pipelines.bench.variants import variants_named
from pipelines.sequences.loader import load_sequences
from pipelines.settings.bench import BenchSettings
from pipelines.workspace.layout import Workspace

#: Spans at the end of the pre-training that trials are tested on.
TUNING = 2
#: Users that a moment's training is timed with, to say how long all of it takes.
TIMED_USERS = 100


@dataclass(frozen=True)
class TuningPlan:
    """What will be tried: ``cells`` are settings and the cell with them, ``first`` the cell with those as given.

    ``seconds`` is the most that is left to do on one core, by a moment's training that was timed.
    """

    scope: Scope
    first: Cell
    files: CellFiles
    cells: list[tuple[dict[str, Any], Cell]]
    seconds: float

    @property
    def todo(self) -> int:
        """Trials that were not made yet."""
        return sum(self.files.get(cell) is None for _, cell in self.cells)

    def trials(self, watch: Watch) -> Iterator[Trial]:
        """Make them, or read what is there; each as soon as it is done.

        Raises:
            BenchError: nothing can be tested, so that all settings are worth the same.
        """
        for trial in search(self.first, self.scope, self.files, len(self.cells), watch):
            if math.isnan(trial.score):
                tested = ", ".join(span.id for span in self.scope.data.tested)
                raise BenchError(
                    f"nobody who came in the stretches to test on ({tested}) had come before: there is nothing to test "
                    f"settings on",
                    hint="raise [spans] pretrain, or keep the settings as they are",
                )
            yield trial


@dataclass(frozen=True)
class Choice:
    """The best trial, the one with the settings as given, and what the best gains over it: RI with its interval over
    users, NaN where nothing is better."""

    best: Trial
    given: Trial
    gain: Interval

    @property
    def is_certain(self) -> bool:
        """Whether other users would show it too: the whole interval lies above zero."""
        return self.gain.low > 0


def plan_tuning(
    workspace: Workspace, trials: int, *, now: datetime, users: int = 0, discover: bool = False
) -> TuningPlan:
    """What `imsr tune` would do. ``users`` is the size of a random sample, 0 = all.

    Raises:
        BenchError: the pre-training is not there yet, or is too short.
    """
    settings = workspace.settings
    data = tuning_data(workspace, users, now=now)
    config, variant = settings.interests, variants_named([settings.training.strategy])[0]
    first = Cell(
        variant, config.model.extractor, config.training.seed, config, data.fingerprint, TUNING,
        settings.evaluation.top_n, described=data.described,
    )  # fmt: skip
    files = CellFiles(workspace.trials)
    cells = planned(first, data, trials)
    left = sum(work_of(cell, data, base_is_there=False) for _, cell in cells if files.get(cell) is None)
    seconds = left * seconds_per_target(config, data) if left else 0.0
    return TuningPlan(Scope(data, first.top_n, discover), first, files, cells, seconds)


def tuning_data(workspace: Workspace, users: int, *, now: datetime) -> BenchData:
    """The pre-training's events alone: what lies before its last two spans, and those two.

    A pre-training of fewer than three spans is cut by time: two stretches at its end, as long as a span, or a quarter
    of it where spans are longer.
    """
    wanted = workspace.settings.spans.pretrain
    folders = sequence_folders(workspace, now=now)
    if len(folders) < wanted:
        raise BenchError(
            f"the pre-training needs {counted(wanted, 'span')}, and {len(folders)} have data",
            hint="ingest more, then tune",
        )
    parts = filtered([load_sequences(folder) for _, folder in folders[:wanted]], BenchSettings(max_users=users))
    names, length = [name for name, _ in folders[:wanted]], span_length(workspace)
    if len(parts) > TUNING:
        parts = [concatenate(parts[:-TUNING]), *parts[-TUNING:]]
        names = [f"..{names[-TUNING - 1]}", *names[-TUNING:]]
    else:
        parts, names = _stretches(concatenate(parts), length)
    if not all(part.n_events for part in parts):
        raise BenchError("a stretch of the pre-training holds no event", hint="raise [spans] pretrain")
    data = cut(names, renumbered(parts), workspace.settings.evaluation.protocol, TUNING, length)
    return described(data, workspace, [folder for _, folder in folders[:wanted]], parts, now=now)


def choose(plan: TuningPlan, trials: list[Trial]) -> Choice:
    """The best of the trials, and what it gains over the settings as they were given."""
    best, given = max(trials, key=lambda trial: trial.score), trials[0]
    if best is given:
        return Choice(best, given, Interval(float("nan"), float("nan"), float("nan")))
    # the spans that a search looks at are the ones to report here
    scope = replace(plan.scope, data=replace(plan.scope.data, tuning=0))
    pair = ([(best.cell, best.result)], [(given.cell, given.result)])
    return Choice(best, given, gain(*pair, scope, served=True, over_served=True))


def note_of(plan: TuningPlan, trials: list[Trial], choice: Choice, today: date, *, applied: bool) -> str:
    """What goes into imsr.toml as a comment: the choice and its evidence."""
    data, n = plan.scope.data, plan.scope.top_n
    tested = " and ".join(span.id for span in data.tested)
    what = ", what is new to the user" if plan.scope.discover else ""
    lines = [
        f"{today}: {counted(len(trials), 'setting')} of {plan.first.variant.name}, pre-trained on "
        f"{data.spans[0].id}, tested on {tested}{what}.",
        f"HR@{n} / NDCG@{n} in per cent, as it serves:",
    ]
    for trial in sorted(trials, key=lambda trial: -trial.score)[:5]:
        lines.append(f"  {100 * trial.hr:.2f} / {100 * trial.ndcg:.2f}   {settings_line(trial.settings)}")
    if choice.given not in sorted(trials, key=lambda trial: -trial.score)[:5]:
        lines.append(f"  {100 * choice.given.hr:.2f} / {100 * choice.given.ndcg:.2f}   {settings_line({})}")
    if choice.best is choice.given:
        return "\n".join([*lines, "Nothing was better than the settings as they were."])
    found = choice.gain
    lines.append(
        f"The best over the settings as they were: {100 * found.mean:+.1f} % ({100 * found.low:+.1f} .. "
        f"{100 * found.high:+.1f}, 95 % over users; the best of {len(trials)} is a little too good)."
    )
    if applied:
        return "\n".join([*lines, "They were put in force above."])
    advice = "To use them (imsr tune --apply):" if choice.is_certain else "The interval holds zero: nothing to change."
    return "\n".join([*lines, advice, *(f"  {line}" for line in _lines(choice.best.settings))])


def settings_line(settings: Mapping[str, Any]) -> str:
    """Settings on one line."""
    return ", ".join(_lines(settings)) or "as it was"


def seconds_per_target(config: InterestsConfig, data: BenchData) -> float:
    """Seconds that a training target takes on this machine, timed on one epoch of a few users."""
    first = data.spans[0]
    rows = unique(np.linspace(0, len(first.learnt) - 1, min(TIMED_USERS, len(first.learnt))).astype(np.int64))
    few = take_rows(first.learnt, rows)
    short = replace(config, training=replace(config.training, base_epochs=1, patience=0))
    started = time.process_time()
    strategy_named("imsr")(ModelState.initial(short), few, first.n_items)
    most = config.training.targets_per_user
    targets = int(few.counts.clip(max=most).sum() if most else few.counts.sum())
    return (time.process_time() - started) / max(targets, 1)


def _lines(settings: Mapping[str, Any]) -> list[str]:
    return [f"[{path.rpartition('.')[0]}] {path.rpartition('.')[2]} = {value}" for path, value in settings.items()]


def _stretches(events: SpanSequences, length: int) -> tuple[list[SpanSequences], list[str]]:
    """Everything before, and the last two stretches; named by when they end."""
    first, end = int(events.timestamps.min()), int(events.timestamps.max()) + 1
    step = min(length, (end - first) // 4)
    ends = [end - 2 * step, end - step, end]
    parts = [drop_empty(between(events, start, stop)) for start, stop in zip([first, *ends], ends, strict=False)]
    return parts, [f"..{_moment(stop)}" for stop in ends]


def _moment(microseconds: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)).strftime("%Y-%m-%dT%H:%M")
