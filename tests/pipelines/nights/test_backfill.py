"""A backfill runs a range in order, refuses gaps, goes on where it was, and says how long it takes."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_world import (
    BASE,
    DAYS,
    NOW,
    VERSIONS,
    current,
    learnt_content,
    make,
    run_all,
    run_one,
    states,
    tree,
    version_rows,
)

from imsr_core.errors import NonFiniteError
from pipelines.care.doctor import examine
from pipelines.care.prune import prune
from pipelines.interests import training
from pipelines.interests.promotion import rollback
from pipelines.lake.spans import SpanError
from pipelines.nights.backfill import Which, begin, finish, plan_backfill
from pipelines.nights.night import run_span
from pipelines.nights.pace import Pace, duration
from pipelines.nights.plan import PlanError, PlannedRun
from pipelines.versions.rebuilding import chain_aside, head_of_learning
from pipelines.warehouse.catalog import publish_catalog
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import SpanState
from pipelines.workspace.writer import writing


def planned(workspace, which=Which.MISSING, first=None, last=None):
    return plan_backfill(workspace, first=first, last=last, which=which, now=NOW)


def fill(workspace, which=Which.MISSING, first=None, last=None, stop_after=99):
    """What the command does, given up after so many spans."""
    with writing(workspace, "test", now=NOW) as writer:
        plan = planned(workspace, which, first, last)
        begin(writer, plan)
        for run in plan.runs[:stop_after]:
            run_span(writer, run)
        if stop_after > len(plan.runs):
            finish(writer, plan)
    return [run.span_id for run in plan.runs[:stop_after]]


def set_state(workspace, span_id, state, error=None):
    with writing(workspace, "test", now=NOW) as writer, writer.transaction() as tx:
        tx.set_span_state(span_id, state, at=NOW, error=error)


def test_six_spans_at_once_equal_six_nights(ingested, learnt, copy_of):
    nights = copy_of(ingested)
    for day in DAYS:
        run_one(nights, day)
    for version in VERSIONS:
        assert learnt_content(nights, version) == learnt_content(learnt, version)


def test_a_range_that_begins_behind_unlearnt_spans_is_refused_with_their_names(ingested):
    with pytest.raises(PlanError, match=r"must be learnt before: 2024-03-02, 2024-03-03\n") as caught:
        planned(ingested, first=DAYS[3])
    assert caught.value.hint.endswith("imsr backfill --from 2024-03-01")


def test_a_range_leaves_what_is_after_it_and_says_so(ingested):
    plan = planned(ingested, last=DAYS[3])
    assert [run.span_id for run in plan.runs] == [BASE[1], DAYS[2], DAYS[3]]
    assert plan.beyond == (DAYS[4], DAYS[5])


def test_an_interrupted_backfill_goes_on_where_it_was(ingested, learnt, copy_of):
    workspace = copy_of(ingested)
    assert fill(workspace, stop_after=2) == [BASE[1], DAYS[2]]
    assert fill(workspace) == DAYS[3:]
    assert learnt_content(workspace, VERSIONS[-1]) == learnt_content(learnt, VERSIONS[-1])


def test_all_begins_again_once_and_an_interrupted_one_is_not_begun_again(learnt, copy_of):
    workspace = copy_of(learnt)
    assert fill(workspace, Which.ALL, first=DAYS[3], stop_after=1) == [DAYS[3]]
    resumed = planned(workspace, Which.ALL, first=DAYS[3])
    assert resumed.resumed
    assert resumed.restatement is None
    assert fill(workspace, Which.ALL, first=DAYS[3]) == DAYS[4:]
    assert list(version_rows(workspace))[5:] == [f"{day}.2" for day in DAYS[3:]]
    again = planned(workspace, Which.ALL, first=DAYS[3])
    assert not again.resumed
    assert [run.span_id for run in again.runs] == DAYS[3:]


def test_all_up_to_a_span_leaves_the_later_ones_stale(learnt, copy_of):
    workspace = copy_of(learnt)
    assert planned(workspace, Which.ALL, DAYS[2], DAYS[3]).beyond == (DAYS[4], DAYS[5])
    assert fill(workspace, Which.ALL, DAYS[2], DAYS[3]) == DAYS[2:4]
    assert [states(workspace)[day] for day in DAYS[2:]] == ["published"] * 2 + ["stale"] * 2


def test_all_that_was_killed_after_its_last_span_learns_nothing_again(learnt, copy_of):
    workspace = copy_of(learnt)
    assert fill(workspace, Which.ALL, first=DAYS[4], stop_after=2) == DAYS[4:]  # all learnt, and no time to say so
    plan = planned(workspace, Which.ALL, first=DAYS[4])
    assert (plan.resumed, plan.runs, plan.restatement) == (True, (), None)
    assert fill(workspace, Which.ALL, first=DAYS[4]) == []
    assert [run.span_id for run in planned(workspace, Which.ALL, first=DAYS[4]).runs] == DAYS[4:]


def test_a_backfill_of_the_past_leaves_the_live_version_until_the_chain_has_caught_up(learnt, copy_of):
    workspace = copy_of(learnt)
    rows = version_rows(workspace)
    fill(workspace, Which.ALL, DAYS[2], DAYS[3])
    assert current(workspace) == VERSIONS[-1]
    made = {name: row for name, row in version_rows(workspace).items() if name not in rows}
    assert {name: (row.state, row.parent) for name, row in made.items()} == {
        f"{DAYS[2]}.2": ("waiting", VERSIONS[0]),
        f"{DAYS[3]}.2": ("waiting", f"{DAYS[2]}.2"),
    }
    run_one(workspace, DAYS[4])
    assert current(workspace) == VERSIONS[-1]
    run_one(workspace, DAYS[5])
    assert current(workspace) == f"{DAYS[5]}.2"
    assert {row.state for name, row in version_rows(workspace).items() if name.endswith(".2")} == {"published"}
    with workspace.ledger.snapshot() as view:
        assert [move.version_id for move in view.promotions()] == [*VERSIONS, f"{DAYS[5]}.2"]
        assert chain_aside(view) == []


def test_a_version_that_is_put_live_by_hand_ends_what_is_built_aside(learnt, copy_of):
    workspace = copy_of(learnt)
    fill(workspace, Which.ALL, DAYS[2], DAYS[2])
    with writing(workspace, "test", now=NOW) as writer:
        rollback(writer, to=VERSIONS[2])
    with workspace.ledger.snapshot() as view:
        assert (chain_aside(view), head_of_learning(view)) == ([], VERSIONS[2])
    run_all(workspace)
    assert set(states(workspace).values()) <= {"published", "rejected"}


def test_what_is_built_aside_is_kept_by_prune_and_the_doctor_is_content(learnt, copy_of):
    workspace = copy_of(learnt)
    workspace.settings_file.write_text(workspace.settings_file.read_text() + "[retention]\nkeep_versions = 1\n")
    workspace = Workspace.open(workspace.root)
    fill(workspace, Which.ALL, DAYS[2], DAYS[3])
    publish_catalog(workspace)
    assert [str(finding) for finding in examine(workspace, deep=True)] == []
    prune(workspace, now=NOW.replace(year=2025))
    run_all(workspace)
    assert current(workspace) == f"{DAYS[5]}.2"


def test_failed_spans_are_only_tried_again_when_asked(learnt, copy_of):
    workspace = copy_of(learnt)
    set_state(workspace, DAYS[4], SpanState.FAILED, "it diverged")
    with pytest.raises(PlanError, match=r"build on it: 2024-03-05 \(it diverged\)") as caught:
        planned(workspace)
    assert "--which failed" in caught.value.hint
    assert [run.span_id for run in planned(workspace, Which.FAILED).runs] == DAYS[4:]
    assert [run.span_id for run in planned(workspace, last=DAYS[3]).runs] == []


@pytest.mark.slow
def test_a_retry_a_week_later_is_the_same_span_and_the_same_version(ingested, learnt, copy_of, monkeypatch):
    workspace = copy_of(ingested)
    fill(workspace, last=DAYS[3])
    with monkeypatch.context() as patch:
        patch.setattr(training, "strategy_named", _diverge)
        with pytest.raises(NonFiniteError):
            run_all(workspace)
    assert states(workspace)[DAYS[4]] == "failed"
    next_week = NOW.replace(day=NOW.day + 7)
    outcomes = run_all(workspace, now=next_week)
    assert [outcome.version.version_id for outcome in outcomes] == [f"{day}.1" for day in DAYS[4:]]
    assert learnt_content(workspace, VERSIONS[-1]) == learnt_content(learnt, VERSIONS[-1])


@pytest.mark.slow
def test_a_clock_that_is_set_back_between_two_spans_changes_nothing(ingested, learnt, copy_of):
    workspace = copy_of(ingested)
    with writing(workspace, "test", now=NOW) as writer:
        for number, run in enumerate(planned(workspace).runs):
            run_span(replace(writer, clock=NOW.replace(hour=12 - 2 * number)), run)
    assert list(version_rows(workspace)) == VERSIONS  # as they were made, though the clock ran backwards
    for version in VERSIONS:
        assert learnt_content(workspace, version) == learnt_content(learnt, version)
    assert planned(workspace).runs == ()


def test_planning_writes_nothing(learnt, ingested):
    for workspace in (learnt, ingested):
        before, ledger = tree(workspace.root), workspace.ledger_file.read_bytes()
        for which in Which:
            planned(workspace, which)
        assert (tree(workspace.root), workspace.ledger_file.read_bytes()) == (before, ledger)


def test_an_impossible_range_is_refused(ingested, tmp_path):
    with pytest.raises(PlanError, match="2024-03-05 is after 2024-03-03"):
        planned(ingested, first=DAYS[4], last=DAYS[2])
    with pytest.raises(SpanError, match="'march' is no span"):
        planned(ingested, first="march")
    with pytest.raises(PlanError, match="no events"):
        planned(make(tmp_path / "empty", []))


def runs_of(events):
    """A base run and updates, with these numbers of events."""
    names = [f"d{n}" for n in range(len(events))]
    runs = [PlannedRun((name,), n == 0, "new data") for n, name in enumerate(names)]
    return runs, dict(zip(names, events, strict=True))


def test_the_estimate_is_silent_until_it_has_seen_a_span_of_the_kind():
    runs, events = runs_of([1000, 10, 20, 40])
    pace = Pace(events, list(runs))
    assert pace.seconds_left() is None
    pace.finished(runs[0], 500.0)
    assert (pace.seconds_left(), str(pace)) == (None, "")
    pace.finished(runs[1], 30.0)
    assert pace.seconds_left() == pytest.approx(180.0)
    assert str(pace) == "about 3 min left, judging by 1 span"


@given(st.lists(st.integers(1, 10_000), min_size=2, max_size=12), st.floats(0.001, 10.0), st.data())
def test_the_estimate_is_exact_when_every_event_costs_the_same(events, cost, data):
    runs, by_span = runs_of([1, *events])
    pace = Pace(by_span, runs[1:])
    done = data.draw(st.integers(1, len(events)))
    for run in runs[1 : done + 1]:
        pace.finished(run, cost * by_span[run.span_id])
    assert pace.seconds_left() == pytest.approx(cost * sum(events[done:]))


def test_the_estimate_knows_that_small_spans_cost_something_too():
    runs, events = runs_of([1, 1000, 500, 10, 1, 0])
    pace = Pace(events, runs[1:])
    for run, seconds in zip(runs[1:3], [12.0, 7.0], strict=True):  # two seconds a span, and 10 ms an event
        pace.finished(run, seconds)
    assert pace.seconds_left() == pytest.approx(2.1 + 2.01 + 2.0)
    faster = Pace(events, runs[1:])
    for run, seconds in zip(runs[1:4], [2.0, 7.0, 3.0], strict=True):  # more events in less time: another job was there
        faster.finished(run, seconds)
    assert faster.seconds_left() == pytest.approx(2 * 4.0)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (3600, "60 min"), (12_000, "3 h 20 min")]
)
def test_durations_are_for_people(seconds, text):
    assert duration(seconds) == text


def _diverge(name):
    def learn(*arguments, **options):
        raise NonFiniteError("the loss is not finite")

    return learn
