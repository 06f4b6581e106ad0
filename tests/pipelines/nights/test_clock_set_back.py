"""A machine whose clock is set back between nights: nothing is lost, nothing is learnt twice, ids go on."""

from datetime import timedelta

import pytest
from small_world import (
    DAYS,
    NOW,
    START,
    VERSIONS,
    current,
    day_of_events,
    run_all,
    states,
    version_rows,
)

from pipelines.care.doctor import examine
from pipelines.lake.clock import ClockError
from pipelines.lake.ingest import ingest
from pipelines.nights.plan import due

BACK = START + timedelta(days=4, hours=12)


def landed(workspace, day, now):
    path = workspace.root / "landing" / f"day {day}.csv"
    rows = ["user_id,item_id,timestamp", *(",".join(f'"{part}"' for part in row) for row in plain(day))]
    path.write_text("\n".join(rows))
    return ingest(workspace, [path], now=now, tolerant=True)


def plain(day):
    return [(user.replace('"', ""), item.replace('"', ""), time) for user, item, time in day_of_events(day, seed=1)]


def test_a_night_under_a_clock_that_was_set_back_has_nothing_to_do(learnt, copy_of):
    workspace = copy_of(learnt)
    before = states(workspace)
    assert run_all(workspace, now=BACK) == []
    assert (current(workspace), states(workspace)) == (VERSIONS[-1], before)


def test_events_that_only_seem_to_come_are_not_given_up(learnt, copy_of):
    workspace = copy_of(learnt)
    with pytest.raises(ClockError, match=r"the clock says 2024-03-05 12:00 UTC, but the last ingest was on 2024-03-10"):
        landed(workspace, 6, BACK)
    report = landed(workspace, 6, NOW)
    assert (report.quarantined, report.kept > 0) == (0, True)
    run_all(workspace)
    assert current(workspace) == "2024-03-07.1"


def test_events_of_before_are_taken_and_learnt_when_the_clock_is_right_again(learnt, copy_of):
    workspace = copy_of(learnt)
    assert landed(workspace, 3, BACK).kept > 0
    assert [run.span_id for run in due(workspace, now=BACK)] == [DAYS[3]]  # the two after it are not over yet
    run_all(workspace, now=BACK)
    run_all(workspace, now=NOW)
    rows = version_rows(workspace)
    assert list(rows)[-3:] == [f"{day}.2" for day in DAYS[3:]]  # in the order in which they were made
    assert current(workspace) == f"{DAYS[-1]}.2"
    assert not [finding for finding in examine(workspace, deep=True) if finding.severity == "error"]
