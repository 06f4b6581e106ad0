"""The contract of extractors for each one that there is; routing and attention against loops of their equations."""

from dataclasses import replace

import literal_formulas as literal
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from imsr_core.extractors import EXTRACTORS, Prior
from imsr_core.extractors.routing import squash
from imsr_core.testing.extractor_contract import ExtractorContract, draw, extractor_named

SHAPES = {"n": st.integers(0, 6), "k": st.integers(1, 5), "seed": st.integers(0, 999)}


class TestDynamicRouting(ExtractorContract):
    name = "comirec-dr"


class TestMind(ExtractorContract):
    name = "mind"


class TestSelfAttention(ExtractorContract):
    name = "comirec-sa"


def test_no_extractor_goes_without_the_contract():
    assert {case.name for case in ExtractorContract.__subclasses__()} == set(EXTRACTORS)


def by_hand(name: str, extractor, items: torch.Tensor, prior: Prior, u: int, iterations: int = 3):
    """Interests (and couplings) of user u from its real ``items`` (n, d), by the loop."""
    real = prior.mask[u].nonzero().flatten().tolist()
    past, mass = prior.start[u, real].tolist(), prior.mass[u, real].tolist()
    n = len(items)
    if name == "comirec-sa":
        places = extractor.positions[len(extractor.positions) - n :].tolist()
        queries = prior.queries[u, real].tolist()
        hidden = extractor.hidden.weight.tolist()
        return literal.attention(items.tolist(), places, hidden, queries, past, mass), None
    weight, bias = extractor.map.weight.tolist(), extractor.map.bias
    offset = bias.tolist() if bias is not None else [0.0] * 8
    mapped = [literal.plus([literal.dot(row, e) for row in weight], offset) for e in items.tolist()]
    logits = [[literal.dot(e, h) for h in past] for e in mapped]
    if name == "mind":
        table = extractor.start_logits[len(extractor.start_logits) - n :].tolist()
        for i in range(n):
            for j, k in enumerate(real):
                if not prior.stored[u, k]:
                    logits[i][j] = table[i][k]
    return literal.routing(mapped, past, mass, logits, iterations)


@pytest.mark.parametrize("name", EXTRACTORS)
@given(**SHAPES)
def test_each_extractor_equals_its_equations(name, n, k, seed):
    extractor = extractor_named(name, seed)
    items, item_mask, prior = draw(n, k, seed)
    found = extractor(items, item_mask, prior)
    assert not found[~prior.mask].any()
    for u in range(len(items)):
        expected, _ = by_hand(name, extractor, items[u][item_mask[u]], prior, u)
        expected = torch.tensor(expected, dtype=torch.float64)
        assert torch.allclose(found[u][prior.mask[u]], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["comirec-dr", "mind"])
@pytest.mark.parametrize("iterations", [1, 3])
def test_the_gradient_is_that_of_the_last_iteration_with_its_couplings_fixed(name, iterations):
    extractor = extractor_named(name, seed=4, iterations=iterations)
    items, item_mask, prior = draw(5, 3, seed=16, users=1)
    assert int(prior.mask[0].sum()) > 1  # with one interest every coupling is 1, whatever the routing does
    item_mask = torch.ones_like(item_mask)
    items.requires_grad_()
    weights = torch.randn(1, 3, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    (extractor(items, item_mask, prior) * weights).sum().backward()
    _, coupling = by_hand(name, extractor, items[0].detach(), prior, 0, iterations)
    fixed = torch.tensor(coupling, dtype=torch.float64)
    real = prior.mask[0]

    def score(values: torch.Tensor) -> float:
        with torch.no_grad():
            mapped = extractor.map_items(values)
            capsule = squash(prior.mass[0, real, None] * prior.start[0, real] + fixed.T @ mapped)
            return float((capsule * weights[0, real]).sum())

    step = 1e-5
    for i in range(5):
        for j in range(8):
            nudge = torch.zeros(5, 8, dtype=torch.float64)
            nudge[i, j] = step
            slope = (score(items[0].detach() + nudge) - score(items[0].detach() - nudge)) / (2 * step)
            assert float(items.grad[0, i, j]) == pytest.approx(slope, rel=1e-5, abs=1e-7)


def test_a_stored_interest_of_mind_carries_over_even_without_mass():
    extractor = extractor_named("mind")
    items, item_mask, prior = draw(5, 3, seed=5)
    literal_prior = replace(prior, mass=torch.zeros_like(prior.mass), stored=prior.mask)
    moved = replace(literal_prior, start=-prior.start)
    assert not torch.allclose(extractor(items, item_mask, literal_prior), extractor(items, item_mask, moved))


def test_fixed_logits_of_mind_are_saved_and_not_trained():
    extractor = extractor_named("mind")
    assert "start_logits" in extractor.state_dict()
    assert "start_logits" not in dict(extractor.named_parameters())


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=5))
def test_squash_keeps_the_direction_and_stays_below_one(x):
    found = squash(torch.tensor(x, dtype=torch.float64))
    assert found.norm() < 1
    assert torch.allclose(found, torch.tensor(literal.squash(x), dtype=torch.float64), atol=1e-6)


def test_the_gradient_of_squash_at_zero_is_finite():
    x = torch.zeros(4, requires_grad=True)
    squash(x).sum().backward()
    assert torch.isfinite(x.grad).all()
