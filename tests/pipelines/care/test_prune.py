"""Pruning removes what nothing needs, keeps what something does, and says which."""

import os
import shutil
import signal
import subprocess
import sys
from datetime import timedelta

import pytest
from small_world import NOW, START, current, interests_of, land, log, run_all, version_rows

from imsr_core.errors import ImsrError
from pipelines.care.doctor import examine
from pipelines.care.forget import forget
from pipelines.care.prune import plan_pruning, prune
from pipelines.interests.recommend import Recommender, UnknownUserError
from pipelines.interests.version import Version
from pipelines.nights.backfill import Which, plan_backfill
from pipelines.nights.plan import PlanError, due
from pipelines.nights.restate import mark_stale, plan_restatement
from pipelines.versions.lineage import VersionError
from pipelines.warehouse.catalog import connect
from pipelines.warehouse.sandbox import QueryError, run_query
from pipelines.workspace.failpoints import VARIABLE, FailPoint
from pipelines.workspace.layout import Workspace
from pipelines.workspace.seal import is_ready
from pipelines.workspace.writer import writing

LATER = NOW + timedelta(days=1)


def keep(workspace, lookback=0, **settings):
    lines = "\n".join(f"{key} = {value}" for key, value in settings.items())
    text = workspace.settings_file.read_text().replace("lookback_spans = 10", f"lookback_spans = {lookback}")
    workspace.settings_file.write_text(f"{text}\n[retention]\n{lines}\n")
    return Workspace.open(workspace.root)


@pytest.fixture
def small(learnt, copy_of):
    """The learnt world, of which the last two versions are to be kept, with rubbish and lists."""
    workspace = keep(copy_of(learnt), keep_versions=2)
    for name in ("2024-03-02.1", "2024-03-06.1"):
        Recommender.open(workspace, name).write_all(3)
    (workspace.root / "versions" / "stray").mkdir()
    (workspace.staging / "dead.123").mkdir(parents=True)
    return workspace


def states_of(workspace):
    return {name: row.state for name, row in version_rows(workspace).items()}


def test_what_is_in_use_stays_and_the_rest_goes(small):
    lists, interests = Recommender.open(small).top_n(["u1", "u2"], 5), interests_of(small, current(small))
    planned = plan_pruning(small, now=LATER)
    done, discarded = prune(small, now=LATER)
    assert discarded == []
    assert set(planned.items) - set(done.items) == set(planned.going("staging"))  # taking the lease clears it
    assert set(done.items) <= set(planned.items)
    states = states_of(small)
    assert [states["2024-03-05.1"], states["2024-03-06.1"]] == ["published", "published"]
    assert set(states.values()) <= {"published", "archived", "pruned"}
    assert {"stray", "dead.123", "2024-03-02.1.parquet"} <= {item.name for item in planned.going()}
    for name, state in states.items():
        files = {path.name for path in small.version_folder(name).glob("*")}
        assert ("model.safetensors" in files) == (state == "published")
        assert ("interests.parquet" in files) == (state != "pruned")
    assert Recommender.open(small).top_n(["u1", "u2"], 5).equals(lists)
    assert interests_of(small, current(small)) == interests
    assert examine(small, deep=True) == []
    assert due(small, now=NOW) == []


def test_a_version_that_is_gone_says_so(small):
    prune(small, now=LATER)
    gone = next(name for name, state in states_of(small).items() if state in ("archived", "pruned"))
    with pytest.raises(VersionError, match="no longer kept"):
        Version.open(small, gone)


def test_a_reader_that_was_open_says_that_its_files_were_pruned(small):
    reader, session = Recommender.open(small, "2024-03-02.1"), connect(small)
    query = "SELECT count(*) FROM interest_history"
    assert run_query(session, query).fetchone()[0] > 0
    prune(small, now=LATER)
    with pytest.raises(QueryError, match="gone since it was opened") as caught:
        run_query(session, query).fetchall()
    assert "open it again" in caught.value.hint
    assert run_query(connect(small), query).fetchone()[0] > 0
    for folder in reader.version.lineage.vocabulary:
        shutil.rmtree(small.resolve(folder))
    with pytest.raises(VersionError, match=r"2024-03-02\.1 was pruned since it was opened") as caught:
        reader.top_n(["nobody"], 3)
    assert "open it again" in caught.value.hint


