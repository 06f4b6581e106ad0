"""A span start to end: once, resumed, the same in one go or night by night, and safe when it fails."""

import random

import pytest
from small_world import (
    DAYS,
    LATER,
    NOW,
    TOML,
    VERSIONS,
    current,
    day_of_events,
    land,
    learnt_content,
    log,
    make,
    run_all,
    run_one,
    span_rows,
    states,
    tree,
    version_rows,
)

from imsr_core.errors import ConfigError, NonFiniteError
from pipelines.interests import read_once, training
from pipelines.interests.version import LINE, Version
from pipelines.nights.begun_with import begun_otherwise
from pipelines.nights.night import run_span
from pipelines.nights.plan import due
from pipelines.nights.restate import plan_restatement
from pipelines.workspace.ending import Terminated, ask_to_end
from pipelines.workspace.lease import ended_early
from pipelines.workspace.ledger import SpanRow, SpanState, SpanVersionRow, iso
from pipelines.workspace.publish import move_into_place, staging_folder
from pipelines.workspace.seal import seal, verify_folder


def test_a_run_learns_every_span_and_says_what_it_did(learnt):
    assert set(states(learnt).values()) == {"published"}
    rows = version_rows(learnt)
    assert list(rows) == VERSIONS
    assert current(learnt) == VERSIONS[-1]
    assert [row.parent for row in rows.values()] == [None, *VERSIONS[:-1]]
    assert [row.strategy for row in rows.values()] == ["pretrain"] + ["imsr"] * 4
    assert {row.state for row in rows.values()} == {"published"}
    assert list(learnt.staging.iterdir()) == []
    for row in rows.values():
        verify_folder(learnt.resolve(row.path))
    with learnt.ledger.snapshot() as view:
        promotions = view.promotions(LINE)
    assert [(row.previous, row.version_id) for row in promotions] == list(
        zip([None, *VERSIONS[:-1]], VERSIONS, strict=True)
    )


def test_a_second_run_does_nothing(learnt, copy_of, monkeypatch):
    workspace = copy_of(learnt)
    monkeypatch.setattr(training, "strategy_named", _refuse)
    before, ledger = tree(workspace.root), workspace.ledger_file.read_bytes()
    assert run_all(workspace) == []
    assert all(run_one(workspace, day) is None for day in DAYS)
    assert tree(workspace.root) == before
    rows = version_rows(workspace)
    assert rows == version_rows(learnt)
    assert len(workspace.ledger_file.read_bytes()) == len(ledger)


def test_what_was_trained_is_found_and_not_trained_again(learnt, copy_of, monkeypatch):
    workspace = copy_of(learnt)
    with workspace.ledger.transaction() as tx:  # as if the run had died before it moved the pointer
        tx.promote(LINE, VERSIONS[-2], "back", at=NOW)
        tx.set_span_state(LATER[-1], SpanState.TRAINED, at=NOW)
    monkeypatch.setattr(training, "strategy_named", _refuse)
    folders = tree(workspace.root / "versions") | tree(workspace.root / "sequences")
    (outcome,) = run_all(workspace)
    assert outcome.version.version_id == VERSIONS[-1] == current(workspace)
    assert tree(workspace.root / "versions") | tree(workspace.root / "sequences") == folders
    assert states(workspace)[LATER[-1]] == "published"


def test_night_by_night_equals_all_at_once(learnt, tmp_path):
    workspace = make(tmp_path / "w", log([0, 1]))
    run_all(workspace)
    for day in (2, 3):
        land(workspace, day_of_events(day), f"{day}.csv")
        outcome = run_one(workspace, DAYS[day])
        assert outcome.version.version_id == f"{DAYS[day]}.1"
        assert outcome.run.span_id == DAYS[day]
    for version_id in VERSIONS[:3]:
        assert learnt_content(workspace, version_id) == learnt_content(learnt, version_id)
        ours, theirs = Version.open(workspace, version_id).row, Version.open(learnt, version_id).row
        assert ours.fingerprint == theirs.fingerprint
    assert _metrics(workspace) == {key: row for key, row in _metrics(learnt).items() if key[1] < DAYS[4]}


