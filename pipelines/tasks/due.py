"""How each declared task stands that the current version does not have. Reads only, and imports no engine.

    due        its span is learnt: the next night, or `imsr task add`, learns it
    waiting    its span is still to come
    failed     the last try ended with an error, or its ``from_span`` is a span that never comes
    held       somebody took it back: only `imsr task add` learns it again

A night tries what is due and what failed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipelines.lake.frozen import frozen_calendar
from pipelines.lake.spans import SpanError
from pipelines.settings.tasks import TaskSettings
from pipelines.versions.line import Line
from pipelines.workspace.decoding import decode_meta
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import Snapshot
from pipelines.workspace.states import DONE

#: Prefix of the ledger's notes on tasks.
NOTE = "users.task."
STATES = LEARNT, DUE, WAITING, FAILED, HELD = "learnt", "due", "waiting", "failed", "held"


@dataclass(frozen=True)
class Standing:
    """How one declared task stands, and why it is not learnt; ``why`` is "" where it is only due."""

    name: str
    state: str
    why: str = ""


def standings(workspace: Workspace) -> list[Standing]:
    """The declared tasks that the current version of the line does not have, in the order of ``imsr.toml``."""
    with workspace.ledger.snapshot() as view:
        current = view.version(view.pointer(Line.USERS) or "")
        have = {task["name"] for task in current.tasks} if current else set()
        known, tasks = notes(view, workspace), workspace.settings.tasks
        return [_standing(view, name, task, known.get(name)) for name, task in tasks.items() if name not in have]


def due_tasks(workspace: Workspace) -> list[str]:
    """Declared tasks that a night tries: their span is learnt or can never be, and nobody took them back."""
    return [each.name for each in standings(workspace) if each.state in (DUE, FAILED)]


def notes(view: Snapshot, workspace: Workspace) -> dict[str, dict[str, Any]]:
    """Task -> what the ledger remembers of it: {"state": held or failed, "why", "at"}."""
    found = {name: view.meta(NOTE + name) for name in workspace.settings.tasks}
    return {name: decode_meta(NOTE + name, text, dict) for name, text in found.items() if text}


def never_comes(view: Snapshot, task: TaskSettings) -> str:
    """Why no span can be the one that a task waits for: its id is none of the workspace's calendar; "" if one can."""
    calendar = frozen_calendar(view)
    if not task.from_span or calendar is None:
        return ""
    try:
        calendar.span(task.from_span)
    except SpanError as error:
        return f"from_span = {error.message}{_newest(view)}"
    return ""


def what_it_waits_for(view: Snapshot, task: TaskSettings) -> str:
    """Why a task is not due whose span is not learnt; "" if it is."""
    done = _learnt(view)
    if done and _place(done[-1]) >= _place(task.from_span):
        return ""
    if not task.from_span:
        return "waits for a first span"
    return f"waits for span {task.from_span}{_newest(view)}"


def _standing(view: Snapshot, name: str, task: TaskSettings, note: dict[str, Any] | None) -> Standing:
    if note and note["state"] == HELD:
        return Standing(name, HELD, note["why"])
    if never := never_comes(view, task):
        return Standing(name, FAILED, never)
    if waits := what_it_waits_for(view, task):
        return Standing(name, WAITING, waits)  # whatever became of it before its span was set anew
    return Standing(name, FAILED, note["why"].removeprefix(f"task {name}: ")) if note else Standing(name, DUE)


def _learnt(view: Snapshot) -> list[str]:
    return [span.span_id for span in view.spans() if span.state in DONE]


def _newest(view: Snapshot) -> str:
    spans = view.spans()
    return f"; the newest is {spans[-1].span_id}" if spans else ""


def _place(span_id: str) -> tuple[int, str]:
    """Ids of one calendar sort in the order of time, those of a cut by their length first (s999, s1000)."""
    return len(span_id), span_id