def test_a_reader_whose_version_is_kept_says_what_is_wrong_with_its_files(small):
    reader = Recommender.open(small)
    (small.resolve(reader.version.lineage.vocabulary[-1]) / "users.parquet").write_bytes(b"no parquet")
    with pytest.raises(ImsrError, match="damaged"):
        reader.top_n(["u1"], 3)


def test_the_views_go_on(small):
    prune(small, now=LATER)
    with connect(small) as session:
        assert session.execute("SELECT count(*) FROM versions").fetchone() == (5,)
        assert session.execute("SELECT count(*) > 0 FROM interests").fetchone() == (True,)
        assert session.execute("SELECT DISTINCT version_id FROM recommendations").fetchall() == [("2024-03-06.1",)]


def test_a_query_that_needs_more_than_memory_goes_on_beside_a_prune(small):
    (small.root / ".imsr.toml.0a1b2c3d.tmp").write_text("left by a run that was killed")
    with connect(small, sandbox=False) as session:
        session.execute("SET memory_limit = '40MB'; SET threads = 1")
        session.execute("SELECT i, hash(i) AS h, repeat('x', 20) AS s FROM range(2_000_000) t(i) ORDER BY h")
        first = session.fetchmany(1)
        assert list((small.root / "catalog.duckdb.tmp").iterdir())  # as it does
        orphans = [finding.where for finding in examine(small) if finding.where.endswith(".tmp")]
        assert orphans == [".imsr.toml.0a1b2c3d.tmp"]
        prune(small, now=LATER)
        assert len(first) + len(session.fetchall()) == 2_000_000
    assert not list(small.root.glob("*.0a1b2c3d.tmp"))


def test_the_bytes_that_were_promised_become_free(small):
    def size():
        return sum(p.stat().st_size for name in ("lake", "sequences", "versions", "recommendations", "staging")
                   for p in (small.root / name).rglob("*") if p.is_file() and p.name != "READY")  # fmt: skip

    before = size()
    done, _ = prune(small, now=LATER)
    seals = sum(2000 for item in done.going("version", "sequences", "data"))
    assert 0 <= done.bytes - (before - size()) <= seals


def test_twice_is_once(small):
    prune(small, now=LATER)
    again, _ = prune(small, now=LATER)
    assert again.going() == []


def test_with_the_defaults_a_young_chain_stays_whole(learnt, copy_of):
    workspace = copy_of(learnt)
    assert prune(workspace, now=LATER)[0].going() == []


def test_keep_days_keeps_what_is_young(learnt, copy_of):
    workspace = keep(copy_of(learnt), keep_versions=1, keep_days=3)
    assert prune(workspace, now=LATER)[0].going() == []
    assert prune(workspace, now=NOW + timedelta(days=4))[0].going("version", "model") != []


def test_old_data_and_sequences_of_a_restated_span_go_when_no_version_needs_them(learnt, copy_of):
    workspace = keep(copy_of(learnt), lookback=1, keep_versions=1)
    time = (START + timedelta(days=5, hours=3)).isoformat()
    land(workspace, [("late", "i1", time)], "late.csv")
    run_all(workspace)
    done, _ = prune(workspace, now=LATER)
    assert [item.name for item in done.going("data")] == ["2024-03-06 v1"]
    assert [item.name[:10] for item in done.going("sequences")] == ["2024-03-06"]
    assert not (workspace.root / "lake/span=2024-03-06/v=1").exists()
    assert current(workspace) == "2024-03-06.2"
    assert examine(workspace, deep=True) == []


def test_a_chain_can_start_over_from_its_first_span(small):
    prune(small, now=LATER)
    small.settings_file.write_text(small.settings_file.read_text().replace("lookback_spans = 0", "lookback_spans = 10"))
    small = Workspace.open(small.root)
    land(small, [("late", "i1", log([0])[0][2])], "late.csv")
    run_all(small)
    assert set(examine(small, deep=True)) == set()


