"""One step of the `users` line: learn a task from the current version, write the candidate, let it go live or not."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

from imsr_core.counted import counted
from imsr_core.lifelong.config import LifelongConfig, to_json
from imsr_core.lifelong.growing import grow_items
from imsr_core.lifelong.methods import get_method
from imsr_core.lifelong.state import LifelongState
from imsr_core.lifelong.training import PhaseProgress, Progress, silent
from pipelines.sequences.chain import ChainLink
from pipelines.tasks.data import history, vocabulary_of
from pipelines.tasks.gate import PROTOCOL, TaskScores, TaskVerdict, metric_rows, task_data
from pipelines.tasks.labels import LabelReport
from pipelines.tasks.references import references_of
from pipelines.tasks.version import LINE, LearntTask, UserVersion, fingerprint_of, write_user_version
from pipelines.versions.candidates import Making, find_version, new_row, publish_version
from pipelines.versions.lineage import Lineage, installed_packages
from pipelines.versions.pointer import record_verdict
from pipelines.workspace.ending import end_if_asked
from pipelines.workspace.failpoints import FailPoint, hit
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import Snapshot, VersionRow
from pipelines.workspace.memory import keep_memory, release_memory
from pipelines.workspace.states import VersionState
from pipelines.workspace.writer import Writer

MAKING = Making(FailPoint.TASK_STAGED, FailPoint.TASK_BEFORE_COMMIT, FailPoint.TASK_AFTER_COMMIT)


@dataclass(frozen=True)
class TaskRecipe:
    """Everything that determines a version: what it starts from, the task it learns, and how.

    ``chain`` are the sequences of all learnt spans. ``how`` is "learn", or "remove" to take ``task`` out.
    """

    workspace: Workspace
    parent: UserVersion | None
    task: LearntTask
    chain: tuple[ChainLink, ...]
    config: LifelongConfig
    method: str
    seed: int
    report: LabelReport | None = None
    how: str = "learn"

    @property
    def fingerprint(self) -> str:
        """See `pipelines.tasks.version.fingerprint_of`."""
        parent = self.parent.lineage.fingerprint if self.parent else None
        return fingerprint_of(parent, self.task, self.method, self.config, self.seed, self.how)

    @property
    def span_id(self) -> str:
        """The newest learnt span; the version is named after it."""
        return self.chain[-1].span_id

    def version_id(self, taken: set[str]) -> str:
        """``u-<span>.<task>``, with a number behind it from the second attempt on."""
        name = f"u-{self.span_id}.{'' if self.how == 'learn' else 'without-'}{self.task.name}"
        numbered = (f"{name}.{n}" for n in range(2, len(taken) + 3))
        return name if name not in taken else next(each for each in numbered if each not in taken)


def make_version(recipe: TaskRecipe, writer: Writer, progress: Progress = silent) -> VersionRow:
    """The version that a recipe determines: found if it was made before, else made and recorded as a candidate.

    Training tells ``progress`` of every step, and `imsr status` through the lease.

    Raises:
        CapacityError: (Conure) no free weights are left; nothing is recorded.
        NonFiniteError: learning diverged; nothing is recorded, the current version stays.
    """
    workspace = recipe.workspace
    with workspace.ledger.snapshot() as view:
        row = find_version(view, workspace, LINE, recipe.fingerprint)
        taken = {each.version_id for each in view.versions()}
    if row is not None:
        return row
    version_id, started = recipe.version_id(taken), time.perf_counter()
    hit(FailPoint.TASK_STARTED)
    keep_memory()
    state, tasks = _state_of(recipe, version_id, _told(writer, progress))
    release_memory()
    lineage = _lineage(recipe, version_id)
    summary = _summary(recipe, state, tasks) | {"train_seconds": round(time.perf_counter() - started, 3)}
    row = new_row(workspace, LINE, lineage, VersionState.CANDIDATE, at=writer.now, summary=summary)
    publish_version(writer, row, lambda folder: write_user_version(folder, state, lineage, tasks), MAKING)
    return row


def admit_task(
    writer: Writer, version: VersionRow, scores: list[TaskScores], verdict: TaskVerdict, reason: str
) -> VersionRow:
    """Record the scores and let a candidate go live, or record that it was rejected; its row as it is then."""
    values = {score.name: score.value for score in scores}
    tasks = [
        task | {"score": values.get(task["name"]), "forgetting": verdict.forgetting.get(task["name"])}
        for task in version.tasks
    ]
    with writer.transaction() as tx:
        judged = record_verdict(tx, version, verdict.to_json(), reason, at=writer.now, tasks=tasks)
        tx.delete("metrics", version_id=version.version_id, protocol=PROTOCOL)
        tx.put_metrics(metric_rows(version, scores))
        hit(FailPoint.TASK_BEFORE_PROMOTE)
    hit(FailPoint.TASK_AFTER_PROMOTE)
    return judged


def _state_of(recipe: TaskRecipe, version_id: str, progress: Progress) -> tuple[LifelongState, tuple[LearntTask, ...]]:
    """What a recipe gives: the state, and its tasks with their labels."""
    from imsr_core.lifelong.removing import remove_task

    method, task = get_method(recipe.method), replace(recipe.task, version_id=version_id)
    n_items = vocabulary_of(recipe.chain).n_items
    if recipe.parent is None:
        return method.pretrain(history(recipe.chain), recipe.config, recipe.seed, n_items, progress), (task,)
    state, tasks = recipe.parent.state, recipe.parent.tasks
    if recipe.how == "remove":
        return remove_task(state, task.name), tuple(each for each in tasks if each.name != task.name)
    grown = grow_items(state, n_items, recipe.seed)
    data = task_data(recipe.workspace, task)
    return method.add_task(grown, data, recipe.config, recipe.seed, progress), (*tasks, task)


def _told(writer: Writer, progress: Progress) -> Progress:
    def report(at: PhaseProgress) -> None:
        end_if_asked()
        writer.lease.doing = f"task {at.task}: {at.phase}, epoch {at.step.epoch + 1}, {counted(at.done, 'step')}"
        progress(at)

    return report


def _lineage(recipe: TaskRecipe, version_id: str) -> Lineage:
    workspace, parent = recipe.workspace, recipe.parent
    return Lineage(
        version_id=version_id,
        span_id=recipe.span_id,
        spans=tuple(link.span_id for link in recipe.chain),
        parent=parent.row.version_id if parent else None,
        strategy=recipe.method,
        protocol=PROTOCOL,
        fingerprint=recipe.fingerprint,
        data={link.span_id: link.fingerprint for link in recipe.chain},
        vocabulary=tuple(workspace.relative(link.folder) for link in recipe.chain),
        interests=(),
        config=to_json(recipe.config),
        packages=installed_packages(),
    )


def _summary(recipe: TaskRecipe, state: LifelongState, tasks: tuple[LearntTask, ...]) -> dict[str, Any]:
    """What `imsr task list` and the views show of a version."""
    method = get_method(recipe.method)
    free = method.left_after(state)
    references = references_of(recipe.workspace, state, tasks, recipe.parent)
    return {
        "task": recipe.task.name,
        "users": vocabulary_of(recipe.chain).n_users,
        "items": state.n_items,
        "labels": recipe.report.to_json() if recipe.report else None,
        "parameters": sum(tensor.numel() for name, tensor in state.tensors.items() if not name.startswith("owner/")),
        "tasks": [
            {
                "name": task.name,
                "kind": task.kind,
                "learnt_in": task.version_id,
                "span_id": task.span_id,
                "labels": task.rows,
                "n_labels": state.task(task.name).n_labels,
                "capacity_left": free.get(task.name),
                "parameter_share": method.share_of(state, task.name),
                "references": references[task.name],
                "epochs": sum(phase["epochs"] for phase in state.task(task.name).phases.values()),
            }
            for task in tasks
        ],
    }


def recorded_scores(view: Snapshot, version: VersionRow) -> list[TaskScores]:
    """The scores of a version that was judged before."""
    from pipelines.tasks.gate import main_metric_of

    found: dict[str, TaskScores] = {}
    kinds = {task["name"]: task["kind"] for task in version.tasks}
    for row in view.metrics(version.version_id):
        if row.protocol == PROTOCOL and row.slice in kinds:
            score = found.setdefault(row.slice, TaskScores(row.slice, main_metric_of(kinds[row.slice]), {}, row.n))
            score.metrics[row.metric] = row.value
    return list(found.values())
