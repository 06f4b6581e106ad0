"""The tasks of the `users` line: which are due, and adding one. Plain functions; a flow only calls them in order.

    learn T1 once  ->  u-2017-04.T1  ->  u-2017-04.age  ->  u-2017-06.income  ->  ...

Every step looks into the ledger first and does nothing if its result is there, so that a run that was killed anywhere
is finished by running it again. A task that failed or was taken back leaves a note in the ledger, which `imsr task
list` shows; a task that was taken back is not due again until `imsr task add` asks for it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.compute as pc

from imsr_core.errors import ConfigError, ImsrError
from imsr_core.lifelong.errors import TaskError
from imsr_core.lifelong.tasks import BASE_TASK
from imsr_core.lifelong.training import Progress, silent
from pipelines.sequences.chain import ChainLink
from pipelines.settings.tasks import TaskSettings
from pipelines.tasks.data import end_of, labelled, learnt_chain, vocabulary_of
from pipelines.tasks.due import FAILED, NOTE, due_tasks, never_comes, what_it_waits_for
from pipelines.tasks.gate import TaskScores, TaskVerdict, judge_task, measure
from pipelines.tasks.labels import (
    LabelReport,
    check_classes,
    keep_labels,
    kept_labels,
    label_fingerprint,
    label_vocabulary,
    of_known_users,
    read_labels,
    too_few_labels,
)
from pipelines.tasks.learning import (
    TaskRecipe,
    admit_task,
    make_version,
    recorded_scores,
)
from pipelines.tasks.version import LINE, LearntTask, UserVersion, base_of, current_version
from pipelines.versions.candidates import find_version
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import VersionRow, iso
from pipelines.workspace.states import JUDGED, VersionState
from pipelines.workspace.steps import Call, plainly
from pipelines.workspace.writer import Writer


@dataclass
class TaskOutcome:
    """What adding a task did. ``already``: there was nothing to do; ``outdated``: its labels are others by now than
    those that were learnt."""

    name: str
    version: VersionRow | None = None
    verdict: TaskVerdict | None = None
    report: LabelReport | None = None
    scores: list[TaskScores] = field(default_factory=list)
    already: bool = False
    outdated: bool = False
    seconds: float = 0.0

    @property
    def rejected(self) -> bool:
        """Whether the version was made and may not go live."""
        return self.verdict is not None and not self.verdict.passed


def declared(workspace: Workspace, name: str) -> TaskSettings:
    """A task of ``imsr.toml``.

    Raises:
        TaskError: it is not declared.
    """
    tasks = workspace.settings.tasks
    if name not in tasks:
        known = f"declared: {', '.join(tasks)}" if tasks else "none is declared yet"
        raise TaskError(f"no task {name!r} in imsr.toml", hint=f"add a [tasks.{name}] section with labels; {known}")
    return tasks[name]


def pretrain_users(
    writer: Writer, *, anew: bool = False, call: Call = plainly, progress: Progress = silent
) -> TaskOutcome:
    """Learn T1, the next item, on the sequences of all learnt spans: the first version of the line.

    A line that has a version is left alone, unless ``anew`` begins another one: its tasks are then due again.

    Raises:
        TaskError: no span is learnt yet.
    """
    workspace = writer.workspace
    current = current_version(workspace)
    if current is not None and not anew:
        return _have(current, BASE_TASK)
    settings = workspace.settings.users
    with workspace.ledger.snapshot() as view:
        chain = learnt_chain(workspace, view)
    base = base_of(chain, "", vocabulary_of(chain).n_items)
    recipe = TaskRecipe(workspace, None, base, tuple(chain), settings.lifelong, settings.method, settings.seed)
    return learn_recipe(recipe, writer, call, progress)


def add_task(writer: Writer, name: str, *, call: Call = plainly, progress: Progress = silent) -> TaskOutcome:
    """Learn one declared task on top of the current version; T1 first where the line has no version yet.

    A second time it does nothing: the task is in the current version, or the same labels, data and settings were
    learnt and rejected before.

    Raises:
        TaskError: not declared, not due yet, its labels cannot be used, or the line's data were restated.
        CapacityError: (Conure) the encoder is full.
    """
    workspace = writer.workspace
    task = declared(workspace, name)
    parent = current_version(workspace)
    if parent is not None and name in {each.name for each in parent.tasks}:
        return replace(_have(parent, name), outdated=_is_outdated(workspace, parent.task(name)))
    _check_due(workspace, name, task)
    if parent is None:
        _check_before_pretraining(workspace, name)
        made = pretrain_users(writer, call=call, progress=progress)
        if made.rejected:
            return made
        parent = current_version(workspace)
        assert parent is not None
    recipe = call("labels", prepare, workspace, name, parent)
    return learn_recipe(recipe, writer, call, progress)


def _is_outdated(workspace: Workspace, learnt: LearntTask) -> bool:
    """Whether the rows that a task was learnt from are no longer those of its table, of which later ones do not count:
    a label that was not known yet changes nothing of what was."""
    with workspace.ledger.snapshot() as view:
        end = end_of(view, learnt.span_id)
    try:
        table, _, _ = usable_labels(workspace, learnt.name, learnt.chain(workspace), end)
        kept = kept_labels(workspace, learnt.labels or "")  # without who was forgotten since, as the table is
    except (ImsrError, OSError):
        return False  # a table that is gone, or of no use, is no other one
    return label_fingerprint(table) != label_fingerprint(kept)


def _check_due(workspace: Workspace, name: str, task: TaskSettings) -> None:
    """Raise TaskError for a task whose span is not learnt yet, or can never be."""
    with workspace.ledger.snapshot() as view:
        if never := never_comes(view, task):
            raise TaskError(f"task {name}: {never}", hint=f"correct from_span of [tasks.{name}] in imsr.toml")
        if waits := what_it_waits_for(view, task):
            raise TaskError(f"task {name} {waits}", hint="run it once that span is learnt: imsr run")


def _check_before_pretraining(workspace: Workspace, name: str) -> None:
    """Raise TaskError for labels that cannot be used before T1, which takes minutes, is learnt for them."""
    with workspace.ledger.snapshot() as view:
        chain = learnt_chain(workspace, view)
        end = end_of(view, chain[-1].span_id)
    usable_labels(workspace, name, chain, end)


def prepare(workspace: Workspace, name: str, parent: UserVersion) -> TaskRecipe:
    """Read and keep the labels of a task, and say what a version with it is made from."""
    settings, task = workspace.settings.users, declared(workspace, name)
    if settings.method != parent.lineage.strategy:
        raise ConfigError(
            f"[users] method = {settings.method!r}: the current line was begun with {parent.lineage.strategy!r}",
            hint="set it back, or begin anew with: imsr task pretrain --anew",
        )
    with workspace.ledger.snapshot() as view:
        chain = learnt_chain(workspace, view)
        end = end_of(view, chain[-1].span_id)
    if not parent.numbers_like(chain):
        raise TaskError(
            f"version {parent.row.version_id} was made before the data of an earlier span changed",
            hint="begin the line anew with: imsr task pretrain --anew",
        )
    table, vocabulary, report = usable_labels(workspace, name, chain, end)
    fingerprint, path = keep_labels(workspace, name, table)
    learnt = LearntTask(
        name, task.kind, chain[-1].span_id, chain[-1].fingerprint, "", table.num_rows, path, fingerprint, vocabulary
    )
    return TaskRecipe(
        workspace, parent, learnt, tuple(chain), settings.lifelong, settings.method, settings.seed, report
    )


def usable_labels(
    workspace: Workspace, name: str, chain: Sequence[ChainLink], end_us: int
) -> tuple[pa.Table, tuple[str, ...], LabelReport]:
    """The rows of a task's labels that can be learnt from, all its labels by number, and what became of every row.

    Args:
        end_us: labels from this time on are not known yet.

    Raises:
        TaskError: the labels cannot be read, or leave too little to learn.
    """
    task = declared(workspace, name)
    table, statuses = read_labels(workspace, name, task, end_us)
    read, good = sum(statuses.values()), statuses.pop("good", 0)
    table, _ = of_known_users(table, vocabulary_of(chain))
    known = _known_labels(workspace, name)
    report = LabelReport(read, table.num_rows, **statuses, unknown_user=good - table.num_rows)
    labels = _several(name, table, report)
    _, table = labelled(name, task.kind, chain, table, label_vocabulary(known, labels))
    report = replace(report, used=table.num_rows, without_events=report.used - table.num_rows)
    labels = _several(name, table, report)  # and none that nobody is left with
    check_classes(name, task, len(labels), table.num_rows)
    return table, label_vocabulary(known, labels), report


def _several(name: str, table: pa.Table, report: LabelReport) -> pa.Array:
    """The labels of a table, each once. Raises TaskError for fewer than two: those that an earlier version knew do not
    count, there is nothing to tell them apart by."""
    labels = pc.unique(table["label"])
    if len(labels) < 2:
        raise too_few_labels(name, len(labels), report)
    return labels


def add_due_tasks(writer: Writer, *, call: Call = plainly) -> tuple[list[TaskOutcome], dict[str, ImsrError]]:
    """Add every due task, in the order of ``imsr.toml``: what was done, and task -> why it failed.

    The failure of one stops no other.
    """
    outcomes: list[TaskOutcome] = []
    failures: dict[str, ImsrError] = {}
    for name in due_tasks(writer.workspace):
        found = try_task(writer, name, call=call)
        if isinstance(found, ImsrError):
            failures[name] = found
        else:
            outcomes.append(found)
    return outcomes, failures


def try_task(
    writer: Writer, name: str, *, call: Call = plainly, progress: Progress = silent
) -> TaskOutcome | ImsrError:
    """``add_task``; why it failed is returned, and noted in the ledger: not of a task that waits or was taken back."""
    try:
        return add_task(writer, name, call=call, progress=progress)
    except ImsrError as error:
        if name in due_tasks(writer.workspace):
            note(writer, name, FAILED, error.message)
        return error


def note(writer: Writer, name: str, state: str, why: str) -> None:
    """Remember why a task is not in the current version."""
    with writer.transaction() as tx:
        tx.put_meta(NOTE + name, json.dumps({"state": state, "why": why, "at": iso(writer.now)}))


def _have(version: UserVersion, name: str) -> TaskOutcome:
    """Nothing to learn."""
    return TaskOutcome(name, version.row, already=True)


def learn_recipe(recipe: TaskRecipe, writer: Writer, call: Call, progress: Progress = silent) -> TaskOutcome:
    """Make, measure, judge and admit a version, each step once."""
    workspace, started = recipe.workspace, time.perf_counter()
    outcome = TaskOutcome(recipe.task.name, report=recipe.report)
    with workspace.ledger.snapshot() as view:
        row = find_version(view, workspace, LINE, recipe.fingerprint)
        if row is not None and row.state in JUDGED:
            outcome.scores = recorded_scores(view, row)
            outcome.verdict = TaskVerdict.from_json(row.verdict or {})
            outcome.already = row.state is VersionState.REJECTED
    outcome.version = row if outcome.already else call("learn task", make_version, recipe, writer, progress)
    assert outcome.version is not None
    if outcome.already:
        return outcome
    if outcome.verdict is None:
        outcome.scores, outcome.verdict = call(
            "judge task", judge, workspace, outcome.version.version_id, recipe.parent
        )
    reason = f"learnt task {recipe.task.name}" if recipe.how == "learn" else f"task {recipe.task.name} removed"
    arguments = (writer, outcome.version, outcome.scores, outcome.verdict, reason)
    outcome.version = call("publish task", admit_task, *arguments)
    if not outcome.rejected and recipe.how == "learn":
        with writer.transaction() as tx:
            tx.delete("meta", key=NOTE + recipe.task.name)
    outcome.seconds = time.perf_counter() - started
    return outcome


def judge(workspace: Workspace, version_id: str, parent: UserVersion | None) -> tuple[list[TaskScores], TaskVerdict]:
    """R[version, task] of a candidate, and what the gate says of it."""
    version = UserVersion.open(workspace, version_id)
    scores = measure(version)
    return scores, judge_task(version, parent, scores, workspace.settings.users.max_forgetting)


def _known_labels(workspace: Workspace, name: str) -> tuple[str, ...]:
    """The numbers that an earlier version gave this task's labels, so that they never move."""
    with workspace.ledger.snapshot() as view:
        rows = [
            row
            for row in view.versions(LINE)
            if row.state is VersionState.PUBLISHED and name in {task["name"] for task in row.tasks}
        ]
    return UserVersion.open(workspace, rows[-1].version_id).task(name).vocabulary if rows else ()