@pytest.mark.parametrize(("test_users", "times"), [(0, 1), (3, 2)])
def test_what_a_span_begins_with_is_read_once_for_test_and_training(learnt, tmp_path, monkeypatch, test_users, times):
    """Unless the test is of some users of the span only; the model is the same either way."""
    settings = TOML.replace("[evaluation]", f"[evaluation]\ntest_users = {test_users}")
    workspace, read = make(tmp_path / "w", log([0, 1, 2]), settings), []

    def noted(version, users):
        read.append(version.row.version_id)
        return version.load(users, optimizer=True)

    monkeypatch.setattr(read_once, "read_to_train", noted)
    outcomes = run_all(workspace)
    assert read == [version_id for version_id in VERSIONS[:1] for _ in range(times)]
    assert [outcome.version.version_id for outcome in outcomes] == VERSIONS[:2]
    assert learnt_content(workspace, VERSIONS[1]) == learnt_content(learnt, VERSIONS[1])


def test_what_a_span_ends_with_is_read_once_for_the_gate_and_the_sample_of_spans(learnt, tmp_path, monkeypatch):
    settings = TOML.replace("[evaluation]", "[evaluation]\nmatrix_users = 5")
    workspace = make(tmp_path / "w", log([0, 1, 2]), settings)
    monkeypatch.setattr("pipelines.interests.span_matrix.load_state", None)  # nobody may call it
    for outcome in run_all(workspace):
        assert workspace.matrix_file(outcome.version.version_id).exists()


def test_the_seed_decides(learnt, tmp_path):
    events = log([0, 1, 2])
    same = make(tmp_path / "same", random.Random(1).sample(events, len(events)))
    other = make(tmp_path / "other", events, TOML.replace("seed = 3", "seed = 4"))
    for workspace in (same, other):
        run_all(workspace)
    for version_id in VERSIONS[:2]:
        assert learnt_content(same, version_id) == learnt_content(learnt, version_id)
        assert learnt_content(other, version_id) != learnt_content(learnt, version_id)
        assert version_rows(other)[version_id].fingerprint != version_rows(learnt)[version_id].fingerprint


@pytest.mark.parametrize("change", ["another day", "a day shuffled"])
def test_no_version_knows_anything_of_later_spans(learnt, tmp_path, change):
    later = day_of_events(3, seed=9)
    if change == "a day shuffled":
        rows = day_of_events(3)
        items = [item for _, item, _ in rows]
        random.Random(0).shuffle(items)
        later = [(user, item, time) for (user, _, time), item in zip(rows, items, strict=True)]
    workspace = make(tmp_path / "w", log(range(3)) + later)
    run_all(workspace)
    for version_id in VERSIONS[:2]:
        assert learnt_content(workspace, version_id) == learnt_content(learnt, version_id)
    assert learnt_content(workspace, VERSIONS[2]) != learnt_content(learnt, VERSIONS[2])
    before = {key: row for key, row in _metrics(learnt).items() if key[1] < DAYS[3]}
    assert {key: row for key, row in _metrics(workspace).items() if key[1] < DAYS[3]} == before


def test_scores_are_those_of_the_version_before_the_span(learnt):
    assert {(row[0], row[1]) for row in _metrics(learnt)} == set(zip(VERSIONS[:-1], LATER, strict=True))


def test_the_scores_follow_the_data_of_a_restated_span(learnt, copy_of):
    workspace = copy_of(learnt)
    many = [("u1", "i3", f"2024-03-06T{hour:02d}:30:00Z") for hour in range(24)]
    land(workspace, many, "late.csv")
    (outcome,) = run_all(workspace)
    with workspace.ledger.snapshot() as view:
        rows = [row for row in view.metrics(VERSIONS[-2]) if row.slice == "everything"]
    assert {row.n for row in rows} == {outcome.events}
    assert outcome.metrics[0].span_id == DAYS[-1]


