"""`imsr metrics`: the state of the workspace for Prometheus."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.options import WorkspaceOption, current_time
from flows.metrics import metrics_text
from pipelines.workspace.layout import Workspace
from pipelines.workspace.places import file_to_write
from pipelines.workspace.seal import write_atomic


def metrics(
    workspace: WorkspaceOption = Path("."),
    out: Annotated[
        Path | None, typer.Option("--out", help="Write this file at once, for a node exporter; unset: print.")
    ] = None,
) -> None:
    """Print the workspace as Prometheus reads it: spans, what is due or late, versions, scores, quarantine.

    Reads the ledger only, also while a run is writing. By cron with --out into the textfile folder of a node exporter.
    """
    text = metrics_text(Workspace.open(workspace), now=current_time())
    if out is None:
        typer.echo(text.decode(), nl=False)
    else:
        write_atomic(file_to_write(out), text)
