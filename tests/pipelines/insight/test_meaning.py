"""What an interest stands for, against loops that do the same by the letter."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import torch
from hypothesis import given
from hypothesis import strategies as st

from imsr_core.overlap import overlap
from pipelines.insight.meaning import FEWEST, LEAST_LIFT, nearest_items, standouts
from pipelines.interests.catalogue import Catalogue, Category


@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.integers(0, 99))
def test_overlap_is_the_cosine_to_the_nearest_older_interest_of_the_same_user(counts, seed):
    vectors = torch.randn(sum(counts), 3, generator=torch.Generator().manual_seed(seed))
    starts = np.repeat(np.cumsum([0, *counts[:-1]]), counts)
    found = overlap(vectors, torch.from_numpy(starts))
    unit = torch.nn.functional.normalize(vectors, dim=1)
    for row, start in enumerate(starts):
        older = [float(unit[row] @ unit[other]) for other in range(start, row)]
        if older:
            assert abs(found[row] - max(older)) < 1e-5
        else:
            assert np.isnan(found[row])


def test_nobody_has_no_overlap():
    assert len(overlap(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64))) == 0


def test_the_nearest_items_are_those_of_the_largest_product():
    items = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]])
    nearest = nearest_items(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), items, 2)
    assert nearest.items.tolist()[0] == [2, 0]
    assert nearest.items[1][0] == 1
    assert nearest.scores[0].tolist() == [3.0, 1.0]


def test_a_category_stands_out_by_its_lift():
    codes = np.array([0] * 4 + [1] * 36)  # a tenth of the items are cheese
    category = Category("kind", ("cheese", "rest"), codes[:, None])
    ids = pa.array([str(n) for n in range(40)])
    catalogue = Catalogue(ids, ids, (category,), 40)
    nearest = np.array([[0, 1, 2, 3, 20, 21, 22, 23], [20, 21, 22, 23, 24, 25, 26, 27]])
    (cheese,), none = standouts(nearest, catalogue)
    assert (cheese.column, cheese.value, cheese.share) == ("kind", "cheese", 0.5)
    assert abs(cheese.lift - 5.0) < 1e-9
    assert str(cheese) == "cheese (50%, 5.0 x)"
    assert none == []  # "rest" is everywhere


def test_each_of_an_items_categories_counts():
    codes = np.array([[0, 1]] * 4 + [[1, -1]] * 6 + [[-1, -1]] * 30)  # 4 items are cheese and food, 6 food
    ids = pa.array([str(n) for n in range(40)])
    catalogue = Catalogue(ids, ids, (Category("kind", ("cheese", "food"), codes),), 10)
    cheese, food = standouts(np.array([[0, 1, 2, 3, 30, 31, 32, 33], [4, 5, 6, 7, 8, 0, 30, 31]]), catalogue)
    assert [(each.value, each.share, round(each.lift, 4)) for each in cheese] == [("cheese", 0.5, 5.0)]
    assert [(each.value, each.share, round(each.lift, 4)) for each in food] == [("food", 0.75, 3.0)]


def test_too_few_items_say_nothing():
    codes = np.array([0] * (FEWEST - 1) + [1] * 60)
    ids = pa.array([str(n) for n in range(len(codes))])
    catalogue = Catalogue(ids, ids, (Category("kind", ("rare", "rest"), codes[:, None]),), len(codes))
    assert standouts(np.arange(10)[None, :], catalogue) == [[]]
    assert LEAST_LIFT > 1


def test_items_without_a_category_count_in_the_share_only():
    codes = np.array([0, 0, 0, -1, -1, -1, 1, 1, 1, 1, 1, 1])
    ids = pa.array([str(n) for n in range(len(codes))])
    catalogue = Catalogue(ids, ids, (Category("kind", ("tea", "rest"), codes[:, None]),), 9)
    (tea,) = standouts(np.array([[0, 1, 2, 3, 4, 5]]), catalogue)[0]
    assert tea.share == 0.5
    assert tea.lift == 2.0
