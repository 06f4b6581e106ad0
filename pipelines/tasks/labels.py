"""The labels of a task: read from a file or a view, checked, and kept as they were used.

A label table changes after it was learnt from; what a version learnt must not. So the rows that are used are copied to
``labels/<task>/<fingerprint>.parquet`` (user_id, label, time), and the version names the copy. Every row that is not
used is counted with the reason.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from imsr_core.counted import counted
from imsr_core.lifelong.errors import TaskError
from pipelines.sequences.vocabulary import Vocabulary
from pipelines.settings.names import check_name
from pipelines.settings.tasks import TaskSettings
from pipelines.tasks.label_files import label_file_of, load_label_file
from pipelines.workspace.engine import duckdb_session
from pipelines.workspace.failpoints import FailPoint, hit
from pipelines.workspace.layout import Workspace
from pipelines.workspace.parquet_files import read_table, write_table

VIEW = "view:"
#: With fewer labelled users nothing is said of their classes.
_JUDGED = 50
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

# Every row of the table, with one status each: "good", or why it is not used.
_CHECKED = """
    CREATE TEMP TABLE checked AS
    WITH timed AS (
        SELECT *, CASE WHEN user_id IS NULL THEN 'missing_user'
                       WHEN label IS NULL THEN 'missing_label'
                       WHEN has_time AND time IS NULL THEN 'bad_time'
                       WHEN time >= $end THEN 'not_yet' ELSE 'good' END AS status
        FROM raw),
    first AS (
        SELECT *, row_number() OVER (PARTITION BY status, user_id, label ORDER BY time) AS repeat,
               CASE WHEN $one_each THEN max(time) OVER (PARTITION BY status, user_id) END AS newest
        FROM timed)
    SELECT user_id, label, time, CASE WHEN status <> 'good' THEN status
        WHEN $one_each AND time < newest THEN 'outdated'
        WHEN repeat > 1 THEN 'duplicate' ELSE 'good' END AS status
    FROM first
"""
_CONFLICTS = """
    UPDATE checked SET status = 'conflicting' WHERE status = 'good' AND user_id IN
        (SELECT user_id FROM checked WHERE status = 'good' GROUP BY user_id HAVING count(DISTINCT label) > 1)
"""


@dataclass(frozen=True)
class LabelReport:
    """What became of every row: ``read`` is the sum of all others.

    ``not_yet``: its time is after the learnt spans; ``outdated``: the user has a newer class; ``conflicting``: the user
    has two classes at once, and neither is used; ``unknown_user``: nobody in the events has the id; ``without_events``:
    the user had no event before the label.
    """

    read: int
    used: int
    missing_user: int = 0
    missing_label: int = 0
    bad_time: int = 0
    not_yet: int = 0
    outdated: int = 0
    duplicate: int = 0
    conflicting: int = 0
    unknown_user: int = 0
    without_events: int = 0

    def unused(self) -> dict[str, int]:
        """Reason -> rows that were not used."""
        return {f.name: n for f in fields(self)[2:] if (n := getattr(self, f.name))}

    def why_not(self) -> str:
        """The same in words; "" if all rows are used."""
        return ", ".join(f"{reason.replace('_', ' ')} {rows:,}" for reason, rows in self.unused().items())

    def to_json(self) -> dict[str, int]:
        """As it is kept in a version's summary."""
        return asdict(self)


#: Why most rows are not used -> what to look at.
_LOOK_AT = {
    "missing_user": "is user_id of the task the right column?",
    "missing_label": "is label of the task the right column?",
    "bad_time": "is time of the task the right column, in ISO 8601?",
    "not_yet": "they are of later than the learnt spans; is time the moment when a label became known?",
    "unknown_user": "are the user ids those of the events? imsr sql 'FROM users'",
    "conflicting": 'a class is one label a user; several are kind = "items"',
}


def check_classes(name: str, task: TaskSettings, classes: int, rows: int) -> None:
    """Raise TaskError if nearly every user has a class of their own: nothing can be learnt of one that is seen once."""
    if task.kind == "class" and rows >= _JUDGED and classes * 2 > rows:
        raise TaskError(
            f"task {name}: {counted(classes, 'class')} for {counted(rows, 'user')}, nearly everybody has their own",
            hint="a class is a group of users: cut a number into ranges; is label of the task the right column?",
        )


def too_few_labels(name: str, labels: int, report: LabelReport) -> TaskError:
    """The error of a table that leaves fewer than two labels."""
    unused = report.unused()
    causes = sorted(_LOOK_AT.keys() & unused.keys(), key=unused.__getitem__) if report.used * 2 <= report.read else []
    why = f" ({report.why_not()})" if unused else ""
    return TaskError(
        f"task {name}: {counted(labels, 'label')} among {counted(report.used, 'usable row')} of {report.read:,}{why}",
        hint=_LOOK_AT[causes[-1]] if causes else "a task needs two labels or more",
    )


def read_labels(workspace: Workspace, name: str, task: TaskSettings, end_us: int) -> tuple[pa.Table, dict[str, int]]:
    """The good rows (user_id, label, time in microseconds or NULL), and status -> number of all rows.

    Args:
        end_us: labels from this time on are not known yet.

    Raises:
        TaskError: the table or a column is missing, or cannot be read.
    """
    try:
        with _session(workspace, task) as connection:
            connection.execute(_raw(connection, workspace, name, task))
            connection.execute(_CHECKED, {"end": end_us, "one_each": task.kind == "class"})
            if task.kind == "class":
                connection.execute(_CONFLICTS)
            statuses = dict(connection.sql("SELECT status, count(*) FROM checked GROUP BY status").fetchall())
            good = "SELECT user_id, label, time FROM checked WHERE status = 'good' ORDER BY user_id, label"
            return connection.sql(good).to_arrow_table(), statuses
    except duckdb.Error as error:
        first = str(error).strip().splitlines()[0]
        raise TaskError(
            f"task {name}: its labels {task.labels!r} cannot be read: {first}",
            hint=f"[tasks.{name}] wants columns {task.user_id!r} and {task.label!r}"
            + (f" and {task.time!r}" if task.time else ""),
        ) from error


