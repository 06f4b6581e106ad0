"""The landing folder: event files as they arrive. What cannot be read is set aside, and stops nothing else."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from imsr_core.errors import ImsrError
from pipelines.lake.event_files import REFUSED, Found, look_into, printable
from pipelines.lake.ingest import ingest
from pipelines.lake.report import IngestReport
from pipelines.workspace.layout import Workspace
from pipelines.workspace.writer import Writer


class RefusedFilesError(ImsrError):
    """Files in the landing folder cannot be read and were set aside; everything else was done."""


def landed(workspace: Workspace, folder: Path | None = None) -> list[Path]:
    """The event files in a landing folder, else the workspace's, by name."""
    return [given.path for given in look_at(workspace, folder).files]


def look_at(workspace: Workspace, folder: Path | None = None) -> Found:
    """The event files in a landing folder, by name, and what was left alone there: it is no data, or hidden."""
    return look_into(_landing(workspace, folder), workspace.settings.source.format)


def ingest_landed(
    writer: Writer, folder: Path | None = None, *, again: bool = False, accept_late: bool = False
) -> tuple[IngestReport, Found]:
    """Ingest a landing folder, else the workspace's; returns the report, and what was found and left alone.

    A file that cannot be read is moved to ``refused/`` in the folder, with the reason beside it.
    """
    found = look_at(writer.workspace, folder)
    report = ingest(
        writer.workspace,
        found.files,
        now=writer.now,
        writer=writer,
        tolerant=True,
        again=again,
        accept_late=accept_late,
    )
    files = []
    for file in report.files:
        moved = file.refused and _set_aside(_landing(writer.workspace, folder), Path(file.path), file.refused)
        files.append(replace(file, path=str(moved)) if moved else file)
    return replace(report, files=tuple(files)), found


def check_refused(report: IngestReport) -> None:
    """Raise RefusedFilesError at the end of a night that had to set files aside, so that it is not green."""
    if report.refused:
        names = ", ".join(file.name for file in report.refused)
        raise RefusedFilesError(
            f"files that cannot be read were set aside: {names}", hint="the reasons lie beside them, in refused/"
        )


def _landing(workspace: Workspace, folder: Path | None) -> Path:
    return folder or workspace.root / "landing"


def _set_aside(landing: Path, path: Path, reason: str) -> Path | None:
    """Move a file to ``refused/``, with the reason beside it; None if it cannot be moved and stays where it is."""
    target = landing / REFUSED / path.relative_to(landing)
    number = 0
    while target.exists() or target.is_symlink():
        number += 1
        target = target.with_name(f"{path.stem}-{number}{path.suffix}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.with_name(f"{target.name}.reason.txt").write_text(f"{printable(reason)}\n", encoding="utf-8")
        os.rename(path, target)
    except OSError:
        return None
    return target
