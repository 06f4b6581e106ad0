"""Top-N against the union of per-interest lists."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from imsr_core import retrieval
from imsr_core.interests import InterestStore
from imsr_core.retrieval import top_items
from imsr_core.testing.planted_logs import store_of


@st.composite
def cases(draw):
    """K_u of some users (0: no interests), catalogue size, N, exclusions, seed."""
    counts = draw(st.lists(st.integers(0, 4), min_size=1, max_size=4))
    items = draw(st.integers(1, 8))
    pairs = st.tuples(st.integers(0, len(counts) - 1), st.integers(0, items + 1))
    return counts, items, draw(st.integers(1, 10)), draw(st.lists(pairs, max_size=8)), draw(st.integers(0, 99))


def union_of_lists(interests: list[list[float]], items: torch.Tensor, n: int, hidden: set[int]) -> list[tuple]:
    """The paper's way: n best of each interest, united, best score first."""
    best: dict[int, tuple[float, int]] = {}
    for k, interest in enumerate(interests):
        scores = (items @ torch.tensor(interest)).tolist()
        for i in sorted((i for i in range(len(items)) if i not in hidden), key=lambda i: -scores[i])[:n]:
            if i not in best or scores[i] > best[i][0]:
                best[i] = (scores[i], k)
    return sorted(((score, i, k) for i, (score, k) in best.items()), reverse=True)[:n]


@given(cases())
def test_equals_the_union_of_the_interests_lists(case):
    counts, n_items, n, excluded, seed = case
    generator = torch.Generator().manual_seed(seed)
    items = torch.randn(n_items, 5, generator=generator)
    interests = {u: torch.randn(k, 5, generator=generator).tolist() for u, k in enumerate(counts) if k}
    store = store_of(interests) if interests else InterestStore.empty(5)
    rows, hidden = (torch.tensor([pair[j] for pair in excluded], dtype=torch.int64) for j in (0, 1))
    found = top_items(store, torch.arange(len(counts)), items, n, exclude=(rows, hidden))
    assert found.items.shape == (len(counts), min(n, n_items))
    for u in range(len(counts)):
        expected = union_of_lists(interests.get(u, []), items, n, {i for v, i in excluded if v == u})
        shown = len(expected)
        assert found.items[u, :shown].tolist() == [i for _, i, _ in expected]
        assert found.interest[u, :shown].tolist() == [k for _, _, k in expected]
        assert torch.allclose(found.scores[u, :shown], torch.tensor([s for s, _, _ in expected]), atol=1e-5)
        assert (found.items[u, shown:] == -1).all()
        assert (found.interest[u, shown:] == -1).all()
        assert (found.scores[u, shown:] == -torch.inf).all()


def test_chunks_change_nothing(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    items = torch.randn(9, 5, generator=generator)
    store = store_of({u: torch.randn(1 + u % 3, 5, generator=generator).tolist() for u in range(7)})
    exclude = (torch.tensor([6, 0, 3]), torch.tensor([1, 2, 3]))
    whole = top_items(store, torch.arange(7), items, 4, exclude)
    monkeypatch.setattr(retrieval, "CHUNK_SCORES", 1)
    parts = top_items(store, torch.arange(7), items, 4, exclude)
    assert torch.equal(whole.items, parts.items)
    assert torch.equal(whole.interest, parts.interest)
    assert 1 not in whole.items[6]


def test_users_together_score_as_each_alone(monkeypatch):
    """In any order, more than once, with and without interests, in one block or in many."""
    generator = torch.Generator().manual_seed(1)
    items = torch.randn(9, 5, generator=generator)
    interests = {u: torch.randn(1 + u % 4, 5, generator=generator) for u in (0, 2, 3, 5, 6)}
    store = store_of({u: vectors.tolist() for u, vectors in interests.items()})
    users = torch.tensor([6, 0, 4, 3, 0, 2, 5, 1])
    wanted = torch.stack(
        [(interests[u] @ items.T).amax(0) if u in interests else torch.zeros(9) for u in users.tolist()]
    )
    for block in (retrieval.BLOCK_SCORES, 30, 1):
        monkeypatch.setattr(retrieval, "BLOCK_SCORES", block)
        torch.testing.assert_close(retrieval.nearest_scores(store, users, items), wanted)
        alone = [retrieval.nearest_scores(store, user[None], items) for user in users]
        torch.testing.assert_close(torch.cat(alone), wanted)


def test_no_user_gives_no_list():
    found = top_items(InterestStore.empty(5), torch.zeros(0, dtype=torch.int64), torch.randn(4, 5), 3)
    assert found.items.shape == (0, 3)
