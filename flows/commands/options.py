"""Options that several commands share."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from flows.commands import completion

WorkspaceOption = Annotated[
    Path,
    typer.Option(
        "--workspace", "-w", envvar="IMSR_WORKSPACE", help="The workspace folder.", show_default="this folder"
    ),
]
VersionOption = Annotated[
    str | None,
    typer.Option("--version", autocompletion=completion.versions, help="A version id; else the current one."),
]


def current_time() -> datetime:
    """Now, in UTC: the only place where a command reads the clock."""
    return datetime.now(UTC)
