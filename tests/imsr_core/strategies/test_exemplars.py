"""ADER's pool: herding against loops, shares, what is kept, and the weight of the distillation."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from imsr_core.config import AderConfig
from imsr_core.state import ModelState
from imsr_core.strategies import exemplars, strategy_named
from imsr_core.strategies.exemplars import Exemplars, Reader, adaptive_weight, choose_exemplars, herd, shares
from imsr_core.testing.planted_logs import EXTRACTORS, assert_equal, random_span, span_of, tensors_of, tiny_config

ITEMS = 24
imsr, ader = strategy_named("imsr"), strategy_named("ader")


def herd_by_hand(users: list[list[float]], targets: list[int], wanted: dict[int, int]) -> list[int]:
    picked: set[int] = set()
    for item, share in wanted.items():
        own = [n for n, target in enumerate(targets) if target == item]
        unit = {n: [x / math.hypot(*users[n]) for x in users[n]] for n in own}
        mean = [sum(unit[n][j] for n in own) / len(own) for j in range(len(users[0]))]
        pull, mine = list(mean), set()
        for _ in range(math.ceil(1.1 * share)):  # as released: while step < 1.1 m
            if len(mine) == share:
                break
            best = max(own, key=lambda n: (round(sum(a * b for a, b in zip(pull, unit[n], strict=True)), 12), -n))
            mine.add(best)
            pull = [w + m - x for w, m, x in zip(pull, mean, unit[best], strict=True)]
        picked |= mine
    return sorted(picked)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=25), st.integers(0, 30), st.integers(0, 999))
def test_herding_is_the_loop_over_items(targets, size, seed):
    users = torch.randn(len(targets), 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    items, counts = torch.tensor(targets).unique(return_counts=True)
    wanted = dict(zip(items.tolist(), shares(counts, size).tolist(), strict=True))
    found = herd(users, torch.tensor(targets), size).tolist()
    assert found == herd_by_hand(users.tolist(), targets, wanted)
    assert len(found) <= size


@given(st.lists(st.integers(1, 50), min_size=1, max_size=8), st.integers(0, 120))
def test_shares_follow_the_frequencies_and_fill_the_pool(counts, size):
    found = shares(torch.tensor(counts), size)
    assert int(found.sum()) == min(size, sum(counts))
    assert (found <= torch.tensor(counts)).all()
    for share, count in zip(found.tolist(), counts, strict=True):
        assert abs(share - count * min(1, size / sum(counts))) < 1


def test_herding_is_nearer_to_the_mean_than_chance():
    generator = torch.Generator().manual_seed(1)
    users = torch.nn.functional.normalize(torch.randn(300, 8, generator=generator, dtype=torch.float64), dim=-1)
    target = torch.zeros(300, dtype=torch.int64)
    chosen = herd(users, target, 20)
    chance = [torch.randperm(300, generator=generator)[:20] for _ in range(50)]
    error = [float((users[rows].mean(0) - users.mean(0)).norm()) for rows in (chosen, *chance)]
    assert error[0] < 0.75 * min(error[1:])


@pytest.mark.parametrize("extractor", EXTRACTORS)
def test_the_pool_is_bounded_and_keeps_the_logits_of_the_model_that_chose_it(extractor):
    config = tiny_config(extractor, ader={"pool": 12, "items": 6, "cuts": 2})
    state = ModelState.initial(config)
    for t in range(5):
        span = random_span(t, range(t, 12 + t), ITEMS)
        state = ader(state, span, ITEMS).state
        pool = Exemplars.of(state)
        assert 8 <= len(pool) <= 12
    assert (pool.items != pool.target[:, None]).all()
    assert pool.items.shape == (len(pool), 6)
    vectors, reader = state.item_vectors(), Reader.of(config)
    with torch.no_grad():
        history = vectors[pool.history.clamp(min=0)]
        users = reader.users(state, history, pool.history >= 0, vectors[pool.target])
    listed = torch.cat([pool.target[:, None], pool.items], 1)
    for row in range(len(pool)):
        wanted = [config.model.logit_scale * float(users[row] @ vectors[i]) for i in listed[row].tolist()]
        assert pool.logits[row].tolist() == pytest.approx(wanted, abs=1e-3)


def test_an_exemplar_is_what_a_user_did():
    config = tiny_config(ader={"pool": 100, "cuts": 3})
    span = span_of({3: [1, 2, 3, 4, 5], 8: [9], 11: [7, 6]})
    state = imsr(ModelState.initial(config), span, ITEMS).state
    pool = choose_exemplars(state, span, Exemplars.empty(config))
    assert pool.user.tolist().count(3) == 3
    assert 8 not in pool.user.tolist()  # a single event has no history
    whole = {3: [1, 2, 3, 4, 5], 11: [7, 6]}
    for user, history, target in zip(pool.user.tolist(), pool.history.tolist(), pool.target.tolist(), strict=True):
        sequence = [i for i in history if i >= 0]
        assert [*sequence, target] == whole[user][: len(sequence) + 1]


def test_a_chain_that_another_strategy_began_gets_its_exemplars_from_the_history():
    config = tiny_config(ader={"pool": 20}, retainer={"enabled": False}, detector={"enabled": False})
    first, second = random_span(1, range(9), ITEMS), random_span(2, range(9), ITEMS)
    own = ader(ModelState.initial(config), first, ITEMS).state
    other = imsr(ModelState.initial(config), first, ITEMS).state
    learnt = [ader(base, second, ITEMS, history=lambda: first).state for base in (own, other)]
    assert_equal(tensors_of(learnt[0]), tensors_of(learnt[1]))


def test_a_pool_of_another_shape_is_left_behind():
    state = ader(ModelState.initial(tiny_config(ader={"items": 6})), random_span(1, range(9), ITEMS), ITEMS).state
    assert len(Exemplars.of(state))
    state.config = tiny_config(ader={"items": 7})
    assert len(Exemplars.of(state)) == 0
    assert len(Exemplars.of(ader(state, random_span(2, range(9), ITEMS), ITEMS).state))


def test_replay_pulls_towards_the_old_logits():
    def divergence(weight: float) -> float:
        config = tiny_config(ader={"weight": weight, "pool": 60}, training={"epochs": 6, "learning_rate": 0.02})
        first = ader(ModelState.initial(config), random_span(1, range(12), ITEMS), ITEMS).state
        pool = Exemplars.of(first)
        after = ader(first, random_span(2, range(12), ITEMS), ITEMS).state
        listed = after.item_vectors()[torch.cat([pool.target[:, None], pool.items], 1)]
        history = after.item_vectors()[pool.history.clamp(min=0)]
        with torch.no_grad():
            users = Reader.of(config).users(after, history, pool.history >= 0, listed[:, 0])
        logits = config.model.logit_scale * (listed @ users[..., None]).squeeze(-1)
        old = pool.logits.softmax(1)
        return float((old * (old.log() - logits.log_softmax(1))).sum(1).mean())

    assert divergence(3.0) < 0.5 * divergence(0.0)


def test_the_weight_grows_with_the_pool_and_falls_with_new_items():
    config = AderConfig(weight=0.8)
    assert adaptive_weight(config, 80, 100, 500, 1000) == pytest.approx(0.8 * math.sqrt(0.8 * 0.5))
    assert adaptive_weight(config, 0, 100, 0, 1000) == 0.0
    assert adaptive_weight(config, 5, 5, 5, 0) > 0


def test_without_a_pool_ader_is_fine_tuning_bit_for_bit():
    config = tiny_config(ader={"pool": 0})
    left = right = ModelState.initial(config)
    for t in range(3):
        span = random_span(t, range(9), ITEMS)
        left, right = ader(left, span, ITEMS).state, strategy_named("fine_tune")(right, span, ITEMS).state
    assert torch.equal(left.items.weight, right.items.weight)
    assert torch.equal(left.store.vectors, right.store.vectors)


@pytest.mark.parametrize("chunk", [1, 3, 1000])
def test_a_pool_is_read_in_pieces(monkeypatch, chunk):
    config = tiny_config(ader={"pool": 40, "items": 5})
    state = strategy_named("ader")(ModelState.initial(config), random_span(1, range(12), 24), 24).state
    whole = choose_exemplars(state, random_span(2, range(12), 24), Exemplars.empty(config))
    monkeypatch.setattr(exemplars, "CHUNK", chunk)
    parts = choose_exemplars(state, random_span(2, range(12), 24), Exemplars.empty(config))
    assert len(whole) > 3
    torch.testing.assert_close(vars(parts), vars(whole))
