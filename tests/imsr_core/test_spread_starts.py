"""Starts that lie at items far from each other, against a loop; and what they are for: fewer twins."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from imsr_core.config import ModelConfig
from imsr_core.extractors import Prior
from imsr_core.extractors.routing import SAME_ITEM, DynamicRoutingExtractor, spread_starts
from imsr_core.overlap import overlap


def prior_of(batch: int, k: int, seed: int, dim: int = 4) -> Prior:
    draws = torch.Generator().manual_seed(seed)
    start = torch.randn(batch, k, dim, generator=draws)
    never = torch.zeros(batch, k, dtype=torch.bool)
    return Prior(start, torch.zeros(batch, k), torch.ones(batch, k, dtype=torch.bool), never, torch.zeros(batch, k, 0))


def by_hand(items: list[torch.Tensor], starts: torch.Tensor) -> list[torch.Tensor]:
    """Farthest first for one user; an item that was taken is not taken again."""
    unit, taken = [item / item.norm() for item in items], []
    for number, start in enumerate(starts):
        found = start
        if items:
            likes = [float(start @ each) if not number else -max(float(each @ t) for t in taken) for each in unit]
            best = unit[max(range(len(unit)), key=lambda n: (likes[n], -n))]
            if not number or max(float(best @ t) for t in taken) < SAME_ITEM:
                found = best * start.norm()
        taken.append(found / found.norm())
    return [start.norm() * t for start, t in zip(starts, taken, strict=True)]


@given(n=st.integers(0, 6), k=st.integers(1, 5), seed=st.integers(0, 999))
def test_the_starts_are_those_of_the_loop(n, k, seed):
    prior = prior_of(3, k, seed)
    items = torch.randn(3, n, 4, generator=torch.Generator().manual_seed(seed + 1))
    mask = torch.ones(3, n)
    mask[1, : n // 2] = 0
    found = spread_starts(items, mask, prior)
    for user in range(3):
        own = [items[user, place] for place in range(n) if mask[user, place]]
        wanted = by_hand(own, prior.start[user])
        assert torch.allclose(found[user], torch.stack(wanted), atol=1e-4)


def test_stored_interests_and_their_users_are_left_alone():
    prior = prior_of(2, 3, 5)
    stored = prior.stored.clone()
    stored[0, 1] = True
    found = spread_starts(torch.randn(2, 5, 4), torch.ones(2, 5), replace(prior, stored=stored))
    assert torch.equal(found[0], prior.start[0])
    assert not torch.equal(found[1], prior.start[1])


@pytest.mark.parametrize("seed", range(3))
def test_two_tastes_become_two_interests(seed):
    """Items in two directions: random starts often find one of them twice."""
    draws = torch.Generator().manual_seed(seed)
    tastes = torch.eye(16)[:2].repeat(1, 10).reshape(20, 16)
    items = torch.nn.functional.normalize(tastes + 0.05 * torch.randn(200, 20, 16, generator=draws), dim=-1)
    prior = prior_of(200, 2, seed, dim=16)
    prior = replace(prior, start=0.3 * prior.start)
    twins = {}
    for starts in ("random", "spread"):
        extractor = DynamicRoutingExtractor(ModelConfig(dim=16, starts=starts))
        found = extractor(items, torch.ones(200, 20), prior).detach().reshape(400, 16)
        twins[starts] = int((overlap(found, torch.arange(400) // 2 * 2) > 0.9).sum())
    assert twins["spread"] == 0 < twins["random"]
