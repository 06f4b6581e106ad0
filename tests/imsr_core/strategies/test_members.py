"""A model of several members: each is what it would be alone, and the score takes their mean."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from threading import Thread, current_thread
from threading import enumerate as enumerate_threads
from types import SimpleNamespace

import pytest
import torch

from imsr_core.checkpoint import Before, chain_at, load_state, save_state
from imsr_core.config import InterestsConfig
from imsr_core.errors import NonFiniteError
from imsr_core.hands import lent
from imsr_core.holdout import hide_last
from imsr_core.members import config_of
from imsr_core.ragged import empty_sequences
from imsr_core.retrieval import nearest_scores
from imsr_core.session import session_interests, session_state
from imsr_core.state import ModelState
from imsr_core.strategies import strategy_named
from imsr_core.testing.planted_logs import assert_equal, copy_of, tensors_of, tensors_of_store, tiny_config
from imsr_core.testing.strategy_contract import span_number

SPANS = 4
MEMBERS = 3
STRATEGIES = ["imsr", "fine_tune", "ader", "sml", "elastic"]


def config(extractor: str = "comirec-dr", members: int = MEMBERS, **more: dict) -> InterestsConfig:
    return tiny_config(
        extractor,
        detector={"c1": 0.7},
        trimmer={"c2": 0.15},
        model={"members": members},
        elastic={"idle_spans": 2, "budget": 4, "merge_cosine": 0.6},
        ader={"pool": 20, "items": 5},
        **more,
    )


def learnt(name: str, of: InterestsConfig, folder: Path | None = None) -> ModelState:
    """A chain of spans, each begun from what was saved of the one before, if there is a folder."""
    state = ModelState.initial(of)
    for t in range(SPANS):
        state = strategy_named(name)(state, *span_number(t)).state
        if folder is not None:
            state = saved(state, folder / str(t))
    return state


def saved(state: ModelState, folder: Path) -> ModelState:
    """The state after it was written and read; interests and what is remembered of users are not in a checkpoint."""
    folder.mkdir()
    save_state(state, folder)
    loaded = load_state(folder, state.store)
    loaded.user_memory = state.user_memory
    for member, before in zip(loaded.members, state.members, strict=True):
        member.store = before.store
    return loaded


@pytest.mark.parametrize("name", STRATEGIES)
def test_each_member_is_the_model_that_its_seed_makes_alone(name: str, tmp_path: Path) -> None:
    together = learnt(name, config(), tmp_path)
    assert_equal(tensors_of_store(together.store), tensors_of_store(learnt(name, config(members=1)).store))
    for number, member in enumerate(together.members, 1):
        alone = learnt(name, config_of(config(), number))
        assert torch.equal(member.items.weight, alone.items.weight)
        assert torch.equal(member.items.steps, alone.items.steps)
        assert_equal(tensors_of_store(member.store), tensors_of_store(alone.store))
    first, second = together.members
    assert not torch.equal(first.items.weight, second.items.weight)
    assert not torch.equal(first.items.weight, together.items.weight)


@pytest.mark.parametrize("extractor", ["comirec-dr", "comirec-sa", "mind"])
def test_the_score_takes_the_mean(extractor: str) -> None:
    state = learnt("imsr", config(extractor))
    term, users = state.interest_term(), state.store.users.numpy()[:5]
    each = [
        nearest_scores(part.store, torch.from_numpy(users), torch.nn.functional.normalize(part.items.weight, dim=1))
        for part in (state, *state.members)
    ]
    wanted = state.config.model.logit_scale * sum(each) / MEMBERS
    scores = torch.zeros(5, state.n_items)
    term.add(scores, users, torch.ones(1))
    torch.testing.assert_close(scores, wanted)
    items = torch.arange(state.n_items).repeat(5, 1).numpy()
    torch.testing.assert_close(term.at(users, items)[..., 0], wanted)
    shared, pairs = term.asked(users, items[0], torch.arange(5).numpy(), items[0, :5])
    torch.testing.assert_close(shared[..., 0], wanted)
    torch.testing.assert_close(pairs[:, 0], wanted.diagonal())


def test_what_is_passed_in_stays_as_it_was() -> None:
    state = learnt("imsr", config())
    members = [copy_of(state.member(number)) for number in range(1, MEMBERS)]
    strategy_named("imsr")(state, *span_number(SPANS))
    for number, before in enumerate(members, 1):
        assert_equal(tensors_of(state.member(number)), before)


def test_a_chain_of_changes_reads_as_the_whole_checkpoint(tmp_path: Path) -> None:
    state = learnt("imsr", config())
    (tmp_path / "0").mkdir()
    save_state(state, tmp_path / "0")
    span, n_items = span_number(SPANS)
    after = strategy_named("imsr")(state, span, n_items).state
    after.members[0].items.weight[0] += 1.0  # a row that only one member has changed is written, too
    (tmp_path / "1").mkdir()
    chain = save_state(after, tmp_path / "1", Before(state, chain_at(tmp_path / "0")))
    folders = [tmp_path / "0", tmp_path / "1"] if chain.links else [tmp_path / "1"]
    found = load_state(folders)
    for mine, theirs in zip((found, *found.members), (after, *after.members), strict=True):
        assert_equal(mine.items.tensors(), theirs.items.tensors())


def test_hidden_events_are_hidden_from_every_member() -> None:
    state = learnt("imsr", config())
    span, n_items = span_number(SPANS)
    visible, hidden = hide_last(span, 0.2, salt=3)
    assert hidden.n_events
    blind = strategy_named("imsr")(state, span, n_items, visible=visible).unseen()
    never = strategy_named("imsr")(state, visible, n_items).state
    for mine, theirs in zip((blind, *blind.members), (never, *never.members), strict=True):
        assert_equal(tensors_of_store(mine.store), tensors_of_store(theirs.store))


def test_an_empty_span_changes_no_member() -> None:
    state = learnt("imsr", config())
    after = strategy_named("imsr")(state, empty_sequences(), state.n_items).state
    for mine, theirs in zip((after, *after.members), (state, *state.members), strict=True):
        assert torch.equal(mine.items.weight, theirs.items.weight)
        assert_equal(tensors_of_store(mine.store), tensors_of_store(theirs.store))


def test_a_stranger_has_interests_of_each_member() -> None:
    state = learnt("imsr", config())
    items = torch.tensor([1, 4, 2])
    stranger = session_state(state, items)
    for number, member in enumerate(stranger.members, 1):
        assert_equal(tensors_of_store(member.store), tensors_of_store(session_interests(state.member(number), items)))
    assert not torch.equal(stranger.store.vectors, stranger.members[0].store.vectors)


@pytest.mark.parametrize("cores", [1, 2, 3])
def test_progress_counts_the_steps_of_all_members(cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(cores), raising=False)
    told: list[tuple[int, int, Thread]] = []
    state = learnt("imsr", config())
    strategy_named("imsr")(state, *span_number(SPANS), lambda *step: told.append((*step[:2], current_thread())))
    alone: list[tuple[int, int]] = []
    one = learnt("imsr", config(members=1))
    strategy_named("imsr")(one, *span_number(SPANS), lambda done, total, loss: alone.append((done, total)))
    done = [done for done, _, _ in told]
    assert done == sorted(set(done))
    assert done[-1] == told[-1][1] == MEMBERS * len(alone)
    assert {thread for _, _, thread in told} == {current_thread()}
    if cores == 1:
        assert done == list(range(1, len(done) + 1))


@pytest.mark.parametrize(("name", "residual"), [*((name, False) for name in STRATEGIES), ("imsr", True)])
def test_what_is_learnt_does_not_depend_on_the_cores(
    name: str, residual: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for cores in (1, 2, 8):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: range(cores), raising=False)
        found.append(learnt(name, config(score={"enabled": True}, training={"residual": residual})))
    for other in found[1:]:
        for mine, theirs in zip((found[0], *found[0].members), (other, *other.members), strict=True):
            assert_equal(tensors_of_store(mine.store), tensors_of_store(theirs.store))
            assert_equal(mine.items.tensors(), theirs.items.tensors())
        assert other.memory.keys() == found[0].memory.keys()
        assert found[0].score is not None
        assert other.score is not None
        assert torch.equal(found[0].score.weights.values, other.score.weights.values)


def members_that_learn_now() -> list[Thread]:
    return [thread for thread in enumerate_threads() if thread.name.startswith("member")]


@pytest.mark.parametrize("cores", [2, 3])
def test_whoever_ends_the_first_member_ends_all(cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(cores), raising=False)
    state = learnt("imsr", config())
    state.config = replace(state.config, training=replace(state.config.training, epochs=10_000))

    def end(done: int, total: int, loss: float) -> None:
        if done > 20:
            assert members_that_learn_now()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        strategy_named("imsr")(state, *span_number(SPANS), end)
    assert not members_that_learn_now()


def test_a_further_member_that_fails_ends_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(2), raising=False)
    state = learnt("imsr", config())
    state.config = replace(state.config, training=replace(state.config.training, epochs=10_000))
    state.members[0].store.vectors[:] = torch.nan
    with pytest.raises(NonFiniteError, match="interests"):
        strategy_named("imsr")(state, *span_number(SPANS))
    assert not members_that_learn_now()


def test_nobody_learns_beside_where_steps_have_several_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8), raising=False)
    state, seen = learnt("imsr", config()), []

    def look(done: int, total: int, loss: float) -> None:
        seen.extend(members_that_learn_now())

    torch.set_num_threads(2)
    try:
        strategy_named("imsr")(state, *span_number(SPANS), look)
    finally:
        torch.set_num_threads(1)
    with lent(SimpleNamespace(bucket_users=10**9)):
        strategy_named("imsr")(state, *span_number(SPANS), look)
    assert not seen
    strategy_named("imsr")(state, *span_number(SPANS), look)
    assert seen


def test_interests_that_learn_what_the_counts_leave_do_so_in_every_member() -> None:
    of = config(score={"enabled": True}, training={"residual": True})
    plain = learnt("imsr", config(score={"enabled": True}))
    state = learnt("imsr", of)
    assert state.score is not None
    for mine, theirs in zip((state, *state.members), (plain, *plain.members), strict=True):
        assert not torch.equal(mine.items.weight, theirs.items.weight)
