import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ingest_cases import ROWS, events, lake, make_workspace, quarantine, run, write_csv

from pipelines.lake.delivery import DELIVERY_SCHEMA, Delivery
from pipelines.lake.times import TimeUnitError

FAR = 2**43  # an offset that has grown for years


@pytest.fixture
def workspace(tmp_path):
    return make_workspace(tmp_path / "w")


def delivery(path, rows, source="clicks/0", first=0, **options):
    """Rows of (offset, user, item, time), or (offset, what is wrong)."""
    columns = {name: [] for name in DELIVERY_SCHEMA.names}
    for offset, *event in rows:
        user, item, time, wrong = (*event, None) if len(event) == 3 else (None, None, None, *event)
        values = {"row_number": offset - first + 1, "user_id": user, "item_id": item, "timestamp": time}
        for name in columns:
            columns[name].append((values | {"malformed": wrong}).get(name))
    pq.write_table(pa.table(columns, schema=DELIVERY_SCHEMA), path)
    return Delivery(path, source, first, **options)


def test_messages_become_the_rows_that_a_file_would_have_given(workspace, tmp_path):
    run(workspace, delivery(tmp_path / "p", [(n, *row) for n, row in enumerate(ROWS)]))
    other = make_workspace(tmp_path / "other")
    run(other, write_csv(tmp_path / "log.csv", ROWS))
    assert lake(workspace) == lake(other)


def test_a_refused_message_is_in_quarantine_with_partition_and_offset(workspace, tmp_path):
    rows = [(FAR + 5, "not JSON"), (FAR + 9, "ann", "tea", "yesterday"), (FAR + 700, "ann", "tea", "2024-01-10")]
    report = run(workspace, delivery(tmp_path / "p", rows, "clicks/3", FAR))
    found = [(row["source"], row["row_number"], row["reason"], row["detail"]) for row in quarantine(workspace)]
    assert found == [
        ("clicks/3", FAR + 5, "malformed_row", "not JSON"),
        ("clicks/3", FAR + 9, "unparsable_timestamp", None),
    ]
    assert (report.read, report.kept, report.quarantined) == (3, 1, 2)
    assert report.refusals["malformed_row"].first == f"clicks/3, row {FAR + 5}: not JSON"


def test_the_first_of_two_equal_messages_wins_within_and_across_deliveries(workspace, tmp_path):
    first = delivery(tmp_path / "a", [(7, *ROWS[0]), (8, *ROWS[0])], first=7)
    second = delivery(tmp_path / "b", [(0, *ROWS[0]), (1, *ROWS[1])], "clicks/1")
    report = run(workspace, first, second)
    assert (report.kept, report.duplicate) == (2, 2)
    assert run(workspace, second).duplicate == 2  # whether it is new the offsets decide, not the content
    assert len(events(workspace)) == 2


def test_what_is_written_beside_the_batch_is_there_with_it_or_not_at_all(workspace, tmp_path):
    def fail(tx, report):
        tx.put_meta("position", "4")
        raise RuntimeError("killed here")

    batch = delivery(tmp_path / "p", [(n, *row) for n, row in enumerate(ROWS)])
    with pytest.raises(RuntimeError):
        run(workspace, batch, also=fail)
    with workspace.ledger.snapshot() as view:
        assert view.meta("position") is None
        assert view.batches() == []
    report = run(workspace, batch, also=lambda tx, report: tx.put_meta("position", str(report.read)))
    with workspace.ledger.snapshot() as view:
        assert view.meta("position") == "4"
    assert report.files[0].newest_us == 1_709_251_200_000_000  # 2024-03-01


def test_a_time_unit_that_is_known_is_not_guessed_again(workspace, tmp_path):
    ambiguous = [(0, "ann", "tea", "2024-01-10"), (1, "ann", "cake", "x"), (2, "ann", "pie", "1704880000")]
    with pytest.raises(TimeUnitError):
        run(workspace, delivery(tmp_path / "p", ambiguous))
    report = run(workspace, delivery(tmp_path / "p", ambiguous, time_unit="s"))
    assert (report.kept, report.files[0].time_unit) == (1, "s")
