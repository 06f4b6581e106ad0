"""What users had is looked up once for all terms of a score: the lists are those of terms that ask on their own."""

import numpy as np
import torch

from imsr_core.config import ScoreConfig
from imsr_core.score import InterestTerm, Score
from imsr_core.score.had import TermWithHad
from imsr_core.score.pairs import Pairs
from imsr_core.score.personal import PersonalTerm
from imsr_core.testing.planted_logs import random_span, store_of

N_ITEMS, USERS = 30, np.array([3, 0, 7, 99])


def scored():
    score = Score.empty(ScoreConfig(enabled=True), 100)
    for seed in range(3):
        score = score.after(random_span(seed=seed, users=range(9), items=N_ITEMS), N_ITEMS)
    generator = torch.Generator().manual_seed(0)
    interest = InterestTerm(store_of({0: [[0.2, 0.9]], 3: [[-0.5, 0.5]]}), torch.randn(N_ITEMS, 2), 3.0)
    values = torch.randn(2, len(score.columns), generator=generator).double()
    weights = score.weights
    return Score(**{**vars(score), "weights": type(weights)(weights.columns, values)}), interest


def columns_one_by_one(scorer, users):
    """The same by what `at` says of each pair, with terms that are asked one user at a time."""
    items = np.tile(np.arange(N_ITEMS), (1, 1))
    return torch.cat([sum(term.at(np.array([u]), items) @ weights for term, weights in scorer.terms) for u in users])


def test_lists_are_those_of_terms_that_ask_on_their_own():
    score, interest = scored()
    scorer = score.scorer(interest)
    torch.testing.assert_close(scorer.sums(USERS), columns_one_by_one(scorer, USERS), rtol=1e-4, atol=1e-4)


def test_one_look_up_a_list(monkeypatch):
    score, interest = scored()
    asked, rows_of = [], Pairs.rows_of
    monkeypatch.setattr(Pairs, "rows_of", lambda pairs, owners: asked.append(owners) or rows_of(pairs, owners))
    scorer = score.scorer(interest)
    assert sum(isinstance(term, TermWithHad) for term, _ in scorer.terms) == 3
    scorer.scores(USERS)
    assert len(asked) == 1
    scorer.scores(USERS[:2])
    assert len(asked) == 2


def test_other_users_have_what_they_had():
    score, interest = scored()
    scorer = score.scorer(interest)
    both = scorer.scores(USERS)
    for place in (2, 0, 1):
        torch.testing.assert_close(scorer.scores(USERS[place : place + 1])[0], both[place], rtol=1e-4, atol=1e-4)
    again = score.after(random_span(seed=9, users=range(9), items=N_ITEMS), N_ITEMS)
    fresh = PersonalTerm(100, 0, again.personal.pairs, again.personal.until)
    mine = again.personal.had_by(USERS)
    np.testing.assert_array_equal(mine.items, fresh.had_by(USERS.copy()).items)


def test_other_people_are_asked_with_what_was_made_of_the_item_vectors():
    store, vectors = store_of({0: [[0.2, 0.9]], 3: [[-0.5, 0.5]]}), torch.randn(N_ITEMS, 2)
    theirs = store_of({0: [[1.0, 0.1], [0.3, -0.4]]})
    term = InterestTerm(store, vectors, 3.0, ((store, -vectors),))
    other, anew = term.asked_of([theirs, store]), InterestTerm(theirs, vectors, 3.0, ((store, -vectors),))
    shared = zip(other.members, term.members, strict=True)
    assert all(theirs is ours for (_, theirs), (_, ours) in shared)
    for users in (np.array([0]), np.array([3]), USERS):
        scores, wanted = torch.zeros(len(users), N_ITEMS), torch.zeros(len(users), N_ITEMS)
        other.add(scores, users, torch.ones(1))
        anew.add(wanted, users, torch.ones(1))
        torch.testing.assert_close(scores, wanted, rtol=0, atol=0)
