"""Users are forgotten while readers never stop asking: each answer is of before or of after, in every kind of session.

A session that was opened before has the old files until they are gone, and is told so then; it never reads a half.
"""

from __future__ import annotations

import json
from collections import Counter
from multiprocessing.synchronize import Event, Semaphore
from pathlib import Path

import duckdb
import pytest
from children import _CONTEXT, call, imsr
from workspace_content import require_clean

from imsr_core.errors import ImsrError
from pipelines.interests.recommend import Recommender
from pipelines.warehouse.catalog import connect
from pipelines.workspace.layout import Workspace

#: Everybody has events, sequences and an id: the three counts are one, however many users were forgotten.
STORY = """
    SELECT (SELECT count(DISTINCT user_id) FROM interactions),
           (SELECT count(DISTINCT user_index) FROM sequences),
           (SELECT count(*) FROM users WHERE NOT starts_with(user_id, 'forgotten:')),
           (SELECT count(*) FROM interactions),
           (SELECT sum(len(items)) FROM sequences)
"""
#: What a shell of one's own says once the files of the views that it opened are gone.
GONE = ("No files found", "No such file")
READERS = ("shell", "open shell", "session", "open session", "model")
KEPT = "u5"


def read(root: str, how: str, begun: Semaphore, stop: Event, out: str) -> None:
    """In a child: read until told to stop; write down every answer, and how often. Says so once it has ``begun``."""
    workspace, seen = Workspace.open(root), Counter()
    opened = _open(workspace, how) if how.startswith("open ") else None
    while not stop.is_set():
        seen[json.dumps(_answer(workspace, how, opened))] += 1
        if seen.total() == 1:
            begun.release()
    Path(out).write_text(json.dumps(seen))


def _open(workspace: Workspace, how: str) -> duckdb.DuckDBPyConnection:
    return duckdb.connect(str(workspace.catalog_file), read_only=True) if "shell" in how else connect(workspace)


def _answer(workspace: Workspace, how: str, opened: duckdb.DuckDBPyConnection | None) -> list:
    if how == "model":
        return [Recommender.open(workspace).top_n([KEPT], 3).num_rows]
    try:
        if opened is not None:
            return list(opened.execute(STORY).fetchone())
        with _open(workspace, how) as connection:
            return list(connection.execute(STORY).fetchone())
    except (duckdb.Error, ImsrError) as error:
        return [str(error)]


@pytest.mark.parametrize("users", [["u3"], pytest.param(["u3", "u1", "u2", "u4"], marks=pytest.mark.slow)])
def test_readers_see_before_or_after_and_never_a_half(worlds, done, tmp_path, users):
    workspace = worlds.copy("learnt", tmp_path / "workspace")
    with connect(workspace) as session:
        before = list(session.execute(STORY).fetchone())
    begun, stop = _CONTEXT.Semaphore(0), _CONTEXT.Event()
    outs = {how: tmp_path / how for how in READERS}
    readers = [
        call(tmp_path / f"{how}.log", read, str(workspace.root), how, begun, stop, str(out))
        for how, out in outs.items()
    ]
    assert all(begun.acquire(timeout=120) for _ in readers)  # each has read the world as it was before
    for user in users:
        ended = imsr(tmp_path / "log", "forget", "--user", user, "--linger", "1", "-w", str(workspace.root))
        assert ended.code == 0, ended.said
    stop.set()
    for reader in readers:
        ended = reader.wait()
        assert ended.code == 0, ended.said
    seen = {how: [json.loads(each) for each in json.loads(out.read_text())] for how, out in outs.items()}
    for how in READERS[:-1]:
        told = [each for each in seen[how] if len(each) == 1]
        whole = [each for each in seen[how] if len(each) > 1]
        assert all("gone" in each[0] or any(word in each[0] for word in GONE) for each in told), (how, told)
        assert whole
        assert all(each[0] == each[1] == each[2] and each[3] == each[4] for each in whole), (how, whole)
        assert whole == [before] or not how.startswith("open "), (how, whole)
    assert seen["model"] == [[3]]
    require_clean(workspace)
    done["forgettings under readers"] += len(users)
    done["reads during them"] += sum(sum(json.loads(out.read_text()).values()) for out in outs.values())
