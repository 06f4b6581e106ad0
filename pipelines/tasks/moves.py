"""Take a task back: the `users` line set to another version, or a task taken out of the current one.

A task that is taken back is noted as held, with the reason: the nightly flow leaves it alone until `imsr task add`
asks for it, or a version that has it is put live again.
"""

from __future__ import annotations

import json
from datetime import datetime

from imsr_core.lifelong.errors import TaskError
from imsr_core.lifelong.removing import remove_task
from pipelines.tasks.adding import TaskOutcome, learn_recipe, note
from pipelines.tasks.due import HELD, NOTE
from pipelines.tasks.gate import smoke_test
from pipelines.tasks.learning import TaskRecipe
from pipelines.tasks.version import UserVersion
from pipelines.versions.line import Line
from pipelines.versions.pointer import Pointer
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import Transaction, iso
from pipelines.workspace.steps import plainly
from pipelines.workspace.writer import Writer


def take_out(writer: Writer, name: str) -> TaskOutcome:
    """A new version without one task of the current one; all its other tasks answer as before, bit for bit.

    Raises:
        TaskError: the current version does not have the task, or its method cannot take it out (it says why).
        VersionError: the line has no version yet.
    """
    workspace = writer.workspace
    parent = UserVersion.open(workspace)
    task, settings = parent.task(name), workspace.settings.users
    _check_it_can_leave(parent, name)
    # noted first: a run that dies in between has the task in the current version, where the note means nothing
    note(writer, name, HELD, f"taken out of version {parent.row.version_id}")
    chain = tuple(parent.tasks[-1].chain(workspace))
    recipe = TaskRecipe(
        workspace, parent, task, chain, settings.lifelong, parent.lineage.strategy, settings.seed, how="remove"
    )
    return learn_recipe(recipe, writer, plainly)


def _check_it_can_leave(parent: UserVersion, name: str) -> None:
    """Raise TaskError, with what to type instead, where the method cannot take a task out; nothing is written yet."""
    try:
        remove_task(parent.state, name)
    except TaskError as error:
        anew = "imsr task pretrain --anew begins another line"
        names = [each.name for each in parent.tasks]
        if names.index(name) == 0:
            raise TaskError(error.message, hint=anew) from error
        before = parent.tasks[names.index(name) - 1].version_id
        hint = f"go back to the version before it: imsr rollback --line users --to {before}; or {anew}"
        raise TaskError(error.message, hint=hint) from error


class UsersPointer(Pointer[UserVersion]):
    """The live version of the `users` line."""

    line = Line.USERS

    def open(self, workspace: Workspace, version_id: str) -> UserVersion:
        """See `Pointer.open`."""
        return UserVersion.open(workspace, version_id)

    def smoke_test(self, version: UserVersion) -> str | None:
        """See `pipelines.tasks.gate.smoke_test`."""
        return smoke_test(version)

    def settle(self, tx: Transaction, version: UserVersion, before: str | None, what: str, at: datetime) -> None:
        """Hold the tasks that only the version before had; those that this one has are no longer held."""
        row = tx.version(before or "")
        left = {task["name"] for task in row.tasks} if row else set()
        for name in sorted(left - {task.name for task in version.tasks}):
            why = f"version {version.row.version_id}, put live by hand, does not have it"
            tx.put_meta(NOTE + name, json.dumps({"state": HELD, "why": why, "at": iso(at)}))
        for task in version.tasks:
            tx.delete("meta", key=NOTE + task.name)


POINTER = UsersPointer()
put_users_live, roll_users_back = POINTER.promote, POINTER.roll_back
