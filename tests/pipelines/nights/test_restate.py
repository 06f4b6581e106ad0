"""A restatement says what it will do, and rebuilds a span and all after it beside what was there."""

import pytest
from small_world import (
    BASE,
    DAYS,
    NOW,
    current,
    day_of_events,
    land,
    learnt_content,
    run_all,
    states,
    tree,
    version_rows,
)

from pipelines.nights.plan import PlanError, due
from pipelines.nights.restate import mark_stale, plan_restatement
from pipelines.workspace.failpoints import InjectedFailure
from pipelines.workspace.writer import writing


def mark(workspace, span_id):
    with writing(workspace, "test", now=NOW) as writer:
        return mark_stale(writer, span_id)


def test_the_plan_lists_the_span_and_all_learnt_after_it_and_changes_nothing(learnt):
    before, ledger = tree(learnt.root), learnt.ledger_file.read_bytes()
    planned = plan_restatement(learnt, DAYS[2], now=NOW)
    assert planned.spans == tuple(DAYS[2:])
    assert planned.versions == tuple(f"{day}.1" for day in DAYS[2:])
    assert [run.span_id for run in planned.runs] == DAYS[2:]
    assert {run.reason for run in planned.runs} == {"restated"}
    assert not planned.widened
    assert (tree(learnt.root), learnt.ledger_file.read_bytes()) == (before, ledger)


def test_a_span_of_the_base_model_widens_it_to_the_whole_base(learnt):
    planned = plan_restatement(learnt, BASE[1], now=NOW)
    assert planned.widened
    assert planned.spans == tuple(DAYS)
    assert planned.runs[0].spans == tuple(BASE)


@pytest.mark.parametrize("span_id", ["2024-03-20", "nonsense"])
def test_a_span_that_was_never_learnt_is_refused(learnt, span_id):
    with pytest.raises(PlanError, match=f"'{span_id}' was never learnt") as caught:
        plan_restatement(learnt, span_id, now=NOW)
    assert "2024-03-01 .. 2024-03-06" in caught.value.hint


def test_three_of_six_makes_new_versions_from_three_on_and_touches_nothing_before(learnt, copy_of):
    workspace = copy_of(learnt)
    old = {version: tree(workspace.version_folder(version)) for version in version_rows(workspace)}
    mark(workspace, DAYS[2])
    assert [states(workspace)[day] for day in DAYS] == ["published"] * 2 + ["stale"] * 4
    assert current(workspace) == f"{DAYS[5]}.1"  # readers keep the model that they have until the first is rebuilt
    outcomes = run_all(workspace)
    assert [outcome.version.version_id for outcome in outcomes] == [f"{day}.2" for day in DAYS[2:]]
    assert current(workspace) == f"{DAYS[5]}.2"
    rows = version_rows(workspace)
    assert rows[f"{DAYS[2]}.2"].parent == f"{DAYS[1]}.1"
    assert [rows[f"{day}.2"].parent for day in DAYS[3:]] == [f"{day}.2" for day in DAYS[2:5]]
    assert {version: tree(workspace.version_folder(version)) for version in old} == old
    assert [version for version, row in rows.items() if row.is_set_aside] == [f"{d}.1" for d in DAYS[2:]]
    assert set(states(workspace).values()) == {"published"}


def test_with_nothing_changed_the_new_versions_are_equal_to_the_old_ones(learnt, copy_of):
    workspace = copy_of(learnt)
    mark(workspace, DAYS[4])
    run_all(workspace)
    for day in DAYS[4:]:
        assert _unnamed(learnt_content(workspace, f"{day}.2")) == _unnamed(learnt_content(learnt, f"{day}.1"))


def test_a_restatement_that_fails_in_the_middle_is_finished_by_the_next_run(learnt, copy_of, monkeypatch):
    workspace = copy_of(learnt)
    mark(workspace, DAYS[3])
    with monkeypatch.context() as patch:
        patch.setenv("IMSR_FAIL", "train.before_commit:2:raise")
        with pytest.raises(InjectedFailure):
            run_all(workspace)
    assert [run.span_id for run in due(workspace, now=NOW)] == DAYS[4:]
    run_all(workspace)
    assert list(version_rows(workspace))[5:] == [f"{day}.2" for day in DAYS[3:]]
    assert due(workspace, now=NOW) == []


def test_new_data_after_a_restatement_is_learnt_by_a_third_version(learnt, copy_of):
    workspace = copy_of(learnt)
    mark(workspace, DAYS[5])
    run_all(workspace)
    land(workspace, day_of_events(5, seed=9), "late.csv")
    assert states(workspace)[DAYS[5]] == "stale"
    (outcome,) = run_all(workspace)
    assert outcome.version.version_id == f"{DAYS[5]}.3"
    assert outcome.version.parent == f"{DAYS[4]}.1"


def _unnamed(content):
    """What was learnt, without the version's own name."""
    tables = {name: value for name, value in content.items() if isinstance(value, dict)}
    named = {
        name: {key: column for key, column in table.items() if key != "version_id"} for name, table in tables.items()
    }
    return content | named