PRUNE = """
import sys
from datetime import datetime
from pipelines.care.prune import prune
from pipelines.workspace.layout import Workspace
prune(Workspace.open(sys.argv[1]), now=datetime.fromisoformat(sys.argv[2]))
"""
POINTS = [str(point) for point in FailPoint if point.startswith("prune.")]


@pytest.mark.slow
@pytest.mark.parametrize("point", [*POINTS, "rewrite.started", "rewrite.replaced:2", "rewrite.sealed"])
def test_killed_anywhere_the_next_one_finishes(small, tmp_path, copy_of, point):
    reference = copy_of(small, "reference")
    prune(reference, now=LATER)
    environment = {"PYTHONPATH": ":".join(sys.path), "PATH": os.environ["PATH"], VARIABLE: point}
    command = [sys.executable, "-c", PRUNE, str(small.root), LATER.isoformat()]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert Recommender.open(small).top_n(["u1"], 3).num_rows == 3
    prune(small, now=LATER)
    assert contents(small) == contents(reference)
    assert version_rows(small) == version_rows(reference)
    assert all(is_ready(small.version_folder(n)) for n, s in states_of(small).items() if s != "pruned")
    assert examine(small, deep=True) == []


def contents(workspace):
    skip = ("catalog", "ledger", "views.sql")
    names = {p: workspace.relative(p) for p in workspace.root.rglob("*")}
    return {n: p.read_bytes() if p.is_file() else None for p, n in names.items() if not n.startswith(skip)}


@pytest.mark.parametrize("lookback", [1, 2])
def test_what_late_events_would_be_learnt_again_from_stays_and_the_night_after_a_prune_goes_on(
    learnt, copy_of, without_beam, lookback
):
    workspace = keep(copy_of(learnt), lookback=lookback, keep_versions=1)
    prune(workspace, now=LATER)
    kept = [name for name, state in states_of(workspace).items() if state == "published"]
    assert kept == [f"2024-03-{day:02d}.1" for day in range(6 - lookback, 7)]
    land(workspace, [("u1", "i1", f"2024-03-{7 - lookback:02d}T23:00:00Z")], "late.csv")
    run_all(workspace)
    assert current(workspace) == "2024-03-06.2"


def test_a_restatement_behind_what_is_kept_names_the_last_span_that_can_be_learnt_again(learnt, copy_of, without_beam):
    workspace = keep(copy_of(learnt), lookback=1, keep_versions=1)
    prune(workspace, now=LATER)
    for planned in (
        lambda: plan_restatement(workspace, "2024-03-04", now=NOW),
        lambda: plan_backfill(workspace, first="2024-03-04", last=None, which=Which.ALL, now=NOW),
    ):  # refused before all is stale and no night can begin
        with pytest.raises(PlanError, match="no longer kept") as caught:
            planned()
        assert caught.value.hint.endswith("imsr restate 2024-03-02")
    assert plan_restatement(workspace, "2024-03-02", now=NOW).runs
    with writing(workspace, "test", now=NOW) as writer:  # as late events do
        mark_stale(writer, "2024-03-04")
    with pytest.raises(PlanError, match=r"2024-03-04 starts from version 2024-03-03\.1, which is no longer") as caught:
        run_all(workspace)
    assert caught.value.hint.endswith("imsr restate 2024-03-02")
    with writing(workspace, "test", now=NOW) as writer:
        mark_stale(writer, "2024-03-02")
    run_all(workspace)
    assert current(workspace) == "2024-03-06.2"


def test_a_user_of_spans_behind_what_is_kept_is_learnt_out_from_the_last_span_that_can_begin(
    learnt, copy_of, without_beam
):
    workspace = copy_of(learnt)
    land(workspace, [("solo", f"i{n}", f"2024-03-04T23:0{n}:00Z") for n in range(4)], "late.csv")
    run_all(workspace)
    workspace = keep(workspace, keep_versions=1)
    prune(workspace, now=LATER)
    receipt = forget(workspace, "solo", now=NOW, retrain=True)
    assert receipt.spans == ("2024-03-04",)
    assert receipt.stale[0] == "2024-03-01"  # the version that 2024-03-04 starts from is gone
    run_all(workspace)
    assert current(workspace) == "2024-03-06.3"
    with pytest.raises(UnknownUserError):
        Recommender.open(workspace).interests("solo")
