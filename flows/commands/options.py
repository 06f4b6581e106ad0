"""Options that several commands share."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

WorkspaceOption = Annotated[
    Path,
    typer.Option(
        "--workspace", "-w", envvar="IMSR_WORKSPACE", help="The workspace folder.", show_default="this folder"
    ),
]


def current_time() -> datetime:
    """Now, in UTC: the only place where a command reads the clock."""
    return datetime.now(UTC)
