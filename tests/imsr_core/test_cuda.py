"""A chain of spans trained on a CUDA device beside one trained on the processor. Skipped where there is no such device.

Needs torch, numpy and pytest alone: `python -m pytest --confcutdir=tests/imsr_core tests/imsr_core/test_cuda.py`.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from imsr_core.checkpoint import load_state, save_state
from imsr_core.retrieval import top_items
from imsr_core.state import ModelState
from imsr_core.strategies import strategy_named
from imsr_core.testing.planted_logs import CLUSTER, EXTRACTORS, planted_span, tensors_of, tiny_config

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")

STRATEGIES = ("imsr", "fine_tune", "sml", "ader", "elastic")
USERS, CLUSTERS, EVENTS, SPANS = 200, 12, 12, 4
ITEMS = CLUSTERS * CLUSTER
#: How far two trainings may end from each other, as a part of how far they moved.
ROUNDING, HALF = 0.02, 0.35
#: Points of HR@8 that half precision may lose or win.
LEVEL = 0.03


def span_number(t):
    """Everybody's events of a span: two clusters each, one of which moves on from span to span."""
    likes = {user: [user % CLUSTERS, (user * 5 + t) % CLUSTERS] for user in range(USERS) if (user + t) % 7}
    return planted_span(likes, EVENTS, seed=t)


def settings(extractor, **training):
    """Small, and with everything on: detector, trimmer, retainer, replay."""
    several = {"batch_size": 128, "negatives": 40, "base_epochs": 6, "epochs": 3, "patience": 2, "learning_rate": 0.01}
    return tiny_config(
        extractor,
        model={"dim": 16},
        detector={"c1": 0.7},
        trimmer={"c2": 0.15},
        ader={"pool": 60, "items": 10},
        training=several | training,
    )


@cache
def learnt(strategy, extractor, device, precision="float32"):
    """The state after some spans."""
    state = ModelState.initial(settings(extractor, device=device, precision=precision))
    for t in range(SPANS):
        state = strategy_named(strategy)(state, span_number(t), ITEMS).state
    return state


def hits(state):
    """HR@8: the share of the next span's events that the lists of 8 of its users hold."""
    span = span_number(SPANS)
    users = torch.from_numpy(span.users)
    listed = top_items(state.store, users, state.item_vectors(), CLUSTER).items.numpy()
    known = state.store.counts_of(users).numpy()[span.rows] > 0
    return float((listed[span.rows] == span.items[:, None]).any(1)[known].mean())


def apart(left, right, start):
    """How far two tables end from each other, as a part of how far the second one moved."""
    return float((left - right).norm() / (right - start).norm())


def items_apart(left, right):
    start = ModelState.initial(right.config).with_items(ITEMS).items.weight
    return apart(left.items.weight, right.items.weight, start)


def users_with_the_same_ids(left, right):
    """Whether a proposed interest stays depends on a bar, and on which side of it rounding leaves the interest."""
    assert left.store.users.tolist() == right.store.users.tolist()
    same = [
        left.store.of_users(u[None]).interest_id.tolist() == right.store.of_users(u[None]).interest_id.tolist()
        for u in left.store.users
    ]
    return left.store.users[torch.tensor(same)]


@pytest.mark.parametrize("extractor", EXTRACTORS)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_all_that_was_learnt_is_the_same_within_rounding(strategy, extractor):
    there, here = learnt(strategy, extractor, "cuda"), learnt(strategy, extractor, "cpu")
    assert {tensor.device.type for tensor in tensors_of(there).values()} == {"cpu"}
    same = users_with_the_same_ids(there, here)
    assert len(same) > 0.97 * len(here.store.users)
    print(f"float32 {strategy} {extractor}: items {items_apart(there, here):.2e}, hits {hits(there) - hits(here):+.4f}")
    assert items_apart(there, here) < ROUNDING
    left, right = (state.store.of_users(same).vectors for state in (there, here))
    assert apart(left, right, torch.zeros(1)) < ROUNDING
    assert abs(hits(there) - hits(here)) < LEVEL / 3
    assert hits(here) > 2 * CLUSTER / ITEMS


@pytest.mark.parametrize("extractor", EXTRACTORS)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_half_precision_finds_what_full_precision_finds(strategy, extractor):
    half, full = (learnt(strategy, extractor, "cuda", kind) for kind in ("bfloat16", "float32"))
    assert {t.dtype for t in tensors_of(half).values() if t.is_floating_point()} <= {torch.float32, torch.float64}
    print(f"bfloat16 {strategy} {extractor}: items {items_apart(half, full):.2e}, hits {hits(half) - hits(full):+.4f}")
    assert items_apart(half, full) < HALF
    assert abs(hits(half) - hits(full)) < LEVEL


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_checkpoint_from_there_is_read_and_learnt_on_here(strategy, tmp_path):
    state = learnt(strategy, "comirec-sa", "cuda")
    save_state(state, tmp_path)
    loaded = load_state(tmp_path, state.store)
    loaded.user_memory = state.user_memory
    assert hits(loaded) == hits(state)
    for device in ("cpu", "cuda"):
        loaded.config = replace(loaded.config, training=replace(loaded.config.training, device=device))
        after = strategy_named(strategy)(loaded, span_number(SPANS), ITEMS).state
        assert all(bool(t.isfinite().all()) for t in tensors_of(after).values() if t.is_floating_point())


def test_no_gradient_is_left_there_and_memory_comes_back():
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    learnt.__wrapped__("imsr", "comirec-sa", "cuda")
    assert torch.cuda.memory_allocated() == before


@pytest.mark.parametrize("starts", ["random", "spread"])
@pytest.mark.parametrize("extra", [{}, {"residual": True}])
def test_other_settings_run_there(starts, extra):
    config = settings("comirec-dr", device="cuda", **extra)
    config = replace(
        config, model=replace(config.model, starts=starts), score=replace(config.score, enabled=bool(extra))
    )
    state = ModelState.initial(config)
    for t in range(2):
        state = strategy_named("imsr")(state, span_number(t), ITEMS).state
    assert np.isfinite(hits(state))


def test_two_members_that_learn_from_the_whole_catalogue_are_the_same_there():
    """What a new workspace has."""

    def learnt_on(device):
        config = settings("comirec-dr", device=device, full_softmax=ITEMS, window=1)
        state = ModelState.initial(replace(config, model=replace(config.model, members=2)))
        for t in range(2):
            state = strategy_named("imsr")(state, span_number(t), ITEMS).state
        return state

    there, here = learnt_on("cuda"), learnt_on("cpu")
    assert {tensor.device.type for tensor in tensors_of(there).values()} == {"cpu"}
    tables = zip(there.vectors_of_members(), here.vectors_of_members(), strict=True)
    assert [apart(*table, torch.zeros(1)) < ROUNDING for table in tables] == [True, True]
