"""Row tables: Adam row by row, and growth that disturbs nothing."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from imsr_core.objectives import unit
from imsr_core.rows import RowTable, rows_at
from imsr_core.state import ModelState
from imsr_core.testing.planted_logs import tiny_config


def table_of(rows: int, seed: int = 0) -> RowTable:
    return RowTable.random(rows, 3, torch.Generator().manual_seed(seed))


def gradients(steps: int, rows: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(steps, rows, 3, generator=torch.Generator().manual_seed(seed))


def test_touching_all_rows_is_adam():
    table = table_of(6)
    weight = torch.nn.Parameter(table.weight.clone())
    adam = torch.optim.Adam([weight], lr=0.01)
    for gradient in gradients(30, 6):
        table.step(torch.arange(6), gradient, 0.01)
        weight.grad = gradient
        adam.step()
        assert torch.allclose(table.weight, weight.detach(), atol=2e-6)
    state = adam.state[weight]
    assert torch.allclose(table.moment1, state["exp_avg"], atol=1e-7)
    assert torch.allclose(table.moment2, state["exp_avg_sq"], atol=1e-7)


@given(st.lists(st.sets(st.integers(0, 4)), max_size=12))
def test_each_row_is_an_adam_of_its_own_clock(batches):
    table = table_of(5)
    alone = [torch.nn.Parameter(row.clone()) for row in table.weight]
    adams = [torch.optim.Adam([row], lr=0.05) for row in alone]
    for batch, gradient in zip(batches, gradients(12, 5), strict=False):
        ids = sorted(batch)
        before = {name: tensor.clone() for name, tensor in table.tensors().items()}
        table.step(torch.tensor(ids, dtype=torch.int64), gradient[ids], 0.05)
        rest = [i for i in range(5) if i not in batch]
        for name, tensor in table.tensors().items():
            assert torch.equal(tensor[rest], before[name][rest])
        for i in ids:
            alone[i].grad = gradient[i]
            adams[i].step()
    assert torch.allclose(table.weight, torch.stack([row.detach() for row in alone]), atol=1e-5)
    assert table.steps.tolist() == [sum(i in b for b in batches) for i in range(5)]


def test_appending_leaves_rows_moments_and_clocks():
    table, young = table_of(4), table_of(2, seed=9)
    table.step(torch.tensor([0, 3]), gradients(1, 2)[0], 0.1)
    longer = table.append(young)
    for name, tensor in table.tensors().items():
        assert torch.equal(longer.tensors()[name][:4], tensor)
        assert torch.equal(longer.tensors()[name][4:], young.tensors()[name])
    kept = {name: tensor.clone() for name, tensor in table.tensors().items()}
    longer.step(torch.arange(6), gradients(1, 6)[0], 0.1)
    assert all(torch.equal(tensor, kept[name]) for name, tensor in table.tensors().items())


def test_a_clone_shares_nothing_and_a_reset_keeps_the_rows():
    table = table_of(3)
    table.step(torch.arange(3), gradients(1, 3)[0], 0.1)
    clone, weight = table.clone(), table.weight.clone()
    clone.step(torch.arange(3), gradients(1, 3)[0], 0.1)
    assert torch.equal(table.weight, weight)
    table.reset_moments()
    assert torch.equal(table.weight, weight)
    assert not any(t.any() for name, t in table.tensors().items() if name != "weight")


def test_a_leaf_collects_a_gradient_without_touching_the_table():
    table = table_of(3)
    leaf = table.leaf(torch.tensor([2, 0]))
    leaf.square().sum().backward()
    assert torch.equal(leaf.grad, 2 * table.weight[[2, 0]])
    assert not table.weight.requires_grad


def test_nothing_to_step_is_no_error():
    table = table_of(2)
    table.step(torch.zeros(0, dtype=torch.int64), torch.zeros(0, 3), 0.1)
    assert table.steps.tolist() == [0, 0]
    assert pytest.approx(0) == float(table.moment1.abs().sum())


def test_what_was_stepped_elsewhere_is_taken_back_and_nothing_else():
    table = RowTable.random(50, 4, torch.Generator().manual_seed(0))
    table.step(torch.arange(0, 50, 3), torch.ones(17, 4), 0.1)
    copy = table.clone()
    copy.step(torch.tensor([3, 7, 49]), torch.ones(3, 4), 0.1)
    trained = copy.clone()
    copy.weight[5] = torch.nan  # a row that was not stepped is not looked at
    table.take_stepped(copy)
    for mine, other in zip(table.tensors().values(), trained.tensors().values(), strict=True):
        assert torch.equal(mine, other)


def test_item_vectors_are_made_once_until_the_weights_change(monkeypatch):
    made = []

    def noted(vectors, enabled):
        made.append(len(vectors))
        return unit(vectors, enabled)

    monkeypatch.setattr("imsr_core.item_vectors.unit", noted)
    state = ModelState.initial(tiny_config()).with_items(5)
    first = state.item_vectors()
    assert state.vectors_of_members()[0] is first
    assert made == [5]
    state.items.step(torch.tensor([3]), torch.ones(1, 8), 0.1)
    assert not torch.equal(state.item_vectors()[3], first[3])
    assert torch.equal(state.item_vectors(), unit(state.items.weight))
    other = state.clone()
    other.items.weight[0] += 1
    assert not torch.equal(other.item_vectors()[0], state.item_vectors()[0])
    monkeypatch.setattr("imsr_core.state.KEPT_VECTORS", 0)
    large = state.clone()
    assert large.item_vectors() is not large.item_vectors()


@given(st.lists(st.lists(st.integers(0, 4), max_size=6), min_size=1, max_size=4), st.integers(0, 3))
def test_rows_at_many_places_have_the_gradient_of_an_embedding_of_each(places, unused):
    table = table_of(5).weight.double().requires_grad_()
    found = rows_at(table, *(torch.tensor(place, dtype=torch.int64) for place in places))
    weights = [torch.arange(1.0, 1 + each.numel(), dtype=torch.float64).view_as(each) for each in found]
    for place, each in zip(places, found, strict=True):
        assert torch.equal(each, table[torch.tensor(place, dtype=torch.int64)])
    used = [i for i in range(len(places)) if i != unused]
    if used:
        sum((found[i] * weights[i]).sum() for i in used).backward()
        expected = torch.zeros_like(table)
        for i in used:
            for row, weight in zip(places[i], weights[i], strict=True):
                expected[row] += weight
        assert torch.allclose(table.grad, expected)
