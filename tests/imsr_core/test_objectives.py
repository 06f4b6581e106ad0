"""Label-aware attention and sampled softmax against their loops."""

import literal_formulas as literal
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from imsr_core.objectives import full_softmax, label_aware, sampled_softmax, unit


@given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 999), st.booleans())
def test_label_aware_attention_equals_its_loop(b, k, seed, hard):
    generator = torch.Generator().manual_seed(seed)
    interests = torch.randn(b, k, 5, generator=generator, dtype=torch.float64)
    targets = torch.randn(b, 5, generator=generator, dtype=torch.float64)
    mask = torch.arange(k) < torch.randint(1, k + 1, (b, 1), generator=generator)
    found = label_aware(interests, mask, targets, 2.0, hard)
    for u in range(b):
        expected = literal.label_aware(interests[u][mask[u]].tolist(), targets[u].tolist(), 2.0, hard)
        assert found[u].tolist() == pytest.approx(expected, rel=1e-9)


@given(st.integers(1, 5), st.integers(0, 8), st.integers(0, 999))
def test_sampled_softmax_equals_its_loop_and_ignores_accidental_hits(b, n, seed):
    generator = torch.Generator().manual_seed(seed)
    items = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    users = torch.randn(b, 3, generator=generator, dtype=torch.float64)
    target = torch.randint(4, (b,), generator=generator)
    negative = torch.randint(4, (n,), generator=generator)
    hits = target[:, None] == negative
    found = sampled_softmax(users, items[target], items[negative], hits, 3.0)
    losses = []
    for u in range(b):
        others = [items[i].tolist() for i in negative.tolist() if i != target[u]]
        losses.append(literal.cross_entropy(users[u].tolist(), items[target[u]].tolist(), others, 3.0))
    assert float(found) == pytest.approx(sum(losses) / b, rel=1e-9, abs=1e-12)


@given(st.integers(1, 5), st.booleans(), st.integers(0, 999))
def test_the_whole_catalogue_in_any_order_is_the_same_loss_and_gradient(b, known, seed):
    generator = torch.Generator().manual_seed(seed)
    items = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    users = torch.randn(b, 3, generator=generator, dtype=torch.float64)
    offsets = torch.randn(b, 6, generator=generator, dtype=torch.float64) if known else None
    target, order = torch.randint(6, (b,), generator=generator), torch.randperm(6, generator=generator)
    place = order.argsort()[target]
    both = None if offsets is None else (offsets.gather(1, place[:, None]), offsets)
    found = []
    for whole in (True, False):
        leaves = users.clone().requires_grad_(), items.clone().requires_grad_()
        negatives, hits = leaves[1][order], target[:, None] == order
        if whole:
            loss = full_softmax(leaves[0], negatives, place, 3.0, offsets)
        else:
            loss = sampled_softmax(leaves[0], leaves[1][target], negatives, hits, 3.0, both)
        found.append((loss, *torch.autograd.grad(loss, leaves)))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_only_hits_means_no_loss_and_no_gradient():
    users = torch.ones(2, 3, requires_grad=True)
    items = torch.ones(2, 3, requires_grad=True)
    loss = sampled_softmax(users, items, items, torch.ones(2, 2, dtype=torch.bool), 5.0)
    loss.backward()
    assert float(loss.detach()) == 0
    assert not users.grad.any()
    assert not items.grad.any()


def test_unit_is_switched_off_and_survives_zero():
    vectors = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    assert unit(vectors).tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], [0.0, 0.0]]
    assert unit(vectors, enabled=False) is vectors