def test_a_span_without_events_makes_a_version_that_knows_the_same(learnt, copy_of):
    workspace, empty = copy_of(learnt), "2024-03-07"
    end = span_rows(workspace)[DAYS[-1]].end_us
    with staging_folder(workspace, "empty") as folder:
        seal(folder)
        move_into_place(folder, workspace.span_folder(empty, 1))
    with workspace.ledger.transaction() as tx:
        tx.put_span(SpanRow(empty, end, end + 86_400_000_000, 1, SpanState.INGESTED, None, iso(NOW)))
        tx.add_span_version(SpanVersionRow(empty, 1, f"lake/span={empty}/v=1", "0" * 64, 0, 0, 0, iso(NOW)))
    (last,) = run_all(workspace)
    before, after = (Version.open(workspace, f"{day}.1").load() for day in (DAYS[-1], empty))
    assert last.metrics == []
    assert last.version.summary["active_users"] == 0
    assert after.items.weight.tolist() == before.items.weight.tolist()
    assert after.store.vectors.tolist() == before.store.vectors.tolist()
    assert after.spans == before.spans + 1
    land(workspace, [("u1", "i1", "2024-03-08T10:00:00Z")], "next.csv")
    assert [outcome.version.parent for outcome in run_all(workspace)] == [f"{empty}.1"]


def test_a_night_without_events_is_left_out(tmp_path):
    workspace = make(tmp_path / "w", log([0, 1, 2, 4]))
    outcomes = run_all(workspace)
    assert [outcome.run.span_id for outcome in outcomes] == [DAYS[1], DAYS[2], DAYS[4]]
    assert outcomes[-1].version.parent == f"{DAYS[2]}.1"
    assert DAYS[3] not in states(workspace)
    assert due(workspace, now=NOW) == []


def test_the_base_is_the_first_nights_that_have_events(tmp_path):
    workspace = make(tmp_path / "w", log([0, 2, 3]))
    outcomes = run_all(workspace)
    assert [outcome.run.spans for outcome in outcomes] == [(DAYS[0], DAYS[2]), (DAYS[3],)]
    assert run_all(workspace) == []


@pytest.mark.parametrize(
    ("events", "users", "items"),
    [
        ([(f"new{n}", "i1", f"2024-03-07T10:00:{n:02d}Z") for n in range(8)], 8, 0),
        ([("u1", f"fresh{n}", f"2024-03-07T10:00:{n:02d}Z") for n in range(8)], 0, 8),
        ([("solo", "only", "2024-03-07T10:00:00Z")], 1, 1),
        ([("u1", "i1", "2024-03-07T10:00:00Z")], 0, 0),
    ],
    ids=["only new users", "only new items", "one new event", "one known event"],
)
def test_unusual_spans_are_learnt(learnt, copy_of, events, users, items):
    workspace = copy_of(learnt)
    land(workspace, events, "next.csv")
    (last,) = run_all(workspace)
    before = version_rows(workspace)[VERSIONS[-1]].summary
    assert last.events == len(events)
    assert last.version.summary["new_users"] == users
    assert last.version.summary["users"] == before["users"] + users
    assert last.version.summary["items"] == before["items"] + items
    everything = {row.metric: row.n for row in last.metrics if row.slice == "everything"}
    assert set(everything.values()) == {len(events)}
    if users or items:
        assert {row.value for row in last.metrics} == {0.0}
    assert current(workspace) == "2024-03-07.1"


def test_a_failure_is_recorded_and_the_next_run_tries_again(learnt, monkeypatch, tmp_path):
    workspace = make(tmp_path / "w", log(range(4)))
    run_one(workspace, DAYS[1])
    before = tree(workspace.root / "versions")

    def diverge(*_, **__):
        raise NonFiniteError("the loss became nan")

    monkeypatch.setattr(training, "strategy_named", lambda _: diverge)
    with pytest.raises(NonFiniteError):
        run_all(workspace)
    failed = span_rows(workspace)[DAYS[2]]
    assert (str(failed.state), failed.error) == ("failed", "the loss became nan")
    assert states(workspace)[DAYS[3]] == "ingested"
    assert current(workspace) == f"{DAYS[1]}.1"
    assert tree(workspace.root / "versions") == before
    assert list(workspace.staging.iterdir()) == []
    monkeypatch.undo()
    assert [outcome.run.reason for outcome in run_all(workspace)] == ["it failed before", "new data"]
    assert span_rows(workspace)[DAYS[2]].error is None
    for version_id in VERSIONS[:3]:
        assert learnt_content(workspace, version_id) == learnt_content(learnt, version_id)


