"""Whether a tensor is finite, against looking at each number."""

from __future__ import annotations

import pytest
import torch

from imsr_core.finite import ROWS, is_finite

HUGE = torch.finfo(torch.float32).max


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("place", [0, ROWS - 1, ROWS, 2 * ROWS])
def test_one_number_that_is_none_is_found(bad, place):
    tensor = torch.ones(2 * ROWS + 1, 2)
    assert is_finite(tensor)
    tensor[place, 1] = bad
    assert not is_finite(tensor)


def test_infinities_that_cancel_are_found():
    assert not is_finite(torch.tensor([[float("inf"), 1.0], [float("-inf"), 1.0]]))


def test_numbers_whose_sum_overflows_are_finite():
    assert is_finite(torch.full((3, 2), HUGE))


@pytest.mark.parametrize("tensor", [torch.tensor(1.0), torch.tensor([1, 2]), torch.zeros(0, 3), torch.tensor([True])])
def test_scalars_integers_and_nothing(tensor):
    assert is_finite(tensor)
