"""What every extractor must do. A new one gets these tests by inheriting the contract:

class TestReader(ExtractorContract):
    name = "reader"
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from imsr_core.extractors import Extractor, Prior, build_extractor
from imsr_core.testing.planted_logs import assert_equal, tiny_config

#: (items, interests, seed) of the batches that are read.
DRAWS = [(0, 1, 0), (1, 1, 1), (6, 1, 2), (3, 5, 3), (6, 5, 4)]
WIDTH = 6

Batch = tuple[Tensor, Tensor, Prior]


def extractor_named(name: str, seed: int = 0, iterations: int = 3) -> Extractor:
    """A float64 extractor whose parameters are all away from their starting values."""
    model = replace(tiny_config(name).model, routing_iterations=iterations, attention_units=5)
    generator = torch.Generator().manual_seed(seed)
    extractor = build_extractor(model, generator).double()
    with torch.no_grad():
        for parameter in extractor.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return extractor


def draw(n: int, k: int, seed: int, users: int = 3) -> Batch:
    """Items, their mask (padding in front, another length for each user), and a prior of 1 .. k interests."""
    generator = torch.Generator().manual_seed(seed)
    width = max(n, 1)

    def vectors(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    lengths = torch.randint(0, n + 1, (users, 1), generator=generator)
    item_mask = torch.arange(width) >= width - lengths
    mask = torch.arange(k) < torch.randint(1, k + 1, (users, 1), generator=generator)
    stored = (torch.rand(users, k, generator=generator) < 0.6) & mask
    keep = mask[..., None]
    prior = Prior(vectors(users, k, 8) * keep, 2.0 * stored, mask, stored, vectors(users, k, 5) * keep)
    return vectors(users, width, 8), item_mask, prior


def padded(prior: Prior, more: int) -> Prior:
    """The prior with ``more`` places that hold no interest."""
    return Prior(
        functional.pad(prior.start, (0, 0, 0, more)),
        functional.pad(prior.mass, (0, more)),
        functional.pad(prior.mask, (0, more)),
        functional.pad(prior.stored, (0, more)),
        functional.pad(prior.queries, (0, 0, 0, more)),
    )


class ExtractorContract:
    """Inherit, and name the extractor."""

    name: str

    @pytest.fixture(params=DRAWS, ids=str)
    def batch(self, request: Any) -> Batch:
        """Users with items and interests, none of either among them."""
        return draw(*request.param)

    @pytest.fixture
    def extractor(self) -> Extractor:
        """With parameters away from their start."""
        return extractor_named(self.name)

    def test_interests_have_the_shape_of_the_prior_and_padded_ones_are_zero(
        self, extractor: Extractor, batch: Batch
    ) -> None:
        items, item_mask, prior = batch
        found = extractor(items, item_mask, prior)
        assert found.shape == prior.start.shape
        assert bool(found.isfinite().all())
        assert not found[~prior.mask].any()

    def test_padding_changes_nothing_and_learns_nothing(self, extractor: Extractor, batch: Batch) -> None:
        items, item_mask, prior = batch
        more, k = WIDTH - items.shape[1], prior.mask.shape[1]
        items.requires_grad_()
        rubbish = torch.full((len(items), more, 8), 5.0, dtype=torch.float64, requires_grad=True)
        wide = extractor(torch.cat([rubbish, items], 1), functional.pad(item_mask, (more, 0)), padded(prior, 2))
        assert torch.allclose(wide[:, :k], extractor(items, item_mask, prior), atol=1e-12)
        assert not wide[:, k:].any()
        wide.sum().backward()
        assert rubbish.grad is None or not rubbish.grad.any()
        assert items.grad is not None
        assert not items.grad[~item_mask].any()

    def test_a_user_is_read_the_same_alone_and_among_others(self, extractor: Extractor, batch: Batch) -> None:
        items, item_mask, prior = batch
        together = extractor(items, item_mask, prior)
        parts = (prior.start, prior.mass, prior.mask, prior.stored, prior.queries)
        for u in range(len(items)):
            alone = extractor(items[u : u + 1], item_mask[u : u + 1], Prior(*(part[u : u + 1] for part in parts)))
            assert torch.allclose(alone[0], together[u], atol=1e-12)

    def test_without_items_a_stored_interest_stays_where_it_is(self, extractor: Extractor) -> None:
        items, item_mask, prior = draw(0, 4, seed=3)
        prior = replace(prior, mass=torch.where(prior.stored, 50.0, 0.0).double())
        cosine = functional.cosine_similarity(extractor(items, item_mask, prior), prior.start, dim=-1)
        assert torch.allclose(cosine[prior.stored], torch.ones(1, dtype=torch.float64), atol=1e-9)

    def test_items_and_every_parameter_can_be_learnt(self, extractor: Extractor) -> None:
        items, item_mask, prior = draw(WIDTH, 3, seed=5)
        items.requires_grad_()
        direction = torch.randn(prior.start.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        (extractor(items, item_mask, prior) * direction).sum().backward()
        assert items.grad is not None
        assert bool(items.grad[item_mask].any())
        for name, parameter in extractor.named_parameters():
            assert parameter.grad is not None, name
            assert bool(parameter.grad.any()), name

    def test_one_seed_gives_the_same_parameters(self) -> None:
        first, again = (extractor_named(self.name, seed=7).state_dict() for _ in range(2))
        assert_equal(first, again)

    def test_its_parameters_are_all_that_it_needs(self) -> None:
        """A version stores `state_dict`, and another process reads interests with it."""
        batch = draw(WIDTH, 3, seed=6)
        trained, loaded = extractor_named(self.name, seed=1), extractor_named(self.name, seed=2)
        loaded.load_state_dict(trained.state_dict())
        assert torch.equal(loaded(*batch), trained(*batch))
