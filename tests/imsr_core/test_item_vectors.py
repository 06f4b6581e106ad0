"""Item vectors in the form that is asked for: the same numbers, and no copy of a table for one user's list."""

import pytest
import torch

from imsr_core import item_vectors
from imsr_core.interests import InterestStore
from imsr_core.item_vectors import ItemVectors
from imsr_core.members import apart
from imsr_core.objectives import unit
from imsr_core.retrieval import nearest_scores
from imsr_core.testing.planted_logs import store_of

ITEMS, DIM = 5_000, 32


def of_second_member(normalize: bool = True) -> ItemVectors:
    rows = torch.randn(ITEMS, 2 * DIM, generator=torch.Generator().manual_seed(1))
    return ItemVectors(apart(rows, 2)[1], normalize)


def store(*counts: int) -> InterestStore:
    generator = torch.Generator().manual_seed(2)
    return store_of({user: torch.randn(k, DIM, generator=generator).tolist() for user, k in enumerate(counts)})


@pytest.mark.parametrize("normalize", [True, False])
def test_a_few_items_are_those_of_all(normalize: bool) -> None:
    vectors, items = of_second_member(normalize), torch.tensor([4_999, 0, 7, 7])
    few = vectors.at(items)
    assert "whole" not in vars(vectors)
    assert torch.equal(few, unit(vectors.weight, normalize)[items])
    assert torch.equal(few, vectors.whole[items])
    assert torch.equal(vectors.at(items), few)


@pytest.mark.parametrize("normalize", [True, False])
def test_who_asks_first_gets_what_later_ones_get(normalize: bool) -> None:
    interests = store(1, 4, 9)
    for user in range(3):
        vectors = of_second_member(normalize)
        first = vectors.nearest(interests, user)
        assert "whole" not in vars(vectors)
        second = vectors.nearest(interests, user)
        assert "_across" in vars(vectors)
        wanted = nearest_scores(interests, torch.tensor([user]), vectors.whole)
        torch.testing.assert_close(first, second, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(first, wanted, rtol=1e-5, atol=1e-5)


def test_nothing_is_near_to_who_has_no_interests() -> None:
    vectors = of_second_member()
    for _ in range(2):
        assert torch.equal(vectors.nearest(store(2), 5), torch.zeros(1, ITEMS))


def test_a_large_table_does_not_lie_across(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(item_vectors, "ACROSS", ITEMS * DIM - 1)
    vectors, interests = of_second_member(), store(3)
    for _ in range(2):
        found = vectors.nearest(interests, 0)
    assert "_across" not in vars(vectors)
    torch.testing.assert_close(found, nearest_scores(interests, torch.tensor([0]), vectors.whole))
