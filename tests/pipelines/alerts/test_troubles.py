"""What somebody should be told of, by the ledger."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from small_world import DAYS, NOW, TOML, VERSIONS, current, land, log, make, run_all
from task_world import TASKS, with_tasks

from imsr_core.errors import ImsrError
from pipelines.alerts.troubles import failed_night, late_night, troubles
from pipelines.interests.promotion import rollback
from pipelines.lake.warnings import QuarantinedShareError
from pipelines.settings.alerts import AlertsSettings
from pipelines.tasks.adding import note
from pipelines.tasks.due import FAILED
from pipelines.workspace.layout import Workspace
from pipelines.workspace.states import SpanState
from pipelines.workspace.writer import writing

#: A moment right after the last day.
SOON = datetime(2024, 3, 7, 2, tzinfo=UTC)
GATE = "[gate]\nholdout = 0.4\nmin_events = 5\n"


def kinds(workspace, now=SOON, **options):
    return [trouble.kind for trouble in troubles(workspace, now=now, **options)]


def test_nothing_is_wrong_after_a_good_night(learnt):
    assert kinds(learnt) == []


def test_no_data_for_twice_a_span_and_a_day_is_stale_and_stays_one_trouble(learnt):
    assert kinds(learnt, SOON + timedelta(days=2)) == []  # 2 days and 2 hours after the end of a day of data
    stale = [troubles(learnt, now=NOW + timedelta(days=days)) for days in (2, 9)]
    assert [[trouble.kind for trouble in found] for found in stale] == [["stale"], ["stale"]]
    assert stale[0][0].key == stale[1][0].key
    assert f"since {DAYS[-1]}" in stale[0][0].text
    assert "12 days ago" in stale[1][0].text


@pytest.mark.parametrize(("after", "hours", "stale"), [("3h", 4, True), ("3h", 2, False), ("30d", 29 * 24, False)])
def test_or_what_the_settings_call_so(learnt, copy_of, after, hours, stale):
    workspace = copy_of(learnt)
    workspace.settings_file.write_text(f'{TOML}[alerts]\nstale_after = "{after}"\n')
    opened, end = Workspace.open(workspace.root), datetime(2024, 3, 7, tzinfo=UTC)
    assert kinds(opened, end + timedelta(hours=hours)) == ["stale"] * stale


def test_what_is_due_for_longer_than_a_day_is_late(ingested, copy_of):
    workspace = copy_of(ingested)
    with workspace.ledger.snapshot() as view:
        arrived = max(datetime.fromisoformat(row.created_at) for row in view.current_span_versions())
    assert "late" not in kinds(workspace, max(arrived, SOON) + timedelta(hours=23))
    found = troubles(workspace, now=max(arrived, NOW) + timedelta(hours=25))
    assert [trouble.kind for trouble in found] == ["late"]
    assert found[0].text.startswith("5 runs are due, the first (pre-training 2024-03-01 .. 2024-03-02) for 1 day")


def test_one_run_that_is_late_is_one(learnt, copy_of):
    workspace = copy_of(learnt)
    with writing(workspace, "test", now=NOW) as writer, writer.transaction() as tx:
        tx.set_span_state(DAYS[-1], SpanState.STALE, at=writer.now)
    found = [each.text for each in troubles(workspace, now=NOW + timedelta(days=2)) if each.kind == "late"]
    assert [text.partition(" for ")[0] for text in found] == [f"a run (span {DAYS[-1]}) is due"]


def test_a_task_that_failed_is_told_once_for_each_reason(learnt, copy_of):
    workspace = with_tasks(copy_of(learnt), tasks=TASKS.replace("2024-03-03", "2024-03-32"))
    why = f"from_span = '2024-03-32' is no span of a calendar by day; the newest is {DAYS[-1]}"
    shop = troubles(workspace, now=SOON)
    assert [(each.kind, each.text) for each in shop] == [("failed", f"task shop failed: {why}")]
    assert troubles(workspace, now=SOON) == shop
    with writing(workspace, "test", now=NOW) as writer:
        note(writer, "club", FAILED, "task club: there is no file of labels")
        found = troubles(workspace, now=SOON)
        assert [each.text for each in found] == ["task club failed: there is no file of labels", shop[0].text]
        note(writer, "club", FAILED, "task club: 1 label")
    assert troubles(workspace, now=SOON)[0].key not in {each.key for each in found}


def test_a_span_that_failed_is_told_each_time_that_it_fails(ingested, copy_of):
    workspace = copy_of(ingested)
    keys = []
    for day in range(2):
        at = SOON + timedelta(days=day)
        with writing(workspace, "test", now=at) as writer, writer.transaction() as tx:
            tx.set_span_state(DAYS[0], SpanState.FAILED, at=writer.now, error="the disk is gone")
        (failed,) = (trouble for trouble in troubles(workspace, now=at) if trouble.kind == "failed")
        assert failed.text == f"span {DAYS[0]} failed: the disk is gone"
        keys.append(failed.key)
    assert keys[0] != keys[1]


def test_a_version_that_the_gate_rejected_is_told_until_a_later_one_is_live(tmp_path):
    workspace = make(tmp_path / "w", log(range(2)), TOML + GATE + "min_hr = 1.0\n")
    run_all(workspace)
    (rejected,) = (trouble for trouble in troubles(workspace, now=SOON) if trouble.kind == "rejected")
    assert rejected.key == f"rejected {VERSIONS[0]}"
    assert "no version is live" in rejected.text
    assert "hr" in rejected.text
    assert rejected.hint.endswith(f"imsr promote {VERSIONS[0]}")


def test_a_rejected_version_of_this_very_run_is_told_though_a_later_one_is_live(learnt, copy_of):
    workspace = copy_of(learnt)
    with writing(workspace, "test", now=SOON) as writer, writer.transaction() as tx:
        row = tx.version(VERSIONS[-1])
        assert row is not None
        tx.put_version(
            replace(row, version_id="2024-03-05.9", state="rejected", created_at="2024-03-06T00:00:00+00:00")
        )
    assert kinds(workspace) == []
    assert kinds(workspace, made=["2024-03-05.9"]) == ["rejected"]


def test_who_rolls_back_knows_it(learnt, copy_of):
    workspace = copy_of(learnt)
    with writing(workspace, "test", now=SOON) as writer:
        rollback(writer)
    assert current(workspace) == VERSIONS[-2]
    assert kinds(workspace) == []
    assert kinds(workspace, made=[VERSIONS[-1]]) == []


def test_too_much_in_quarantine_is_told_of_the_newest_ingest(learnt, copy_of):
    workspace = copy_of(learnt)
    land(workspace, [("u1", "i1", "no time at all")] * 9 + [("u1", "i2", "2024-03-06T01:00:00Z")], "bad.csv")
    (found,) = (trouble for trouble in troubles(workspace, now=SOON) if trouble.kind == "quarantined")
    assert found.text.startswith("90% of the 10 rows")
    land(workspace, [("u1", "i3", "2024-03-06T01:00:00Z")], "good.csv")
    assert "quarantined" not in kinds(workspace)


def test_a_night_that_failed_says_why_and_what_to_type():
    trouble = failed_night(ImsrError("no room", hint="make some"), what="night", now=NOW)
    assert (trouble.kind, trouble.text, trouble.hint) == ("failed", "the night failed: no room", "make some")
    other = failed_night(ValueError("x"), what="night", now=NOW + timedelta(days=1))
    assert other.text == "the night failed: ValueError: x"
    assert other.key != trouble.key
    assert failed_night(QuarantinedShareError("90 %"), what="night", now=NOW).kind == "quarantined"


@pytest.mark.parametrize(
    ("after", "hours", "late"), [("1d", 25, True), ("1d", 23, False), ("1h", 2, True), ("", 99, False)]
)
def test_a_night_that_begins_long_after_its_schedule_is_late(learnt, after, hours, late):
    settings = replace(learnt.settings, alerts=AlertsSettings(late_after=after))
    assert (late_night(NOW, NOW + timedelta(hours=hours), settings.alerts) is not None) == late