def label_fingerprint(table: pa.Table) -> str:
    """What tells one table of used rows from another."""
    content = json.dumps([table[column].to_pylist() for column in table.column_names])
    return hashlib.sha256(content.encode()).hexdigest()


def keep_labels(workspace: Workspace, name: str, table: pa.Table) -> tuple[str, str]:
    """Copy the used rows into the workspace; (fingerprint, path below the workspace). The same rows, the same file."""
    fingerprint = label_fingerprint(table)
    folder = workspace.root / "labels" / check_name(name)
    path = folder / f"{fingerprint[:16]}.parquet"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_table(table, path)
    hit(FailPoint.TASK_LABELS_KEPT)
    return fingerprint, workspace.relative(path)


def kept_labels(workspace: Workspace, path: str) -> pa.Table:
    """The rows that a version learnt from, as ``keep_labels`` kept them (without users who were forgotten since)."""
    return read_table(workspace.resolve(path), ["user_id", "label", "time"])


def of_known_users(table: pa.Table, vocabulary: Vocabulary) -> tuple[pa.Table, NDArray[np.int64]]:
    """The rows of users whom the vocabulary has, and their indices (N,)."""
    users = vocabulary.users_of(table["user_id"])
    return table.filter(pa.array(users >= 0)), users[users >= 0]


def label_vocabulary(known: Sequence[str], labels: pa.Array | pa.ChunkedArray) -> tuple[str, ...]:
    """All labels by number: those known before keep theirs, new ones follow in the order of their text."""
    new = set(pc.unique(labels).to_pylist()) - set(known)
    return (*known, *sorted(new))


def label_numbers(vocabulary: Sequence[str], labels: pa.ChunkedArray) -> NDArray[np.int64]:
    """(N,) texts -> (N,) numbers; -1 for a label that the vocabulary does not have."""
    found = pc.index_in(labels, value_set=pa.array(vocabulary, pa.string()))
    return pc.fill_null(found, -1).to_numpy().astype(np.int64)


def _session(workspace: Workspace, task: TaskSettings) -> duckdb.DuckDBPyConnection:
    from pipelines.warehouse.catalog import connect, publish_catalog

    if task.labels.startswith(VIEW):
        publish_catalog(workspace)  # the views as the ledger is now
        return connect(workspace)
    return duckdb_session()


def labels_problem(workspace: Workspace, name: str) -> str | None:
    """Why the labels of a declared task could not even be opened, or None; they are not read."""
    task = workspace.settings.tasks[name]
    try:
        if task.labels.startswith(VIEW):
            _view_of(name, task)
        else:
            label_file_of(workspace, name, task)
    except TaskError as error:
        return error.message
    return None


def _view_of(name: str, task: TaskSettings) -> str:
    view = task.labels.removeprefix(VIEW)
    if not _IDENTIFIER.fullmatch(view):
        raise TaskError(f"task {name}: {view!r} is no name of a view", hint="see the views: imsr sql --help")
    return view


def _check_view(connection: duckdb.DuckDBPyConnection, name: str, view: str, task: TaskSettings) -> None:
    """Raise TaskError, with what there is, where a view or a column of it is not there."""
    bad = f"task {name}: its labels {task.labels!r} cannot be read"
    try:
        columns = [column for column, *_ in connection.execute(f"DESCRIBE {view}").fetchall()]
    except duckdb.CatalogException as error:
        raise TaskError(f"{bad}: there is no such view", hint="see the views: imsr sql --help") from error
    there = {column.casefold() for column in columns}
    for ours in ("user_id", "label", "time"):
        column = getattr(task, ours)
        if column and column.casefold() not in there:
            raise TaskError(
                f"{bad}: no column {column!r} for {ours}; it has {', '.join(map(repr, columns))}",
                hint=f'say which column it is under [tasks.{name}]: {ours} = "COLUMN"',
            )


def _raw(connection: duckdb.DuckDBPyConnection, workspace: Workspace, name: str, task: TaskSettings) -> str:
    """SQL that makes the table ``raw``. Only the words of a view and of its columns come from the settings."""
    user_id, label, time = "user_id", "label", "time"
    if task.labels.startswith(VIEW):
        source = _view_of(name, task)
        user_id, label, time = task.user_id, task.label, task.time
        _check_view(connection, name, source, task)
    else:
        source = load_label_file(connection, workspace, name, task)
    known = f'epoch_us(TRY_CAST("{_quoted(time)}" AS TIMESTAMPTZ))' if task.time else "NULL::BIGINT"
    return f"""
        CREATE TEMP TABLE raw AS
        SELECT nullif(CAST("{_quoted(user_id)}" AS VARCHAR), '') AS user_id,
               nullif(trim(CAST("{_quoted(label)}" AS VARCHAR)), '') AS label,
               {known} AS time, {bool(task.time)} AS has_time
        FROM {source}"""


def _quoted(column: str) -> str:
    return column.replace('"', '""')
