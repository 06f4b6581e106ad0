"""`imsr report`: a version as a page for people."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from flows.answers import answer
from flows.commands import completion
from flows.commands.options import WorkspaceOption
from flows.console import say
from pipelines.interests.span_matrix import write_span_matrix
from pipelines.interests.version import Version
from pipelines.report.page import write_report
from pipelines.settings.names import WorkspaceError
from pipelines.workspace.file_system import NOT_OURS
from pipelines.workspace.layout import Workspace


def report(
    version: Annotated[
        str | None, typer.Argument(autocompletion=completion.versions, help="A version id; else the current one.")
    ] = None,
    workspace: WorkspaceOption = Path("."),
    user: Annotated[
        str | None, typer.Option("--user", help="Whose interests to show; unset: the user who has most.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The file to write.", show_default="reports/VERSION.html")
    ] = None,
    open_it: Annotated[bool, typer.Option("--open", help="Show it in a browser.")] = False,
) -> None:
    """Write one HTML file that says how a version does: its score by span beside two counters, its interests and what
    they stand for, gate, promotions, quarantine, costs. It fetches nothing, so that it can be mailed or archived.
    """
    opened = Workspace.open(workspace)
    try:
        if opened.settings.evaluation.matrix_users and out is None:  # with it the workspace may be read only
            write_span_matrix(opened, Version.open(opened, version).row.version_id)
        path = write_report(opened, version, user, out)
    except OSError as error:
        if out is not None or error.errno not in NOT_OURS:
            raise
        raise WorkspaceError(str(error), hint="where the workspace may only be read: imsr report --out FILE") from error
    answer.add([{"written": path}])
    say(f"written: {path}")
    if open_it:
        webbrowser.open(path.absolute().as_uri())
