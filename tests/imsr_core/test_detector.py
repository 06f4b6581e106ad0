"""NID: clarity against a loop over users, items and interests; who fires at which threshold."""

import math

import literal_formulas as literal
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from imsr_core.config import DetectorConfig
from imsr_core.detector import clarity, detect, item_clarity, threshold
from imsr_core.interests import InterestStore
from imsr_core.testing.planted_logs import store_of

COUNTS = st.lists(st.integers(0, 4), min_size=1, max_size=5)


@given(counts=COUNTS, events=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6))), seed=st.integers(0, 99))
def test_clarity_is_the_mean_kl_of_each_user(counts, events, seed):
    generator = torch.Generator().manual_seed(seed)
    interests = {3 * u: torch.randn(k, 4, generator=generator).tolist() for u, k in enumerate(counts) if k}
    store = store_of(interests) if interests else InterestStore.empty(4)
    items = torch.randn(7, 4, generator=generator)
    users = torch.arange(len(counts)) * 3
    events = [(u % len(counts), i) for u, i in events]
    who, what = (torch.tensor([e[j] for e in events], dtype=torch.int64) for j in (0, 1))
    found = clarity(store, users, who, what, items, scale=2.0, chunk=3)
    for u in range(len(counts)):
        own = interests.get(3 * u)
        values = [literal.clarity_of_item(items[i].tolist(), own, 2.0) for v, i in events if v == u and own]
        expected = sum(values) / len(values) if values else math.nan
        assert float(found[u]) == pytest.approx(expected, rel=1e-4, abs=1e-5, nan_ok=True)


@pytest.mark.parametrize(("min_items", "measured"), [(1, [True, True]), (2, [False, True]), (3, [False, False])])
def test_a_user_with_too_few_items_has_no_clarity(min_items, measured):
    store = store_of({0: [[1.0, 0.0], [0.0, 1.0]], 1: [[1.0, 0.0], [0.0, 1.0]]})
    items, who = torch.eye(2), torch.tensor([0, 1, 1])
    found = clarity(store, torch.tensor([0, 1]), who, torch.tensor([0, 0, 1]), items, 2.0, min_items)
    assert (~found.isnan()).tolist() == measured


@given(st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=6), st.integers(0, 3))
def test_kl_is_never_negative_and_ignores_masked_places(logits, padding):
    real = torch.tensor([logits])
    padded = torch.tensor([logits + [77.0] * padding])
    mask = torch.arange(padded.shape[1])[None] < len(logits)
    value = item_clarity(padded, mask)
    assert float(value) >= 0
    assert torch.allclose(value, item_clarity(real, torch.ones_like(real, dtype=torch.bool)), atol=1e-5)


def test_an_item_that_fits_all_interests_alike_has_no_clarity():
    same = torch.full((1, 4), 3.0)
    everything = torch.ones(1, 4, dtype=torch.bool)
    assert float(item_clarity(same, everything)) == pytest.approx(0, abs=1e-6)
    assert float(item_clarity(same * torch.tensor([1.0, 0, 0, 0]), everything)) > 0.3


VALUES = torch.tensor([0.4, 0.1, math.nan, 0.3, 0.2], dtype=torch.float64)


@pytest.mark.parametrize(
    ("c1", "fires"),
    [(0, []), (0.2, []), (0.25, [1]), (0.5, [1, 4]), (0.75, [1, 3, 4]), (0.99, [1, 3, 4]), (1, [0, 1, 3, 4])],
)
def test_the_quantile_rule_fires_for_that_share_of_the_users(c1, fires):
    assert detect(VALUES, DetectorConfig(rule="quantile", c1=c1)).nonzero().flatten().tolist() == fires


@pytest.mark.parametrize(("c1", "fires"), [(0, []), (0.1, []), (0.25, [1, 4]), (9, [0, 1, 3, 4])])
def test_the_absolute_rule_fires_below_c1(c1, fires):
    config = DetectorConfig(rule="absolute", c1=c1)
    assert detect(VALUES, config).nonzero().flatten().tolist() == fires
    assert threshold(VALUES, config) == c1


@given(st.integers(1, 60), st.floats(0, 1), st.integers(0, 99))
def test_without_ties_the_share_is_exact(n, c1, seed):
    values = torch.rand(n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    fired = int(detect(values, DetectorConfig(c1=c1)).sum())
    assert fired == int(round(c1 * n, 6))


@pytest.mark.parametrize("rule", ["quantile", "absolute"])
def test_nobody_known_nobody_fires(rule):
    nobody = torch.full((3,), math.nan, dtype=torch.float64)
    config = DetectorConfig(rule=rule, c1=1)
    assert not detect(nobody, config).any()
    assert not detect(nobody[:0], config).any()
    assert not detect(VALUES, DetectorConfig(enabled=False, c1=1)).any()
    assert not detect(VALUES, DetectorConfig(new_interests=0, c1=1)).any()


def test_a_share_that_is_a_whole_number_of_users_is_not_one_short():
    """0.29 * 100 is 28.999999999999996."""
    values = torch.arange(100, dtype=torch.float64)
    assert int(detect(values, DetectorConfig(rule="quantile", c1=0.29)).sum()) == 29
