"""Targets and histories against the sequences they are cut from."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imsr_core.batches import TargetSampler, recent_items
from imsr_core.ragged import SpanSequences, empty_sequences
from imsr_core.testing.planted_logs import span_of

LENGTHS = st.lists(st.integers(0, 9), max_size=8)


def distinct_items(lengths: list[int]) -> SpanSequences:
    """Users 10, 20, ... whose every event is an item of its own: 100 * user row + position."""
    return span_of({10 * r + 10: [100 * r + j for j in range(n)] for r, n in enumerate(lengths)})


def sampler_over(lengths: list[int], prior: int, **settings: int) -> TargetSampler:
    """Every ``prior``-th user has stored interests; user u has 1 + 5 (u mod 3) of them or new ones."""
    sequences = distinct_items(lengths)
    rows = np.arange(len(sequences))
    given = {"history": 4, "window": 1, "per_user": 0, "batch_size": 3} | settings
    return TargetSampler.of(sequences, rows % prior == 0, 1 + 5 * (rows % 3), **given)


def targets_of(sampler: TargetSampler, seed: int = 0) -> list[tuple[int, list[int], int]]:
    """(user row, history, target) of each draw of an epoch."""
    batches = list(sampler.epoch(np.random.default_rng(seed)))
    assert len(batches) == sampler.batches_per_epoch()
    assert all(len(batch) <= sampler.batch_size for batch in batches)
    drawn = []
    for batch in batches:
        for row, items, mask, target in zip(batch.user_row, batch.history, batch.mask, batch.target, strict=True):
            assert not items[~mask].any()
            drawn.append((int(row), items[mask].tolist(), int(target)))
            assert mask.tolist() == sorted(mask.tolist())
    return drawn


@given(LENGTHS, st.integers(1, 3), st.integers(1, 6), st.integers(0, 99))
def test_every_usable_event_is_a_target_once_with_the_events_before_it(lengths, prior, history, seed):
    drawn = targets_of(sampler_over(lengths, prior, history=history), seed)
    usable = [(r, j) for r, n in enumerate(lengths) for j in range(n) if j > 0 or r % prior == 0]
    assert Counter((row, target) for row, _, target in drawn) == Counter((r, 100 * r + j) for r, j in usable)
    for row, items, target in drawn:
        place = target - 100 * row
        assert items == [100 * row + j for j in range(max(0, place - history), place)]


@given(LENGTHS, st.integers(1, 4), st.integers(0, 99))
def test_a_target_lies_within_the_window_and_never_before_its_history(lengths, window, seed):
    drawn = targets_of(sampler_over(lengths, 1, window=window, history=99), seed)
    assert len(drawn) == sum(lengths)
    for row, items, target in drawn:
        ahead = target - 100 * row - len(items)
        assert 0 <= ahead < window
        assert target - 100 * row < lengths[row]


def test_the_whole_window_is_drawn():
    drawn = targets_of(sampler_over([400], 1, window=3, history=999))
    steps = Counter(target - len(items) for _, items, target in drawn if len(items) < 398)
    assert set(steps) == {0, 1, 2}
    assert min(steps.values()) > 90


@given(LENGTHS, st.integers(1, 4), st.integers(0, 99))
def test_the_cap_of_a_user_is_respected_and_filled(lengths, cap, seed):
    drawn = targets_of(sampler_over(lengths, 1, per_user=cap), seed)
    assert Counter(row for row, _, _ in drawn) == Counter({r: min(n, cap) for r, n in enumerate(lengths) if n})
    assert len({target for _, _, target in drawn}) == len(drawn)


def test_another_epoch_draws_other_events_of_a_capped_user():
    sampler = sampler_over([50], 1, per_user=5)
    rng = np.random.default_rng(0)
    first, second = ({int(i) for i in sampler.draw(rng)} for _ in range(2))
    assert first != second


@given(LENGTHS, st.floats(0, 1), st.integers(0, 5), st.integers(0, 9))
def test_a_split_shares_no_event_and_loses_none(lengths, share, limit, seed):
    sampler = sampler_over(lengths, 1)
    rest, held = sampler.split(share, limit, np.random.default_rng(seed))
    assert len(held.positions) <= limit
    assert sorted([*rest.positions, *held.positions]) == sampler.positions.tolist()


def test_without_usable_events_an_epoch_is_empty():
    assert targets_of(sampler_over([1, 1], 1, window=2)) != []
    no_prior, given = np.zeros(2, bool), {"history": 3, "window": 2, "per_user": 1, "batch_size": 4}
    assert targets_of(TargetSampler.of(distinct_items([1, 1]), no_prior, np.full(2, 4), **given)) == []
    nobody = np.zeros(0, np.int64)
    assert targets_of(TargetSampler.of(empty_sequences(), nobody.astype(bool), nobody, **given)) == []


def test_a_batch_holds_users_with_about_as_many_interests():
    sampler = sampler_over([20] * 30, 1, batch_size=50)
    kinds = [len(set((batch.user_row % 3).tolist())) for batch in sampler.epoch(np.random.default_rng(0))]
    assert len(kinds) == 12
    assert kinds.count(1) == 12


@given(LENGTHS, st.integers(1, 5), st.integers(0, 3), st.integers(0, 9))
def test_recent_items_are_the_last_ones_most_recent_last(lengths, n, first, last):
    sequences = distinct_items(lengths)
    first, last = min(first, len(lengths)), min(max(first, last), len(lengths))
    items, mask = recent_items(sequences, first, last, n)
    assert items.shape == mask.shape == (last - first, items.shape[1])
    for r, own, real in zip(range(first, last), items, mask, strict=True):
        assert own[real].tolist() == [100 * r + j for j in range(max(0, lengths[r] - n), lengths[r])]
        assert not own[~real].any()
        assert real.tolist() == sorted(real.tolist())


def test_a_batch_pads_to_its_own_longest_history():
    sampler = sampler_over([1] * 20 + [9], 1, batch_size=10, history=8)
    widths = sorted(batch.history.shape[1] for batch in sampler.epoch(np.random.default_rng(0)))
    assert widths[0] == 1
    assert widths[-1] == 8
    assert pytest.approx(29) == sum(len(batch) for batch in sampler.epoch(np.random.default_rng(1)))
