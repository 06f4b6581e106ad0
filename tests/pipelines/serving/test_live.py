"""The live version: it follows the pointer, no answer mixes two versions, and a damaged version changes nothing."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from small_world import LINE, VERSIONS

from pipelines.care.forget import forget
from pipelines.interests.recommend import Recommender
from pipelines.serving import live as live_module
from pipelines.serving.live import Live
from pipelines.serving.model import ServedModel, UnknownItemError
from pipelines.workspace.layout import Workspace

NOW = datetime(2024, 3, 11, tzinfo=UTC)


def point(workspace: Workspace, version_id: str) -> None:
    with workspace.ledger.transaction() as tx:
        tx.promote(LINE, version_id, "test", at=NOW)


def test_answers_are_the_recommenders(learnt):
    model = ServedModel.load(learnt)
    table = Recommender.open(learnt).top_n(["u1"], 5)
    assert [row["item_id"] for row in model.recommend("u1", 5)] == table["item_id"].to_pylist()
    stranger = model.recommend("nobody", 3)
    assert [row["rank"] for row in stranger] == [1, 2, 3]
    assert "interest_id" not in stranger[0]


def test_a_session_is_answered_from_its_items(learnt):
    model = ServedModel.load(learnt)
    items, known = model.recommend_session(["i1", "unheard of", "i2"], 4)
    assert known == 2
    assert len(items) == 4
    assert not {"i1", "i2"} & {row["item_id"] for row in items}
    shown, _ = model.recommend_session(["i1", "i2"], 4, new=False)
    assert {row["item_id"] for row in shown} & {"i1", "i2"}
    with pytest.raises(UnknownItemError):
        model.recommend_session(["unheard of"], 4)


def test_similar_items_leave_the_item_out_and_are_ordered(learnt):
    model = ServedModel.load(learnt)
    found = model.similar("i1", 5)
    scores = [row["score"] for row in found]
    assert scores == sorted(scores, reverse=True)
    assert "i1" not in {row["item_id"] for row in found}
    assert all(-1.001 <= score <= 1.001 for score in scores)
    with pytest.raises(UnknownItemError, match="unheard of"):
        model.similar("unheard of", 5)


def test_fifty_publishes_and_five_rollbacks_under_load(learnt, copy_of):
    workspace = copy_of(learnt)
    right = {version: ServedModel.load(workspace, version).recommend("u1", 5) for version in VERSIONS}
    live, stop, wrong, seen = Live.open(workspace, look_seconds=0.0), threading.Event(), [], set()

    def ask() -> None:
        while not stop.is_set():
            try:
                with live.model() as model:
                    answer = model.recommend("u1", 5)
                    seen.add(model.version_id)
                    if answer != right[model.version_id]:
                        wrong.append(model.version_id)
            except Exception as error:
                wrong.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(55):
        back = number % 11 == 10  # one move in eleven goes back two versions
        point(workspace, VERSIONS[(number - 2 * back) % len(VERSIONS)])
        live.refresh()
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert live.problem == ""
    assert len(seen) > 1


def test_a_version_that_is_no_longer_live_leaves_the_memory(learnt, copy_of):
    workspace = copy_of(learnt)
    live = Live.open(workspace)
    live.served.recommend("u1", 5)
    before = weakref.ref(live.served.recommender)
    point(workspace, VERSIONS[0])
    assert live.refresh()
    gc.collect()
    assert before() is None


def test_a_version_that_is_damaged_leaves_the_one_before(learnt, copy_of):
    workspace = copy_of(learnt)
    live = Live.open(workspace)
    (workspace.version_folder(VERSIONS[0]) / "model.safetensors").write_bytes(b"damaged")
    point(workspace, VERSIONS[0])
    assert not live.refresh()
    assert live.problem
    with live.model() as model:
        assert model.version_id == VERSIONS[-1]
    point(workspace, VERSIONS[1])
    assert live.refresh()
    assert live.problem == ""


def test_a_disk_that_does_not_answer_leaves_the_one_before(learnt, copy_of, monkeypatch):
    workspace = copy_of(learnt)
    live = Live.open(workspace)
    point(workspace, VERSIONS[0])
    with monkeypatch.context() as patch:
        patch.setattr(ServedModel, "load", lambda *_: Path("/nowhere/model.safetensors").read_bytes())
        assert not live.refresh()
    assert "model.safetensors" in live.problem
    assert live.refresh()
    assert live.problem == ""


def test_a_forgotten_user_is_a_stranger_at_the_next_look(learnt, copy_of):
    workspace = copy_of(learnt)
    live = Live.open(workspace)
    with live.model() as model:
        assert all(row["reason"] != "popular" for row in model.recommend("u1", 3))
    forget(workspace, "u1", now=NOW)
    assert live.refresh()
    with live.model() as model:
        assert all(row["reason"] == "popular" for row in model.recommend("u1", 3))


def test_the_first_answer_after_a_quiet_night_is_that_nights(learnt, copy_of):
    workspace = copy_of(learnt)
    live = Live.open(workspace, look_seconds=0.01)
    with live.watching():
        point(workspace, VERSIONS[0])
        until(lambda: live.switches == 1)  # nothing is asked meanwhile
    with live.model() as model:
        assert model.version_id == VERSIONS[0]


def test_a_version_that_cannot_be_loaded_is_not_tried_at_every_look(learnt, copy_of, monkeypatch):
    workspace, tried = copy_of(learnt), []
    live = Live.open(workspace, look_seconds=0.01)
    monkeypatch.setattr(live_module, "STUCK_SECONDS", 0.5)

    def load(*_: object) -> None:
        tried.append(time.monotonic())
        raise OSError("the disk does not answer")

    with monkeypatch.context() as patch, live.watching():
        patch.setattr(ServedModel, "load", load)
        point(workspace, VERSIONS[0])
        until(lambda: len(tried) == 2)
        patch.undo()
        until(lambda: live.switches == 1)  # and is there again by itself
    assert tried[1] - tried[0] >= 0.5
    assert not live.problem


def test_after_the_block_nobody_looks(learnt, copy_of):
    workspace = copy_of(learnt)
    live = Live.open(workspace, look_seconds=0.01)
    with live.watching():
        pass
    until(lambda: all(thread.name != "pointer" for thread in threading.enumerate()))


def until(holds: Callable[[], bool]) -> None:
    """Wait for something that another thread does."""
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)
