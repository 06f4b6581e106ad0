"""What every strategy must keep, whatever it does inside. A new strategy inherits these tests by naming itself:

class TestReplay(StrategyContract):
    name = "replay"
"""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from imsr_core.checkpoint import load_state, save_state
from imsr_core.interests import InterestStore
from imsr_core.ragged import SpanSequences
from imsr_core.state import ModelState
from imsr_core.strategies import Change, SpanUpdate, strategy_named
from imsr_core.strategies.protocol import Progress
from imsr_core.testing.planted_logs import (
    EXTRACTORS,
    assert_equal,
    copy_of,
    random_span,
    tensors_of,
    tensors_of_store,
    tiny_config,
)

SPANS = 6
#: States M_0 .. M_T (M_0 has seen nothing), the updates between them, and the steps that each reported.
Run = tuple[list[ModelState], list[SpanUpdate], list[list[tuple[Any, ...]]]]


def span_number(t: int) -> tuple[SpanSequences, int]:
    """Span t and the catalogue after it: every span brings new users and, but for two, new items."""
    items = 16 + 4 * (t + t // 3)
    return random_span(100 + t, range(t, 12 + 2 * t), items), items


@cache
def chain(name: str, extractor: str, seed: int = 0) -> Run:
    """A chain of spans by the strategy of this name."""
    config = tiny_config(
        extractor,
        detector={"c1": 0.7},
        trimmer={"c2": 0.15},
        training={"seed": seed},
        elastic={"idle_spans": 2, "budget": 4, "merge_cosine": 0.6},
        ader={"pool": 20, "items": 5},
    )
    states, updates, steps = [ModelState.initial(config)], [], []
    for t in range(SPANS):
        reported: list[tuple[Any, ...]] = []
        before = copy_of(states[-1])
        update = strategy_named(name)(states[-1], *span_number(t), progress=_into(reported))
        assert_equal(tensors_of(states[-1]), before)
        states.append(update.state)
        updates.append(update)
        steps.append(reported)
    return states, updates, steps


def _into(reported: list[tuple[Any, ...]]) -> Progress:
    return lambda *step: reported.append(step)


def rows_of(store: InterestStore, users: torch.Tensor, outside: bool = False) -> dict[str, torch.Tensor]:
    """The interests of these users, or of all others."""
    inside = torch.isin(store.user, users)
    return tensors_of_store(store.take(~inside if outside else inside))


def forgotten_in(update: SpanUpdate) -> list[tuple[int, int]]:
    """(user, interest id) of what the span forgot."""
    lost = update.changes.change == list(Change).index(Change.FORGOTTEN)
    return list(zip(update.changes.user[lost].tolist(), update.changes.interest_id[lost].tolist(), strict=True))


class StrategyContract:
    """Inherit, and name the strategy."""

    name: str

    @pytest.fixture(params=EXTRACTORS)
    def extractor(self, request: Any) -> str:
        """Each extractor there is."""
        return request.param

    @pytest.fixture
    def run(self, extractor: str) -> Run:
        """The chain by this extractor."""
        return chain(self.name, extractor)

    def test_the_state_that_is_passed_in_stays_as_it_was(self, run: Run) -> None:
        """`chain` compares it before and after each span; the next span starts from the same tensors."""
        states, _, _ = run
        assert [state.spans for state in states] == list(range(SPANS + 1))

    def test_everything_is_finite_and_something_was_learnt(self, run: Run) -> None:
        states, updates, steps = run
        for before, after, update, reported in zip(states, states[1:], updates, steps, strict=False):
            assert all(bool(t.isfinite().all()) for t in tensors_of(after).values() if t.is_floating_point())
            assert update.losses
            assert all(loss == loss for loss in update.losses)
            if before.n_items:
                assert not torch.equal(after.items.weight[: before.n_items], before.items.weight)
            done, total, losses = zip(*reported, strict=True)
            assert list(done) == list(range(1, len(done) + 1))
            assert set(total) == {len(done)}
            assert all(loss == loss for loss in losses)

    def test_the_configuration_and_the_catalogue_are_those_asked_for(self, run: Run) -> None:
        states, _, _ = run
        for t, state in enumerate(states[1:]):
            assert state.config == states[0].config
            assert state.n_items == span_number(t)[1]

    def test_users_outside_the_span_are_untouched_bit_for_bit(self, run: Run) -> None:
        states, updates, _ = run
        outside = 0
        for t, update in enumerate(updates):
            users = torch.from_numpy(span_number(t)[0].users)
            before = rows_of(states[t].store, users, outside=True)
            assert_equal(rows_of(update.state.store, users, outside=True), before)
            outside += len(before["store.user"])
        assert outside

    def test_the_interests_handed_back_are_those_of_the_span(self, run: Run) -> None:
        _, updates, _ = run
        for t, update in enumerate(updates):
            users = torch.from_numpy(span_number(t)[0].users)
            assert torch.equal(update.interests.users, users)
            assert_equal(tensors_of_store(update.interests), rows_of(update.state.store, users))

    def test_ids_are_for_life_and_dense_where_nothing_was_forgotten_and_the_cap_holds(self, run: Run) -> None:
        states, updates, _ = run
        forgotten = 0
        ever: dict[tuple[int, int], int] = {}
        for state, update in zip(states[1:], updates, strict=True):
            store = state.store
            forgotten += update.changes.count(Change.FORGOTTEN)
            place = torch.cat([torch.arange(k) for k in store.counts.tolist()])
            assert (store.interest_id >= place).all() if forgotten else torch.equal(store.interest_id, place)
            assert int(store.counts.max()) <= state.config.model.max_interests
            names = list(zip(store.user.tolist(), store.interest_id.tolist(), strict=True))
            assert names == sorted(set(names))
            born = dict(zip(names, store.born.tolist(), strict=True))
            assert all(ever.get(name, when) == when for name, when in born.items())
            ever |= born
        gone = [row for update in updates for row in forgotten_in(update)]
        assert not set(gone) & set(names)
        assert len(gone) == len(set(gone))

    def test_the_report_adds_up(self, run: Run) -> None:
        states, updates, _ = run
        for t, update in enumerate(updates):
            before, after, changes = states[t].store, update.state.store, update.changes
            users = torch.from_numpy(span_number(t)[0].users)
            gone = changes.count(Change.FORGOTTEN)
            assert len(after) == len(before) + changes.count(Change.BORN) - gone
            assert changes.count(Change.KEPT) + gone == int(before.counts_of(users).sum())
            assert update.new_users == int((before.counts_of(users) == 0).sum())
            assert len(update.interests) == changes.count(Change.KEPT) + changes.count(Change.BORN)
            lost = changes.change == list(Change).index(Change.FORGOTTEN)
            there = (changes.interest_id >= 0) & ~lost
            assert torch.equal(changes.reason < 0, there)
            assert torch.equal(changes.user[there], update.interests.user)
            assert torch.equal(changes.interest_id[there], update.interests.interest_id)
            names = list(Change)
            for user, change, residual, drift in zip(
                changes.user.tolist(), changes.change.tolist(), changes.residual, changes.drift, strict=True
            ):
                known = int(before.counts_of(torch.tensor([user]))) > 0
                assert drift.isnan() == (names[change] not in (Change.KEPT, Change.FORGOTTEN))
                assert residual.isnan() == (not known or names[change] in (Change.KEPT, Change.FORGOTTEN))

    def test_each_item_read_supports_one_interest(self, run: Run) -> None:
        states, updates, _ = run
        history = states[0].config.model.history
        for t, update in enumerate(updates):
            span, _ = span_number(t)
            support: Counter[int] = Counter()
            for user, count in zip(update.interests.user.tolist(), update.interests.support.tolist(), strict=True):
                support[user] += count
            expected = {u: min(n, history) for u, n in zip(span.users.tolist(), span.counts.tolist(), strict=True)}
            assert support == Counter(expected)
            live = update.interests.support > 0
            assert set(update.interests.active[live].tolist()) == {t}
            before, idle = states[t].store, update.interests.take(~live & (update.interests.born < t))
            names = zip(before.user.tolist(), before.interest_id.tolist(), strict=True)
            active = dict(zip(names, before.active.tolist(), strict=True))
            assert all(
                active[tuple(name)] == last
                for *name, last in zip(idle.user.tolist(), idle.interest_id.tolist(), idle.active.tolist(), strict=True)
            )

    @pytest.mark.parametrize("stop", [1, SPANS - 1])
    def test_save_and_load_equals_never_having_stopped(self, run: Run, stop: int, tmp_path: Path) -> None:
        states, _, _ = run
        save_state(states[stop], tmp_path)
        loaded = load_state(tmp_path, states[stop].store)
        loaded.user_memory = states[stop].user_memory
        for t in range(stop, SPANS):
            loaded = strategy_named(self.name)(loaded, *span_number(t)).state
        assert_equal(tensors_of(loaded), tensors_of(states[-1]))

    def test_one_seed_gives_the_same_bits_and_another_gives_others(self, extractor: str) -> None:
        states, _, _ = chain(self.name, extractor)
        again, _, _ = chain.__wrapped__(self.name, extractor)
        other, _, _ = chain(self.name, extractor, 1)
        assert_equal(tensors_of(again[-1]), tensors_of(states[-1]))
        for key in ("items.weight", "store.vectors"):
            left, right = tensors_of(other[-1])[key], tensors_of(states[-1])[key]
            assert left.shape != right.shape or not torch.equal(left, right)

    @pytest.mark.parametrize("moments", ["carry", "reset"])
    def test_clocks_go_on_or_start_afresh(self, extractor: str, moments: str) -> None:
        config = tiny_config(extractor, training={"moments": moments})
        state, strategy = ModelState.initial(config), strategy_named(self.name)
        for _ in range(2):
            state = strategy(state, random_span(5, range(8), 20), 20).state
        batches = -(-len(random_span(5, range(8), 20).items) // config.training.batch_size)
        longest = int(state.items.steps.max())
        most = batches * config.training.epochs
        assert longest <= most if moments == "reset" else longest > most
        clocks = [int(step) for _, _, step in state.extractor_optimizer.values()]
        assert clocks
        assert all(clock <= most if moments == "reset" else clock > most for clock in clocks)
