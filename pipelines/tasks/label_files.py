"""A file of labels, read as strictly as a file of events: a line that does not fit its header is an error.

A table of labels is small and somebody's work. An export that was appended to another one, with one more column, would
otherwise lose a half of it without a word.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import duckdb

from imsr_core.lifelong.errors import TaskError
from pipelines.lake.event_files import EventFile
from pipelines.lake.frozen import whole_numbers
from pipelines.lake.readers import ReadError, read_columns
from pipelines.lake.validation import id_sql
from pipelines.settings.source import SourceSettings
from pipelines.settings.tasks import TaskSettings
from pipelines.workspace.layout import Workspace

#: Endings of files of labels.
ENDINGS = (".csv", ".tsv", ".parquet")


def label_file_of(workspace: Workspace, name: str, task: TaskSettings) -> Path:
    """The file of a task's labels. Raises TaskError if it is not there, or has another ending."""
    path = workspace.root / Path(task.labels)
    if not path.is_file():
        raise TaskError(f"task {name}: there is no file {path}", hint=f"correct labels of [tasks.{name}] in imsr.toml")
    if path.suffix.lower() not in ENDINGS:
        raise TaskError(f"task {name}: {path.name} is no CSV or Parquet file", hint="name it .csv or .parquet")
    return path


def load_label_file(connection: duckdb.DuckDBPyConnection, workspace: Workspace, name: str, task: TaskSettings) -> str:
    """Read the file of a task's labels; returns SQL for its rows, with the columns that the task names.

    Raises:
        TaskError: there is no such file, it lacks a column, or some of its lines do not fit.
    """
    path = label_file_of(workspace, name, task)
    names = {"user_id": (task.user_id,), "label": (task.label,)} | ({"time": (task.time,)} if task.time else {})
    try:
        with tempfile.TemporaryDirectory() as folder:
            file = EventFile.linked(path, Path(folder) / "labels")
            read_columns(connection, file, SourceSettings(), names, ("user_id", "label", "time"), "label_file")
    except ReadError as error:
        raise TaskError(
            f"task {name}: its labels {task.labels!r} cannot be read: {error.message}",
            hint=f"[tasks.{name}] wants columns {', '.join(repr(each[0]) for each in names.values())}",
        ) from error
    _check_lines(connection, name, task)
    with workspace.ledger.snapshot() as view:
        user = id_sql("user_id", (), whole_numbers(view, workspace.settings))
    return f"(SELECT {user} AS user_id, label, time FROM label_file)"


def _check_lines(connection: duckdb.DuckDBPyConnection, name: str, task: TaskSettings) -> None:
    bad = connection.execute(
        "SELECT row_number, malformed FROM label_file WHERE malformed IS NOT NULL ORDER BY row_number"
    ).fetchall()
    if bad:
        line, complaint = bad[0]
        raise TaskError(
            f"task {name}: {len(bad)} lines of its labels {task.labels!r} do not fit the header; the first is line "
            f"{line}: {complaint[:200]}",
            hint="was another export appended to it? give every label the same columns",
        )