def test_real_divergence_is_such_a_failure(learnt, copy_of):
    workspace = copy_of(learnt)
    text = workspace.settings_file.read_text()
    workspace.settings_file.write_text(text.replace("[training]", "[training]\nlearning_rate = 1e30"))
    land(workspace, day_of_events(6), "next.csv")
    with pytest.raises(NonFiniteError):
        run_all(workspace)
    assert current(workspace) == VERSIONS[-1]
    row = span_rows(workspace)["2024-03-07"]
    assert row.state == SpanState.FAILED
    assert row.error


@pytest.mark.parametrize(("asked", "wanted"), [(True, Terminated), (False, KeyboardInterrupt)])
def test_a_span_whose_query_a_signal_interrupted_has_not_failed(tmp_path, monkeypatch, asked, wanted):
    workspace = make(tmp_path / "w", log(range(2)))

    def interrupted(*_, **__):
        ask_to_end(asked)  # the exception of the signal was lost in the engine, which has one of its own
        raise RuntimeError("Query interrupted")

    monkeypatch.setattr(training, "strategy_named", lambda _: interrupted)
    with pytest.raises(wanted):
        run_all(workspace)
    assert "failed" not in states(workspace).values()
    with workspace.ledger.snapshot() as view:
        assert ended_early(view)["signal"] == ("SIGTERM" if asked else "SIGINT (Ctrl-C)")


def test_an_unforeseen_error_is_recorded_too(tmp_path, monkeypatch):
    workspace = make(tmp_path / "w", log(range(2)))

    def crash(*_, **__):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(training, "strategy_named", lambda _: crash)
    with pytest.raises(RuntimeError):
        run_all(workspace)
    assert {span_rows(workspace)[day].error for day in DAYS[:2]} == {"RuntimeError: out of memory"}


def test_settings_that_the_base_model_was_made_with_are_said_before_the_next_run(learnt, copy_of):
    workspace = copy_of(learnt)
    assert begun_otherwise(workspace, due(workspace, now=NOW)) == []
    text = workspace.settings_file.read_text()
    assert "pretrain = 2" in text
    workspace.settings_file.write_text(text.replace("dim = 8", "dim = 12").replace("pretrain = 2", "pretrain = 3"))
    workspace = type(workspace).open(workspace.root)
    pretrain, dim = begun_otherwise(workspace, [])
    assert "pretrain = 3: the base model was learnt from 2 spans" in pretrain
    assert f"dim = 12: version {VERSIONS[-1]} was made with 8" in dim
    assert all(f"imsr restate {DAYS[0]}" in each for each in (pretrain, dim))
    assert begun_otherwise(workspace, list(plan_restatement(workspace, DAYS[0], now=NOW).runs)) == []


@pytest.mark.parametrize(
    "setting",
    ["dim = 12", 'extractor = "comirec-sa"', "dim = 12\nattention_units = 3"],
    ids=["dim", "extractor", "two"],
)
def test_a_model_of_another_shape_is_refused_by_name(learnt, copy_of, setting):
    workspace = copy_of(learnt)
    text = workspace.settings_file.read_text()
    workspace.settings_file.write_text(text.replace("dim = 8", setting if "dim" in setting else f"dim = 8\n{setting}"))
    land(workspace, [("u1", "i1", "2024-03-07T10:00:00Z")], "next.csv")
    with pytest.raises(ConfigError, match=r"\[model\] (dim|extractor)") as caught:
        run_all(type(workspace).open(workspace.root))
    assert VERSIONS[-1] in str(caught.value)
    assert current(workspace) == VERSIONS[-1]


def test_steps_run_in_order_through_the_callers_hands(tmp_path):
    workspace = make(tmp_path / "w", log([0, 1]))
    steps, seen = [], []

    def call(step, function, *arguments):
        steps.append(step)
        return function(*arguments)

    (outcome,) = run_all(workspace, call=call, progress=lambda *step: seen.append(step))
    assert steps == ["sequences", "evaluate", "train", "gate", "publish"] == list(outcome.seconds)
    assert seen
    assert all(done <= total for done, total, _ in seen)
    assert outcome.total_seconds() == sum(outcome.seconds.values())
    assert run_span.__doc__


def _refuse(name):
    raise AssertionError(f"strategy {name} was asked for: something is trained again")


def _metrics(workspace):
    with workspace.ledger.snapshot() as view:
        return {
            (row.version_id, row.span_id, row.slice, row.protocol, row.metric): (row.value, row.n)
            for row in view.metrics()
        }
