"""Which version is live: rejected candidates, going back, going forth, and the log of it."""

import errno
from dataclasses import asdict
from datetime import timedelta

import pytest
from gated_world import gated, held, spoil_span
from small_world import (
    DAYS,
    LATER,
    NOW,
    TOML,
    VERSIONS,
    current,
    land,
    log,
    make,
    run_all,
    span_rows,
    states,
    tree,
    version_rows,
)
from typer.testing import CliRunner

from flows.cli import app
from pipelines.interests import training
from pipelines.interests.gate import Verdict, judge_version
from pipelines.interests.gate_events import GateEvents
from pipelines.interests.promotion import promote, rollback
from pipelines.interests.version import LINE, Version
from pipelines.nights.plan import due
from pipelines.versions import pointer
from pipelines.versions.lineage import VersionError
from pipelines.versions.pointer import GateError
from pipelines.warehouse.catalog import connect
from pipelines.workspace.failpoints import VARIABLE, FailPoint, InjectedFailure
from pipelines.workspace.layout import Workspace


def roll(workspace, **options):
    return held(workspace, lambda writer: rollback(writer, **options), now=options.pop("now", NOW))


def put_live(workspace, version_id, **options):
    return held(workspace, lambda writer: promote(writer, version_id, "by hand", **options))


def refuse(name):
    raise AssertionError(f"strategy {name} was asked for: something is trained again")


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory):
    """Five days; the third (the first after the base) came out spoilt. Read only."""
    with pytest.MonkeyPatch.context() as patch:
        spoil_span(patch, 1)
        workspace = gated(tmp_path_factory.mktemp("spoilt") / "w", range(4))
        first, second, third = run_all(workspace)
    return workspace, first, second, third


class TestTheNight:
    def test_a_spoilt_version_is_kept_and_does_not_go_live(self, spoilt):
        workspace, first, second, _ = spoilt
        assert not first.rejected
        assert second.rejected
        assert any("fell from" in reason for reason in second.verdict.reasons)
        row, span = version_rows(workspace)[second.version.version_id], span_rows(workspace)[LATER[0]]
        assert (row.state, span.state) == ("rejected", "rejected")
        assert span.error == "; ".join(second.verdict.reasons)
        Version.open(workspace, row.version_id).load()
        with workspace.ledger.snapshot() as view:
            assert row.version_id not in {move.version_id for move in view.promotions(LINE)}
        assert due(workspace, now=NOW) == []

    def test_the_next_span_is_learnt_from_the_version_that_is_live(self, spoilt):
        """It is spoilt too: it has the same ordinal as the one before."""
        _, first, second, third = spoilt
        assert third.version.parent == second.version.parent == first.version.version_id

    def test_the_verdict_can_be_given_again_from_the_folder(self, spoilt):
        workspace, *outcomes = spoilt
        for outcome in outcomes:
            row = version_rows(workspace)[outcome.version.version_id]
            again = judge_version(Version.open(workspace, row.version_id), workspace.settings.gate)
            assert again == outcome.verdict == Verdict.from_json(row.summary["verdict"])

    def test_the_view_shows_what_was_looked_at(self, spoilt):
        workspace, *outcomes = spoilt
        with connect(workspace) as connection:
            shown = connection.sql("FROM verdicts ORDER BY version_id").fetchall()
            columns = [column[0] for column in connection.sql("FROM verdicts").description]
        rows = [dict(zip(columns, row, strict=True)) for row in shown]
        for outcome in outcomes:
            mine = [row for row in rows if row["version_id"] == outcome.version.version_id]
            assert {row["verdict"] for row in mine} == {outcome.verdict.passed}
            wanted = [{"check": c.pop("name")} | c for c in map(asdict, outcome.verdict.checks)]
            assert [{key: row[key] for key in wanted[0]} for row in mine] == wanted

    def test_the_hidden_events_are_the_last_of_their_users_and_few(self, spoilt):
        workspace, *outcomes = spoilt
        for outcome in outcomes:
            version = Version.open(workspace, outcome.version.version_id)
            events = GateEvents.read(version.folder)
            assert 10 <= len(events) <= 0.4 * outcome.events
            assert events.top_n == 10
            assert (events.rank_current < 0).all() == (version.row.parent is None)
            known = version.load().store.users.tolist()
            assert set(events.user_index.tolist()) <= set(known)

    def test_a_base_below_the_bar_is_rejected_and_can_be_put_live(self, tmp_path):
        workspace = gated(tmp_path / "w", range(2), "min_hr = 1.0\n")
        (base,) = run_all(workspace)
        assert base.rejected
        assert current(workspace) is None
        put_live(workspace, base.version.version_id)
        assert set(states(workspace).values()) == {"published"}
        assert current(workspace) == base.version.version_id

    def test_the_command_ends_with_code_3(self, tmp_path, monkeypatch):
        workspace = gated(tmp_path / "w", range(3))
        spoil_span(monkeypatch, 1)
        result = CliRunner().invoke(app, ["run", "-w", str(workspace.root)])
        assert result.exit_code == 3
        assert "rejected: " in result.output
        again = CliRunner().invoke(app, ["run", "-w", str(workspace.root)])
        assert again.exit_code == 0
        assert "exit code is 3" in " ".join(CliRunner().invoke(app, ["run", "--help"]).output.split())

    def test_without_the_gate_nothing_is_hidden(self, learnt, tmp_path):
        workspace = make(tmp_path / "w", log(range(3)), TOML + "[gate]\nenabled = false\n")
        for outcome in run_all(workspace):
            assert outcome.verdict.passed
            assert len(GateEvents.read(Version.open(workspace, outcome.version.version_id).folder)) == 0
            assert outcome.version.fingerprint != version_rows(learnt)[outcome.version.version_id].fingerprint


