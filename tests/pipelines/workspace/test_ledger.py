import sqlite3
import subprocess
import sys
import threading
from datetime import UTC, datetime

import pytest

from pipelines.workspace.ledger import (
    BatchRow,
    Ledger,
    LedgerError,
    MetricRow,
    SequencesRow,
    SpanRow,
    SpanState,
    SpanVersionRow,
    VersionRow,
    iso,
)

AT = datetime(2024, 6, 15, 12, tzinfo=UTC)


@pytest.fixture
def ledger(tmp_path):
    return Ledger.create(tmp_path / "ledger.sqlite")


def span(name: str, start: int, **fields) -> SpanRow:
    return SpanRow(name, start, start + 10, fields.get("data_version"), fields.get("state", SpanState.PENDING))


def test_rows_come_back_as_they_went_in(ledger):
    spans = [span("b", 20, data_version=1, state=SpanState.INGESTED), span("a", 10)]
    batch = BatchRow("b000001", iso(AT), ({"name": "x.csv", "sha256": "ab", "mapping": "m"},), 6, 1, 2, 3, "q/1")
    version = SpanVersionRow("b", 1, "lake/b/1", "f" * 64, 5, 2, 3, iso(AT), "b000001")
    sequences = SequencesRow("b", "f" * 64, "sequences/b/f", 2, 3, 5, 0, 2, 3, iso(AT))
    model = VersionRow("m1", "interests", "b", None, "candidate", "versions/m1", "g", "imsr", iso(AT), {"users": 2})
    metrics = [MetricRow("m1", "b", "all", "prequential", "hr@20", 0.25, 8)]
    with ledger.transaction() as tx:
        assert tx.next_batch_id() == "b000001"
        for row in spans:
            tx.put_span(row)
        tx.add_batch(batch)
        tx.add_span_version(version)
        tx.add_sequences(sequences)
        tx.add_version(model)
        tx.put_metrics(metrics)
        tx.put_meta("calendar", "{}")
    with ledger.snapshot() as view:
        assert view.spans() == spans[::-1]  # by time
        assert view.span("b") == spans[0]
        assert view.span("nope") is None
        assert view.batches() == [batch]
        assert view.next_batch_id() == "b000002"
        assert view.span_versions() == view.span_versions("b") == view.current_span_versions() == [version]
        assert view.span_version("b") == view.span_version("b", 1) == version
        assert view.span_version("b", 2) is None
        assert view.sequences("b") == view.sequences() == [sequences]
        assert view.sequence("b", "f" * 64) == sequences
        assert view.versions("interests") == [model]
        assert view.versions("users") == []
        assert view.version("m1") == model
        assert view.metrics("m1") == view.metrics() == metrics
        assert view.meta("calendar") == "{}"
        assert view.paths() == {"lake/b/1", "sequences/b/f", "versions/m1", "q/1"}
        assert view.ingested_files()["ab"] == "b000001"


def test_an_exception_undoes_everything(ledger):
    def fail() -> None:
        with ledger.transaction() as tx:
            tx.put_span(span("a", 0))
            tx.put_meta("k", "v")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with ledger.snapshot() as view:
        assert view.spans() == []
        assert view.meta("k") is None


