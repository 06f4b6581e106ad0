"""The analysts' views: there at any time, equal to the stores, whole while a run writes."""

import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from importlib.resources import files as resource_files
from pathlib import Path

import duckdb
import numpy as np
import pytest
from small_world import (
    DAYS,
    NASTY_ITEM,
    NASTY_USER,
    NOW,
    TOML,
    VERSIONS,
    current,
    day_of_events,
    interests_of,
    land,
    learnt_content,
    log,
    make,
    run_all,
    tree,
)

from imsr_core.twin import TWIN
from pipelines.interests.recommend import Recommender
from pipelines.interests.version import Version
from pipelines.sequences.build import sequence_span
from pipelines.sequences.loader import load_sequences
from pipelines.warehouse import generations
from pipelines.warehouse.catalog import connect, publish_catalog
from pipelines.warehouse.generations import KEPT_GENERATIONS
from pipelines.warehouse.ledger_tables import ledger_tables
from pipelines.warehouse.sources import COLUMNS
from pipelines.workspace.layout import Workspace

VIEWS = [
    "spans",
    "versions",
    "promotions",
    "metrics",
    "version_chain",
    "interactions",
    "quarantine",
    "users",
    "items",
    "sequences",
    "interest_history",
    "interests",
    "interest_counts",
    "interest_changes",
    "user_items",
    "item_neighbours",
    "score_weights",
    "recommendations",
]


def query(workspace, text, *values):
    with connect(workspace) as connection:
        return connection.execute(text, list(values)).fetchall()


def names(workspace):
    with connect(workspace) as connection:
        found = connection.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()
    return {name for (name,) in found}


def test_every_view_can_be_asked_at_any_time(tmp_path, learnt):
    workspace = Workspace.create(tmp_path / "w", TOML)
    assert set(VIEWS) <= names(workspace)
    columns = {}
    for name in names(workspace):
        with connect(workspace) as connection:
            result = connection.execute(f"SELECT * FROM {name}")
            columns[name] = [column[0] for column in result.description]
            assert result.fetchall() == []
    assert query(workspace, "FROM interests_as_of('none')") == []
    land(workspace, day_of_events(0))
    publish_catalog(workspace)
    for name in names(workspace):
        query(workspace, f"FROM {name}")
    assert query(workspace, "SELECT count(*) FROM interactions") == [(len(set(day_of_events(0))),)]
    for name, wanted in columns.items():  # the same columns with data and without
        with connect(learnt) as connection:
            found = [column[0] for column in connection.execute(f"SELECT * FROM {name} LIMIT 1").description]
        assert [column for column in found if column not in ("batch", "span")] == wanted


def test_every_source_of_the_views_is_a_table_of_the_ledger_or_has_columns(learnt):
    text = resource_files("pipelines.warehouse").joinpath("views.sql").read_text(encoding="utf-8")
    with learnt.ledger.snapshot() as view:
        known = {*COLUMNS, *ledger_tables(learnt, view)}
    assert set(re.findall(r"\$\{(\w+)\}", text)) == known | {"twin"}


def test_spans_versions_and_promotions_equal_the_ledger(learnt):
    with learnt.ledger.snapshot() as view:
        spans, versions = view.spans(), view.versions()
        events = {row.span_id: row.rows for row in view.current_span_versions()}
    assert query(learnt, "SELECT span_id, state, events FROM spans") == [
        (span.span_id, str(span.state), events[span.span_id]) for span in spans
    ]
    assert query(learnt, "SELECT version_id, parent, strategy, users, born, current FROM versions ORDER BY 1") == [
        (
            row.version_id,
            row.parent,
            row.strategy,
            row.summary["users"],
            row.summary["born"],
            row.version_id == current(learnt),
        )
        for row in versions
    ]
    rows = query(learnt, "SELECT version_id, previous, live_from <= live_until FROM promotions ORDER BY seq")
    assert rows == list(zip(VERSIONS, [None, *VERSIONS[:-1]], [True] * 4 + [None], strict=True))


def test_a_session_is_opened_by_the_folder_too(learnt):
    with connect(str(learnt.root)) as named, connect(learnt) as opened:
        assert named.sql("FROM spans").fetchall() == opened.sql("FROM spans").fetchall()


def test_interactions_equal_the_log(learnt):
    text = "SELECT user_id, item_id, strftime(timestamp, '%Y-%m-%dT%H:%M:%S+00:00') FROM interactions"
    assert sorted(query(learnt, text)) == sorted(set(log()))