class TestRollback:
    def test_the_next_night_goes_on_from_it_and_learns_nothing_again(self, learnt, copy_of, monkeypatch):
        workspace = copy_of(learnt)
        move = roll(workspace, to=VERSIONS[-3])
        assert (move.previous, move.version_id) == (VERSIONS[-1], VERSIONS[-3]) == (VERSIONS[-1], current(workspace))
        assert states(workspace) == dict.fromkeys(DAYS[:-2], "published") | dict.fromkeys(DAYS[-2:], "rejected")
        assert "rolled back" in span_rows(workspace)[DAYS[-1]].error
        monkeypatch.setattr(training, "strategy_named", refuse)
        assert run_all(workspace) == []
        monkeypatch.undo()
        land(workspace, [("u1", "i1", "2024-03-07T10:00:00Z"), ("u2", "i1", "2024-03-07T11:00:00Z")], "next.csv")
        (outcome,) = run_all(workspace)
        assert outcome.run.span_id == "2024-03-07"
        assert outcome.version.parent == VERSIONS[-3]
        assert Version.open(workspace).lineage.spans == (*DAYS[1:-2], "2024-03-07")

    def test_by_default_it_is_one_version_back_each_time(self, learnt, copy_of):
        workspace = copy_of(learnt)
        for wanted in reversed(VERSIONS[:-1]):
            roll(workspace)
            assert current(workspace) == wanted
        with pytest.raises(VersionError, match="first of its chain"):
            roll(workspace)

    def test_to_where_it_is_changes_nothing(self, learnt, copy_of):
        workspace = copy_of(learnt)
        roll(workspace, to=VERSIONS[1])
        before, files = states(workspace), tree(workspace.root)
        assert roll(workspace, to=VERSIONS[1]) is None
        assert (states(workspace), tree(workspace.root)) == (before, files)

    def test_only_to_what_was_live(self, spoilt, copy_of):
        workspace = copy_of(spoilt[0])
        with pytest.raises(VersionError, match="never live"):
            roll(workspace, to=spoilt[2].version.version_id)
        with pytest.raises(VersionError, match="never live") as caught:
            roll(workspace, to="2031-01-01.1")
        assert "promote" not in caught.value.hint

    def test_an_empty_workspace_has_nothing_to_go_back_to(self, ingested, copy_of):
        with pytest.raises(VersionError, match="no current version"):
            roll(copy_of(ingested))


