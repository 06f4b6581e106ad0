"""How well a version of the `users` line does every one of its tasks, and whether it may go live.

Each task is measured for ever on the test users, labels and sequences that it was learnt with, so that a difference
between two versions is what learning did and nothing else. The row R[version, task] goes into the ledger. Judged is:

    conure, peterrec, ...   the predictions of every earlier task on a fixed batch are the parent's, bit for bit
    teracon, sinmoall       no earlier task lost more than ``max_forgetting`` of its score when it was learnt: the point
                            estimate does not count where the paired 95 % interval over the test users reaches less
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from imsr_core.bootstrap import Interval, paired_bootstrap
from imsr_core.errors import ImsrError
from imsr_core.lifelong.evaluation import main_metric
from imsr_core.lifelong.splits import PARTS, parts_of
from imsr_core.lifelong.tasks import BASE_TASK, TaskData, next_item_examples
from imsr_core.lifelong.transfer_matrix import forgetting, transfer_matrix
from imsr_core.ragged import SpanSequences, slice_rows
from pipelines.tasks.data import history, labelled
from pipelines.tasks.labels import kept_labels
from pipelines.tasks.version import LearntTask, UserVersion
from pipelines.versions import pointer
from pipelines.versions.ancestry import chain_of_versions
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import MetricRow, Snapshot, VersionRow

PROTOCOL = "test"
#: Users whose predictions are compared bit for bit.
BATCH = 64


@dataclass(frozen=True)
class TaskScores:
    """All metrics of one task on its test users; empty where the split left none. ``n`` counts examples."""

    name: str
    main: str
    metrics: dict[str, float]
    n: int

    @property
    def value(self) -> float | None:
        """The metric that R holds."""
        return self.metrics.get(self.main)


@dataclass(frozen=True)
class TaskVerdict:
    """Whether a version may go live, and what was looked at: task -> same bits, task -> share of the score lost."""

    passed: bool
    reasons: tuple[str, ...] = ()
    identical: dict[str, bool] = field(default_factory=dict)
    forgetting: dict[str, float | None] = field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Task -> the interval of the share lost, of those whose point estimate is beyond ``max_forgetting``."""

    def to_json(self) -> dict[str, Any]:
        """As it is kept in the version's summary."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> TaskVerdict:
        """The verdict of a version's summary."""
        intervals = {name: tuple(bounds) for name, bounds in values.get("intervals", {}).items()}
        return cls(**(values | {"reasons": tuple(values["reasons"]), "intervals": intervals}))


@dataclass(frozen=True)
class TransferMatrix:
    """R: ``values`` (versions, tasks), the main metric of each task at each version, NaN where it has none."""

    versions: tuple[str, ...]
    tasks: tuple[str, ...]
    metrics: tuple[str, ...]
    values: NDArray[np.float64]


def task_data(workspace: Workspace, task: LearntTask) -> TaskData:
    """The examples of a task (not of T1), as it was learnt."""
    assert task.labels is not None
    return labelled(task.name, task.kind, task.chain(workspace), kept_labels(workspace, task.labels), task.vocabulary)[
        0
    ]


def main_metric_of(kind: str) -> str:
    """The metric that stands in R for a task of this kind, as the settings or a version name kinds."""
    return main_metric("classes" if kind == "class" else "items")


def measure(version: UserVersion) -> list[TaskScores]:
    """R[version, task] of all its tasks, with every metric."""
    return [_score(version, task) for task in version.tasks]


def metric_rows(version: VersionRow, scores: list[TaskScores]) -> list[MetricRow]:
    """Scores as the ledger keeps them: the slice is the task."""
    return [
        MetricRow(version.version_id, version.span_id, score.name, PROTOCOL, metric, value, score.n)
        for score in scores
        for metric, value in score.metrics.items()
    ]


def matrix_of(view: Snapshot, version_id: str, scores: list[TaskScores] | None = None) -> TransferMatrix:
    """R of a version and those it was learnt from, oldest first; ``scores`` of the version if not recorded yet."""
    rows_of_chain = chain_of_versions(view, version_id)
    chain = [row.version_id for row in rows_of_chain]
    tasks = {task["name"]: main_metric_of(task["kind"]) for task in rows_of_chain[0].tasks}
    rows = []
    for each in reversed(chain):
        found = {
            m.slice: m.value for m in view.metrics(each) if m.protocol == PROTOCOL and tasks.get(m.slice) == m.metric
        }
        if each == version_id and scores is not None:
            found = {score.name: score.value for score in scores if score.value is not None}
        rows.append(found)
    values = transfer_matrix(rows, list(tasks))
    return TransferMatrix(tuple(reversed(chain)), tuple(tasks), tuple(tasks.values()), values)


