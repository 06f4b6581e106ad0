"""A user's rows in the files about users that people keep: those that the settings name, and what is in ``labels/``.

A label says something about a person, and so does a segment: a forgotten user's go. Inside the workspace the files are
rewritten, all other lines byte for byte; what lies outside is not ours, and is listed.
"""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from imsr_core.errors import ImsrError
from pipelines.care.landing_files import LandingError, find_user, without_user
from pipelines.lake.event_files import TYPED_TABLES
from pipelines.settings.source import SourceSettings
from pipelines.workspace.layout import Workspace
from pipelines.workspace.parquet_files import read_table, write_table
from pipelines.workspace.seal import fsync_path

#: How the settings write that labels are no file but a view.
VIEW = "view:"
REWRITTEN = "rewritten"
#: RecBole's endings: ``name:type`` above each column, and quotes that mean nothing.
TYPED = (".inter", *TYPED_TABLES)


@dataclass(frozen=True)
class Written:
    """How a label file is written: its column of ids, and the names of all its columns if it has no header."""

    column: str
    header: tuple[str, ...] = ()

    @property
    def source(self) -> SourceSettings:
        """The same for the readers of events; needed for files without a header."""
        return SourceSettings(user_id=self.column, columns=self.header)


@dataclass(frozen=True)
class LabelFile:
    """A label file, how it is written, and how many of its rows are the user's."""

    path: Path
    written: Written
    rows: int


def label_files(workspace: Workspace) -> dict[Path, Written]:
    """Label file -> how it is written. Copies that versions learnt from are not among them: they are published."""
    found: dict[Path, Written] = {}
    for task in workspace.settings.tasks.values():
        if not task.labels.startswith(VIEW):
            found[workspace.root / task.labels] = Written(task.user_id, task.header)
    segments = workspace.settings.segments
    if segments.users:
        found.setdefault(workspace.root / segments.users, Written(segments.user_id, segments.header))
    for path in (workspace.root / "labels").rglob("*.csv"):
        found.setdefault(path, Written("user_id"))
    return {path: written for path, written in sorted(found.items()) if path.is_file()}


def find_labels(workspace: Workspace, user_id: str) -> tuple[list[LabelFile], dict[Path, str]]:
    """The label files with rows of a user, and those that cannot be read, with the reason."""
    files, unreadable = [], {}
    for path, written in label_files(workspace).items():
        try:
            rows = _count(path, written, user_id)
        except (ImsrError, OSError, UnicodeDecodeError, csv.Error) as error:
            unreadable[path] = error.message if isinstance(error, ImsrError) else str(error)
            continue
        if rows:
            files.append(LabelFile(path, written, rows))
    return files, unreadable


def rewrite_labels(workspace: Workspace, file: LabelFile, user_id: str, work: Path) -> str:
    """Take the user's rows out of a label file; what was done, or why it was not."""
    path = file.path
    if path.is_symlink() or not path.resolve().is_relative_to(workspace.root.resolve()):
        return f"still there: {'it is a link' if path.is_symlink() else 'it lies outside the workspace'}"
    out = work / f"{len(os.listdir(work))}-{path.name}"
    try:
        if path.suffix == ".parquet":
            table = pq.ParquetFile(path).read()
            write_table(table.filter(pc.invert(_own(table[file.written.column], user_id))), out)
        elif file.written.header:
            without_user(path, file.written.source, user_id, out)
        else:
            out.write_bytes(b"".join(_others(path, file.written.column, user_id)))
        out.chmod(path.stat().st_mode & 0o777)
        fsync_path(out)
        os.replace(out, path)
    except PermissionError as error:
        return f"still there: {error}"
    fsync_path(path.parent)
    return REWRITTEN


def place_of(workspace: Workspace, path: Path) -> str:
    """A label file as a receipt names it: below the workspace, or by its whole path if it lies outside."""
    return workspace.relative(path) if path.is_relative_to(workspace.root) else str(path)


def _count(path: Path, written: Written, user_id: str) -> int:
    if path.suffix == ".parquet":
        return pc.sum(_own(read_table(path, [written.column])[written.column], user_id)).as_py() or 0
    if written.header:
        found = find_user([path], written.source, user_id)
        if any(each.rows is None for each in found):
            raise LandingError(f"{path}: cannot be read, and mentions the user", hint="edit the file by hand")
        return sum(each.rows or 0 for each in found)
    return sum(own for _, own in _records(path, written.column, user_id))


def _own(ids: pa.ChunkedArray, user_id: str) -> pa.ChunkedArray:
    return pc.fill_null(pc.equal(ids.cast(pa.string()), user_id), False)


def _others(path: Path, column: str, user_id: str) -> list[bytes]:
    return [record for record, own in _records(path, column, user_id) if not own]


def _records(path: Path, column: str, user_id: str) -> list[tuple[bytes, bool]]:
    """The records of a CSV file as they are written, the header first, each with whether it is the user's."""
    lines: list[str] = []
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
        first = stream.readline()
        stream.seek(0)
        delimiter = max(",;\t|", key=first.count)

        def noted() -> object:
            for line in stream:
                lines.append(line)
                yield line

        found: list[tuple[bytes, bool]] = []
        place = -1
        typed = path.suffix in TYPED
        quoting = csv.QUOTE_NONE if typed else csv.QUOTE_MINIMAL
        for row in csv.reader(noted(), delimiter=delimiter, quoting=quoting):  # type: ignore[arg-type]
            text = "".join(lines)
            lines.clear()
            if not found:
                names = [name.removeprefix("\ufeff").strip() for name in row]
                names = [name.rpartition(":")[0] or name for name in names] if typed else names
                place = names.index(column) if column in names else -1
            own = bool(found) and 0 <= place < len(row) and row[place] == user_id
            found.append((text.encode("utf-8", "surrogateescape"), own))
    return found