class TestPromote:
    def test_a_later_version_puts_its_spans_back(self, learnt, copy_of):
        workspace = copy_of(learnt)
        roll(workspace, to=VERSIONS[0])
        put_live(workspace, VERSIONS[2])
        assert states(workspace) == dict.fromkeys(DAYS[:4], "published") | dict.fromkeys(DAYS[4:], "rejected")
        put_live(workspace, VERSIONS[-1])
        assert set(states(workspace).values()) == {"published"}
        assert {row.error for row in span_rows(workspace).values()} == {None}
        assert run_all(workspace) == []

    def test_a_rejected_version_can_be_put_live_by_hand(self, spoilt, copy_of):
        workspace, rejected = copy_of(spoilt[0]), spoilt[2].version
        put_live(workspace, rejected.version_id)
        assert current(workspace) == rejected.version_id
        assert version_rows(workspace)[rejected.version_id].state == "published"
        assert states(workspace)[LATER[0]] == "published"

    def test_the_log_says_which_version_was_live_when(self, learnt, copy_of):
        workspace = copy_of(learnt)
        for hours, version_id in enumerate((VERSIONS[1], VERSIONS[-1], VERSIONS[1]), 1):
            roll(workspace, to=version_id, now=NOW + timedelta(hours=hours), reason=f"at {hours}")
        with connect(workspace) as connection:
            query = "SELECT version_id, previous, reason, live_from, live_until FROM promotions ORDER BY seq"
            rows = connection.execute(query).fetchall()
        assert len(rows) == len(VERSIONS) + 3
        assert [row[0] for row in rows[-3:]] == [VERSIONS[1], VERSIONS[-1], VERSIONS[1]]
        assert [row[1] for row in rows] == [None, *(row[0] for row in rows[:-1])]
        assert [row[2] for row in rows[-3:]] == ["at 1", "at 2", "at 3"]
        assert [row[4] for row in rows] == [*(row[3] for row in rows[1:]), None]
        assert rows[-1][3] == NOW + timedelta(hours=3)

    def test_a_damaged_version_is_refused_and_nothing_moves(self, learnt, copy_of):
        workspace = copy_of(learnt)
        model = Version.open(workspace, VERSIONS[1]).folder / "model.safetensors"
        model.write_bytes(model.read_bytes()[:-10])
        before, spans = tree(workspace.root), span_rows(workspace)
        for attempt in (lambda: put_live(workspace, VERSIONS[1]), lambda: roll(workspace, to=VERSIONS[1])):
            with pytest.raises(GateError, match="cannot go live"):
                attempt()
        assert current(workspace) == VERSIONS[-1]
        assert (tree(workspace.root), span_rows(workspace)) == (before, spans)

    def test_an_unknown_version_is_refused(self, learnt, copy_of):
        with pytest.raises(VersionError, match=r"2031-01-01\.1"):
            put_live(copy_of(learnt), "2031-01-01.1")

    def test_a_version_of_other_data_makes_these_spans_due(self, learnt, copy_of):
        workspace = copy_of(learnt)
        land(workspace, [("late", "brand new", f"{DAYS[-1]}T10:00:00Z")], "late.csv")
        (outcome,) = run_all(workspace)
        assert current(workspace) == f"{DAYS[-1]}.2" == outcome.version.version_id
        put_live(workspace, VERSIONS[-1])
        assert states(workspace)[DAYS[-1]] == "stale"
        assert [run.span_id for run in due(workspace, now=NOW)] == [DAYS[-1]]
        (again,) = run_all(workspace)
        assert again.version.version_id == current(workspace) == f"{DAYS[-1]}.2"

    def test_indices_of_other_data_are_never_mixed(self, learnt, copy_of):
        workspace = copy_of(learnt)
        land(workspace, [("late", "brand new", f"{DAYS[-1]}T10:00:00Z")], "late.csv")
        run_all(workspace)
        with workspace.ledger.transaction() as tx:
            tx.promote(LINE, VERSIONS[-1], "past all checks", at=NOW)
        land(workspace, [("u1", "i1", "2024-03-07T10:00:00Z")], "next.csv")
        with pytest.raises(VersionError, match="before the data of an earlier span changed"):
            run_all(workspace)


def test_a_disk_that_does_not_answer_rejects_no_version(learnt, copy_of, monkeypatch):
    workspace = copy_of(learnt)
    land(workspace, [("late", "brand new", f"{DAYS[-1]}T10:00:00Z")], "late.csv")

    def unread(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(pointer, "verify_folder", unread)
    with pytest.raises(GateError, match="cannot be looked at"):
        run_all(workspace)
    assert (current(workspace), "rejected" in states(workspace).values()) == (VERSIONS[-1], False)
    monkeypatch.undo()
    run_all(workspace)
    assert current(workspace) == f"{DAYS[-1]}.2"


@pytest.mark.parametrize("point", [FailPoint.ROLLBACK_BEFORE_COMMIT, FailPoint.ROLLBACK_AFTER_COMMIT])
def test_a_rollback_that_dies_is_all_or_nothing_and_is_finished_by_giving_it_again(learnt, copy_of, monkeypatch, point):
    workspace, clean = copy_of(learnt), copy_of(learnt, "clean")
    roll(clean, to=VERSIONS[1])
    before = states(workspace)
    monkeypatch.setenv(VARIABLE, f"{point}:1:raise")
    with pytest.raises(InjectedFailure):
        roll(workspace, to=VERSIONS[1])
    done = point == FailPoint.ROLLBACK_AFTER_COMMIT
    assert (current(workspace), states(workspace)) == ((VERSIONS[1], states(clean)) if done else (VERSIONS[-1], before))
    monkeypatch.delenv(VARIABLE)
    roll(workspace, to=VERSIONS[1])
    assert _ledger(workspace) == _ledger(clean)


@pytest.mark.parametrize("point", [FailPoint.REJECT_BEFORE_COMMIT, FailPoint.PROMOTE_BEFORE_COMMIT])
def test_a_night_that_dies_at_its_verdict_gives_the_same_one_again(spoilt, tmp_path, monkeypatch, point):
    workspace = gated(tmp_path / "w", range(3))
    spoil_span(monkeypatch, 1)
    monkeypatch.setenv(VARIABLE, f"{point}:1:raise")
    with pytest.raises(InjectedFailure):
        run_all(workspace)
    monkeypatch.delenv(VARIABLE)
    run_all(workspace)
    wanted = {name: row for name, row in version_rows(spoilt[0]).items() if row.span_id <= DAYS[2]}
    found = version_rows(workspace)
    assert {name: row.state for name, row in found.items()} == {name: row.state for name, row in wanted.items()}
    assert all(found[name].summary["verdict"] == wanted[name].summary["verdict"] for name in wanted)


def _ledger(workspace: Workspace) -> tuple:
    with workspace.ledger.snapshot() as view:
        return view.spans(), view.versions(), view.promotions(), view.pointer(LINE)
