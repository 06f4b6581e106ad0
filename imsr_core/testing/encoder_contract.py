"""What every encoder must do. A new one gets these tests by inheriting the contract:

class TestReader(EncoderContract):
    name = "reader"
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from imsr_core.encoders.adapter import Adapter
from imsr_core.encoders.build import build_encoder, initial_weights
from imsr_core.encoders.config import EncoderConfig
from imsr_core.encoders.protocol import ITEM_TABLE, Encoder, run
from imsr_core.encoders.tokens import FIRST_ITEM, TASK

ITEMS, DIM, LENGTH = 20, 8, 10

Weights = dict[str, Tensor]


def moved_weights(config: EncoderConfig) -> Weights:
    """Weights in which norms and biases are not at their trivial start."""
    generator = torch.Generator().manual_seed(5)
    weights = initial_weights(config, n_items=ITEMS, seed=1)
    return {
        name: w + 0.1 * torch.empty_like(w).normal_(generator=generator) if w.ndim == 1 else w
        for name, w in weights.items()
    }


def some_rows(users: int = 6) -> Tensor:
    """(users, LENGTH) table rows; user u begins with u places of padding."""
    generator = torch.Generator().manual_seed(2)
    rows = torch.randint(FIRST_ITEM, FIRST_ITEM + ITEMS, (users, LENGTH), generator=generator)
    return torch.where(torch.arange(LENGTH) < torch.arange(users).unsqueeze(1), 0, rows)


class EncoderContract:
    """Inherit, and name the encoder; ``settings`` are the keys of `EncoderConfig` that are not as they come."""

    name: str
    settings: ClassVar[Mapping[str, Any]] = {}

    @pytest.fixture
    def config(self) -> EncoderConfig:
        """Small, with two blocks where there are blocks."""
        return EncoderConfig(**{"name": self.name, "dim": DIM, "length": LENGTH, "dilations": (1, 2), **self.settings})

    @pytest.fixture
    def encoder(self, config: EncoderConfig) -> Encoder:
        """The shape alone."""
        return build_encoder(config)

    @pytest.fixture
    def weights(self, config: EncoderConfig) -> Weights:
        """Weights for it."""
        return moved_weights(config)

    @pytest.fixture
    def rows(self) -> Tensor:
        """What it reads."""
        return some_rows()

    def test_hidden_states_are_zero_on_padding_and_finite(
        self, encoder: Encoder, weights: Weights, rows: Tensor
    ) -> None:
        hidden = run(encoder, weights, rows)
        assert hidden.shape == (*rows.shape, DIM)
        assert torch.equal(hidden[rows == 0], torch.zeros_like(hidden[rows == 0]))
        assert torch.isfinite(hidden).all()
        assert hidden[rows != 0].abs().sum(dim=1).min() > 0

    def test_more_padding_changes_nothing(self, encoder: Encoder, weights: Weights, rows: Tensor) -> None:
        padded = torch.cat([torch.zeros(len(rows), 2, dtype=torch.int64), rows], dim=1)
        found = run(encoder, weights, padded)[:, 2:]
        torch.testing.assert_close(found, run(encoder, weights, rows), rtol=1e-4, atol=1e-5)

    def test_only_a_non_causal_encoder_sees_the_future(self, encoder: Encoder, weights: Weights, rows: Tensor) -> None:
        changed = rows.clone()
        changed[:, -1] = torch.where(rows[:, -1] == FIRST_ITEM, FIRST_ITEM + 1, FIRST_ITEM)
        before, after = run(encoder, weights, rows), run(encoder, weights, changed)
        assert torch.equal(before[:, :-1], after[:, :-1]) == encoder.causal
        assert not torch.allclose(before[:, -1], after[:, -1])

    @pytest.mark.parametrize("pooling", ["last", "ends", "mean"])
    def test_a_user_of_padding_only_has_a_finite_vector(self, encoder: Encoder, weights: Weights, pooling: Any) -> None:
        vector = run(encoder, weights, torch.zeros(2, LENGTH, dtype=torch.int64), pooling=pooling)
        assert torch.equal(vector, torch.zeros(2, DIM))

    def test_named_parameters_exist_and_gradients_reach_them(
        self, encoder: Encoder, weights: Weights, rows: Tensor
    ) -> None:
        weights = {name: w.requires_grad_() for name, w in weights.items()}
        run(encoder, weights, rows).square().sum().backward()
        named = {*encoder.prunable(), *encoder.second_norms()}
        named |= {name for site in range(encoder.sites) for name in encoder.site_parameters(site)}
        assert named <= set(weights)
        for name in (ITEM_TABLE, *encoder.prunable()):
            grad = weights[name].grad
            assert grad is not None, name
            assert grad.abs().sum() > 0, name

    def test_an_adapter_reaches_every_site_and_the_default_one_changes_nothing(
        self, encoder: Encoder, weights: Weights, rows: Tensor
    ) -> None:
        base = run(encoder, weights, rows)
        ones = Adapter(gates=torch.ones(encoder.sites, DIM), patches={s: lambda _, y: y for s in range(encoder.sites)})
        assert torch.equal(run(encoder, weights, rows, ones), base)
        for site in range(encoder.sites):
            gates = torch.ones(encoder.sites, DIM)
            gates[site, ::2] = 0.5  # not all channels: a norm would take a common factor out
            assert not torch.allclose(run(encoder, weights, rows, Adapter(gates=gates)), base)
            moved = Adapter(patches={site: lambda x, y: y + x + 1})
            assert not torch.allclose(run(encoder, weights, rows, moved), base)

    def test_an_adapters_rows_are_read_instead_of_the_table(
        self, encoder: Encoder, weights: Weights, rows: Tensor
    ) -> None:
        rows[:, -1] = TASK
        moved = {**weights, ITEM_TABLE: weights[ITEM_TABLE].clone()}
        moved[ITEM_TABLE][TASK] = 1.0
        moved[ITEM_TABLE][FIRST_ITEM + 15 :] = 0.5
        adapter = Adapter(token=torch.ones(DIM), new_rows=torch.full((5, DIM), 0.5), first_new=FIRST_ITEM + 15)
        assert torch.equal(run(encoder, weights, rows, adapter), run(encoder, moved, rows))

    def test_a_patch_of_the_items_is_a_product_added_to_the_table(
        self, encoder: Encoder, weights: Weights, rows: Tensor
    ) -> None:
        generator = torch.Generator().manual_seed(8)
        narrow = torch.randn(FIRST_ITEM + ITEMS, 2, generator=generator)
        up = torch.randn(2, DIM, generator=generator)
        moved = {**weights, ITEM_TABLE: weights[ITEM_TABLE] + narrow @ up}
        patched = run(encoder, weights, rows, Adapter(items=(narrow, up)))
        torch.testing.assert_close(patched, run(encoder, moved, rows), rtol=1e-4, atol=1e-5)
        assert not torch.allclose(patched, run(encoder, weights, rows))

    def test_one_seed_gives_the_same_weights_and_another_gives_others(
        self, config: EncoderConfig, encoder: Encoder
    ) -> None:
        first, again, other = (initial_weights(config, ITEMS, seed) for seed in (1, 1, 2))
        assert all(torch.equal(first[name], again[name]) for name in first)
        assert not torch.equal(first[ITEM_TABLE], other[ITEM_TABLE])
        drawn = [first[name] for name in encoder.prunable()]
        assert not any(a.shape == b.shape and torch.equal(a, b) for i, a in enumerate(drawn) for b in drawn[:i])
