"""The DuckDB side of one ingest: load files, judge rows, drop duplicates, give back sorted rows.

Tables of the private in-memory database (it spills to the ingest's staging folder):

    raw       the file being loaded, all text
    good      accepted rows; ``ordinal`` = file number * 2^40 + row number orders them as they came
    bad       refused rows as they came, with the reason
    touched   the spans of the good rows, and those that rows are withdrawn from, numbered by time
    stored    (view) the rows that these spans have in the lake
    existing  (view) those of them that are not withdrawn
    changed   spans in which rows are withdrawn or completed, with the rows withdrawn
    firsts    the ordinals of the good rows to keep
    fills     what completes rows of ``existing``, where files are read again (``pipelines.lake.completion``)

Two events are the same if they lie in the same span and have the same event id; without an event id, if user,
item, timestamp and event type are the same. The first one wins: rows of the lake, then files in the order
given, then rows in the order of the file.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType

import pyarrow as pa

from imsr_core.counted import counted
from pipelines.lake.clock import refuse
from pipelines.lake.completion import completed, find_fills
from pipelines.lake.delivery import Delivery, read_delivery
from pipelines.lake.engine_death import guarded
from pipelines.lake.event_files import EventFile
from pipelines.lake.event_sql import EMPTY_LAKE, columns_sql, wanted_sql
from pipelines.lake.plain_text import Budget
from pipelines.lake.readers import read_file
from pipelines.lake.refusals import Refusal, refusals_in
from pipelines.lake.report import Loaded
from pipelines.lake.schemas import LAKE_SCHEMA, QUARANTINE_SCHEMA, TIMESTAMP, bucket_sql, tie_sql
from pipelines.lake.small_files import Small, doubtful, groups_of, read_together
from pipelines.lake.span_files import split_runs
from pipelines.lake.spans import Calendar, Span, to_us
from pipelines.lake.times import (
    TimeReading,
    check_readable,
    decide_times,
    readings_by_file,
    timestamp_sql,
)
from pipelines.lake.validation import Limits, Reason, reason_sql
from pipelines.lake.values import check_values, unread_sql, without_any
from pipelines.lake.withdrawal import Withdrawal
from pipelines.settings.imsr_toml import Settings
from pipelines.workspace.engine import duckdb_session, literal, registered

_FILE_SHIFT = 40
_BATCH_ROWS = 1 << 16

_KEYS = """event_id, CASE WHEN event_id IS NULL THEN user_id END AS k_user,
           CASE WHEN event_id IS NULL THEN item_id END AS k_item, CASE WHEN event_id IS NULL THEN us END AS k_us,
           CASE WHEN event_id IS NULL THEN event_type END AS k_type"""

_TABLES = """
CREATE TABLE good (ordinal BIGINT, user_id VARCHAR, item_id VARCHAR, us BIGINT, event_type VARCHAR,
                   value DOUBLE, event_id VARCHAR);
CREATE TABLE bad (file INTEGER, row_number BIGINT, reason VARCHAR, user_id VARCHAR, item_id VARCHAR,
                  timestamp VARCHAR, event_type VARCHAR, value VARCHAR, event_id VARCHAR, detail VARCHAR);
