"""Weights are fitted on unseen events: what repeats, what is in fashion, what the interests know; and they stay put."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from imsr_core.config import ScoreConfig
from imsr_core.ragged import from_events
from imsr_core.score import InterestTerm, Score, Weights
from imsr_core.score import question as question_module
from imsr_core.score.question import OF_ONE, sample_events
from imsr_core.testing.planted_logs import random_span, span_of, store_of

UNIT, N = 1_000, 60
ON = ScoreConfig(enabled=True)


def repeated(start):
    return span_of({u: [(3 * u + k) % N for k in (0, 1, 0)] for u in range(40)}, start=start)


def test_where_people_repeat_themselves_the_personal_columns_win():
    score = Score.empty(ON, UNIT).after(repeated(0), N)
    asked = score.asked(repeated(2_000), None, seed=1)
    evidence = asked.weights.evidence["everything"]
    assert evidence.after < evidence.before < evidence.chance
    assert evidence.events == 120
    users, items = np.arange(40), (3 * np.arange(40)) % N
    scores = asked.scorer(None).scores(users)
    assert (scores.argmax(1).numpy() == items).mean() > 0.9


def test_where_nobody_has_a_thing_twice_having_had_it_counts_against_it():
    score = Score.empty(ON, UNIT).after(span_of({u: [u, u + 1, u + 2] for u in range(40)}), N)
    span = span_of({u: [(u + k) % N for k in (7, 11)] for u in range(40)}, start=2_000)
    asked = score.asked(span, None, seed=1)
    fresh, had = asked.scorer(None).scores(np.array([5]))[0, [9, 6]]
    assert fresh > had


def test_interests_are_believed_if_they_are_right():
    generator = torch.Generator().manual_seed(0)
    vectors = torch.nn.functional.normalize(torch.randn(N, 8, generator=generator), dim=-1)
    store = store_of({u: [vectors[u].tolist()] for u in range(40)})
    score = Score.empty(ON, UNIT).after(random_span(1, range(40), N), N)
    wanted = span_of({u: [u, u, u] for u in range(40)}, start=2_000)
    right = score.asked(wanted, InterestTerm(store, vectors, 5.0), seed=1)
    wrong = score.asked(wanted, InterestTerm(store, -vectors, 5.0), seed=1)
    column = right.columns.index("interest")
    assert right.weights.values[0, column] > 0.5 > wrong.weights.values[0, column]


def test_the_same_seed_gives_the_same_weights():
    score = Score.empty(ON, UNIT).after(repeated(0), N)
    one, two = (score.asked(repeated(2_000), None, seed=3).weights.values for _ in range(2))
    assert torch.equal(one, two)


def test_one_user_with_most_of_the_events_does_not_decide_for_everybody():
    people = {u: [(3 * u + k) % N for k in (0, 1, 0)] for u in range(40)}
    rng = np.random.default_rng(0)
    robot = {40: rng.integers(0, N, 3_000).tolist()}
    past, span = span_of(people | {40: robot[40][:50]}), span_of(people | robot, start=2_000_000)
    users, _ = sample_events(span, np.ones(span.n_events, dtype=bool), rng)
    assert [int((users == u).sum()) for u in (0, 39, 40)] == [3, 3, 3_120 // 16]
    alone = Score.empty(ON, UNIT).after(past, N).asked(span_of(robot, start=2_000_000), None, seed=1)
    assert alone.weights.evidence["everything"].events == 3_000 // 16
    seldom = span_of(people | {40: robot[40][:400]}, start=2_000_000)
    users, _ = sample_events(seldom, np.ones(seldom.n_events, dtype=bool), rng)
    assert int((users == 40).sum()) == OF_ONE


def test_without_such_a_user_every_event_of_a_small_span_is_asked_about():
    span = span_of({u: list(range(u, u + 90)) for u in range(6)})
    users, items = sample_events(span, np.ones(span.n_events, dtype=bool), np.random.default_rng(0))
    assert len(users) == len(items) == 540


def test_few_events_move_nothing_and_strangers_say_nothing():
    score = Score.empty(ON, UNIT).after(repeated(0), N)
    few = score.asked(span_of({0: [1, 2]}, start=2_000), None, seed=0)
    assert torch.equal(few.weights.values, score.weights.values)
    strangers = score.asked(span_of({u: [1, 2] for u in range(100, 140)}, start=2_000), None, seed=0)
    assert torch.equal(strangers.weights.values, score.weights.values)
    assert not strangers.weights.evidence


def test_new_weights_never_read_what_the_user_had():
    score = Score.empty(ON, UNIT).after(repeated(0), N)
    asked = score.asked(span_of({u: [(3 * u + 5) % N] for u in range(40)}, start=2_000), None, seed=1)
    personal = [asked.columns.index(name) for name in score.personal.columns]
    torch.testing.assert_close(asked.weights.values[1, personal], score.weights.values[1, personal])
    assert asked.weights.evidence["new"].events > 0


def test_a_large_catalogue_is_sampled_and_gives_about_the_same(monkeypatch):
    score = Score.empty(ON, UNIT).after(repeated(0), N)
    whole = score.asked(repeated(2_000), None, seed=1)
    monkeypatch.setattr(question_module, "POPULAR", 5)
    monkeypatch.setattr(question_module, "SAMPLED", 20)
    sampled = score.asked(repeated(2_000), None, seed=1)
    assert abs(sampled.weights.evidence["everything"].after - whole.weights.evidence["everything"].after) < 0.3
    chances = [fit.weights.evidence["everything"].chance for fit in (sampled, whole)]
    assert chances[0] == pytest.approx(chances[1], abs=0.01)


def test_the_first_weights_come_from_the_end_of_the_first_span():
    both = [repeated(0), repeated(5_000)]
    users = np.concatenate([s.users[s.rows] for s in both])
    log = from_events(users, np.concatenate([s.items for s in both]), np.concatenate([s.timestamps for s in both]))
    begun = Score.empty(ON, UNIT).begun(log, N, seed=0)
    assert begun.weights.evidence["everything"].events == 120
    assert begun.weights.values[0, begun.columns.index("interest")] == Weights.start(("interest",)).values[0, 0]
    assert torch.equal(begun.tensors()["trend"], Score.empty(ON, UNIT).after(log, N).tensors()["trend"])


def test_a_log_no_longer_than_a_span_is_asked_about_its_last_quarter():
    log = repeated(0)  # 3 ticks: the same item again in the last
    begun = Score.empty(ON, UNIT).begun(log, N, seed=0)
    assert begun.weights.evidence["everything"].events == 40
    users, items = np.arange(40), (3 * np.arange(40)) % N
    assert (begun.scorer(None).scores(users).argmax(1).numpy() == items).all()


def test_where_nobody_comes_back_the_first_weights_come_from_the_end_of_each_sitting():
    """Everybody comes once and takes ten different things: what they had must not be offered again."""
    rng = np.random.default_rng(0)
    items = {u: [int(i) for i in rng.permutation(N)[:10]] for u in range(40)}
    times = (np.arange(40)[:, None] * 10 + np.arange(10)).ravel()
    users = np.repeat(np.arange(40), 10)
    log = from_events(users, np.concatenate(list(items.values())), times)
    begun = Score.empty(ON, UNIT).begun(log, N, seed=0)
    assert begun.weights.evidence["everything"].events == 80
    best = begun.scorer(None).scores(np.arange(40)).topk(20).indices.tolist()
    assert not any(set(items[u]) & set(best[u]) for u in range(40))


def test_a_term_that_is_off_has_no_column():
    config = replace(ON, personal=False)
    assert "had" not in Score.empty(config, UNIT).columns
    weights = Score.empty(ON, UNIT).weights.for_columns(Score.empty(config, UNIT).columns)
    assert weights.columns == Score.empty(config, UNIT).columns


def test_what_is_in_fashion_does_not_reorder_what_a_user_takes_again():
    """Two kinds of events: half the time a user takes their own staple again, else what everybody takes that day."""
    rng = np.random.default_rng(0)
    users, fads = 40, 20

    def day(first):
        staples = users + np.arange(users)  # an item of one's own
        fad = first + rng.integers(0, fads, users)
        who = np.tile(np.arange(users), 2)
        return from_events(who, np.concatenate([staples, fad]), np.arange(2 * users) + first * 1000)

    score = Score.empty(ON, unit=1000)
    for number in range(6):
        span = day(number)
        score = (score.asked(span, None, number) if number else score).after(span, 2 * users)
    row = dict(zip(score.weights.columns, score.weights.values[0].tolist(), strict=True))
    whole = {name: row[name] + row[f"had_{name}"] for name in ("trend_span", "trend_third")}
    assert sum(whole.values()) < row["trend_span"] + row["trend_third"]


@pytest.mark.parametrize("own", [0, 3, 700])
def test_the_candidates_stand_for_the_whole_catalogue_each_item_once(own, monkeypatch):
    """Also where a user had more than is drawn: the oldest are taken again too, and must count as passed over."""
    catalogue = 1_500
    rng = np.random.default_rng(3)
    had = Score.empty(ON, UNIT).after(span_of({0: list(range(own)), 1: [5, 8]}), catalogue).personal.pairs
    popularity = torch.from_numpy(rng.random(catalogue))
    asked = question_module.question(np.array([0, 1]), np.array([1, 2]), popularity, had, rng)
    for user, count in enumerate((own, 2)):
        new = float(asked.offset[user].exp().sum())
        mine = asked.own.place == user
        assert new == pytest.approx(catalogue - count, rel=0.15)
        assert new + np.exp(asked.own.stands[mine]).sum() == pytest.approx(catalogue, rel=0.15)
        taken = set(asked.shared[asked.offset[user].isfinite().numpy()]) & set(asked.own.items[mine])
        assert not taken
        assert len(set(asked.own.items[mine])) == mine.sum()
    if own == 700:
        drawn = asked.own.items[(asked.own.place == 0) & (asked.own.stands > 0)]
        assert drawn.min() < 100  # not the newest alone
