"""The first sentence of a report: ahead, level or behind what counting alone gives, and why there is no score."""

from types import SimpleNamespace

import pytest

from pipelines.report.floors import Floor
from pipelines.report.page import verdict


def facts_of(scores, counts=None):
    return SimpleNamespace(scores=scores, counts=counts or {}, mean=4.0, distinct_mean=1.5)


@pytest.mark.parametrize(
    ("score", "says"),
    [
        (0.21, "21.0 % were among the 20 items recommended before they happened, ahead of what each user had most"),
        (0.2001, "20.0 % were among the 20 items recommended before they happened, level with what each user had most"),
        (0.15, "behind what each user had most (20.0 %)"),
    ],
)  # fmt: skip
def test_the_newest_score_stands_beside_the_better_counter(score, says):
    facts = facts_of({"all": {"2024-01": 0.9, "2024-02": score}})
    assert says in verdict(facts, {"2024-02": Floor("2024-02", 90_000, popular=0.1, personal=0.2)}, 20)


@pytest.mark.parametrize("score", [0.1, 0.3])
def test_a_difference_within_the_noise_of_few_events_is_level(score):
    says = verdict(facts_of({"all": {"2024-02": score}}), {"2024-02": Floor("2024-02", 50, 0.1, 0.2)}, 20)
    assert "level, as far as 50 events can tell, with what each user had most (20.0 %)" in says


def test_nought_of_two_is_not_behind_two_of_two():
    says = verdict(facts_of({"all": {"2024-02": 0.0}}), {"2024-02": Floor("2024-02", 2, 1.0, 0.0)}, 20)
    assert "level, as far as 2 events can tell, with the last span's popular items (100.0 %)" in says
    says = verdict(facts_of({"all": {"2024-02": 0.0}}), {"2024-02": Floor("2024-02", 20, 1.0, 0.0)}, 20)
    assert "behind the last span's popular items" in says


def test_without_a_score_it_says_whether_nobody_came_back():
    assert verdict(facts_of({}), {}, 20).startswith("No span has been tested yet; the next one will be. 4.00 interests")
    says = verdict(facts_of({"strangers": {"2024-01": 0.5, "2024-02": 0.1}}), {}, 20)
    assert says.startswith("Nobody has come back yet")
    assert "Of the events of 2024-02" in says
    assert "10.0 %" in says


def test_where_most_come_once_both_lists_are_told_of():
    scores = {"all": {"2024-02": 1.0}, "strangers": {"2024-02": 0.3}}
    floor = {"2024-02": Floor("2024-02", 3, 0.6, 0.2)}
    says = verdict(facts_of(scores, {"all": {"2024-02": 3}, "strangers": {"2024-02": 2122}}), floor, 20)
    assert says.startswith("Of the 3 events of 2024-02 by users who had come before, 100.0 % were among the 20 items")
    assert "Of the 2,122 events of new users 30.0 % were among the 20 popular items that new users are shown." in says
    says = verdict(facts_of(scores, {"all": {"2024-02": 3000}, "strangers": {"2024-02": 2122}}), floor, 20)
    assert says.startswith("Of the events of 2024-02, 100.0 %")
    assert "new users" not in says
