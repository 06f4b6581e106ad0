"""What items are, as a term: against a loop, in parts, and that a fit finds what it is worth."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from imsr_core.config import ScoreConfig
from imsr_core.ragged import from_events
from imsr_core.score import Categories, Score, content
from imsr_core.score.content import EPSILON, ContentTerm
from imsr_core.score.personal import PersonalTerm

UNIT, N_ITEMS, USERS, GROUPS = 100, 9, 5, 4
ON = ScoreConfig(enabled=True, content=True)
LOGS = st.lists(st.tuples(st.integers(0, USERS - 1), st.integers(0, N_ITEMS - 1)), min_size=1, max_size=40)
KINDS = st.sets(st.tuples(st.integers(0, N_ITEMS - 2), st.integers(0, GROUPS - 1)))


def log_of(events):
    users, items = (np.array(column, dtype=np.int64) for column in zip(*events, strict=True))
    return from_events(users, items, np.arange(1, len(events) + 1, dtype=np.int64) * 10)


def categories_of(pairs):
    table = np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2)
    return Categories(table[:, 0], table[:, 1], tuple("abcd"))


def term_of(events, pairs):
    return ContentTerm(categories_of(pairs), PersonalTerm.empty(UNIT).after(log_of(events), N_ITEMS))


def naive(events, pairs, user, item):
    """log(1 + n / EPSILON), mean over the item's categories, by a loop over events."""
    mine = {category for i, category in pairs if i == item}
    had = {i for u, i in events if u == user}
    counts = [sum((i, category) in pairs for i in had) for category in mine]
    return float(np.mean([np.log1p(n / EPSILON) for n in counts])) if counts else 0.0


@settings(deadline=None)
@given(LOGS, KINDS)
def test_the_column_is_what_a_loop_counts(events, pairs):
    users, items = np.array([4, 0, 2]), np.tile(np.arange(N_ITEMS), (3, 1))
    found = term_of(events, pairs).at(users, items)[..., 0]
    wanted = [[naive(events, pairs, user, item) for item in range(N_ITEMS)] for user in users]
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


@settings(deadline=None)
@given(LOGS, KINDS, st.integers(0, 99))
def test_serving_and_fitting_see_the_same(events, pairs, seed):
    term = term_of(events, pairs)
    users, shared = np.array([0, 2, 4]), np.arange(N_ITEMS)
    place, own = np.random.default_rng(seed).integers(0, (3, N_ITEMS), (7, 2)).T
    whole = term.at(users, np.tile(shared, (3, 1)))
    everybody, mine = term.asked(users, shared, place, own)
    torch.testing.assert_close(everybody, whole)
    torch.testing.assert_close(mine, whole[place, own])
    served = torch.ones(3, N_ITEMS)
    term.add(served, users, torch.tensor([-0.7]))
    torch.testing.assert_close(served, 1 - 0.7 * whole[..., 0])
    apart, had = torch.ones(3, N_ITEMS), term.personal.had_by(users)
    told = term.add_apart(apart, had, torch.tensor([-0.7]), torch.tensor([0.5]))
    torch.testing.assert_close(apart, served)
    torch.testing.assert_close(told, 0.5 * whole[had.place, had.items, 0])


def test_users_that_do_not_fit_at_once_come_in_parts(monkeypatch):
    rng = np.random.default_rng(5)
    events = list(zip(rng.integers(0, USERS, 30), rng.integers(0, N_ITEMS, 30), strict=True))
    term = term_of(events, {(0, 0), (1, 0), (1, 2), (5, 3), (7, 1)})
    users, shared, none = np.arange(USERS), np.arange(N_ITEMS), np.zeros(0, dtype=np.int64)
    at_once, _ = term.asked(users, shared, none, none)
    monkeypatch.setattr(content, "CELLS", 2 * GROUPS)
    assert torch.equal(term.asked(users, shared, none, none)[0], at_once)
    assert bool(at_once.any())


def test_the_reason_is_the_category_that_the_user_had_most_of():
    events = [(0, 0), (0, 1), (0, 2), (0, 2), (1, 2)]
    term = term_of(events, {(0, 3), (1, 3), (2, 1), (4, 0), (4, 1), (4, 3), (5, 0), (6, 1), (6, 3)})
    users, items = np.array([0, 1, 0, 0, 2, 1]), np.array([4, 4, 5, 8, 4, 6])
    # user 0 had two items of 3, one of 1; a category of nobody's, no category, a stranger: none
    assert term.because(users, items).tolist() == [3, 1, -1, -1, -1, 1]


def test_without_categories_there_is_no_such_term():
    score = Score.empty(ON, UNIT)
    assert "content" not in score.columns
    told = score.with_categories(categories_of({(0, 1)}))
    assert told.columns == (*score.columns, "content", "had_content")
    values = torch.arange(2 * len(told.columns), dtype=torch.float64).view(2, -1)
    weighed = replace(told, weights=replace(told.weights, values=values))
    assert weighed.with_categories(None).columns == score.columns
    torch.testing.assert_close(weighed.with_categories(None).weights.values, values[:, :-2])
    other = weighed.with_categories(categories_of({(3, 0)}))
    assert torch.equal(other.weights.values, values)
    off = replace(ON, content=False)
    assert weighed.configured(off).columns == score.columns


def test_a_description_keeps_the_weights_until_the_categories_are_read():
    score = Score.empty(ON, UNIT).with_categories(categories_of({(0, 1)})).after(log_of([(0, 0)]), N_ITEMS)
    values = torch.arange(2 * len(score.columns), dtype=torch.float64).view(2, -1)
    saved = replace(score, weights=replace(score.weights, values=values))
    read = Score.of_description(ON, saved.described()).with_tensors(saved.tensors())
    assert read.categories is not None
    assert torch.equal(read.with_categories(score.categories).weights.values, values)
    assert Score.of_description(ON, score.with_categories(None).described()).categories is None


@pytest.mark.parametrize("known", [True, False])
def test_who_stays_with_a_kind_is_shown_more_of_it(known):
    """Every user takes items of one kind alone, each item once, so that nothing else tells which comes next."""
    rng, n_items, users = np.random.default_rng(2), 200, 60
    kind = np.arange(n_items) % 2
    choices = [rng.permutation(np.flatnonzero(kind == user % 2))[:20] for user in range(users)]
    items, owners = np.concatenate(choices), np.repeat(np.arange(users), 20)
    times = rng.permutation(len(items)).astype(np.int64)
    order = np.argsort(times)
    past, last = order[: len(order) // 2], order[len(order) // 2 :]

    def part(rows):
        return from_events(owners[rows], items[rows], times[rows])

    categories = Categories(np.arange(n_items), kind, ("odd", "even"))
    alone = ScoreConfig(enabled=True, interest=False, personal=False, neighbours=False, factors=False, content=True)
    score = Score.empty(alone, 300).with_categories(categories if known else None)
    score = score.after(part(past), n_items).asked(part(last), None, 0)
    shown, _ = score.scorer(None).best(np.arange(users), 20)
    right = float((kind[shown.numpy()] == (np.arange(users) % 2)[:, None]).mean())
    assert right > 0.95 if known else right < 0.7