def test_a_killed_transaction_leaves_nothing(ledger):
    code = f"""
import os, signal
from pathlib import Path
from pipelines.workspace.ledger import Ledger
with Ledger(Path({str(ledger.path)!r})).transaction() as tx:
    tx.put_meta("k", "v" * 1_000_000)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path)}, check=False)
    assert done.returncode == -9
    with ledger.snapshot() as view:
        assert view.meta("k") is None


def test_a_snapshot_is_one_moment_and_reads_do_not_see_open_work(ledger):
    with ledger.transaction() as tx:
        tx.put_meta("k", "1")
        with ledger.snapshot() as view:
            assert view.meta("k") is None
    with ledger.snapshot() as view:
        assert view.meta("k") == "1"


def test_writers_in_threads_wait_for_each_other(ledger):
    def add() -> None:
        for _ in range(10):
            with ledger.transaction() as tx:
                tx.put_meta("n", str(int(tx.meta("n") or 0) + 1))

    threads = [threading.Thread(target=add) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with ledger.snapshot() as view:
        assert view.meta("n") == "30"


def test_promotions_keep_the_history(ledger):
    with ledger.transaction() as tx:
        for name in ("m1", "m2"):
            tx.add_version(VersionRow(name, "interests", "b", None, "built", name, "g", "imsr", iso(AT)))
        assert tx.promote("interests", "m1", "first", at=AT).previous is None
        assert tx.promote("interests", "m2", "better", at=AT).previous == "m1"
        tx.promote("interests", "m1", "rollback", at=AT)
    with ledger.snapshot() as view:
        assert view.pointer("interests") == "m1"
        assert view.pointer("users") is None
        assert [(p.version_id, p.previous, p.reason) for p in view.promotions("interests")] == [
            ("m1", None, "first"),
            ("m2", "m1", "better"),
            ("m1", "m2", "rollback"),
        ]


def test_keys_and_checks_hold(ledger):
    def add_twice() -> None:
        with ledger.transaction() as tx:
            tx.put_span(span("a", 0))
            for _ in range(2):
                tx.add_span_version(SpanVersionRow("a", 1, "p", "f", 1, 1, 1, iso(AT)))

    def add_up_wrongly() -> None:
        with ledger.transaction() as tx:
            tx.add_batch(BatchRow("b", iso(AT), (), 5, 1, 1, 1))

    def promote_nothing() -> None:
        with ledger.transaction() as tx:
            tx.promote("interests", "ghost", "why", at=AT)

    for wrong in (add_twice, add_up_wrongly, promote_nothing):
        with pytest.raises(sqlite3.IntegrityError):
            wrong()
    with ledger.snapshot() as view:
        assert view.spans() == []


def test_put_replaces_and_states_move(ledger):
    with ledger.transaction() as tx:
        tx.put_span(span("a", 0))
        tx.put_span(span("a", 0, data_version=2, state=SpanState.INGESTED))
        tx.set_span_state("a", SpanState.FAILED, at=AT, error="loss is NaN at step 7")
        row = tx.span("a")
        assert row is not None
        assert (row.data_version, row.state, row.error) == (2, SpanState.FAILED, "loss is NaN at step 7")
        with pytest.raises(LedgerError, match="no span"):
            tx.set_span_state("z", SpanState.FAILED, at=AT)
        assert tx.spans_after(-1) == [row]
        assert tx.spans_after(0) == []


def test_delete_takes_only_known_tables(ledger):
    with ledger.transaction() as tx:
        tx.put_metrics([MetricRow("m", "s", "all", "p", "hr", 0.5, 2)])
        assert tx.delete("metrics", version_id="m") == 1
        for table, key in (("promotions", {"seq": 1}), ("metrics", {})):
            with pytest.raises(LedgerError):
                tx.delete(table, **key)


def test_a_missing_damaged_or_foreign_file_is_said(tmp_path, ledger):
    with pytest.raises(LedgerError, match="missing"), Ledger(tmp_path / "none.sqlite").snapshot():
        pass
    assert not (tmp_path / "none.sqlite").exists()
    (tmp_path / "bad.sqlite").write_bytes(b"not a database" * 1000)
    with pytest.raises(LedgerError, match="not a database"), Ledger(tmp_path / "bad.sqlite").snapshot():
        pass
    sqlite3.connect(ledger.path).execute("PRAGMA user_version = 99").connection.close()
    with pytest.raises(LedgerError, match="schema 99"), ledger.snapshot():
        pass
    with pytest.raises(LedgerError, match="exists"):
        Ledger.create(ledger.path)


def test_a_full_disk_is_called_full_and_says_how_to_make_room(ledger):
    def fill():
        with ledger.transaction() as tx:
            tx._connection.execute("PRAGMA max_page_count = 1")
            tx.put_meta("large", "x" * 1_000_000)

    with pytest.raises(LedgerError, match="disk is full") as caught:
        fill()
    assert "imsr prune" in caught.value.hint
    assert "another process" not in caught.value.hint


def test_iso_refuses_naive_times():
    assert iso(AT) == "2024-06-15T12:00:00.000000+00:00"
    with pytest.raises(ValueError, match="naive"):
        iso(datetime(2024, 1, 1))
