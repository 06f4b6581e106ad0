"""Factors against a loop over users; who has the same things; a span that moves little; order and repeats."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from imsr_core.ragged import concatenate, empty_sequences
from imsr_core.score import factors
from imsr_core.score.factors import RANK, RIDGE, WEIGHTS, FactorsTerm
from imsr_core.score.personal import EPSILON, PersonalTerm
from imsr_core.testing.planted_logs import random_span, span_of

UNIT = 1_000
#: The first table alone.
ONE = torch.tensor([1.0, 0.0])


def counted(*spans, n_items):
    personal = PersonalTerm.empty(UNIT)
    term = FactorsTerm.empty(personal)
    for span in spans:
        personal = personal.after(span, n_items)
        term = replace(term, personal=personal).after(span, n_items)
    return term


@pytest.fixture
def two_crowds():
    """Half of the users take even items, half odd ones; each lacks a few of their own kind."""
    rng = np.random.default_rng(1)
    items = {u: (2 * rng.permutation(10)[:6] + u % 2).tolist() for u in range(40)}
    return counted(span_of(items), n_items=21), items


@pytest.mark.parametrize("few", [0, 16])
@pytest.mark.parametrize("table", range(len(WEIGHTS)))
def test_a_user_solves_its_own_equations(two_crowds, table, few, monkeypatch):
    monkeypatch.setattr(factors, "FEW", few)
    term, _ = two_crowds
    columns = slice(table * RANK, (table + 1) * RANK)
    known = term.factors[:, columns].double().numpy()
    for user in (0, 7):
        mine = term.personal.pairs.of_owners(np.array([user]))
        age = (term.personal.until - mine.last) / UNIT
        more = WEIGHTS[table] * np.log1p(mine.values[:, 4] * 2 ** (-age / 4) / EPSILON)
        left, right = RIDGE * np.eye(RANK) + known.T @ known, np.zeros(RANK)
        for item, extra in zip(mine.other, more, strict=True):
            left = left + extra * np.outer(known[item], known[item])
            right = right + (1 + extra) * known[item]
        np.testing.assert_allclose(
            term.vectors(np.array([user]))[0, columns], np.linalg.solve(left, right), rtol=1e-3, atol=1e-5
        )


@pytest.mark.parametrize("few", [0, 16])
def test_what_has_faded_to_nothing_was_had_all_the_same(two_crowds, few, monkeypatch):
    """After a thousand half-lives 32 bits have no count any more: what is left is that it was had."""
    monkeypatch.setattr(factors, "FEW", few)
    term, _ = two_crowds
    later = replace(term, personal=replace(term.personal, until=term.personal.until + 4_000 * UNIT))
    users, told = np.arange(40), torch.tensor([0.5, -2.0])
    mine = later.personal.had_by(users)
    assert not mine.values[:, factors.COUNTS].any()
    vectors, products = later._read(mine, told)
    known = term.factors.view(-1, len(WEIGHTS), RANK).double()
    curve = known.permute(1, 2, 0) @ known.transpose(0, 1) + RIDGE * torch.eye(RANK)
    slope = torch.zeros(40, len(WEIGHTS), RANK, dtype=torch.float64)
    slope.index_add_(0, torch.from_numpy(mine.place), known[mine.items])
    expected = torch.linalg.solve(curve, slope.permute(1, 2, 0)).permute(2, 0, 1)
    torch.testing.assert_close(vectors, expected.flatten(1).float(), rtol=1e-3, atol=1e-5)
    each = (expected[mine.place] * known[mine.items]).sum(-1).float() @ told
    torch.testing.assert_close(products, each, rtol=1e-3, atol=1e-5)


def test_what_the_others_of_ones_kind_have_is_near(two_crowds):
    term, items = two_crowds
    scores = torch.zeros(40, 21)
    term.add(scores, np.arange(40), ONE)
    for user, own in items.items():
        lacking = [i for i in range(20) if i % 2 == user % 2 and i not in own]
        others = [i for i in range(20) if i % 2 != user % 2]
        assert scores[user, lacking].min() > scores[user, others].max()
    assert not scores[:, 20].any()  # nobody had it


def test_users_in_any_order_and_more_than_once(two_crowds):
    term, _ = two_crowds
    users, items = np.array([9, 3, 9]), np.array([[1, 2], [3, 4], [20, 0]])
    columns = term.at(users, items) @ torch.tensor([1.0, -0.5])
    scores = torch.zeros(3, 21)
    term.add(scores, users, torch.tensor([1.0, -0.5]))
    torch.testing.assert_close(columns, scores.gather(1, torch.from_numpy(items)), rtol=1e-4, atol=1e-5)


def test_the_same_spans_give_the_same_and_an_empty_one_changes_nothing():
    spans = [random_span(seed=n, users=range(12), items=30) for n in range(2)]
    one, other = (counted(*spans, n_items=30) for _ in range(2))
    assert torch.equal(one.factors, other.factors)
    assert torch.equal(one.after(empty_sequences(), 30).factors, one.factors)
    assert torch.equal(one.after(empty_sequences(), 33).factors[:30], one.factors)


def test_other_people_are_asked_of_the_same_sums_over_all_items(two_crowds, monkeypatch):
    """A session is somebody else each time: what is the same for everybody is not summed up for each."""
    term, _ = two_crowds
    other = PersonalTerm.empty(UNIT).after(span_of({3: [0, 2]}), 25)
    fresh = FactorsTerm(torch.cat([term.factors, torch.zeros(4, 2 * RANK)]), other).vectors(np.array([3]))
    assert bool(fresh.any())
    term.vectors(np.array([0]))
    monkeypatch.setattr(factors._Everybody, "of", lambda *_: pytest.fail("summed up once more"))
    torch.testing.assert_close(term.asked_of(other, 25).vectors(np.array([3])), fresh)


def test_who_is_unknown_has_no_opinion():
    term = counted(span_of({1: [0, 1, 2]}), n_items=4)
    assert torch.equal(term.vectors(np.array([5])), torch.zeros(1, 2 * RANK))
    nothing = FactorsTerm.empty(term.personal)
    scores = torch.zeros(1, 4)
    nothing.add(scores, np.array([1]), ONE)
    assert not scores.any()
    assert not nothing.at(np.array([1]), np.array([[3, 0]])).any()


def test_span_by_span_comes_near_to_all_at_once():
    """Not equal, as counts are: but what the crowds have is found either way."""
    rng = np.random.default_rng(5)
    spans = [
        span_of({u: (2 * rng.permutation(10)[:4] + u % 2).tolist() for u in range(40)}, start=1_000 * n)
        for n in range(3)
    ]
    users = np.arange(40)
    steps, once = counted(*spans, n_items=20), counted(concatenate(spans), n_items=20)
    scores = [torch.zeros(40, 20) for _ in range(2)]
    for term, found in zip((steps, once), scores, strict=True):
        term.add(found, users, ONE)
    assert torch.corrcoef(torch.stack([each.flatten() for each in scores]))[0, 1] > 0.9


def test_a_table_that_is_not_there_yet_begins_with_the_next_span():
    """What was made before there was a second table: it serves as it did, and the second is made anew from all that
    the next span's users had; the first goes on as if nothing had happened."""
    rng = np.random.default_rng(3)
    items = {u: (2 * rng.permutation(10)[:6] + u % 2).tolist() for u in range(40)}
    span = replace(span_of(items), timestamps=span_of(items).timestamps + 100)
    both = counted(span_of(items), n_items=20)
    older = replace(both, factors=both.factors[:, :RANK])
    assert older.columns == ("factors",)
    assert older.at(np.arange(3), np.array([[1, 4]] * 3)).shape == (3, 2, 1)
    personal = both.personal.after(span, 20)
    went_on, begun = (replace(term, personal=personal).after(span, 20) for term in (both, older))
    assert begun.columns == ("factors", "factors_often")
    torch.testing.assert_close(begun.factors[:, :RANK], went_on.factors[:, :RANK], rtol=1e-4, atol=1e-6)
    fresh = FactorsTerm.empty(personal).after(span, 20)
    torch.testing.assert_close(begun.factors[:, RANK:], fresh.factors[:, RANK:], rtol=1e-4, atol=1e-6)
