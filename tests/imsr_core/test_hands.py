"""Work over users by buckets gives what one pass gives, whatever the strategy and the size of a bucket."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from imsr_core import extraction
from imsr_core.hands import hands_for, lent
from imsr_core.ragged import empty_sequences
from imsr_core.score.contexts import Contexts
from imsr_core.score.counting import counted
from imsr_core.score.pairs import Pairs
from imsr_core.state import ModelState
from imsr_core.strategies import strategy_named
from imsr_core.testing.planted_logs import EXTRACTORS, assert_equal, random_span, tensors_of, tiny_config
from imsr_core.testing.strategy_contract import span_number


@dataclass
class ManyHands:
    """Does the buckets here, one by one, each from copies; notes what was done."""

    bucket_users: int
    done: list[str] = field(default_factory=list)

    def __call__(self, do, shared, buckets, how):
        for bucket in buckets:
            self.done.append(do.__name__)
            yield do(shared, {name: tensor.clone() for name, tensor in bucket.items()}, how)


def chain(strategy, extractor, hands, spans=4, **sections):
    state = ModelState.initial(tiny_config(extractor, detector={"c1": 0.7}, trimmer={"c2": 0.15}, **sections))
    with lent(hands):
        for t in range(spans):
            state = strategy_named(strategy)(state, *span_number(t)).state
    return state


@pytest.mark.parametrize("extractor", EXTRACTORS)
@pytest.mark.parametrize("strategy", ["imsr", "sml", "elastic"])
def test_interests_read_by_buckets_are_the_same_bits(monkeypatch, strategy, extractor):
    monkeypatch.setattr(extraction, "CHUNK", 4)
    hands = ManyHands(bucket_users=4)
    assert_equal(tensors_of(chain(strategy, extractor, hands)), tensors_of(chain(strategy, extractor, None)))
    assert hands.done.count("read_bucket") > 8


def test_buckets_that_cut_chunks_agree_within_rounding():
    many, one = chain("imsr", "comirec-dr", ManyHands(3)), chain("imsr", "comirec-dr", None)
    assert many.store.interest_id.tolist() == one.store.interest_id.tolist()
    torch.testing.assert_close(many.store.vectors, one.store.vectors)


@pytest.mark.parametrize("bucket_users", [3, 6, 7])
def test_what_is_counted_by_buckets_is_the_same(bucket_users):
    """Of buckets that interests are read by with the same bits (others round elsewhere, and the fit says it)."""
    hands = ManyHands(bucket_users)
    many = chain("imsr", "comirec-dr", hands, score={"enabled": True}).score
    one = chain("imsr", "comirec-dr", None, score={"enabled": True}).score
    assert {"count_bucket", "read_bucket"} == set(hands.done)
    for mine, other in zip(many.neighbours.since, one.neighbours.since, strict=True):
        for name in ("kind", "user", "item", "fresh"):
            assert np.array_equal(getattr(mine, name), getattr(other, name))
    np.testing.assert_allclose(many.neighbours.degree, one.neighbours.degree, rtol=1e-12)
    torch.testing.assert_close(many.weights.values, one.weights.values)


@pytest.mark.parametrize("bucket_users", [1, 7, 30])
def test_a_users_past_stays_with_its_bucket(bucket_users):
    before, span = random_span(1, range(40), 30), random_span(2, range(10, 60), 30)
    had = Pairs.empty(2)
    keys, first = np.unique(before.users[before.rows] * 100 + before.items, return_index=True)
    had = Pairs(keys // 100, keys % 100, before.timestamps[first], np.stack([np.ones(len(keys)), first], 1))
    with lent(ManyHands(bucket_users)):
        contexts, degree = counted(before, had, span, 30)
    wanted = Contexts.of(before, had, span)
    assert all(np.array_equal(getattr(contexts, n), getattr(wanted, n)) for n in ("kind", "user", "item", "fresh"))
    np.testing.assert_allclose(degree, wanted.degree(30), rtol=1e-12)


def test_few_users_and_nobody_who_offers_stay_here():
    hands = ManyHands(10)
    assert hands_for(100) is None
    with lent(hands):
        assert (hands_for(10), hands_for(11)) == (None, hands)
        counted(empty_sequences(), Pairs.empty(2), random_span(1, range(5), 9), 9)
        with lent(None):
            assert hands_for(100) is None
        assert hands_for(100) is hands
    assert hands_for(100) is None
    assert not hands.done
