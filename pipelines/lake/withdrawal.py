"""Taking back what a file brought, or a span that should not be there.

A row of the lake says which file it came from and when it was ingested; together that is one file of one ingest. What
was withdrawn counts as never ingested: the file can be given again. Rows that the file had in common with another one
came with whichever was first, and go with it; giving the other one once more (`--again`) brings them back.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from imsr_core.errors import ImsrError
from pipelines.lake.schemas import bucket_files
from pipelines.lake.spans import to_us
from pipelines.workspace.engine import duckdb_session, literal
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import BatchRow, Snapshot, Transaction
from pipelines.workspace.seal import file_sha256

#: Names that an error lists.
_LISTED = 8


class WithdrawError(ImsrError):
    """There is nothing to withdraw under this name."""


@dataclass(frozen=True)
class Withdrawal:
    """What to take back.

    Attributes:
        origins: (source, time of the ingest in microseconds since 1970) of the files.
        files: (batch, name in it) of the files, as the ledger has them.
        spans: spans that are emptied, or that hold rows of the files.
        whole_spans: those that are emptied whoever brought their rows.
    """

    origins: tuple[tuple[str, int], ...] = ()
    files: tuple[tuple[str, str], ...] = ()
    spans: tuple[str, ...] = ()
    whole_spans: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.files or self.whole_spans)

    def condition(self, span: str) -> str:
        """SQL: whether a row of the lake goes; ``span`` is SQL for the id of its span."""
        whole = ", ".join(map(literal, self.whole_spans))
        origins = ", ".join(f"({literal(source)}, {us})" for source, us in self.origins)
        parts = [f"{span} IN ({whole})"] if whole else []
        parts += [f"(source, ingest_us) IN ({origins})"] if origins else []
        return " OR ".join(parts) or "false"


def withdrawal_of(workspace: Workspace, view: Snapshot, names: Iterable[str], spans: Iterable[str] = ()) -> Withdrawal:
    """What to take back for files and spans; nothing, if all of it was taken back before: a command that was killed is
    given again.

    Args:
        names: a file that is there stands for its content, whenever it was ingested; any other name for all files that
            were ingested under it.
        spans: ids of spans.

    Raises:
        WithdrawError: nothing was ever ingested under a name, or there is no such span.
    """
    files = [each for name in names for each in _ingested_as(view, name)]
    known = {row.span_id for row in view.spans()}
    with_data = {row.span_id for row in view.current_span_versions()}
    for span_id in spans:
        if span_id not in known:
            raise WithdrawError(f"there is no span {span_id!r}", hint="see the spans: imsr status --all")
    whole = tuple(span_id for span_id in spans if span_id in with_data)
    origins = tuple(dict.fromkeys((file["name"], _ingested_us(batch)) for batch, file in files))
    holding = spans_of(workspace, view, origins)
    return Withdrawal(
        origins,
        tuple((batch.batch_id, file["name"]) for batch, file in files),
        tuple(dict.fromkeys((*whole, *holding))),
        whole,
    )


def spans_of(workspace: Workspace, view: Snapshot, origins: Iterable[tuple[str, int]]) -> list[str]:
    """The spans whose version in force has rows of these origins."""
    folders = {workspace.resolve(row.path): row.span_id for row in view.current_span_versions()}
    files = [str(path) for folder in folders for path in bucket_files(folder)]
    values = ", ".join(f"({literal(source)}, {us})" for source, us in origins)
    if not files or not values:
        return []
    with duckdb_session() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        found = connection.execute(
            f"""SELECT DISTINCT filename FROM read_parquet(?, filename = true, hive_partitioning = false)
                WHERE (source, epoch_us(ingest_time)) IN ({values})""",
            [files],
        ).fetchall()
    return sorted({folders[Path(name).parent] for (name,) in found})


def mark_withdrawn(tx: Transaction, withdrawal: Withdrawal, by: str) -> None:
    """Note in the ledger that files count as not ingested any more; ``by`` is the batch that withdrew them."""
    gone = set(withdrawal.files)
    for batch in tx.batches():
        files = tuple(
            file | {"withdrawn": by} if (batch.batch_id, file.get("name")) in gone else file for file in batch.files
        )
        if files != batch.files:
            tx.put_batch(replace(batch, files=files))


def _ingested_as(view: Snapshot, name: str) -> list[tuple[BatchRow, dict[str, str]]]:
    """The files that a name stands for, but for those withdrawn. Raises WithdrawError if there never were any."""
    entries = [(batch, file) for batch in view.batches() for file in batch.files]
    live = [(batch, file) for batch, file in entries if not file.get("withdrawn")]
    path = Path(name)
    sha256 = file_sha256(path) if path.is_file() else None
    found = [(b, f) for b, f in live if sha256 and sha256 in (f.get("sha256"), f.get("rewritten"))]
    found = found or [(b, f) for b, f in live if f.get("name") in (name, path.name)]
    if not found and not any(f.get("name") in (name, path.name) or f.get("sha256") == sha256 for _, f in entries):
        names = list(dict.fromkeys(str(file.get("name")) for _, file in reversed(live)))[:_LISTED]
        hint = f"ingested last: {', '.join(names)}" if names else "nothing was ingested yet"
        raise WithdrawError(f"no file {name!r} was ingested", hint=hint)
    return found


def _ingested_us(batch: BatchRow) -> int:
    return to_us(datetime.fromisoformat(batch.ingested_at))