def test_sequences_equal_the_files(learnt):
    for day in DAYS:
        with learnt.ledger.snapshot() as view:
            span = load_sequences(learnt.resolve(view.sequences(day)[-1].path))
        rows = query(learnt, "SELECT user_index, items, events FROM sequences WHERE span_id = ? ORDER BY 1", day)
        parts = [span.items[a:b].tolist() for a, b in zip(span.offsets[:-1], span.offsets[1:], strict=True)]
        assert rows == [(user, part, len(part)) for user, part in zip(span.users.tolist(), parts, strict=True)]


def test_ids_are_those_of_the_live_version_also_while_the_past_is_learnt_again(learnt, copy_of):
    vocabulary = Version.open(learnt).vocabulary
    users = [(user, n) for n, user in enumerate(vocabulary.user_ids(np.arange(vocabulary.n_users)).to_pylist())]
    items = [(item, n) for n, item in enumerate(vocabulary.item_ids(np.arange(vocabulary.n_items)).to_pylist())]
    workspace = copy_of(learnt)
    land(workspace, day_of_events(0, seed=1), "late.csv")
    sequence_span(workspace, DAYS[0], now=NOW)  # a chain of one span, which has few of them
    publish_catalog(workspace)
    for each in (learnt, workspace):
        assert query(each, "SELECT user_id, user_index FROM users ORDER BY user_index") == users
        assert query(each, "SELECT item_id, item_index FROM items ORDER BY item_index") == items


@pytest.mark.parametrize("version_id", VERSIONS)
def test_interests_as_of_a_version_equal_its_store(learnt, version_id):
    rows = query(learnt, "SELECT user_id, interest_id, vector FROM interests_as_of(?)", version_id)
    assert {(user, interest): list(vector) for user, interest, vector in rows} == interests_of(learnt, version_id)
    assert len(rows) == len(interests_of(learnt, version_id))


def test_interests_are_those_of_the_current_version(learnt, copy_of):
    rows = query(learnt, "SELECT user_id, interest_id, vector FROM interests")
    assert {(user, interest): list(vector) for user, interest, vector in rows} == interests_of(learnt, VERSIONS[-1])
    workspace = copy_of(learnt)
    with workspace.ledger.transaction() as tx:
        tx.promote("interests", VERSIONS[1], "rolled back", at=NOW)
    publish_catalog(workspace)
    rows = query(workspace, "SELECT user_id, interest_id, vector FROM interests")
    assert {(user, interest): list(vector) for user, interest, vector in rows} == interests_of(learnt, VERSIONS[1])
    assert {row[0] for row in query(workspace, "SELECT DISTINCT span_id FROM interest_counts")} == set(DAYS[1:3])


def test_interest_counts_equal_the_stores_after_every_span(learnt):
    rows = query(learnt, "SELECT span_id, version_id, user_id, interests, born, active FROM interest_counts")
    found = {(span_id, user): rest for span_id, _, user, *rest in rows}
    assert len(found) == len(rows)
    wanted = {}
    for day, version_id in zip(DAYS[1:], VERSIONS, strict=True):
        changes = learnt_content(learnt, version_id)["changes.parquet"]
        touched = set(changes["user_id"])
        born = Counter(u for u, c in zip(changes["user_id"], changes["change"], strict=True) if c == "born")
        counts = Counter(user for user, _ in interests_of(learnt, version_id))
        wanted |= {(day, user): [count, born[user], user in touched] for user, count in counts.items()}
    assert found == wanted
    assert {active for _, _, active in found.values()} == {True, False}


def test_distinct_interests_are_those_without_a_twin_among_the_older(learnt):
    held = "SELECT user_id, distinct_interests FROM interest_counts WHERE version_id = ?"
    counted = query(learnt, held, VERSIONS[-1])
    apart = "SELECT user_id, count(*) FILTER (coalesce(overlap, 0) <= ?) FROM interest_overlap GROUP BY 1"
    assert dict(counted) == dict(query(learnt, apart, TWIN))
    stored = query(learnt, "SELECT user_id, interest_id, round(overlap, 4) FROM interests ORDER BY ALL")
    assert stored == query(learnt, "SELECT user_id, interest_id, round(overlap, 4) FROM interest_overlap ORDER BY ALL")


