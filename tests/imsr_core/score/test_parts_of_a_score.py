"""What each term adds to a score, which is what reasons are made of."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from imsr_core.config import ScoreConfig
from imsr_core.score import Score, serving
from imsr_core.score.serving import Remembering, Scorer
from imsr_core.testing.planted_logs import random_span

N_ITEMS = 12
SCORE = Score.empty(ScoreConfig(enabled=True), 100).after(random_span(1, range(9), N_ITEMS, most=5), N_ITEMS)
USERS = SCORE.personal.pairs.owners
ITEMS = np.tile(np.arange(N_ITEMS), (len(USERS), 1))


def scorer(weight):
    values = torch.tensor([[weight(name) for name in SCORE.columns]] * 2, dtype=SCORE.weights.values.dtype)
    return replace(SCORE, weights=replace(SCORE.weights, values=values)).scorer(None)


def test_the_parts_add_up_to_the_score():
    weighed = scorer(lambda name: len(name) / 10 - 0.9)
    score = sum(term.at(USERS, ITEMS) @ weights for term, weights in weighed.terms)
    torch.testing.assert_close(weighed.parts(USERS, ITEMS).sum(-1), score)


@pytest.mark.parametrize("most", [0, 10_000])
def test_who_remembers_says_the_same_and_asks_once(most, monkeypatch):
    monkeypatch.setattr(serving, "REMEMBERED", most)
    asked, plain = [], scorer(lambda name: len(name) / 10 - 0.9)
    sums = Scorer.sums
    monkeypatch.setattr(Scorer, "sums", lambda self, users: (asked.extend(users), sums(self, users))[1])
    remembering = Remembering(plain, USERS)
    for users in (USERS[[2, 0, 2]], USERS[[0, 1, 3]]):
        items = torch.tensor([[0, 5, N_ITEMS], [9, 1, 3], [2, 2, 11]])
        torch.testing.assert_close(remembering.at(users, items), plain.at(users, items))
    mine = 6 if most == 0 else 4  # of each call half are of the plain one
    assert len(asked) == 6 + mine


def test_what_is_said_of_an_item_only_because_the_user_had_it_is_a_reason_of_the_user_s_own():
    """Fashion is worth nothing here but for what the user had: it is there because they had it."""
    weighed = scorer(lambda name: float(name.startswith("had_trend")))
    personal = [type(term).__name__ for term, _ in weighed.terms].index("PersonalTerm")
    had = SCORE.personal.pairs.find(np.repeat(USERS, N_ITEMS), ITEMS.ravel()) >= 0
    reasons = weighed.reasons(USERS, ITEMS).ravel()
    assert had.any()
    assert not had.all()
    assert set(reasons[had]) == {personal}


def test_what_is_said_of_every_item_stays_with_its_term():
    weighed = scorer(lambda name: float(name == "trend_span"))
    parts = weighed.parts(USERS, ITEMS)
    assert (parts != 0).any(0).any(0).tolist() == [n == 0 for n in range(len(weighed.terms))]
