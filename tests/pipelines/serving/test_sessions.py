"""A session against a model with a score: all terms read the items that are given."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from small_world import TOML, log, make, run_all

from imsr_core import item_vectors
from imsr_core.errors import ConfigError
from pipelines.interests import remembered
from pipelines.interests.recommend import Recommender
from pipelines.serving.model import ServedModel, UnknownItemError


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    toml = TOML.replace("[evaluation]", "window = 1\n[score]\nenabled = true\n[evaluation]")
    workspace = make(tmp_path_factory.mktemp("scored") / "w", log(range(3)), toml)
    run_all(workspace)
    return ServedModel.load(workspace)


def test_a_session_has_reasons_and_leaves_its_items_out(model):
    items, known = model.recommend_session(["i1", "unheard of", "i2"], 6)
    assert (known, len(items)) == (2, 6)
    assert [row["rank"] for row in items] == [1, 2, 3, 4, 5, 6]
    assert [row["score"] for row in items] == sorted((row["score"] for row in items), reverse=True)
    assert not {"i1", "i2"} & {row["item_id"] for row in items}
    words = ("goes with", "near the items given", "popular of late", "rising", "new to the user")
    assert all(row["reason"].startswith(words) for row in items)
    assert model.recommend_session(["i1", "unheard of", "i2"], 6) == (items, known)


def test_what_was_given_counts_as_had_where_it_may_be_shown(model):
    shown, _ = model.recommend_session(["i1", "i1", "i2"], 40, new=False)
    had = {row["item_id"]: row["reason"] for row in shown if row["reason"].startswith("had")}
    assert had.get("i1", "had 2 times, last today") == "had 2 times, last today"
    assert {"i1", "i2"} <= {row["item_id"] for row in shown}


def test_another_session_has_another_list(model):
    lists = [model.recommend_session([f"i{n}"], 5)[0] for n in (1, 13, 25)]
    assert len({tuple(row["score"] for row in rows) for rows in lists}) == 3


def test_a_user_is_answered_as_before_a_session(model):
    before = model.recommend("u1", 5)
    model.recommend_session(["i1"], 5)
    assert model.recommend("u1", 5) == before


def test_what_a_user_had_is_in_memory_and_is_what_the_sequences_say(model, monkeypatch):
    recommender = model.recommender
    users = np.array([3, -1, 0, 7])
    found = recommender._seen(users)
    assert len(found[0])
    monkeypatch.setattr(remembered, "counts_are_all", lambda *given: np.zeros(len(given[-1]), dtype=bool))
    read = recommender._seen(users)
    assert set(zip(*map(np.ndarray.tolist, found), strict=True)) == set(zip(*map(np.ndarray.tolist, read), strict=True))
    assert set(found[0].tolist()) <= {0, 2, 3}
    monkeypatch.setattr(remembered, "counts_are_all", lambda *given: given[-1] == 0)  # of some, not of all
    mixed = recommender._seen(users)
    assert sorted(zip(*mixed, strict=True)) == sorted(zip(*read, strict=True))


def test_what_cannot_be_asked_says_so(model):
    assert len(repr(model)) < 500
    with pytest.raises(ConfigError, match="where several are wanted"):
        model.recommend_session("i1", 4)
    for ask in (lambda n: model.recommend_session(["i1"], n), lambda n: model.similar("i1", n)):
        with pytest.raises(ConfigError, match="0 items"):
            ask(0)


def test_items_that_nobody_knows_are_an_error(model):
    with pytest.raises(UnknownItemError):
        model.recommend_session(["unheard of"], 4)


def test_nothing_of_a_session_stays_in_memory(model):
    model.recommend_session(["i1"], 5)
    before = recommenders()
    for number in (1, 13, 25):
        model.recommend_session([f"i{number}"], 5)
        model.recommend_session([f"i{number}"], 5, new=False)
    assert recommenders() == before


def test_a_catalogue_is_not_made_anew_for_a_session(model, monkeypatch):
    asked, nearest = [], item_vectors.nearest_of_one
    spy = lambda store, user, across: asked.append(across.data_ptr()) or nearest(store, user, across)  # noqa: E731
    monkeypatch.setattr(item_vectors, "nearest_of_one", spy)
    for user in ("u1", "u2"):  # the answer to the last one is kept
        model.recommend(user, 5)
    own = set(asked)
    asked.clear()
    for new in (True, False):
        model.recommend_session(["i1"], 5, new=new)
    assert asked
    assert set(asked) == own


def recommenders() -> int:
    """How many there are in this process; each holds a model."""
    gc.collect()
    return sum(type(each) is Recommender for each in gc.get_objects())
