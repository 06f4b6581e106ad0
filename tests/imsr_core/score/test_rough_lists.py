"""Lists that half the bits chose candidates for are those of scores in 32 bits."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from imsr_core.config import ScoreConfig
from imsr_core.interests import InterestStore
from imsr_core.retrieval import nearest_scores
from imsr_core.rough import RoughInterests, RoughItems, is_fast
from imsr_core.score import InterestTerm, Score, serving
from imsr_core.score.shortlist import MORE, in_order, shortlist
from imsr_core.score.weights import Weights
from imsr_core.testing.planted_logs import random_span, store_of

STRANGER = 99


def vectors(generator, n, dim, scale=1.0):
    return scale * torch.randn(n, dim, generator=generator)


def store(generator, dim, most, scale=1.0):
    """Users 0 .. 8, every third without interests; users 20 and 21 have nothing else."""
    many = {user: 1 + user % most for user in (*range(9), 20, 21) if user % 3}
    return store_of({user: vectors(generator, k, dim, scale).tolist() for user, k in many.items()})


def scorer(seed, n_items, members, weigh, normalised=True):
    generator = torch.Generator().manual_seed(seed)
    score = Score.empty(ScoreConfig(enabled=True), 100)
    for n in range(2):
        score = score.after(random_span(seed=seed + n, users=range(9), items=n_items), n_items)
    own = [vectors(generator, n_items, 8) for _ in range(members)]
    own = [torch.nn.functional.normalize(each) if normalised else each for each in own]
    own[0][-3:] = own[0][:3]  # the same vectors, and nobody had these items: scores are equal
    (first, *others) = [(store(generator, 8, 4 + n), each) for n, each in enumerate(own)]
    term = InterestTerm(*first, 12.0, tuple(others))
    weights = Weights.start(score.columns)
    for name, value in weigh.items():
        weights.values[:, score.columns.index(name)] = value
    return Score(**{**vars(score), "weights": weights}).scorer(term)


def both(scorer, monkeypatch, users, n, **which):
    """The lists in half the bits, and those without."""
    found = []
    for fast in (True, False):
        monkeypatch.setattr(serving, "is_fast", lambda fast=fast: fast)
        monkeypatch.setattr(serving, "WORTH", 0)
        found.append(scorer.best(users, n, **which))
    return found


def assert_same(rough, plain, whole):
    """``whole`` (B, N) are the scores, -inf where nothing may be shown."""
    items, values = rough
    torch.testing.assert_close(values, plain[1], rtol=1e-5, atol=1e-5)
    shown = items >= 0
    assert torch.equal(shown, plain[0] >= 0)
    torch.testing.assert_close(whole.gather(1, items.clamp(min=0))[shown], values[shown], rtol=1e-5, atol=1e-5)
    for row in items:
        assert len(set(row[row >= 0].tolist())) == int((row >= 0).sum())


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    n_items=st.sampled_from([3, 40, 700, 1500]),
    n=st.sampled_from([1, 5, 20, 50]),
    members=st.sampled_from([1, 2]),
    interest=st.sampled_from([-1.0, 0.02, 0.5, 3.0]),
    had=st.sampled_from([0.0, -0.5, 1.0]),
    hiding=st.booleans(),
    normalised=st.booleans(),
)
def test_lists_are_those_of_32_bits(seed, n_items, n, members, interest, had, hiding, normalised):
    users = np.array([3, 0, 20, 7, STRANGER, 1, 2, 4, 5, 6, 8, 21])
    asked = scorer(seed, n_items, members, {"interest": interest, "had_interest": had}, normalised)
    rng = np.random.default_rng(seed)
    which, whole = {}, asked.scores(users)
    if hiding:
        hidden = rng.integers(0, len(users), 200), rng.integers(0, n_items + 5, 200)
        allowed = rng.random(n_items) < 0.8
        which = {"hidden": hidden, "allowed": allowed}
        whole[:, torch.from_numpy(~allowed)] = -torch.inf
        inside = hidden[1] < n_items
        whole[torch.from_numpy(hidden[0][inside]), torch.from_numpy(hidden[1][inside])] = -torch.inf
    with pytest.MonkeyPatch.context() as monkeypatch:
        rough, plain = both(asked, monkeypatch, users, n, **which)
    assert_same(rough, plain, whole)


def test_who_has_too_many_candidates_is_asked_in_full(monkeypatch):
    n_items = MORE + 500
    asked = scorer(1, n_items, 2, {"interest": 1.0})
    asked.terms[0][0].term.items[:] = asked.terms[0][0].term.items[0]  # all the same: all as near
    for vectors in asked.terms[0][0].term.others:
        vectors[1][:] = vectors[1][0]
    users = np.array([1, 20, 21])
    rough, plain = both(asked, monkeypatch, users, 5)
    assert_same(rough, plain, asked.scores(users))


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), scale=st.sampled_from([1e-4, 0.3, 1.0, 30.0]), dim=st.sampled_from([1, 8, 128]))
def test_products_are_off_by_no_more_than_is_said(seed, scale, dim):
    generator = torch.Generator().manual_seed(seed)
    items, users = RoughItems(vectors(generator, 700, dim, scale)), torch.tensor([4, 20, 0, 99, 1, 2])
    known = store(generator, dim, 4, scale)
    rough = RoughInterests.of(known, users, items)
    near = rough.nearest(items).float() - rough.raised
    off = (near.double() - nearest_scores(known, users, items.vectors).double()).abs().amax(1)
    assert bool((off <= rough.off.double() * (1 + 1e-6)).all())
    most = float(known.vectors.norm(dim=1).max() * items.vectors.norm(dim=1).max())
    assert float(rough.off.max()) < 0.02 * most  # and that is not much


@pytest.mark.parametrize("shown", [0, 1, 40])
def test_products_of_a_few_items_are_exact(shown):
    generator = torch.Generator().manual_seed(shown)
    items, users = RoughItems(vectors(generator, 700, 8)), torch.tensor([4, 20, 0, 99, 1, 2, 5, 3])
    known = store(generator, 8, 4)
    few = torch.randint(700, (len(users), shown), generator=generator)
    found = RoughInterests.of(known, users, items).exactly(items.vectors, few)
    torch.testing.assert_close(found, nearest_scores(known, users, items.vectors).gather(1, few))


@pytest.mark.parametrize("everybody", [[], [99]])
def test_nobody_with_interests(everybody):
    items = RoughItems(torch.ones(20, 4))
    rough = RoughInterests.of(InterestStore.empty(4), torch.tensor(everybody, dtype=torch.int64), items)
    near = rough.nearest(items)
    assert near.shape == (len(everybody), 20)
    assert bool((near == rough.raised).all())


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10_000), n_items=st.sampled_from([1, 30, 800]), n=st.integers(1, 30), few=st.booleans())
def test_a_shortlist_has_all_that_may_be_among_the_best(seed, n_items, n, few):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 5 if few else 1000, (6, n_items)).astype(np.float32)  # few: mostly ties
    scores[rng.random((6, n_items)) < 0.3] = -np.inf
    scores[0] = -np.inf
    slack = rng.integers(0, 3, 6).astype(np.float32)
    n = min(n, n_items)
    found, many = shortlist(torch.from_numpy(scores), n, torch.from_numpy(slack))
    floor = np.sort(scores, axis=1)[:, -n] - slack
    for row in range(6):
        listed = found[row][found[row] >= 0].tolist()
        wanted = np.flatnonzero((scores[row] >= floor[row]) & (scores[row] > -np.inf))
        assert listed == sorted(listed)
        assert many[row] or set(wanted) <= set(listed)
        assert not many[row] or not listed


def test_a_tie_is_the_lower_items():
    items = torch.tensor([[2, 5, 9, -1], [1, 3, 4, 6]])
    scores = torch.tensor([[1.0, 3.0, 3.0, 8.0], [2.0, 2.0, -torch.inf, 2.0]])
    listed, values = in_order(items, scores, 3)
    assert listed.tolist() == [[5, 9, 2], [1, 3, 6]]
    assert values.tolist() == [[3.0, 3.0, 1.0], [2.0, 2.0, 2.0]]
    assert in_order(items, scores, 6)[0].tolist() == [[5, 9, 2, -1, -1, -1], [1, 3, 6, -1, -1, -1]]


@pytest.mark.filterwarnings("ignore:TF32")
def test_16_bits_are_not_fast_without_the_library_for_them():
    with torch.backends.mkldnn.flags(enabled=False):
        assert not is_fast()
