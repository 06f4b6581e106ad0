"""Tell people what is new among the troubles, once, and remember what was told.

``alerts.json`` in the workspace remembers it: keys of what was told, and what the receivers' problems were at the last
try. It is a note, not the truth: without it everything that is wrong now is told again. It holds no text of a message
and no URL.

A trouble counts as told when at least one receiver took it; if none did, the next night tries again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from pipelines.alerts.receivers import Delivery, deliver
from pipelines.alerts.troubles import Trouble
from pipelines.workspace.layout import Workspace
from pipelines.workspace.seal import write_atomic

NOTE = "alerts.json"


@dataclass(frozen=True)
class Told:
    """What was sent now, and what became of it at each receiver; both empty if there was nothing new."""

    troubles: tuple[Trouble, ...] = ()
    deliveries: tuple[Delivery, ...] = ()

    @property
    def problems(self) -> list[str]:
        """What went wrong at receivers, a line each."""
        return [f"{each.receiver}: {each.problem}" for each in self.deliveries if each.problem]


@dataclass(frozen=True)
class Note:
    """What ``alerts.json`` says: when a message was tried last, the keys that were told, the receivers' problems."""

    at: str = ""
    told: tuple[str, ...] = ()
    problems: tuple[str, ...] = field(default=())


def tell(workspace: Workspace, found: Sequence[Trouble], *, now: datetime, whole: bool = True) -> Told:
    """Send what is new of ``found``, all that is wrong now, to the receivers of [alerts]; one message for all of it.

    What is no longer wrong is forgotten, so that it is told if it comes again; not so if ``found`` is not the
    ``whole``, since the ledger or the settings could not be read.
    """
    wanted = workspace.alerts
    if not wanted.urls:
        return Told()
    note = read_note(workspace)
    present = [trouble for trouble in found if trouble.kind in wanted.on]
    new = [trouble for trouble in present if trouble.key not in note.told]
    kept = {trouble.key for trouble in present} & set(note.told) if whole else set(note.told)
    if not new:
        if kept != set(note.told):
            _write(workspace, Note(note.at, tuple(sorted(kept)), note.problems))
        return Told()
    told = Told(tuple(new), tuple(deliver(wanted.urls, title_of(workspace, new), body_of(new))))
    if any(not each.problem for each in told.deliveries):
        kept |= {trouble.key for trouble in new}
    _write(workspace, Note(now.isoformat(), tuple(sorted(kept)), tuple(told.problems)))
    return told


def title_of(workspace: Workspace, found: Sequence[Trouble]) -> str:
    """The head of a message: which workspace, and what kinds of trouble."""
    return f"imsr {workspace.root.name}: {', '.join(dict.fromkeys(trouble.kind for trouble in found))}"


def body_of(found: Sequence[Trouble]) -> str:
    """A message: what is wrong, a line each, with what to type."""
    return "\n".join(f"{trouble.text}\n  -> {trouble.hint}" for trouble in found)


def try_receivers(workspace: Workspace, *, now: datetime) -> list[Delivery]:
    """Send a message that says it is a test to every receiver; the note then says what works."""
    body = "This is a test: a night that fails, and what [alerts] on names besides, is told here."
    title = f"imsr {workspace.root.name}: a test"
    deliveries = deliver(workspace.alerts.urls, title, body, failure=False)
    problems = tuple(f"{each.receiver}: {each.problem}" for each in deliveries if each.problem)
    _write(workspace, Note(now.isoformat(), read_note(workspace).told, problems))
    return deliveries


def read_note(workspace: Workspace) -> Note:
    """What was told; nothing if the note is not there or not readable."""
    try:
        read: Any = json.loads(_path(workspace).read_text(encoding="utf-8"))
        return Note(str(read["at"]), tuple(map(str, read["told"])), tuple(map(str, read["problems"])))
    except (OSError, ValueError, KeyError, TypeError):
        return Note()


def _path(workspace: Workspace) -> Path:
    return workspace.root / NOTE


def _write(workspace: Workspace, note: Note) -> None:
    text = json.dumps({"at": note.at, "told": note.told, "problems": note.problems}, indent=1)
    write_atomic(_path(workspace), text.encode())
