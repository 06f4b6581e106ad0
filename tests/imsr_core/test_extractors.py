"""Routing and attention against loops of their equations; what padding may change (nothing)."""

from dataclasses import replace

import literal_formulas as literal
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from imsr_core.extractors import Prior, build_extractor
from imsr_core.extractors.routing import squash
from imsr_core.testing.planted_logs import EXTRACTORS, tiny_config

SHAPES = {"n": st.integers(0, 6), "k": st.integers(1, 5), "seed": st.integers(0, 999)}


def extractor_named(name: str, seed: int = 0, iterations: int = 3):
    """A float64 extractor whose parameters are all away from their starting values."""
    model = replace(tiny_config(name).model, routing_iterations=iterations, attention_units=5)
    generator = torch.Generator().manual_seed(seed)
    extractor = build_extractor(model, generator).double()
    with torch.no_grad():
        for parameter in extractor.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return extractor


def draw(n: int, k: int, seed: int, users: int = 3) -> tuple[torch.Tensor, torch.Tensor, Prior]:
    """Items, their mask (padding in front, another length for each user), and a prior of 1 .. k interests."""
    generator = torch.Generator().manual_seed(seed)
    width = max(n, 1)

    def vectors(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    lengths = torch.randint(0, n + 1, (users, 1), generator=generator)
    item_mask = torch.arange(width) >= width - lengths
    mask = torch.arange(k) < torch.randint(1, k + 1, (users, 1), generator=generator)
    stored = (torch.rand(users, k, generator=generator) < 0.6) & mask
    keep = mask[..., None]
    prior = Prior(vectors(users, k, 8) * keep, 2.0 * stored, mask, stored, vectors(users, k, 5) * keep)
    return vectors(users, width, 8), item_mask, prior


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


@pytest.mark.parametrize("name", EXTRACTORS)
@given(**SHAPES, more=st.integers(1, 3))
def test_padding_changes_nothing(name, n, k, seed, more):
    if n + more > 6:
        more = 6 - n
    extractor = extractor_named(name, seed)
    items, item_mask, prior = draw(n, k, seed)
    items.requires_grad_()
    plain = extractor(items, item_mask, prior)
    rubbish = torch.full((len(items), more, 8), 5.0, dtype=torch.float64, requires_grad=True)
    wide = torch.cat([rubbish, items], 1)
    wide_mask = functional.pad(item_mask, (more, 0))
    longer = Prior(
        functional.pad(prior.start, (0, 0, 0, 2)),
        functional.pad(prior.mass, (0, 2)),
        functional.pad(prior.mask, (0, 2)),
        functional.pad(prior.stored, (0, 2)),
        functional.pad(prior.queries, (0, 0, 0, 2)),
    )
    padded = extractor(wide[:, -6:], wide_mask[:, -6:], longer)
    assert torch.allclose(padded[:, :k], plain, atol=1e-12)
    assert not padded[:, k:].any()
    padded.sum().backward()
    assert rubbish.grad is None or not rubbish.grad.any()
    assert not items.grad[~item_mask].any()


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


@pytest.mark.parametrize("name", EXTRACTORS)
def test_without_items_a_stored_interest_stays_where_it_is(name):
    extractor = extractor_named(name)
    items, item_mask, prior = draw(0, 4, seed=3)
    prior = replace(prior, mass=torch.where(prior.stored, 50.0, 0.0).double())
    cosine = functional.cosine_similarity(extractor(items, item_mask, prior), prior.start, dim=-1)
    assert torch.allclose(cosine[prior.stored], torch.ones(1, dtype=torch.float64), atol=1e-9)


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