@pytest.mark.parametrize("without", [VERSIONS, VERSIONS[:2], VERSIONS[3:]], ids=["all", "the first two", "the last"])
def test_versions_of_earlier_releases_have_no_counts_and_are_counted(learnt, copy_of, without):
    workspace = copy_of(learnt)
    for version_id in without:
        (workspace.version_folder(version_id) / "interest_counts.parquet").unlink()
    publish_catalog(workspace, anew=True)
    text = "FROM interest_counts ORDER BY ALL"
    assert query(workspace, text) == query(learnt, text)


def test_interest_changes_and_metrics_equal_files_and_ledger(learnt):
    text = "SELECT version_id, change, count(*) FROM interest_changes GROUP BY ALL"
    found = {(version_id, change): count for version_id, change, count in query(learnt, text)}
    wanted = Counter()
    for version_id in VERSIONS:
        wanted |= Counter((version_id, c) for c in learnt_content(learnt, version_id)["changes.parquet"]["change"])
    assert found == dict(wanted)
    with learnt.ledger.snapshot() as view:
        metrics = {(m.version_id, m.span_id, m.slice, m.protocol, m.metric, m.value, m.n) for m in view.metrics()}
    assert set(query(learnt, "SELECT version_id, span_id, slice, protocol, metric, value, n FROM metrics")) == metrics


def test_ids_that_look_like_sql_or_markup_are_only_ids(learnt, copy_of):
    workspace = copy_of(learnt)
    path = Recommender.open(workspace).write_all(3)
    assert path.is_file()
    publish_catalog(workspace)
    for name in (
        "interactions",
        "users",
        "sequences",
        "interests",
        "interest_counts",
        "interest_changes",
        "recommendations",
    ):
        (count,) = query(workspace, f"SELECT count(*) FROM {name} WHERE user_id = ?", NASTY_USER)[0]
        assert count > 0, name
    for name in ("interactions", "items"):
        assert query(workspace, f"SELECT count(*) FROM {name} WHERE item_id = ?", NASTY_ITEM)[0][0] > 0
    assert len(names(workspace)) == len(names(learnt))


def test_publishing_twice_writes_nothing_new(learnt, copy_of):
    workspace = copy_of(learnt)
    before = tree(workspace.root)
    assert not publish_catalog(workspace)
    assert tree(workspace.root) == before


def catalog(workspace):
    with duckdb.connect(str(workspace.catalog_file), read_only=True) as connection:
        return connection.execute("SELECT count(*) FROM interactions").fetchall()


def test_a_copied_workspace_answers_from_its_own_files(learnt, copy_of):
    workspace = copy_of(learnt)
    rows = query(workspace, "SELECT count(*) FROM interactions")
    assert rows == query(learnt, "SELECT count(*) FROM interactions") == catalog(workspace)
    assert str(learnt.root) not in workspace.views_file.read_text()
    original = copy_of(workspace, "original")
    other = copy_of(workspace, "other")
    shutil.rmtree(original.root)
    assert catalog(other) == rows
    shutil.rmtree(next((other.root / "lake").iterdir()))
    with pytest.raises(duckdb.Error, match="other/lake"):
        catalog(other)


@pytest.mark.parametrize("how", ["a variable", "the folder"])
def test_a_session_on_another_database_is_told_where_the_workspace_is(learnt, how, monkeypatch):
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{learnt.catalog_file}' AS shop (READ_ONLY)")
        with pytest.raises(duckdb.IOException, match="No files found"):
            connection.execute("FROM shop.interactions")
        if how == "a variable":
            connection.execute(f"SET VARIABLE workspace = '{learnt.root}'")
        else:
            monkeypatch.chdir(learnt.root)
        assert connection.execute("SELECT count(*) FROM shop.interactions").fetchall() == catalog(learnt)
        connection.execute(learnt.views_file.read_text())
        assert connection.execute("SELECT count(*) FROM interactions").fetchall() == catalog(learnt)


def test_views_of_an_earlier_release_are_written_anew(learnt, copy_of):
    workspace = copy_of(learnt)
    first, _, rest = workspace.views_file.read_text().partition("\n")
    workspace.views_file.write_text(f'{first}\n-- workspace "/elsewhere"\n{rest}')
    assert query(workspace, "SELECT count(*) FROM interactions") == catalog(learnt)
    assert "-- workspace" not in workspace.views_file.read_text()


