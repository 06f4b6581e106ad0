"""Left padding and the reserved rows."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from imsr_core.encoders import tokens
from imsr_core.ragged import SpanSequences


def sequences_of(lists: list[list[int]]) -> SpanSequences:
    items = np.array([item for row in lists for item in row], dtype=np.int64)
    offsets = np.cumsum([0, *map(len, lists)], dtype=np.int64)
    return SpanSequences(np.arange(len(lists), dtype=np.int64), offsets, items, np.arange(len(items), dtype=np.int64))


def test_reserved_rows_are_distinct() -> None:
    assert sorted({tokens.PAD, tokens.UNKNOWN, tokens.MASK, tokens.TASK, tokens.FIRST_ITEM}) == [
        0,
        1,
        2,
        3,
        4,
    ]


@given(st.lists(st.lists(st.integers(0, 50), max_size=9), max_size=8), st.integers(1, 7))
def test_left_pad_agrees_with_a_plain_loop(lists: list[list[int]], length: int) -> None:
    expected = [[0] * (length - len(row[-length:])) + [item + 4 for item in row[-length:]] for row in lists]
    rows = tokens.left_pad(sequences_of(lists), length)
    assert rows.dtype == torch.int64
    assert rows.shape == (len(lists), length)
    assert rows.tolist() == expected


def test_items_the_model_does_not_know_become_unknown() -> None:
    rows = torch.tensor([[0, 2, 3, 4, 13, 14, 99]])
    assert tokens.hide_newer(rows, 10).tolist() == [[0, 2, 3, 4, 13, 1, 1]]


def test_tokens_stand_next_to_the_items_not_before_the_padding() -> None:
    rows = torch.tensor([[0, 0, 5], [7, 8, 9], [0, 0, 0]])
    assert tokens.append_token(rows, 3).tolist() == [[0, 0, 5, 3], [7, 8, 9, 3], [0, 0, 0, 3]]
    assert tokens.wrap_with_token(rows, 3).tolist() == [[0, 0, 3, 5, 3], [3, 7, 8, 9, 3], [0, 0, 0, 3, 3]]
    assert tokens.first_position(rows).tolist() == [2, 0, 3]
