"""Take a task back: the `users` line set to another version, or a task taken out of the current one.

A task that is taken back is noted as held, with the reason: the nightly flow leaves it alone until `imsr task add`
asks for it, or a version that has it is put live again.
"""

from __future__ import annotations

import json
from dataclasses import replace

from imsr_core.lifelong.removing import remove_task
from pipelines.interests.gate import GateError
from pipelines.tasks.adding import HELD, NOTE, TaskOutcome, learn_recipe, note
from pipelines.tasks.gate import trial
from pipelines.tasks.learning import PUBLISHED, Recipe
from pipelines.tasks.version import LINE, UserVersion
from pipelines.versions.lineage import VersionError
from pipelines.workspace.failpoints import FailPoint, hit
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import PromotionRow, Snapshot, Transaction, VersionRow, iso
from pipelines.workspace.steps import Call, plainly
from pipelines.workspace.writer import Writer


def take_out(writer: Writer, name: str, *, call: Call = plainly) -> TaskOutcome:
    """A new version without one task of the current one; all its other tasks answer as before, bit for bit.

    Raises:
        TaskError: the current version does not have the task, or its method cannot take it out (it says why).
        VersionError: the line has no version yet.
    """
    workspace = writer.workspace
    parent = UserVersion.open(workspace)
    task, settings = parent.task(name), workspace.settings.users
    remove_task(parent.state, name)  # refuses before anything is written
    # noted first: a run that dies in between has the task in the current version, where the note means nothing
    note(writer, name, HELD, f"taken out of version {parent.row.version_id}")
    chain = tuple(parent.tasks[-1].chain(workspace))
    recipe = Recipe(
        workspace, parent, task, chain, settings.lifelong, parent.lineage.strategy, settings.seed, how="remove"
    )
    return learn_recipe(recipe, writer, call)


def put_users_live(writer: Writer, version_id: str, reason: str) -> PromotionRow | None:
    """Put a version of the line live by hand, whatever the gate said of it; None if it is live already.

    Raises:
        VersionError: there is no such version.
        GateError: it is damaged, or does not answer.
    """
    version = UserVersion.open(writer.workspace, version_id)
    problem = trial(version)
    if problem is not None:
        raise GateError(f"version {version_id} cannot go live: {problem}", hint="see: imsr doctor")
    with writer.transaction() as tx:
        if tx.pointer(LINE) == version_id:
            return None
        left = _tasks_of(tx, tx.pointer(LINE)) - {task.name for task in version.tasks}
        move = tx.promote(LINE, version_id, reason, at=writer.now)
        tx.put_version(replace(version.row, state=PUBLISHED))
        for name in sorted(left):
            why = f"version {version_id}, put live by hand, does not have it"
            tx.put_meta(NOTE + name, json.dumps({"state": HELD, "why": why, "at": iso(writer.now)}))
        for task in version.tasks:
            tx.delete("meta", key=NOTE + task.name)
        hit(FailPoint.ROLLBACK_BEFORE_COMMIT)
    hit(FailPoint.ROLLBACK_AFTER_COMMIT)
    return move


def roll_users_back(writer: Writer, *, to: str | None = None, reason: str = "") -> PromotionRow | None:
    """Put an earlier version of the line live: the parent of the current one, or ``to``, which was live before.

    Raises:
        VersionError: there is nothing earlier, or ``to`` was never live.
        GateError: the version is damaged, or does not answer.
    """
    with writer.workspace.ledger.snapshot() as view:
        target = to or _before(view)
        if to is not None and to not in {row.version_id for row in view.promotions(LINE)}:
            raise VersionError(f"users version {to!r} was never live", hint=f"put it live with: imsr promote {to}")
    return put_users_live(writer, target, reason or f"rolled back to {target}")


def is_users_version(workspace: Workspace, version_id: str) -> bool:
    """Whether an id is that of a version of the `users` line."""
    with workspace.ledger.snapshot() as view:
        row = view.version(version_id)
    return row is not None and row.line == LINE


def _before(view: Snapshot) -> str:
    """The version to go back to: the parent, or for a line that was begun anew the version that it replaced."""
    current = view.version(view.pointer(LINE) or "")
    if current is None:
        raise VersionError("the users line has no current version yet", hint="add a task with: imsr task add NAME")
    replaced = [row.previous for row in view.promotions(LINE) if row.version_id == current.version_id]
    target = current.parent or (replaced[0] if replaced else None)
    if target is None:
        raise VersionError(
            f"version {current.version_id} is the first of the users line: there is nothing to roll back to",
            hint="learn T1 anew with: imsr task pretrain --anew",
        )
    return target


def _tasks_of(tx: Transaction, version_id: str | None) -> set[str]:
    row: VersionRow | None = tx.version(version_id or "")
    return {task["name"] for task in row.summary["tasks"]} if row else set()
