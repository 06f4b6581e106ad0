"""The landing folder: event files as they arrive."""

from __future__ import annotations

from pathlib import Path

from pipelines.workspace.layout import Workspace


def landed(workspace: Workspace, folder: Path | None = None) -> list[Path]:
    """The files in a landing folder, else the workspace's, by name. Hidden files (a copy under way) are left alone."""
    found = (folder or workspace.root / "landing").rglob("*")
    return sorted(path for path in found if path.is_file() and not path.name.startswith("."))
