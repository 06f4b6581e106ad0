"""A span whose events were all withdrawn: what comes after it is learnt without them, now and later."""

import pytest
from small_world import BASE, DAYS, LATER, NOW, current, day_of_events, land, make, run_all, states, version_rows

from pipelines.lake.ingest import ingest, withdraw
from pipelines.nights.plan import PlanError, due, learnt_from_emptied
from pipelines.nights.refresh import shadow_retrain
from pipelines.nights.restate import mark_stale
from pipelines.workspace.writer import writing


def spans_of_chain(workspace) -> list[str]:
    """What the live version's chain has learnt, newest first."""
    rows, row, spans = version_rows(workspace), version_rows(workspace)[current(workspace)], []
    while row is not None:
        spans += sorted(row.spans, reverse=True)
        row = rows.get(row.parent or "")
    return spans


@pytest.mark.parametrize("emptied", [LATER[1], LATER[0], BASE[0], BASE[1]])
def test_what_was_learnt_after_it_is_learnt_again_without_it(learnt, copy_of, emptied):
    workspace = copy_of(learnt)
    withdraw(workspace, spans=[emptied], now=NOW)
    run_all(workspace)
    assert spans_of_chain(workspace) == [day for day in reversed(DAYS) if day != emptied]
    assert due(workspace, now=NOW) == []


def test_the_newest_one_is_not_built_upon(tmp_path):
    workspace = make(tmp_path / "w", [event for day in range(4) for event in day_of_events(day)])
    run_all(workspace)
    withdraw(workspace, spans=[DAYS[3]], now=NOW)
    with workspace.ledger.snapshot() as view:
        assert f"{DAYS[3]}.1, which is live, has learnt from what was withdrawn" in learnt_from_emptied(view)
    with writing(workspace, "test", now=NOW) as writer:
        mark_stale(writer, DAYS[2])
    run_all(workspace)
    assert current(workspace) == f"{DAYS[2]}.2"  # it waits for nothing that cannot come
    land(workspace, day_of_events(4), "fifth.csv")
    ingest(workspace, [workspace.root / "landing" / "fifth.csv"], now=NOW)
    run_all(workspace)
    assert spans_of_chain(workspace) == [DAYS[4], DAYS[2], DAYS[1], DAYS[0]]
    assert states(workspace)[DAYS[4]] == "published"
    with workspace.ledger.snapshot() as view:
        assert learnt_from_emptied(view) == ""


def test_a_shadow_does_not_learn_what_was_withdrawn(learnt, copy_of):
    workspace = copy_of(learnt)
    live = version_rows(workspace)[current(workspace)].span_id
    withdraw(workspace, spans=[live], now=NOW)
    with writing(workspace, "test", now=NOW) as writer:
        shadow = shadow_retrain(writer)
    assert live not in shadow.spans
    assert set(shadow.spans) == set(spans_of_chain(workspace)) - {live}


def test_one_cannot_be_learnt_again(learnt, copy_of):
    workspace = copy_of(learnt)
    withdraw(workspace, spans=[LATER[0]], now=NOW)
    with (
        writing(workspace, "test", now=NOW) as writer,
        pytest.raises(PlanError, match=f"'{LATER[0]}' has no events: all were withdrawn"),
    ):
        mark_stale(writer, LATER[0])
