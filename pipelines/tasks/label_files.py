"""A file of labels, read as strictly as a file of events: a line that does not fit its header is an error.

A table of labels is small and somebody's work. An export that was appended to another one, with one more column, would
otherwise lose a half of it without a word.
"""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from imsr_core.counted import counted, plural
from imsr_core.lifelong.errors import TaskError
from pipelines.lake.event_files import EventFile
from pipelines.lake.frozen import whole_numbers
from pipelines.lake.readers import ReadError, read_columns
from pipelines.lake.times import TimeUnitError, check_readable, decide_times, timestamp_sql
from pipelines.lake.validation import id_sql, present_sql
from pipelines.settings.source import SourceSettings
from pipelines.settings.tasks import TaskSettings
from pipelines.workspace.layout import Workspace

#: Endings of files of labels.
ENDINGS = (".csv", ".tsv", ".dat", ".data", ".txt", ".user", ".inter", ".parquet")


def label_file_of(workspace: Workspace, name: str, task: TaskSettings) -> Path:
    """The file of a task's labels. Raises TaskError if it is not there, or has another ending."""
    path = workspace.root / Path(task.labels)
    if not path.is_file():
        problem = f"{path} is a folder" if path.is_dir() else f"there is no file {path}"
        raise TaskError(f"task {name}: {problem}", hint=f"correct labels of [tasks.{name}] in imsr.toml")
    if path.suffix.lower() not in ENDINGS:
        hint = f"write it as one of {', '.join(ENDINGS)}"
        raise TaskError(f"task {name}: {path.name} is no file of labels", hint=hint)
    return path


def load_label_file(connection: duckdb.DuckDBPyConnection, workspace: Workspace, name: str, task: TaskSettings) -> str:
    """Read the file of a task's labels; returns SQL for its rows: user_id, label and time (a TIMESTAMP).

    Users, missing values and times are read as those of events are (``[source]``: null_values, time_zone).

    Raises:
        TaskError: there is no such file, it lacks a column, some of its lines do not fit, or not one of its times can
            be read.
    """
    path = label_file_of(workspace, name, task)
    names = {"user_id": (task.user_id,), "label": (task.label,)} | ({"time": (task.time,)} if task.time else {})
    try:
        with tempfile.TemporaryDirectory() as folder:
            file = EventFile.linked(path, Path(folder) / "labels")
            how = SourceSettings(columns=task.header)
            read_columns(connection, file, how, names, ("user_id", "label", "time"), "label_file")
    except ReadError as error:
        raise TaskError(
            f"task {name}: its labels {task.labels!r} cannot be read: {error.message}",
            hint=f"say which columns they are under [tasks.{name}]: "
            + ", ".join(f'{ours} = "{column}"' for ours, (column,) in names.items())
            + ("" if task.header else "; is there no header? name all columns, in order: header = [...]"),
        ) from error
    _check_lines(connection, name, task)
    nulls = workspace.settings.source.null_values
    with workspace.ledger.snapshot() as view:
        user = id_sql("user_id", nulls, whole_numbers(view, workspace.settings))
    time = f"make_timestamp({_moments(connection, workspace, name)})" if task.time else "NULL::TIMESTAMP"
    return f"(SELECT {user} AS user_id, {present_sql('label', nulls)} AS label, {time} AS time FROM label_file)"


def _moments(connection: duckdb.DuckDBPyConnection, workspace: Workspace, name: str) -> str:
    """SQL for the times of labels in microseconds, in whatever form the times of events may have."""
    connection.execute('ALTER TABLE label_file RENAME COLUMN "time" TO "timestamp"')
    source, now, called = workspace.settings.source, datetime.now(UTC), f"task {name}: its labels"
    how = SourceSettings(time_zone=source.time_zone, null_values=source.null_values)
    try:
        reading = decide_times(connection, "label_file", how, now, called)
        check_readable(connection, "label_file", reading, now, called, source.null_values)
    except TimeUnitError as error:
        hint = "write the times of labels in ISO 8601, as 2024-05-31T12:00:00Z, or as seconds since 1970"
        raise TaskError(error.message, hint=hint) from error
    return timestamp_sql(reading)[0]


def _check_lines(connection: duckdb.DuckDBPyConnection, name: str, task: TaskSettings) -> None:
    bad = connection.execute(
        "SELECT row_number, malformed FROM label_file WHERE malformed IS NOT NULL ORDER BY row_number"
    ).fetchall()
    if bad:
        line, complaint = bad[0]
        raise TaskError(
            f"task {name}: {counted(len(bad), 'line')} of its labels {task.labels!r} "
            f"{plural(len(bad), 'does')} not fit the header; the first is line {line}: {complaint[:200]}",
            hint="was another export appended to it? give every label the same columns",
        )
