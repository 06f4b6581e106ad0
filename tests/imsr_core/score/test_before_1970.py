"""Counts fade by the age of events: when 1970 was says nothing of them."""

from dataclasses import replace

import numpy as np
import torch

from imsr_core.changed_rows import changed_rows
from imsr_core.checkpoint import Before, Chain, load_state, save_state
from imsr_core.config import ScoreConfig
from imsr_core.ragged import SpanSequences, from_events
from imsr_core.score import Score
from imsr_core.state import ModelState
from imsr_core.testing.planted_logs import tiny_config
from imsr_core.trend import DAY, Trend

UNIT, N_ITEMS, USERS = 100, 20, 6
CENTURY = 36_525 * DAY


def spans(ago: int) -> list[SpanSequences]:
    """Three spans that began so long before 1970."""
    rng = np.random.default_rng(0)
    return [
        from_events(rng.integers(0, USERS, 30), rng.integers(0, N_ITEMS, 30), np.arange(1, 31) * 7 + start - ago)
        for start in (0, 300, 600)
    ]


def test_a_score_counts_the_same():
    now, then = Score.empty(ScoreConfig(enabled=True), UNIT), Score.empty(ScoreConfig(enabled=True), UNIT)
    for span, earlier in zip(spans(0), spans(CENTURY), strict=True):
        now, then = now.after(span, N_ITEMS), then.after(earlier, N_ITEMS)
    assert then.trend.until == now.trend.until - CENTURY
    np.testing.assert_array_equal(then.trend.counts, now.trend.counts)
    np.testing.assert_array_equal(then.personal.pairs.last, now.personal.pairs.last - CENTURY)
    np.testing.assert_array_equal(then.personal.pairs.values[:, 2:], now.personal.pairs.values[:, 2:])
    weights = replace(now.weights, values=torch.ones_like(now.weights.values))
    users = np.arange(USERS)
    scores = [replace(score, weights=weights).scorer(None).scores(users) for score in (now, then)]
    assert torch.equal(*scores)


def test_a_trend_counts_the_same():
    now, then = Trend.empty(), Trend.empty()
    for span, earlier in zip(spans(0), spans(CENTURY), strict=True):
        now, then = now.after(span, N_ITEMS), then.after(earlier, N_ITEMS)
    assert bool(then.counts.any())
    assert torch.equal(then.counts, now.counts)


def test_changes_of_a_checkpoint_are_read_as_they_were(tmp_path):
    state = ModelState.initial(tiny_config(score={"enabled": True}), UNIT).with_items(N_ITEMS)
    first, second, _ = spans(CENTURY)
    assert state.score is not None
    before = replace(state, score=state.score.after(first, N_ITEMS), trend=state.trend.after(first, N_ITEMS))
    assert before.score is not None
    after = replace(before, score=before.score.after(second, N_ITEMS), trend=before.trend.after(second, N_ITEMS))
    for name in ("before", "after"):
        (tmp_path / name).mkdir()
    save_state(before, tmp_path / "before")
    assert len(changed_rows(before, after)["items"]) == 0
    assert save_state(after, tmp_path / "after", Before(before, Chain())).links == 1
    read = load_state([tmp_path / "before", tmp_path / "after"])
    assert read.score is not None
    assert after.score is not None
    np.testing.assert_array_equal(read.score.trend.counts, after.score.trend.counts)
    assert torch.equal(read.trend.counts, after.trend.counts)
