"""The paired bootstrap against plain loops, and its coverage."""

import numpy as np
import pytest

from imsr_core import bootstrap
from imsr_core.bootstrap import paired_bootstrap


def looped(differences: list[float], users: list[int], resamples: int, confidence: float, seed: int):
    """The same draws, one user and one resample at a time."""
    of_user: dict[int, list[float]] = {}
    for user, value in zip(users, differences, strict=True):
        of_user.setdefault(user, []).append(value)
    people = sorted(of_user)
    rng = np.random.default_rng(seed)
    means = []
    for _ in range(resamples):
        values = [value for n in rng.integers(len(people), size=len(people)) for value in of_user[people[n]]]
        means.append(sum(values) / len(values))
    tail = (1 - confidence) / 2
    return float(np.quantile(means, tail)), float(np.quantile(means, 1 - tail))


@pytest.mark.parametrize("chunk", [bootstrap.CHUNK_DRAWS, 100, 1])
@pytest.mark.parametrize("seed", [0, 7])
def test_equals_plain_loops_in_chunks_of_any_size(monkeypatch, chunk, seed):
    monkeypatch.setattr(bootstrap, "CHUNK_DRAWS", chunk)
    rng = np.random.default_rng(seed + 100)
    users, values = rng.integers(0, 25, 60), rng.normal(size=60)
    found = paired_bootstrap(values, users, resamples=120, confidence=0.9, seed=seed)
    low, high = looped(values.tolist(), users.tolist(), 120, 0.9, seed)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-12)
    assert found.mean == pytest.approx(values.mean())


def test_equal_models_give_exactly_zero():
    found = paired_bootstrap(np.zeros(40), np.arange(40))
    assert (found.mean, found.low, found.high) == (0.0, 0.0, 0.0)


def test_one_user_has_no_spread():
    found = paired_bootstrap(np.array([1.0, 0.0]), np.array([4, 4]))
    assert (found.mean, found.low, found.high) == (0.5, 0.5, 0.5)


def test_events_of_one_user_are_not_independent():
    """The same numbers, once as 200 users and once as 10 users with 20 equal events each."""
    values = np.repeat(np.random.default_rng(3).normal(size=10), 20)
    alone = paired_bootstrap(values, np.arange(200))
    together = paired_bootstrap(values, np.repeat(np.arange(10), 20))
    assert together.high - together.low > 3 * (alone.high - alone.low)


def test_a_90_percent_interval_covers_about_90_percent():
    rng = np.random.default_rng(11)
    covered = 0
    for trial in range(300):
        values = rng.choice([-1.0, 0.0, 0.0, 1.0], p=[0.1, 0.35, 0.35, 0.2], size=120)
        found = paired_bootstrap(values, np.arange(120), resamples=300, confidence=0.9, seed=trial)
        covered += found.low <= 0.1 <= found.high
    assert 0.84 <= covered / 300 <= 0.95
