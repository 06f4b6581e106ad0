"""Whole histories cut into windows."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from imsr_core.encoders.tokens import FIRST_ITEM, PAD, windows
from imsr_core.ragged import SpanSequences


def sequences_of(lists: list[list[int]]) -> SpanSequences:
    items = np.array([item for row in lists for item in row], dtype=np.int64)
    offsets = np.cumsum([0, *map(len, lists)], dtype=np.int64)
    return SpanSequences(np.arange(len(lists), dtype=np.int64), offsets, items, np.arange(len(items), dtype=np.int64))


def test_a_history_is_cut_from_the_end_and_neighbours_share_an_item() -> None:
    rows, owners = windows(sequences_of([[1, 2, 3, 4, 5, 6], [7], [8, 9]]), 3)
    first = FIRST_ITEM
    expected = [[first + 3, first + 4, first + 5, first + 6], [PAD, first + 1, first + 2, first + 3]]
    assert rows.tolist() == [*expected, [PAD, PAD, first + 8, first + 9]]
    assert owners.tolist() == [0, 0, 2]


@given(st.lists(st.lists(st.integers(0, 9), max_size=13), max_size=6), st.integers(1, 6))
def test_every_step_is_in_exactly_one_window(lists, length) -> None:
    rows, owners = windows(sequences_of(lists), length)
    assert rows.shape == (len(owners), length + 1)
    found = sorted(
        (int(owner), int(a) - FIRST_ITEM, int(b) - FIRST_ITEM)
        for owner, row in zip(owners, rows, strict=True)
        for a, b in pairwise(row.tolist())
        if a != PAD
    )
    assert found == sorted((n, a, b) for n, row in enumerate(lists) for a, b in pairwise(row))
    assert not torch.any((rows[:, :-1] != PAD) & (rows[:, 1:] == PAD))  # padding only before the items