CREATE TABLE sources (file INTEGER, source VARCHAR, before BIGINT);
CREATE TABLE touched (span VARCHAR, number INTEGER);
CREATE TABLE changed (number INTEGER, rows BIGINT);
"""
#: In one go: with thousands of small files each statement counts.
_DROP_RAW = "; ".join(
    f"DROP TABLE IF EXISTS {table}" for table in ("raw", "raw_packed", "raw_lines", "raw_rejects", "raw_scan")
)


class Intake:
    """What one ingest takes in, as tables. A context manager; ``folder`` takes links to the files and spilled data."""

    def __init__(
        self,
        settings: Settings,
        now: datetime,
        folder: Path,
        whole_numbers: bool = True,
        last_us: int | None = None,
    ) -> None:
        """``last_us``: when the last ingest was, if that is later than ``now`` (see ``pipelines.lake.clock``)."""
        self._settings = settings
        self._whole = whole_numbers
        self._now = now
        self._last_us = last_us
        self._folder = folder
        (folder / "spill").mkdir()
        self._connection = duckdb_session(
            memory_limit=f"{settings.ingest.memory_limit_mb}MB", temp_directory=str(folder / "spill")
        )
        self._connection.execute(_TABLES)
        self._span_sql = "NULL"

    def __enter__(self) -> Intake:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._connection.close()

    def load(self, number: int, file: Path | Delivery, name: str, first_span_us: int | None) -> Loaded:
        """Load file ``number`` (1, 2, ...): its good rows into ``good``, the others into ``bad``.

        Args:
            number: of the file in this ingest.
            file: to read.
            name: under which the lake knows it.
            first_span_us: start of a frozen cut calendar.

        Raises:
            ReadError, TimeUnitError: see ``pipelines.lake.readers`` and ``pipelines.lake.times``; nothing of the file
                is kept then.
            EngineDied: nothing of any file is kept.
            ClockError: the clock was set back.
        """
        with guarded(self._connection, number, name, _DROP_RAW):
            return self._load(number, file, name, first_span_us)

    def load_together(
        self, files: Sequence[tuple[Small, str]], first_span_us: int | None
    ) -> Iterator[dict[int, Loaded]]:
        """Load those of many small files that can be read together; all others are for ``load``, with its errors.

        Args:
            files: each with the name under which the lake knows it.
            first_span_us: start of a frozen cut calendar.
        """
        source, names = self._settings.source, {small.number: name for small, name in files}
        for layout, group in groups_of([small for small, _ in files], source, self._settings.ingest.max_rows_per_file):
            with guarded(self._connection, 0, counted(len(group), "small file"), _DROP_RAW):
                if read_together(self._connection, layout, group, source, self._folder / "together", "raw"):
                    yield self._accept_all(names, first_span_us)

    def _accept_all(self, names: dict[int, str], first_span_us: int | None) -> dict[int, Loaded]:
        """Judge the rows of a raw table of many files."""
        source, loaded = self._settings.source, dict[int, Loaded]()
        readings = readings_by_file(self._connection, "raw", source, self._now)
        unclear = {*doubtful(self._connection, source, "raw"), *without_any(self._connection, source, "raw")}
        unclear |= {n for n, reading in readings.items() if not reading}
        for reading in set(readings.values()) - {None}:
            assert reading is not None
            numbers = [n for n, found in readings.items() if found == reading and n not in unclear]
            with registered(self._connection, "wanted_files", pa.table({"file": pa.array(numbers, pa.int32())})):
                loaded |= self._accept("(FROM raw SEMI JOIN wanted_files USING (file))", reading, first_span_us)
        sources = pa.table({"file": pa.array(loaded, pa.int32()), "source": pa.array([names[n] for n in loaded])})
        with registered(self._connection, "new_sources", sources):
            self._connection.execute("INSERT INTO sources SELECT file, source, 0 FROM new_sources")
        return loaded

    def _load(self, number: int, file: Path | Delivery, name: str, first_span_us: int | None) -> Loaded:
        source = self._settings.source
        if isinstance(file, Delivery):
            read_delivery(self._connection, file, "raw")
            before = file.first - 1
            known = TimeReading((file.time_unit,), source.time_zone) if file.time_unit else None
            times = known or decide_times(self._connection, "raw", source, self._now, name)
        else:
            self._read_file(number, file)
            before = 0
            times = decide_times(self._connection, "raw", source, self._now, str(file))
            check_readable(self._connection, "raw", times, self._now, str(file), source.null_values)
            check_values(self._connection, "raw", source, str(file))
        found = self._accept(f"(SELECT {number}::INTEGER AS file, * FROM raw)", times, first_span_us)
        self._connection.execute("INSERT INTO sources VALUES (?, ?, ?)", [number, name, before])
        return found.get(number, Loaded(0, 0, 0, 0, str(times), None))

    def _accept(self, rows: str, times: TimeReading, first_span_us: int | None) -> dict[int, Loaded]:
        """Sort rows (``file``, the raw columns) into ``good`` and ``bad``; file -> what became of them."""
        source = self._settings.source
        microseconds, coarse = timestamp_sql(times)
        wanted = wanted_sql(source)
        left_out = self._by_file(f"{rows} WHERE {wanted[1]}") if wanted else {}
        judged = f"(SELECT *, {microseconds} AS us, {coarse} AS coarse FROM {rows} {wanted[0] if wanted else ''})"
        reason = reason_sql(Limits.of(self._settings.ingest, self._now, first_span_us, source.null_values))
        self._connection.execute(f"""
            INSERT INTO good
            SELECT (file::BIGINT << {_FILE_SHIFT}) + row_number, {columns_sql(source, self._whole)}
            FROM {judged} WHERE {reason} IS NULL""")
        every = self._by_file(rows)
        read = {number: count - left_out.get(number, 0) for number, count in every.items()}
        good, newest = self._accepted(every)
        if sum(good.values()) < sum(read.values()):
            self._connection.execute(f"""
                INSERT INTO bad SELECT file, row_number, {reason} AS reason, user_id, item_id, timestamp,
                    event_type, value, event_id, malformed
                FROM {judged} WHERE reason IS NOT NULL""")
            if self._last_us is not None:
                self._check_clock(f"{judged} WHERE {reason} = '{Reason.TIMESTAMP_IN_FUTURE}'", self._last_us)
        bare = self._by_file(f"{rows} WHERE {unread_sql(source)}") if source.value else {}
        return {
            n: Loaded(read[n], good.get(n, 0), left_out.get(n, 0), bare.get(n, 0), str(times), newest.get(n))
            for n in every
        }

    def _check_clock(self, future: str, last_us: int) -> None:
        rows = sum(self._by_file(f"{future} AND us <= {last_us}").values())
        if rows:
            raise refuse(rows, self._now, last_us)

    def _accepted(self, files: Collection[int]) -> tuple[dict[int, int], dict[int, int]]:
        """File -> its good rows, and the time of the newest."""
        numbers = sorted(files)
        if not numbers:
            return {}, {}
        found = self._connection.execute(
            f"""SELECT ordinal >> {_FILE_SHIFT} AS file, count(*), max(us) FROM good
                WHERE ordinal BETWEEN {numbers[0] << _FILE_SHIFT} AND {numbers[-1] + 1 << _FILE_SHIFT} GROUP BY file"""
        ).fetchall()
        own = [each for each in found if each[0] in files]  # others of these numbers are of another kind
        return {n: count for n, count, _ in own}, {n: newest for n, _, newest in own}

    def _by_file(self, relation: str) -> dict[int, int]:
        """File -> rows of a relation."""
        return dict(self._connection.execute(f"SELECT file, count(*) FROM {relation} GROUP BY file").fetchall())

    def forget(self, number: int) -> None:
        """Drop what was loaded of a file."""
        self._connection.execute(f"DELETE FROM good WHERE ordinal >> {_FILE_SHIFT} = {number}")
        self._connection.execute(f"DELETE FROM bad WHERE file = {number}")

    def time_range(self) -> tuple[int, int] | None:
        """First and last timestamp (microseconds) of the good rows; None if there are none."""
        ((first, last),) = self._connection.execute("SELECT min(us), max(us) FROM good").fetchall()
        return None if first is None else (first, last)

    def touched_spans(self, calendar: Calendar, also: Iterable[str] = ()) -> list[Span]:
        """The spans of the good rows, and others, by time; a span's place in the list is its number from now on."""
        self._span_sql = calendar.duckdb_expression("make_timestamp(us)")
        ids = self._connection.execute(f"SELECT DISTINCT {self._span_sql} FROM good").fetchall()
        spans = sorted(calendar.span(span_id) for span_id in {*(span_id for (span_id,) in ids), *also})
        table = pa.table({"span": [span.id for span in spans], "number": pa.array(range(len(spans)), pa.int32())})
        with registered(self._connection, "span_numbers", table):
            self._connection.execute("INSERT INTO touched SELECT * FROM span_numbers")
        return spans

    def deduplicate(self, existing: Sequence[Path], withdrawal: Withdrawal | None = None) -> int:
        """Find the good rows to keep, given the lake files of the touched spans; returns how many rows these lose."""
        files = ", ".join(literal(str(path)) for path in existing)
        rows = f"read_parquet([{files}], hive_partitioning = false)" if existing else EMPTY_LAKE
        columns = "user_id, item_id, event_type, value, event_id, tie, source"
        gone = withdrawal.condition("span") if withdrawal else "false"
        self._connection.execute(f"""
            CREATE VIEW stored AS SELECT number, span, l.* FROM (
                SELECT epoch_us(timestamp) AS us, {columns}, epoch_us(ingest_time) AS ingest_us FROM {rows}) AS l
            JOIN touched ON touched.span = {self._span_sql}""")
        self._connection.execute(f"CREATE VIEW existing AS SELECT * FROM stored WHERE NOT coalesce({gone}, false)")
        if withdrawal:
            self._connection.execute(f"""
                INSERT INTO changed
                SELECT number, count(*) FROM stored WHERE coalesce({gone}, false) GROUP BY number""")
        self._connection.execute(f"""
            CREATE TABLE firsts AS SELECT number, min(ordinal) AS ordinal FROM (
                SELECT number, ordinal, {_KEYS} FROM good JOIN touched ON span = {self._span_sql}
                UNION ALL SELECT number, -1 AS ordinal, {_KEYS} FROM existing)
            GROUP BY number, event_id, k_user, k_item, k_us, k_type HAVING min(ordinal) >= 0""")
        ((withdrawn,),) = self._connection.execute("SELECT coalesce(sum(rows), 0) FROM changed").fetchall()
        return int(withdrawn)

    def complete(self, numbers: Sequence[int]) -> int:
        """Fill in what the lake does not know yet of events that are in files which are read again; how many got more
        (see ``pipelines.lake.completion``)."""
        again = f"good.ordinal >> {_FILE_SHIFT} IN ({', '.join(map(str, numbers))})"
        return find_fills(self._connection, self._span_sql, again)

    def changed_spans(self) -> set[int]:
        """Numbers of the spans that get another version."""
        sql = "SELECT number FROM firsts UNION SELECT number FROM changed"
        return {number for (number,) in self._connection.execute(sql).fetchall()}

    def refuse_before(self, boundary_us: int, reason: str) -> dict[int, int]:
        """Move the rows to keep that lie before a time to ``bad``: file number -> rows moved.

        Only new rows: a cumulative export goes on delivering what was taken long ago. The quarantine has their times
        as ISO 8601 in UTC.
        """
        late = f"(SELECT good.* FROM firsts JOIN good USING (ordinal) WHERE us < {boundary_us})"
        file = f"CAST(ordinal >> {_FILE_SHIFT} AS INTEGER)"
        iso = "strftime(make_timestamp(us), '%Y-%m-%dT%H:%M:%S.%fZ')"
        moved = self._connection.execute(f"SELECT {file}, count(*) FROM {late} GROUP BY ALL").fetchall()
        self._connection.execute(f"""
            INSERT INTO bad SELECT {file}, ordinal - ((ordinal >> {_FILE_SHIFT}) << {_FILE_SHIFT}), '{reason}',
                user_id, item_id, {iso}, event_type, CAST(value AS VARCHAR), event_id, NULL
            FROM {late}""")
        self._connection.execute(f"DELETE FROM firsts WHERE ordinal IN (SELECT ordinal FROM {late})")
        return dict(moved)

    def kept(self) -> dict[int, int]:
        """File number -> rows of it to keep."""
        sql = f"SELECT ordinal >> {_FILE_SHIFT}, count(*) FROM firsts GROUP BY ALL"
        return dict(self._connection.execute(sql).fetchall())

    def refusals(self) -> dict[str, Refusal]:
        """Reason -> the refused rows."""
        return refusals_in(self._connection)

    def sorted_rows(self) -> Iterator[tuple[int, int, pa.RecordBatch]]:
        """(span number, bucket, rows of the lake schema) of all spans with new rows, old rows included."""
        buckets = self._settings.ingest.buckets
        columns = "user_id, item_id, us, event_type, value, event_id"
        tie = tie_sql("user_id", "item_id", "us")
        query = f"""
            SELECT number * {buckets} + {bucket_sql("user_id", buckets)} AS part, {columns}, tie, source, ingest_us
            FROM (
                SELECT number, {columns}, {tie} AS tie, source, {to_us(self._now)}::BIGINT AS ingest_us
                FROM firsts JOIN good USING (ordinal) JOIN sources ON file = ordinal >> {_FILE_SHIFT}
                UNION ALL SELECT number, {columns}, tie, source, ingest_us FROM {completed(self._connection)}
                WHERE number IN (SELECT number FROM firsts UNION ALL SELECT number FROM changed))
            ORDER BY part, user_id, us, tie, item_id, event_type NULLS FIRST, event_id NULLS FIRST,
                value NULLS FIRST"""
        for batch in self._connection.sql(query).to_arrow_reader(_BATCH_ROWS):
            part, *rest = batch.columns
            rest[2], rest[8] = rest[2].view(TIMESTAMP), rest[8].view(TIMESTAMP)
            rows = pa.record_batch(rest, schema=LAKE_SCHEMA)
            for value, start, end in split_runs(part.to_numpy()):
                yield value // buckets, value % buckets, rows.slice(start, end - start)

    def quarantined(self) -> Iterator[pa.RecordBatch]:
        """The refused rows by file and row, in the quarantine schema."""
        query = f"""
            SELECT source, row_number + before, reason, user_id, item_id, timestamp, event_type, value, event_id,
                {to_us(self._now)}::BIGINT AS ingest_us, detail
            FROM bad JOIN sources USING (file) ORDER BY file, row_number, reason"""
        for batch in self._connection.sql(query).to_arrow_reader(_BATCH_ROWS):
            columns = batch.columns
            columns[9] = columns[9].view(TIMESTAMP)
            yield pa.record_batch(columns, schema=QUARANTINE_SCHEMA)

    def _read_file(self, number: int, path: Path) -> None:
        file = EventFile.linked(path, self._folder / f"file{number}")
        limits = self._settings.ingest
        budget = Budget(limits.max_rows_per_file, limits.max_unpacked_mb << 20)
        read_file(self._connection, file, self._settings.source, "raw", budget)
