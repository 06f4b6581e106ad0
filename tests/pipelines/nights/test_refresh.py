"""Shadows: trained from scratch beside the chain, scored with it, and put live as a new beginning."""

import pytest
import torch
from gated_world import GATED, gated, held
from small_world import DAYS, NOW, current, day_of_events, land, run_all, states, version_rows
from typer.testing import CliRunner

from flows.cli import app
from pipelines.interests import training
from pipelines.interests.comparison import compare
from pipelines.interests.drift import latest_drift
from pipelines.interests.gate_events import GateEvents
from pipelines.interests.promotion import promote, rollback
from pipelines.interests.version import Version
from pipelines.nights.plan import due
from pipelines.nights.refresh import rebase, shadow_retrain
from pipelines.nights.restate import mark_stale
from pipelines.versions.lineage import VersionError
from pipelines.versions.pointer import GateError
from pipelines.warehouse.catalog import connect
from pipelines.workspace.layout import Workspace

HEAD, SHADOW = f"{DAYS[3]}.1", f"{DAYS[3]}.2"


def shadow_of(workspace):
    return held(workspace, lambda writer: shadow_retrain(writer))


def rebased(workspace):
    return held(workspace, lambda writer: rebase(writer))


@pytest.fixture(scope="module")
def shadowed(tmp_path_factory):
    """Four days and a shadow. Read only."""
    workspace = gated(tmp_path_factory.mktemp("shadowed") / "w", range(4))
    run_all(workspace)
    before = states(workspace)
    row = shadow_of(workspace)
    assert states(workspace) == before
    return workspace, row


def next_day(workspace, day=4):
    land(workspace, day_of_events(day, per_user=21), f"{day}.csv")
    (outcome,) = run_all(workspace)
    return outcome


class TestShadow:
    def test_it_stands_beside_the_chain(self, shadowed):
        workspace, row = shadowed
        assert (row.version_id, row.state, row.parent, row.strategy) == (SHADOW, "shadow", None, "full_retrain")
        assert row.summary["spans"] == DAYS[:4]
        assert row.summary["beside"] == HEAD == current(workspace)
        assert due(workspace, now=NOW) == []

    def test_it_knows_what_the_chain_knows_with_as_many_interests(self, shadowed):
        chain, shadow = (Version.open(shadowed[0], name).load() for name in (HEAD, SHADOW))
        assert torch.equal(chain.store.users, shadow.store.users)
        assert torch.equal(chain.store.counts, shadow.store.counts)
        assert chain.n_items == shadow.n_items
        assert int(chain.store.counts.max()) > 2
        assert not torch.equal(chain.items.weight, shadow.items.weight)
        assert Version.open(shadowed[0], SHADOW).lineage.spans == (DAYS[3],)

    def test_it_is_found_and_not_trained_again(self, shadowed, copy_of, monkeypatch):
        workspace = copy_of(shadowed[0])
        monkeypatch.setattr(training, "strategy_named", lambda name: pytest.fail("trained again"))
        assert shadow_of(workspace) == shadowed[1]

    def test_both_were_kept_from_the_same_events(self, shadowed):
        chain, shadow = (GateEvents.read(Version.open(shadowed[0], name).folder) for name in (HEAD, SHADOW))
        assert chain.user_index.tolist() == shadow.user_index.tolist()
        assert chain.item_index.tolist() == shadow.item_index.tolist()
        assert shadow.rank_current.tolist() == chain.rank_candidate.tolist()
        assert shadow.new_user.tolist() == chain.new_user.tolist()

    def test_the_next_test_scores_both_and_the_view_shows_the_drift(self, shadowed, copy_of):
        workspace = copy_of(shadowed[0])
        outcome = next_day(workspace)
        assert outcome.version.parent == HEAD
        chain = {(m.slice, m.metric): m.value for m in outcome.metrics}
        with workspace.ledger.snapshot() as view:
            own = {(m.slice, m.metric): m.value for m in view.metrics(SHADOW)}
            shadow, pairs = latest_drift(view)
        assert own.keys() == chain.keys()
        assert own != chain
        with connect(workspace) as connection:
            query = "SELECT slice, metric, drift, version_id, shadow, span_id FROM drift"
            shown = {(row[0], row[1]): row[2:] for row in connection.execute(query).fetchall()}
        assert shadow.version_id == SHADOW
        for key, (drift, version_id, name, span_id) in shown.items():
            assert drift == pytest.approx(chain[key] - own[key])
            assert (version_id, name, span_id) == (HEAD, SHADOW, DAYS[4])
        assert shown.keys() == chain.keys()
        assert {(p.slice, p.metric): p.difference for p in pairs} == pytest.approx(
            {key: row[0] for key, row in shown.items()}
        )
        status = CliRunner().invoke(app, ["status", "-w", str(workspace.root)])
        assert "drift" in status.output
        assert SHADOW in status.output

    def test_a_workspace_without_a_model_has_none(self, ingested, copy_of):
        with pytest.raises(VersionError, match="no current version"):
            shadow_of(copy_of(ingested))

    def test_every_second_span(self, tmp_path):
        workspace = gated(tmp_path / "w", range(6), "[refresh]\nevery_spans = 2\n")
        run_all(workspace)
        shadows = [row for row in version_rows(workspace).values() if row.state == "shadow"]
        assert [row.summary["beside"] for row in shadows] == [f"{DAYS[3]}.1", f"{DAYS[5]}.1"]
        assert set(states(workspace).values()) == {"published"}


