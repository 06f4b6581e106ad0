"""Late events move the newest learnt spans only; later ones wait in the quarantine and change nothing."""

from datetime import timedelta

import pytest
from ingest_cases import quarantine, write_csv
from small_world import BASE, DAYS, LATER, NOW, START, TOML, log, make, run_all, states, tree

from pipelines.lake.ingest import ingest
from pipelines.lake.lookback import boundary_us
from pipelines.lake.spans import Calendar, from_us
from pipelines.nights.plan import due, missing_nights, stretches_of
from pipelines.workspace.layout import Workspace


def with_lookback(workspace, spans):
    """The same workspace under another setting."""
    text = workspace.settings_file.read_text().replace("lookback_spans = 10", f"lookback_spans = {spans}")
    workspace.settings_file.write_text(text)
    return Workspace.open(workspace.root)


def late(workspace, *days, name="late.csv", **options):
    """Ingest one event of a new user in each of these days."""
    rows = [("latecomer", "i1", f"{day}T23:00:00") for day in days]
    return ingest(workspace, [write_csv(workspace.root / "landing" / name, rows)], now=NOW, **options)


@pytest.mark.parametrize(
    ("lookback", "day", "stale"),
    [
        (0, DAYS[5], None),
        (1, DAYS[5], DAYS[5:]),
        (1, DAYS[4], None),
        (2, DAYS[4], DAYS[4:]),
        (3, DAYS[2], None),
        (6, DAYS[0], DAYS),
        (99, DAYS[0], DAYS),
    ],
)
def test_the_window_is_the_newest_learnt_spans(learnt, copy_of, lookback, day, stale):
    workspace = with_lookback(copy_of(learnt), lookback)
    report = late(workspace, day)
    if stale is None:
        assert (report.kept, report.reasons, report.stale) == (0, {"too_late": 1}, ())
        assert set(states(workspace).values()) == {"published"}
        assert due(workspace, now=NOW) == []
    else:
        assert (report.kept, report.reasons, report.stale) == (1, {}, tuple(stale))
        assert [span for run in due(workspace, now=NOW) for span in run.spans] == list(stale)


def test_a_row_that_is_too_late_is_in_the_quarantine_as_it_came(learnt, copy_of):
    workspace = with_lookback(copy_of(learnt), 1)
    before = tree(workspace.root / "lake")
    report = late(workspace, DAYS[1], DAYS[5])
    assert (report.read, report.kept, report.duplicate, report.quarantined) == (2, 1, 0, 1)
    (row,) = quarantine(workspace)
    assert (row["user_id"], row["item_id"], row["reason"], row["row_number"]) == ("latecomer", "i1", "too_late", 1)
    assert (row["source"], row["timestamp"]) == ("late.csv", f"{DAYS[1]}T23:00:00.000000Z")
    added = tree(workspace.root / "lake").keys() - before.keys()
    assert {path.split("/")[0] for path in added} == {f"span={DAYS[5]}"}


def test_an_export_of_everything_again_is_no_quarantine_full_of_old_rows(learnt, copy_of):
    workspace = with_lookback(copy_of(learnt), 0)
    events = [*log(), ("someone", "i1", f"{DAYS[0]}T10:00:00"), ("someone", "i1", "2024-03-07T10:00:00")]
    path = write_csv(workspace.root / "landing" / "everything.csv", events)
    report = ingest(workspace, [path], now=NOW)
    assert (report.kept, report.quarantined, report.reasons) == (1, 1, {"too_late": 1})
    assert report.duplicate == len(log())
    assert report.stale == ()


def test_late_events_are_taken_when_that_is_asked_for(learnt, copy_of):
    workspace = with_lookback(copy_of(learnt), 1)
    assert late(workspace, DAYS[2]).reasons == {"too_late": 1}
    report = late(workspace, DAYS[2], accept_late=True)
    assert (report.kept, report.quarantined, report.stale) == (1, 0, tuple(DAYS[2:]))


def test_what_lies_before_the_first_learnt_span_is_not_said_to_have_been_learnt(learnt, copy_of):
    report = late(with_lookback(copy_of(learnt), 30), "2024-02-01", "2024-02-02")
    assert report.reasons == {"too_late": 2}
    (told,) = report.warnings
    assert "2 events are too late: from before the newest learnt spans" in told
    assert "lookback_spans = 30" in told


def test_a_late_event_is_told_with_the_command_that_takes_it(learnt, copy_of):
    workspace = with_lookback(copy_of(learnt), 1)
    report = late(workspace, DAYS[2], DAYS[5])
    assert any("1 event is too late" in text and "--accept-late --again FILE" in text for text in report.warnings)
    path = workspace.root / "landing" / "late.csv"
    taken = ingest(workspace, [path], now=NOW, again=True, accept_late=True)
    assert (taken.kept, taken.duplicate, taken.warnings) == (1, 1, ())


def test_nothing_is_too_late_before_something_is_learnt(ingested, copy_of):
    workspace = with_lookback(copy_of(ingested), 0)
    with workspace.ledger.snapshot() as view:
        assert boundary_us(view, 0) is None
    assert late(workspace, DAYS[0]).kept == 1


def test_the_window_counts_learnt_spans_and_not_the_clock(tmp_path):
    workspace = make(tmp_path / "workspace", log([0, 1, 2, 5]), TOML)
    run_all(workspace)
    with workspace.ledger.snapshot() as view:
        starts = [from_us(boundary_us(view, n)) for n in (1, 2, 3, 4, 5)]
    assert [(start - START).days for start in starts] == [5, 2, 1, 0, 0]


def test_the_nightly_rebuilds_what_late_events_in_the_window_changed(learnt, copy_of):
    workspace = with_lookback(copy_of(learnt), 2)
    late(workspace, DAYS[4])
    outcomes = run_all(workspace)
    assert [outcome.version.version_id for outcome in outcomes] == [f"{day}.2" for day in DAYS[4:]]
    assert outcomes[0].metrics  # tested anew: the old numbers belong to the old data
    assert outcomes[0].events > 0
    assert due(workspace, now=NOW) == []


def test_two_nights_without_data_are_noticed_and_block_nothing(tmp_path):
    workspace = make(tmp_path / "workspace", log([0, 1, 2, 5]), TOML)
    assert [run.span_id for run in due(workspace, now=NOW)] == [BASE[1], LATER[0], DAYS[5]]
    with workspace.ledger.snapshot() as view:
        within = missing_nights(view, now=START.replace(day=7))
        since = missing_nights(view, now=NOW)
        at_noon = missing_nights(view, now=NOW - timedelta(hours=12))  # of a day that is not over
    assert at_noon == since[:-1]
    assert [span.id for span in within] == DAYS[3:5]
    assert [span.id for span in since] == [*DAYS[3:5], "2024-03-07", "2024-03-08", "2024-03-09"]


def test_missing_nights_are_told_in_stretches():
    days = Calendar("day").spans_between(START, START + timedelta(days=7))
    parts = stretches_of([day for n, day in enumerate(days) if n not in (2, 5)])
    assert [(part[0].id, part[-1].id) for part in parts] == [
        (days[first].id, days[last].id) for first, last in ((0, 1), (3, 4), (6, len(days) - 1))
    ]
    assert stretches_of([]) == []
