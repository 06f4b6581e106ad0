"""Readers that never stop asking while versions are published: no half of one, no error, no waiting for a lock."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from datetime import UTC, datetime
from multiprocessing.synchronize import Event
from pathlib import Path

import duckdb
import pytest
from children import _CONTEXT, call, imsr
from tiny_world import SECOND, THIRD
from workspace_content import pointer

from flows.holding import holding
from pipelines.interests.promotion import promote
from pipelines.interests.recommend import Recommender
from pipelines.interests.version import Version
from pipelines.warehouse.catalog import connect
from pipelines.workspace.layout import Workspace

#: The views of one moment: they must tell one story.
STORY = """
    SELECT (SELECT string_agg(version_id, ',') FROM versions WHERE current),
           (SELECT arg_max(version_id, seq) FROM promotions),
           (SELECT count(*) FROM promotions),
           (SELECT count(DISTINCT user_index) FROM interests),
           (SELECT count(*) FROM interests i ANTI JOIN users u ON i.user_index = u.user_index)
"""
READERS = ("catalog", "sql", "model")


def publish(root: str, times: int) -> None:
    """In a child: put the second and the third day's version live in turns, each a publish with views."""
    workspace = Workspace.open(root)
    for number in range(times):
        with holding(workspace, "publisher", now=datetime(2024, 3, 9, tzinfo=UTC)) as writer:
            version_id = f"{(SECOND, THIRD)[number % 2]}.1"
            promote(writer, version_id, "in turns")


def read(root: str, how: str, stop: Event, out: str) -> None:
    """In a child: read until told to stop; write down every story that was seen, and how often."""
    workspace, seen = Workspace.open(root), Counter()
    while not stop.is_set():
        seen[json.dumps(_look(workspace, how))] += 1
    Path(out).write_text(json.dumps(seen))


def _look(workspace: Workspace, how: str) -> list:
    if how == "model":
        version = Version.open(workspace)
        return [version.row.version_id, Recommender(version, version.load()).top_n(["u1"], 3).num_rows]
    if how == "sql":
        with connect(workspace) as connection:
            return list(connection.execute(STORY).fetchone())
    with duckdb.connect(str(workspace.catalog_file), read_only=True) as connection:
        return list(connection.execute(STORY).fetchone())


@pytest.mark.parametrize("times", [6, pytest.param(50, marks=pytest.mark.slow)])
def test_readers_see_one_story_during_every_publish(worlds, done, tmp_path, times):
    workspace = worlds.copy("learnt", tmp_path / "workspace")
    with connect(workspace) as connection:
        users = {f"{day}.1": n for day, n in zip((SECOND, THIRD), _users(connection), strict=True)}
    stop = _CONTEXT.Event()
    outs = {how: tmp_path / how for how in READERS}
    readers = [
        call(tmp_path / f"{how}.log", read, str(workspace.root), how, stop, str(out)) for how, out in outs.items()
    ]
    writer = call(tmp_path / "writer.log", publish, str(workspace.root), times).wait()
    stop.set()
    for reader in readers:
        ended = reader.wait()
        assert ended.code == 0, ended.said
    assert writer.code == 0, writer.said
    seen = {how: Counter(json.loads(out.read_text())) for how, out in outs.items()}
    for how in ("catalog", "sql"):
        for current, last, moves, counted, strangers in map(json.loads, seen[how]):
            assert (current, strangers) == (last, 0)
            assert counted == users[current]
            assert current == (THIRD, SECOND)[(moves - 3) % 2] + ".1"
    assert {version_id for version_id, _ in map(json.loads, seen["model"])} <= users.keys()
    assert {rows for _, rows in map(json.loads, seen["model"])} == {3}
    done["publishes under readers"] += times
    done["reads during them"] += sum(sum(each.values()) for each in seen.values())


def _users(connection: duckdb.DuckDBPyConnection) -> list[int]:
    """Users with interests as of the second and of the third day's version."""
    counts = "SELECT count(DISTINCT user_index) FROM interests_as_of('{}.1')"
    return [connection.execute(counts.format(day)).fetchone()[0] for day in (SECOND, THIRD)]


def test_an_open_session_of_an_analyst_holds_nobody_up(worlds, tmp_path):
    """A query whose rows are only half read, in both kinds of session, for a whole night."""
    workspace = worlds.copy("third day due", tmp_path / "workspace")
    with connect(workspace) as mine, duckdb.connect(str(workspace.catalog_file), read_only=True) as theirs:
        cursors = [each.execute("BEGIN; FROM interactions") for each in (mine, theirs)]
        before = [cursor.fetchone() for cursor in cursors]
        ended = imsr(tmp_path / "log", "run", "-w", str(workspace.root))
        assert ended.code == 0, ended.said
        assert all(before)
        assert all(cursor.fetchall() for cursor in cursors)
    assert pointer(workspace) == f"{THIRD}.1"


def test_a_reader_of_the_ledger_never_waits_for_a_writer(worlds, tmp_path):
    workspace = worlds.copy("learnt", tmp_path / "workspace")
    with workspace.ledger.transaction() as tx:
        tx.put_meta("half", "written")
        with workspace.ledger.snapshot() as view:
            assert view.meta("half") is None
            assert view.pointer("interests") == f"{THIRD}.1"
    with sqlite3.connect(workspace.ledger_file) as connection:
        assert connection.execute("SELECT value FROM meta WHERE key = 'half'").fetchone() == ("written",)