def test_a_publish_that_died_half_way_is_finished(learnt, copy_of, monkeypatch):
    workspace = copy_of(learnt)
    publish_catalog(workspace)
    land(workspace, [("u1", "i1", "2024-03-07T10:00:00Z")], "next.csv")
    monkeypatch.setenv("IMSR_FAIL", "catalog.staged:1:raise")
    with pytest.raises(Exception, match="fail point"):
        publish_catalog(workspace)
    monkeypatch.delenv("IMSR_FAIL")
    with duckdb.connect(str(workspace.catalog_file), read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM spans").fetchone() == (6,)
    assert publish_catalog(workspace)
    with duckdb.connect(str(workspace.catalog_file), read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM spans").fetchone() == (7,)


@pytest.mark.slow
def test_old_generations_are_dropped(tmp_path):
    workspace = Workspace.create(tmp_path / "w", TOML)
    for n in range(KEPT_GENERATIONS + 3):
        land(workspace, [("u", "i", f"2024-03-01T00:00:{n:02d}Z")], f"{n}.csv")
        assert publish_catalog(workspace)
    assert len(list((workspace.root / "catalog").iterdir())) == KEPT_GENERATIONS
    assert query(workspace, "SELECT count(*) FROM interactions") == [(KEPT_GENERATIONS + 3,)]


def test_two_publishers_at_once_both_end_well(learnt, copy_of, monkeypatch):
    workspace = copy_of(learnt)
    real, taken = generations.generations, []

    def late(ws):
        found = real(ws)
        if not taken:  # another process makes the next generation just now
            taken.append(ws.root / "catalog" / f"g{int(found[-1].name[1:]) + 1:08d}")
            taken[0].mkdir()
        return found

    monkeypatch.setattr(generations, "generations", late)
    assert publish_catalog(workspace, anew=True)
    assert query(workspace, "SELECT count(*) FROM spans") == [(6,)]


SLOW_NAMES = [pytest.param(name, marks=pytest.mark.slow) for name in ("a{1}~b", "key=value", "ünï ço de")]


@pytest.mark.parametrize("name", ['it\'s a "shop" ${spans} $1', *SLOW_NAMES])
def test_any_folder_can_hold_a_workspace(learnt, copy_of, name):
    workspace = copy_of(learnt, name)
    assert query(workspace, "SELECT count(*) FROM interests") == [(len(interests_of(learnt, VERSIONS[-1])),)]
    for view in names(workspace):
        query(workspace, f"FROM {view}")
    land(workspace, [("u1", "i1", "2024-03-07T10:00:00Z")], "next.csv")
    (outcome,) = run_all(workspace)
    with duckdb.connect(str(workspace.catalog_file), read_only=True) as connection:
        found = connection.execute("SELECT version_id FROM versions WHERE current").fetchall()
    assert found == [(outcome.version.version_id,)]
    assert Version.open(workspace).load().n_items > 0


WRITER = """
import sys
sys.path[:0] = {path!r}
from small_world import day_of_events, land, run_all
from pipelines.workspace.layout import Workspace
workspace = Workspace.open({root!r})
for day in range(2, 6):
    land(workspace, day_of_events(day), f"{{day}}.csv")
    run_all(workspace)
"""


@pytest.mark.slow
def test_readers_see_whole_states_while_another_process_writes(tmp_path):
    workspace = make(tmp_path / "w", log([0, 1]))
    run_all(workspace)
    path = [str(Path(__file__).parents[2]), str(Path(__file__).parents[3])]
    script = WRITER.format(path=path, root=str(workspace.root))
    seen = set()
    with subprocess.Popen([sys.executable, "-c", script]) as writer:
        while writer.poll() is None:
            with duckdb.connect(str(workspace.catalog_file), read_only=True) as connection:
                seen.add(connection.execute(WHOLE).fetchone())
            with connect(workspace) as connection:
                seen.add(connection.execute(WHOLE).fetchone())
            time.sleep(0.01)
    assert writer.returncode == 0
    with duckdb.connect(str(workspace.catalog_file), read_only=True) as connection:
        seen.add(connection.execute(WHOLE).fetchone())
    for versions, promotions, current_versions, counted, without in seen:
        assert (versions, current_versions, without) == (promotions, 1, 0)
        assert counted == versions
    assert {row[0] for row in seen} >= {1, 5}


WHOLE = """
    SELECT (SELECT count(*) FROM versions), (SELECT count(*) FROM promotions),
           (SELECT count(*) FROM versions WHERE current),
           (SELECT count(DISTINCT version_id) FROM interest_counts),
           (SELECT count(*) FROM interests i ANTI JOIN users u ON i.user_index = u.user_index)
"""
