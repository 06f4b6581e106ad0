"""Strangers are shown what is in fashion, over as long a time as what people took shows to matter."""

from dataclasses import replace

import numpy as np
import torch

from imsr_core.config import ScoreConfig
from imsr_core.score import Score
from imsr_core.score.strangers import _loss, _takers, best_alone, weighed_alone
from imsr_core.score.trend import HALF_LIVES, TrendTerm
from imsr_core.testing.planted_logs import span_of

UNIT, N = 1_000, 40
ON = ScoreConfig(enabled=True)


def counted(*spans):
    """The trend after spans, each {user: items}, one after the other."""
    trend = TrendTerm.empty(UNIT)
    for number, items in enumerate(spans):
        trend = trend.after(span_of(items, start=number * UNIT), N)
    return trend


#: An old favourite, had by 40 people a span, and a whim of the last span's 15.
STEADY = {u: [0, 2 + u % 20] for u in range(40)}
WHIM = {u: [1 if u < 15 else 0, 2 + u % 20] for u in range(40)}


def test_what_people_took_says_whether_fashion_is_short_or_long():
    trend = counted(STEADY, STEADY, STEADY, WHIM)
    to_the_whim = weighed_alone((), trend, span_of({u: [1] for u in range(100, 180)}, start=4 * UNIT))
    to_the_old = weighed_alone((), trend, span_of({u: [0] for u in range(100, 180)}, start=4 * UNIT))
    assert best_alone(to_the_whim, trend)[0] == 1
    assert best_alone(to_the_old, trend)[0] == 0


def test_the_weights_are_where_the_loss_is_least():
    trend = counted(STEADY, WHIM, STEADY)
    span = span_of({u: [u % 7, u % 3] for u in range(60)}, start=3 * UNIT)
    before = (0.1, -0.2, 0.0, 0.3, 0.1, 0.2)
    weights = torch.tensor(weighed_alone(before, trend, span), dtype=torch.float64)
    known = torch.from_numpy(trend.counts[:, -1] > 0)

    def loss_at(w):
        return _loss(trend.values()[known].double(), _takers(span, N)[known], w, torch.tensor(before).double())

    for column in range(len(HALF_LIVES)):
        for step in (-0.05, 0.05):
            moved = weights.clone()
            moved[column] += step
            assert loss_at(moved) > loss_at(weights)


def test_a_user_counts_once_of_an_item():
    bot = span_of({0: [5] * 500} | {u: [3, 4] for u in range(1, 40)}, start=UNIT)
    takers = _takers(bot, N)
    assert takers[[3, 4, 5]].tolist() == [39, 39, 1]
    assert takers.sum() == 79
    assert not _takers(span_of({0: [N], 1: [N + 3]}), N).any()  # items that came with the span


def test_few_takers_leave_the_weights_as_they_were():
    trend = counted(STEADY)
    assert weighed_alone((), trend, span_of({0: [0, 1]}, start=UNIT)) == ()
    assert weighed_alone((0.5,) * 6, trend, span_of({0: [0]}, start=UNIT)) == (0.5,) * 6
    unheard = span_of({u: [30 + u % 10] for u in range(60)}, start=UNIT)  # of items that nobody had
    assert weighed_alone((), trend, unheard) == ()


def test_only_what_was_taken_and_may_be_shown_is_shown():
    trend = counted(STEADY)
    weights = (0.0, 0.0, 0.0, 1.0, 0.0, 0.0)
    assert sorted(best_alone(weights, trend).tolist()) == [0, *range(2, 22)]
    allowed = torch.zeros(N, dtype=torch.bool)
    allowed[[2, 3, 39]] = True
    assert sorted(best_alone(weights, trend, allowed).tolist()) == [2, 3]


def test_a_score_is_asked_before_it_counts_and_keeps_the_weights():
    first = span_of(STEADY)
    score = Score.empty(ON, UNIT).after(first, N)
    asked = score.asked(span_of({u: [u % 7] for u in range(200, 260)}, start=UNIT), None, seed=0)
    assert len(asked.strangers) == len(HALF_LIVES)
    assert np.isfinite(asked.strangers).all()
    assert asked.after(first, N).strangers == asked.strangers
    assert Score.of_description(ON, asked.described()).strangers == asked.strangers
    before = {name: value for name, value in asked.described().items() if name != "strangers"}
    assert Score.of_description(ON, before).strangers == ()
    assert replace(score, config=ON).weighed_as(asked).strangers == asked.strangers
