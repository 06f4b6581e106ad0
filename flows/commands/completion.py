"""What the shell offers at TAB: the versions, spans and tasks of the workspace (`imsr --install-completion`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import typer

from imsr_core.errors import ImsrError
from pipelines.workspace.layout import Workspace

#: Finds what can stand at a place of a command line, by what is typed of it already.
Completion = Callable[[typer.Context, str], list[str]]


def _of_workspace(names: Callable[[Workspace], Iterable[str]]) -> Completion:
    """Complete from the workspace that the command line names so far; offer nothing where there is none."""

    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        try:
            workspace = Workspace.open(Path(ctx.params.get("workspace") or "."))
            return [name for name in names(workspace) if name.startswith(incomplete)]
        except (ImsrError, OSError):
            return []

    return complete


def _versions(workspace: Workspace) -> list[str]:
    with workspace.ledger.snapshot() as view:
        return [row.version_id for row in reversed(view.versions())]


def _spans(workspace: Workspace) -> list[str]:
    with workspace.ledger.snapshot() as view:
        return [row.span_id for row in view.spans()]


versions = _of_workspace(_versions)
spans = _of_workspace(_spans)
tasks = _of_workspace(lambda workspace: workspace.settings.tasks)
