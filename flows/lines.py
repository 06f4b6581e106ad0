"""The lines that a workspace has, for commands that work on any of them."""

from __future__ import annotations

from typing import Any

from pipelines.interests.promotion import InterestsPointer
from pipelines.tasks.moves import UsersPointer
from pipelines.versions.line import Line
from pipelines.versions.pointer import Pointer
from pipelines.workspace.layout import Workspace

POINTERS: dict[Line, Pointer[Any]] = {pointer.line: pointer for pointer in (InterestsPointer(), UsersPointer())}


def pointer_for(workspace: Workspace, version_id: str) -> Pointer[Any]:
    """The pointer of the line that a version is of; that of the interests for an id that nobody knows."""
    with workspace.ledger.snapshot() as view:
        row = view.version(version_id)
    return POINTERS[Line(row.line) if row else Line.INTERESTS]
