"""What is due: a pure function of the ledger's spans, against a few lines that say the same in another way."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_world import BASE, DAYS, LATER, NOW, START, land, make, run_all, run_one, span_rows, states, version_rows

from pipelines.interests.version import LINE
from pipelines.lake.spans import to_us
from pipelines.nights.plan import PlanError, PlannedRun, due, due_of, parent_of, run_for
from pipelines.workspace.ledger import SpanRow, SpanState
from pipelines.workspace.states import DONE

DATA_STATES = [state for state in SpanState if state != SpanState.PENDING]
EVERYTHING = START + timedelta(days=99)


def span(day: int, state: SpanState = SpanState.INGESTED, data: bool = True) -> SpanRow:
    start = START + timedelta(days=day)
    return SpanRow(f"d{day}", to_us(start), to_us(start + timedelta(days=1)), 1 if data else None, state)


@st.composite
def ledgers(draw) -> list[SpanRow]:
    """Spans as they come: with or without data, in any state."""
    kinds = draw(st.lists(st.sampled_from([None, *DATA_STATES]), max_size=9))
    return [span(day, kind or SpanState.PENDING, kind is not None) for day, kind in enumerate(kinds)]


@settings(max_examples=300, deadline=None)
@given(ledgers(), st.integers(1, 4), st.integers(0, 10))
def test_due_is_the_first_gap_and_everything_after_it(spans, pretrain, days):
    now = START + timedelta(days=days)
    runs = due_of(spans, pretrain=pretrain, now=now)
    closed = [row for row in spans[:days] if row.data_version is not None]  # a span that was emptied is none
    if len(closed) < pretrain:
        assert runs == []
        return
    learnable = [row for row in closed if row.data_version is not None]
    first_gap = next((n for n, row in enumerate(learnable) if row.state not in DONE), len(learnable))
    in_base = [row.span_id for row in learnable if row in closed[:pretrain]]
    wanted = [row.span_id for row in learnable[first_gap:]]
    if first_gap < len(in_base):
        wanted = [*in_base, *wanted[len(in_base) - first_gap :]]
        assert runs[0].base
        assert runs[0].spans == tuple(in_base)
    assert [span_id for run in runs for span_id in run.spans] == wanted
    assert all(len(run.spans) == 1 and not run.base for run in runs[1:])
    assert due_of(spans, pretrain=pretrain, now=now) == runs


@settings(max_examples=100, deadline=None)
@given(ledgers(), st.integers(1, 4))
def test_nothing_is_due_once_what_was_due_is_done(spans, pretrain):
    learnt = {span_id for run in due_of(spans, pretrain=pretrain, now=EVERYTHING) for span_id in run.spans}
    after = [replace(row, state=SpanState.PUBLISHED) if row.span_id in learnt else row for row in spans]
    assert due_of(after, pretrain=pretrain, now=EVERYTHING) == []


def test_a_span_is_closed_at_its_end_and_not_a_microsecond_earlier():
    end = START + timedelta(days=1)
    assert due_of([span(0)], pretrain=1, now=end - timedelta(microseconds=1)) == []
    assert [run.span_id for run in due_of([span(0)], pretrain=1, now=end)] == ["d0"]


def test_a_day_without_events_among_the_first_does_not_keep_the_base_due_for_ever():
    done = [span(0, SpanState.PUBLISHED), span(1, SpanState.PENDING, data=False), span(2, SpanState.PUBLISHED)]
    assert due_of(done, pretrain=2, now=EVERYTHING) == []
    late = replace(done[1], data_version=1, state=SpanState.INGESTED)
    runs = due_of([done[0], late, done[2]], pretrain=2, now=EVERYTHING)
    assert [run.spans for run in runs] == [("d0", "d1"), ("d2",)]


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (SpanState.STALE, "its data changed"),
        (SpanState.FAILED, "it failed before"),
        (SpanState.SEQUENCED, "it was interrupted"),
        (SpanState.TRAINED, "it was interrupted"),
        (SpanState.INGESTED, "new data"),
    ],
)
def test_the_reason_is_said(state, reason):
    spans = [span(0, SpanState.PUBLISHED), span(1, state), span(2, SpanState.PUBLISHED)]
    first, second = due_of(spans, pretrain=1, now=EVERYTHING)
    assert str(first) == f"update with d1: {reason}"
    assert second.reason == "the model that it was learnt from changes"


def test_what_cannot_run_is_refused_with_the_reason(ingested):
    with pytest.raises(PlanError, match="span '2024-04-01' has no data") as caught:
        run_for(ingested, "2024-04-01", now=NOW)
    assert "2024-03-01 .. 2024-03-06" in str(caught.value)
    with pytest.raises(PlanError, match="builds on spans that are not learnt: 2024-03-02, 2024-03-03\n"):
        run_for(ingested, LATER[1], now=NOW)
    with pytest.raises(PlanError, match="is not over yet"):
        run_for(ingested, DAYS[-1], now=datetime(2024, 3, 6, 12, tzinfo=UTC))
    with pytest.raises(PlanError, match="pre-training needs 2 closed spans"):
        run_for(ingested, BASE[0], now=datetime(2024, 3, 2, 12, tzinfo=UTC))


def test_any_span_of_the_base_runs_the_base(ingested, learnt):
    for span_id in BASE:
        assert run_for(ingested, span_id, now=NOW).spans == tuple(BASE)
        assert run_for(learnt, span_id, now=NOW) is None


def test_a_fresh_workspace_has_nothing_due(tmp_path):
    workspace = make(tmp_path / "w", [])
    assert due(workspace, now=NOW) == []
    with pytest.raises(PlanError, match="has no data") as caught:
        run_for(workspace, "2024-03-01", now=NOW)
    assert "none yet" in str(caught.value)


def test_a_version_starts_from_the_newest_ancestor_before_its_span(learnt, copy_of):
    workspace = copy_of(learnt)
    runs = {row.span_id: run for row, run in _all_runs(workspace)}
    with workspace.ledger.snapshot() as view:
        assert parent_of(view, runs[BASE[-1]]) is None
        parents = {day: parent_of(view, runs[day]).version_id for day in LATER}
    assert parents == {day: f"{before}.1" for before, day in zip(DAYS[1:], LATER, strict=False)}


def test_after_a_rollback_a_run_starts_from_where_the_pointer_is(learnt, copy_of):
    workspace = copy_of(learnt)
    runs = {row.span_id: run for row, run in _all_runs(workspace)}
    with workspace.ledger.transaction() as tx:
        tx.promote(LINE, f"{LATER[0]}.1", "rolled back", at=NOW)
    with workspace.ledger.snapshot() as view:
        assert parent_of(view, runs[LATER[-1]]).version_id == f"{LATER[0]}.1"
        assert parent_of(view, runs[LATER[0]]).version_id == f"{BASE[-1]}.1"
    with workspace.ledger.transaction() as tx:
        tx.set_span_state(LATER[-1], SpanState.STALE, at=NOW)
    outcome = run_one(workspace, LATER[-1])
    assert outcome.version.parent == f"{LATER[0]}.1"
    assert outcome.version.version_id == f"{LATER[-1]}.2"


def test_without_any_version_only_a_base_can_start(ingested):
    runs = due(ingested, now=NOW)
    with ingested.ledger.snapshot() as view, pytest.raises(PlanError, match="no version to start from"):
        parent_of(view, runs[1])


def test_late_data_makes_its_span_and_all_later_ones_run_again_from_the_right_parent(learnt, copy_of):
    workspace = copy_of(learnt)
    land(workspace, [("late", "i1", "2024-03-04T03:00:00Z")], "late.csv")
    assert states(workspace) == dict.fromkeys(DAYS[:3], "published") | dict.fromkeys(DAYS[3:], "stale")
    assert [run.span_id for run in due(workspace, now=NOW)] == DAYS[3:]
    outcomes = run_all(workspace)
    assert [outcome.version.parent for outcome in outcomes] == ["2024-03-03.1", "2024-03-04.2", "2024-03-05.2"]
    assert set(states(workspace).values()) == {"published"}
    assert len(version_rows(workspace)) == 8
    assert due(workspace, now=NOW) == []


def _all_runs(workspace):
    """The planned run of every span, as if none were learnt."""
    spans = [replace(row, state=SpanState.INGESTED) for row in span_rows(workspace).values()]
    runs = due_of(spans, pretrain=2, now=NOW)
    return [(row, run) for run in runs for row in spans if row.span_id == run.span_id]


@pytest.mark.parametrize(
    ("spans", "said"), [(("2024-03",), "2024-03"), (("2024-01", "2024-02", "2024-03"), "2024-01 .. 2024-03")]
)
def test_a_pre_training_names_its_stretch(spans, said):
    run = PlannedRun(spans, True, "new")
    assert run.label == f"pre-training {said}"
    assert str(run) == f"pre-train on {said}: new"
