"""The ledger: what happened to each span, in one SQLite file. It is the truth about the workspace.

A folder that the ledger does not name does not exist for anyone. One ``transaction`` is all or nothing;
with a ``fence`` it also refuses a run whose lease was taken over while it was suspended.

    with ledger.snapshot() as view: view.spans()                 # one consistent picture, never waits
    with ledger.transaction(fence=lease.token) as tx: tx.put_span(row)
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from pipelines.workspace.decoding import LedgerError
from pipelines.workspace.file_system import ADVICE, lacks_in_words
from pipelines.workspace.rows import (
    SCHEMA,
    SCHEMA_VERSION,
    BatchRow,
    LeaseRow,
    MetricRow,
    PromotionRow,
    SequencesRow,
    SpanRow,
    SpanVersionRow,
    VersionRow,
)
from pipelines.workspace.states import SpanState
from pipelines.workspace.transaction import LEASE, LeaseLost, Snapshot, Transaction, iso

__all__ = [
    "LEASE",
    "BatchRow",
    "LeaseLost",
    "LeaseRow",
    "Ledger",
    "LedgerError",
    "MetricRow",
    "PromotionRow",
    "SequencesRow",
    "Snapshot",
    "SpanRow",
    "SpanState",
    "SpanVersionRow",
    "Transaction",
    "VersionRow",
    "iso",
]

BUSY_SECONDS = 30.0


def _advice(path: Path, error: sqlite3.DatabaseError) -> str:
    if not isinstance(error, sqlite3.OperationalError):
        return "restore it from a backup or run: imsr doctor"
    if "readonly" in str(error):
        return (
            "this user may not write the workspace, or its disk is read only; what only reads answers: status, plan, "
            "sql, recommend, explain, report --out FILE, export"
        )
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
        return (
            "make room on its disk and run the command again, what is published is as it was; with a little room "
            "this frees more: imsr prune"
        )
    lacking = lacks_in_words(path.parent)
    if lacking:
        return f"{lacking}: {ADVICE}"
    return (
        "is another process writing, is the disk full, or is no file of that size allowed (ulimit -f)? Then "
        "run the command again, what is published is as it was"
    )


def _is_in_use(connection: sqlite3.Connection, tables: Iterable[str]) -> bool:
    """Whether a ledger holds anything, or is another release's."""
    other = connection.execute("PRAGMA user_version").fetchone() != (SCHEMA_VERSION,)
    return other or any(connection.execute(f"SELECT EXISTS (SELECT 1 FROM {name})").fetchone()[0] for name in tables)


class Ledger:
    """A SQLite file; each transaction opens its own connection, so a Ledger can cross threads and forks."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    @classmethod
    def create(cls, path: Path) -> Ledger:
        """Make an empty ledger; one that was begun and never used is taken up.

        Raises:
            LedgerError: there is one that has something in it, or the file system does not let SQLite work.
        """
        try:
            with closing(sqlite3.connect(path)) as connection:
                made = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
                if not made:
                    connection.executescript(f"BEGIN; {SCHEMA} COMMIT;")
                elif _is_in_use(connection, made):
                    raise LedgerError(f"{path} exists already", hint="is imsr.toml lost? restore it from a backup")
        except sqlite3.DatabaseError as error:
            raise LedgerError(f"{path}: {error}", hint=_advice(path, error)) from error
        return cls(path)

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """A consistent read of the ledger."""
        with self._connection("BEGIN DEFERRED") as connection:
            yield Snapshot(connection)

    @contextmanager
    def transaction(self, fence: int | None = None) -> Iterator[Transaction]:
        """Read and write; committed on a clean exit, rolled back on an exception.

        Args:
            fence: token of the lease that the caller holds (see ``pipelines.workspace.lease``).

        Raises:
            LeaseLost: the lease now has another token, or was released.
            LedgerError: another process kept the ledger busy for 30 s, or its file system has no locks.
        """
        with self._connection("BEGIN IMMEDIATE") as connection:
            tx = Transaction(connection)
            if fence is not None:
                tx.check_fence(fence)
            yield tx

    @contextmanager
    def watched(self) -> Iterator[Callable[[], bool]]:
        """What says, each time it is asked, whether anything was committed since it was asked last."""
        with self._connection(None) as connection:
            seen = connection.execute("PRAGMA data_version").fetchone()

            def has_changed() -> bool:
                nonlocal seen
                before, seen = seen, connection.execute("PRAGMA data_version").fetchone()
                return bool(seen != before)

            yield has_changed

    @contextmanager
    def _connection(self, begin: str | None) -> Iterator[sqlite3.Connection]:
        if not self.path.is_file():
            raise LedgerError(f"{self.path} is missing", hint="restore it from a backup or run: imsr doctor")
        uri = f"{self.path.absolute().as_uri()}?mode=rw"
        try:
            with closing(sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None)) as connection:
                connection.row_factory = sqlite3.Row
                connection.execute("PRAGMA journal_mode = DELETE")
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute("PRAGMA foreign_keys = ON")
                connection.execute("PRAGMA secure_delete = ON")  # what was forgotten leaves no bytes behind
                if begin:
                    connection.execute(begin)
                self._check_schema(connection)
                try:
                    yield connection
                except BaseException:
                    if connection.in_transaction:  # a full disk makes SQLite roll back by itself
                        connection.execute("ROLLBACK")
                    raise
                if begin:
                    connection.execute("COMMIT")
        except sqlite3.IntegrityError:
            raise
        except sqlite3.DatabaseError as error:
            raise LedgerError(f"{self.path}: {error}", hint=_advice(self.path, error)) from error

    def _check_schema(self, connection: sqlite3.Connection) -> None:
        (found,) = connection.execute("PRAGMA user_version").fetchone()
        if found == 0 and not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise LedgerError(f"{self.path} is empty: its content is lost", hint="restore it from a backup")
        if found != SCHEMA_VERSION:
            raise LedgerError(
                f"{self.path} has schema {found}, this program knows {SCHEMA_VERSION}",
                hint="use the version of imsr that wrote it",
            )
