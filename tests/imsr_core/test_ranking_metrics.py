"""Ranks and metrics against sorting by hand, with ties; forgetting and transfer on matrices worked out on paper."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from imsr_core.metrics import (
    backward_transfer,
    forgetting,
    hit_rate,
    ndcg,
    ranks_within,
    reciprocal_rank,
)


@st.composite
def scored(draw):
    """Scores of every item for some events (few values: ties abound), the target of each, and N."""
    items = draw(st.integers(1, 9))
    row = st.lists(st.sampled_from([-2.0, 0.0, 0.5, 1.0, -math.inf]), min_size=items, max_size=items)
    rows = draw(st.lists(row, min_size=1, max_size=5))
    targets = draw(st.lists(st.integers(0, items - 1), min_size=len(rows), max_size=len(rows)))
    return rows, targets, draw(st.integers(1, items))


def naive_rank(scores: list[float], target: int) -> int:
    """Other items that score at least as much."""
    return sum(1 for i, score in enumerate(scores) if i != target and score >= scores[target])


@given(scored())
def test_ranks_and_metrics_equal_the_naive_ones(case):
    rows, targets, n = case
    scores = torch.tensor(rows)
    top = scores.topk(min(n + 1, scores.shape[1]), dim=1).values
    limit = top.shape[1] - 1
    ranks = ranks_within(top, scores[torch.arange(len(rows)), torch.tensor(targets)])
    naive = [naive_rank(row, target) for row, target in zip(rows, targets, strict=True)]
    assert ranks.tolist() == [min(rank, limit) for rank in naive]
    shown = [rank < n for rank in naive]
    if limit == n:  # the catalogue is larger than the list
        assert hit_rate(ranks, n).tolist() == [float(hit) for hit in shown]
    for metric, value in ((ndcg, lambda r: 1 / math.log2(r + 2)), (reciprocal_rank, lambda r: 1 / (r + 1))):
        expected = [value(rank) if hit else 0.0 for rank, hit in zip(naive, shown, strict=True)]
        assert metric(torch.tensor(naive), n).tolist() == pytest.approx(expected)


def test_a_model_that_scores_everything_alike_finds_nothing():
    top = torch.zeros(3, 6)
    ranks = ranks_within(top, torch.zeros(3))
    assert not hit_rate(ranks, 5).any()
    assert not ndcg(ranks, 5).any()
    assert not reciprocal_rank(ranks, 5).any()


def test_nan_finds_nothing():
    top = torch.full((1, 3), math.nan)
    assert ranks_within(top, torch.tensor([math.nan])).tolist() == [2]


MATRIX = np.array([[0.5, 0.0, 0.0], [0.6, 0.4, 0.0], [0.3, 0.5, 0.7]])


def test_forgetting_is_the_fall_from_the_best():
    # span 0: best 0.6, last 0.3; span 1: best 0.4, last 0.5
    assert forgetting(MATRIX) == pytest.approx((0.3 - 0.1) / 2)


def test_backward_transfer_is_the_gain_since_it_was_learnt():
    # span 0: 0.3 - 0.5; span 1: 0.5 - 0.4
    assert backward_transfer(MATRIX) == pytest.approx((-0.2 + 0.1) / 2)


def test_one_version_has_nothing_to_forget():
    assert math.isnan(forgetting(MATRIX[:1, :1]))
    assert math.isnan(backward_transfer(MATRIX[:1, :1]))