def judge_task(
    version: UserVersion,
    parent: UserVersion | None,
    scores: list[TaskScores],
    max_forgetting: float,
    interval_of: Callable[[UserVersion, LearntTask], Interval | None] | None = None,
) -> TaskVerdict:
    """The verdict on a candidate. Nothing is written.

    Args:
        interval_of: the interval of the share that a task lost, `loss_interval`; None stands for a point estimate.
    """
    problem = smoke_test(version)
    if problem is not None:
        return TaskVerdict(False, (problem,))
    if parent is None:
        return TaskVerdict(True)
    with version.workspace.ledger.snapshot() as view:
        matrix = matrix_of(view, version.row.version_id, scores)
    lost = dict(zip(matrix.tasks, map(_number, forgetting(matrix.values)), strict=True))
    earlier = [task.name for task in parent.tasks if task.name in lost]
    lost = {name: lost[name] for name in earlier}
    if not version.method.exact:
        return _judge_forgetting(version, lost, max_forgetting, interval_of or loss_interval)
    identical = {name: same_predictions(version, parent, name) for name in earlier}
    reasons = [f"the predictions of task {name} are not those of {parent.row.version_id}" for name in earlier]
    reasons = [reason for reason, name in zip(reasons, earlier, strict=True) if not identical[name]]
    return TaskVerdict(not reasons, tuple(reasons), identical, lost)


def _judge_forgetting(
    version: UserVersion,
    lost: dict[str, float | None],
    limit: float,
    interval_of: Callable[[UserVersion, LearntTask], Interval | None],
) -> TaskVerdict:
    reasons, intervals = [], {}
    for name, share in lost.items():
        if share is None or share <= limit:
            continue
        reason = f"task {name} lost {share:.1%} of the score that it had when it was learnt, more than {limit:.1%}"
        found = interval_of(version, version.task(name))
        if found is not None:
            intervals[name] = (found.low, found.high)
            reason += f" (95% interval over its test users {found.low:.1%} .. {found.high:.1%})"
        if found is None or found.low > limit:
            reasons.append(reason)
    return TaskVerdict(not reasons, tuple(reasons), {}, lost, intervals)


def loss_interval(version: UserVersion, task: LearntTask) -> Interval | None:
    """The share of its score that a task lost since the version that learnt it, paired over its test users.

    None where that version is no longer kept, or the task scored nothing to begin with.
    """
    try:
        learner = UserVersion.open(version.workspace, task.version_id)
        data = history(task.chain(version.workspace)) if task.name == BASE_TASK else task_data(version.workspace, task)
        users, before = learner.method.example_scores(learner.state, data)
    except ImsrError:
        return None
    _, after = version.method.example_scores(version.state, data)
    if not len(before) or before.mean() == 0:
        return None
    return paired_bootstrap((before - after) / before.mean(), users)


def smoke_test(version: UserVersion) -> str | None:
    """Load a version as a reader would and ask every task; what is wrong with it, or None."""

    def ask() -> str | None:
        users = _batch(version)
        for task in version.tasks:
            if not bool(torch.isfinite(version.method.predict(version.state, task.name, users)).all()):
                return f"task {task.name} of version {version.row.version_id} has scores that are no numbers"
        return None

    return pointer.smoke_test(version, ask)


def same_predictions(version: UserVersion, parent: UserVersion, task_name: str) -> bool:
    """Whether two versions give the fixed batch of users the same scores of a task, bit for bit."""
    users = _batch(version)
    ours = version.method.predict(version.state, task_name, users)
    return torch.equal(ours, parent.method.predict(parent.state, task_name, users))


def _batch(version: UserVersion) -> SpanSequences:
    """The first users of the data that the newest task was learnt on."""
    first = np.arange(min(BATCH, version.vocabulary.n_users), dtype=np.int64)
    return slice_rows(history(version.tasks[-1].chain(version.workspace), first), 0, BATCH)


def _score(version: UserVersion, task: LearntTask) -> TaskScores:
    split = version.state.split
    if task.name == BASE_TASK:
        sequences = history(task.chain(version.workspace))
        examples = next_item_examples(sequences, version.state.encoder.length).part("test", split)
        metrics = version.method.evaluate_base(version.state, sequences)
        n = len(examples.with_labels_below(version.state.task(BASE_TASK).n_labels))
        return TaskScores(task.name, main_metric("next_item"), metrics, n)
    data = task_data(version.workspace, task)
    n = int((parts_of(data.users, split) == PARTS.index("test")).sum())
    return TaskScores(task.name, main_metric(data.kind), version.method.evaluate(version.state, data), n)


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