class TestRebase:
    def test_the_chain_goes_on_from_it(self, shadowed, copy_of):
        workspace = copy_of(shadowed[0])
        row, move = rebased(workspace)
        assert (move.previous, move.version_id, row.state) == (HEAD, SHADOW, "published")
        assert row.summary["verdict"]["passed"]
        assert set(states(workspace).values()) == {"published"}
        assert rebased(workspace)[1] is None
        assert shadow_of(workspace).version_id == SHADOW
        outcome = next_day(workspace)
        assert outcome.version.parent == SHADOW
        assert Version.open(workspace).lineage.spans == (DAYS[3], DAYS[4])
        assert len(Version.open(workspace).lineage.interests) <= 2

    def test_going_back_is_to_the_head_that_it_replaced(self, shadowed, copy_of):
        workspace = copy_of(shadowed[0])
        rebased(workspace)
        held(workspace, lambda writer: rollback(writer))
        assert current(workspace) == HEAD
        assert set(states(workspace).values()) == {"published"}

    def test_an_earlier_span_is_restated_from_the_chain_before(self, shadowed, copy_of):
        workspace = copy_of(shadowed[0])
        rebased(workspace)
        held(workspace, lambda writer: mark_stale(writer, DAYS[3]))
        (outcome,) = run_all(workspace)
        assert outcome.version.parent == f"{DAYS[2]}.1"
        assert current(workspace) == outcome.version.version_id

    def test_one_below_the_bar_stays_a_shadow(self, shadowed, copy_of):
        workspace = copy_of(shadowed[0])
        settings = workspace.settings_file
        settings.write_text(GATED + "min_hr = 1.0\n")
        with pytest.raises(GateError, match="may not replace the chain"):
            rebased(Workspace.open(workspace.root))
        assert current(workspace) == HEAD
        assert version_rows(workspace)[SHADOW].state == "shadow"


class TestCompare:
    def test_on_a_span_that_neither_has_learnt(self, shadowed, copy_of):
        workspace = copy_of(shadowed[0])
        next_day(workspace)
        stored = compare(workspace, SHADOW, HEAD)
        assert {pair.span_id for pair in stored.metrics} == {DAYS[4]}
        assert compare(workspace, SHADOW, HEAD, DAYS[4]).metrics == stored.metrics
        older = compare(workspace, f"{DAYS[1]}.1", HEAD, DAYS[4])
        told = {(pair.slice, pair.metric): pair.second for pair in older.metrics}
        assert {("all", "hr@10"), ("everything", "hr@10")} <= told.keys()  # who is new is another question for each
        assert told.items() <= {(pair.slice, pair.metric): pair.second for pair in stored.metrics}.items()
        with pytest.raises(VersionError, match="has learnt span"):
            compare(workspace, f"{DAYS[1]}.1", HEAD, DAYS[3])
        with pytest.raises(VersionError, match="no sequences"):
            compare(workspace, SHADOW, HEAD, "2031-01-01")

    def test_the_command_shows_scores_and_checks(self, shadowed, copy_of):
        workspace = copy_of(shadowed[0])
        next_day(workspace)
        result = CliRunner().invoke(app, ["compare", SHADOW, HEAD, "-w", str(workspace.root)])
        assert result.exit_code == 0
        for words in ("full_retrain", "ndcg@10", f"gate of {HEAD}", "preflight: a model that finds nothing"):
            assert words in result.output

    def test_versions_without_a_common_span_have_no_pairs(self, shadowed):
        assert compare(shadowed[0], HEAD, f"{DAYS[1]}.1").metrics == ()


def test_promoting_a_shadow_by_hand_is_possible(shadowed, copy_of):
    workspace = copy_of(shadowed[0])
    held(workspace, lambda writer: promote(writer, SHADOW, "by hand"))
    assert current(workspace) == SHADOW
