"""Conure's arithmetic of owners."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from imsr_core.lifelong.errors import CapacityError
from imsr_core.lifelong.methods.ownership import check_capacity, claim, ledger, requested, visible, wanted_of


def test_counts_of_the_released_rule_on_the_papers_tensor() -> None:
    size, rates, kept = 3 * 256 * 256, [], []
    for _ in range(6):
        rates.append(0.7)
        kept.append(requested(size, rates))
    assert kept == [58_983, 41_288, 28_902, 20_231, 14_162, 9_914]
    assert round(100 * (size - sum(kept)) / size, 2) == 11.76


@given(st.lists(st.sampled_from([0.0, 0.1, -0.1, 0.5, -2.0, 3.0]), min_size=1, max_size=40), st.data())
def test_claim_takes_the_largest_free_weights_and_nothing_else(values, data) -> None:
    weight = torch.tensor(values)
    owner = torch.tensor(
        data.draw(st.lists(st.integers(0, 3), min_size=len(values), max_size=len(values))), dtype=torch.uint8
    )
    free = int((owner == 0).sum())
    count = data.draw(st.integers(0, free))
    claimed = claim(weight, owner, 9, count)
    assert int((claimed == 9).sum()) == count
    assert torch.equal(claimed[owner > 0], owner[owner > 0])
    if 0 < count < free:
        assert weight[claimed == 9].abs().min() >= weight[claimed == 0].abs().max()


def test_ties_go_to_the_lower_index() -> None:
    assert claim(torch.ones(6), torch.tensor([0, 1, 0, 0, 0, 0], dtype=torch.uint8), 2, 2).tolist() == [
        2,
        1,
        2,
        0,
        0,
        0,
    ]


def test_visible_is_own_and_earlier_even_beside_nan() -> None:
    weight = torch.tensor([1.0, 2.0, 3.0, float("nan")])
    owner = torch.tensor([1, 2, 3, 0], dtype=torch.uint8)
    assert visible(weight, owner, 2).tolist() == [1.0, 2.0, 0.0, 0.0]


def test_refusal_names_the_tensor_and_both_numbers() -> None:
    owners = {"conv": torch.tensor([1] * 50 + [0] * 50, dtype=torch.uint8)}
    check_capacity(owners, [0.5, 0.5])  # int(100 * 0.5 * 0.5) + 1 = 26 of 50
    with pytest.raises(CapacityError, match="conv has 50 free weights of 100, the task asks for 51"):
        check_capacity(owners, [1.0, 0.5])
    with pytest.raises(CapacityError, match="255"):
        check_capacity({}, [0.9] * 256)


def test_a_rate_of_nothing_takes_all_that_is_left() -> None:
    owner = torch.tensor([1] * 51 + [0] * 49, dtype=torch.uint8)  # the plus one of T1: 51, not 50, are taken
    check_capacity({"conv": owner}, [0.5, 0.0])
    assert wanted_of(owner, [0.5, 0.0]) == 49
    with pytest.raises(CapacityError, match="0 free weights"):
        check_capacity({"conv": torch.ones(9, dtype=torch.uint8)}, [0.5, 0.0])


def test_ledger_counts() -> None:
    owners = {"a": torch.tensor([0, 1, 2, 2], dtype=torch.uint8)}
    assert ledger(owners, 2) == {"a": {"size": 4, "kept": 2, "free": 1}}
