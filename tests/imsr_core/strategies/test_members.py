"""A model of several members: each is what it would be alone, and the score takes their mean."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from imsr_core.checkpoint import Before, chain_at, load_state, save_state
from imsr_core.config import InterestsConfig
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


def test_progress_counts_the_steps_of_all_members() -> None:
    told: list[tuple[int, int]] = []
    state = learnt("imsr", config())
    strategy_named("imsr")(state, *span_number(SPANS), lambda done, total, loss: told.append((done, total)))
    alone: list[tuple[int, int]] = []
    one = learnt("imsr", config(members=1))
    strategy_named("imsr")(one, *span_number(SPANS), lambda done, total, loss: alone.append((done, total)))
    assert [done for done, _ in told] == list(range(1, len(told) + 1))
    assert len(told) == MEMBERS * len(alone) == told[-1][1]


def test_interests_that_learn_what_the_counts_leave_do_so_in_every_member() -> None:
    of = config(score={"enabled": True}, training={"residual": True})
    plain = learnt("imsr", config(score={"enabled": True}))
    state = learnt("imsr", of)
    assert state.score is not None
    for mine, theirs in zip((state, *state.members), (plain, *plain.members), strict=True):
        assert not torch.equal(mine.items.weight, theirs.items.weight)
