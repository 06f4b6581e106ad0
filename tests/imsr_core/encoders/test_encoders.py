"""What every encoder must do: a new one gets these tests by being in ENCODERS."""

from __future__ import annotations

import dataclasses
from typing import get_args

import pytest
import torch
from torch import Tensor

from imsr_core.encoders.adapter import Adapter
from imsr_core.encoders.build import ENCODERS, build_encoder, initial_weights
from imsr_core.encoders.config import EncoderConfig, Layout
from imsr_core.encoders.protocol import ITEM_TABLE, run
from imsr_core.encoders.tokens import FIRST_ITEM, TASK
from imsr_core.errors import ConfigError

SHAPES = [
    *[EncoderConfig(name=name, dim=8, length=10, dilations=(1, 2)) for name in ENCODERS if name != "nextitnet"],
    *[EncoderConfig(dim=8, length=10, dilations=(1, 2), layout=layout) for layout in get_args(Layout)],
    EncoderConfig(name="sasrec", dim=8, length=10, heads=2, layers=1),
]
every_shape = pytest.mark.parametrize("config", SHAPES, ids=lambda c: f"{c.name}-{c.layout}-{c.heads}")


def weights_of(config: EncoderConfig) -> dict[str, Tensor]:
    """Weights in which norms and biases are not at their trivial start."""
    generator = torch.Generator().manual_seed(5)
    weights = initial_weights(config, n_items=20, seed=1)
    return {
        name: w + 0.1 * torch.empty_like(w).normal_(generator=generator) if w.ndim == 1 else w
        for name, w in weights.items()
    }


def some_rows(n: int = 6, length: int = 10) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    rows = torch.randint(FIRST_ITEM, FIRST_ITEM + 20, (n, length), generator=generator)
    return torch.where(torch.arange(length) < torch.arange(n).unsqueeze(1), 0, rows)  # user u has u pads


@every_shape
def test_hidden_states_are_zero_on_padding_and_finite(config: EncoderConfig) -> None:
    rows = some_rows()
    hidden = run(build_encoder(config), weights_of(config), rows)
    assert hidden.shape == (*rows.shape, 8)
    assert torch.equal(hidden[rows == 0], torch.zeros_like(hidden[rows == 0]))
    assert torch.isfinite(hidden).all()
    assert hidden[rows != 0].abs().sum(dim=1).min() > 0


@every_shape
def test_more_padding_changes_nothing(config: EncoderConfig) -> None:
    rows = some_rows()
    padded = torch.cat([torch.zeros(len(rows), 2, dtype=torch.int64), rows], dim=1)
    encoder, weights = build_encoder(config), weights_of(config)
    torch.testing.assert_close(run(encoder, weights, padded)[:, 2:], run(encoder, weights, rows), rtol=1e-4, atol=1e-5)


@every_shape
def test_only_a_non_causal_encoder_sees_the_future(config: EncoderConfig) -> None:
    rows = some_rows()
    changed = rows.clone()
    changed[:, -1] = torch.where(rows[:, -1] == FIRST_ITEM, FIRST_ITEM + 1, FIRST_ITEM)
    encoder, weights = build_encoder(config), weights_of(config)
    before, after = run(encoder, weights, rows), run(encoder, weights, changed)
    assert torch.equal(before[:, :-1], after[:, :-1]) == encoder.causal
    assert not torch.allclose(before[:, -1], after[:, -1])


@every_shape
def test_a_user_of_padding_only_has_a_finite_vector(config: EncoderConfig) -> None:
    rows = torch.zeros(2, 10, dtype=torch.int64)
    for pooling in ("last", "ends", "mean"):
        vector = run(build_encoder(config), weights_of(config), rows, pooling=pooling)
        assert torch.equal(vector, torch.zeros(2, 8))


@every_shape
def test_named_parameters_exist_and_gradients_reach_them(config: EncoderConfig) -> None:
    encoder = build_encoder(config)
    weights = {name: w.requires_grad_() for name, w in weights_of(config).items()}
    run(encoder, weights, some_rows()).square().sum().backward()
    named = {*encoder.prunable(), *encoder.second_norms()}
    named |= {name for site in range(encoder.sites) for name in encoder.site_parameters(site)}
    assert named <= set(weights)
    for name in (ITEM_TABLE, *encoder.prunable()):
        grad = weights[name].grad
        assert grad is not None
        assert grad.abs().sum() > 0


@every_shape
def test_adapter_reaches_every_site_and_the_default_one_changes_nothing(config: EncoderConfig) -> None:
    encoder, weights, rows = build_encoder(config), weights_of(config), some_rows()
    base = run(encoder, weights, rows)
    ones = Adapter(gates=torch.ones(encoder.sites, 8), patches={s: lambda _, y: y for s in range(encoder.sites)})
    assert torch.equal(run(encoder, weights, rows, ones), base)
    for site in range(encoder.sites):
        gates = torch.ones(encoder.sites, 8)
        gates[site, ::2] = 0.5  # not all channels: a norm would take a common factor out
        assert not torch.allclose(run(encoder, weights, rows, Adapter(gates=gates)), base)
        assert not torch.allclose(run(encoder, weights, rows, Adapter(patches={site: lambda x, y: y + x + 1})), base)


@every_shape
def test_adapter_rows_are_read_instead_of_the_table(config: EncoderConfig) -> None:
    encoder, weights, rows = build_encoder(config), weights_of(config), some_rows()
    rows[:, -1] = TASK
    moved = dict(weights)
    moved[ITEM_TABLE] = weights[ITEM_TABLE].clone()
    moved[ITEM_TABLE][TASK] = 1.0
    moved[ITEM_TABLE][FIRST_ITEM + 15 :] = 0.5
    adapter = Adapter(token=torch.ones(8), new_rows=torch.full((5, 8), 0.5), first_new=FIRST_ITEM + 15)
    assert torch.equal(run(encoder, weights, rows, adapter), run(encoder, moved, rows))


@every_shape
def test_a_patch_of_the_items_is_a_product_added_to_the_table(config: EncoderConfig) -> None:
    encoder, weights, rows = build_encoder(config), weights_of(config), some_rows()
    generator = torch.Generator().manual_seed(8)
    narrow, up = torch.randn(FIRST_ITEM + 20, 2, generator=generator), torch.randn(2, 8, generator=generator)
    moved = {**weights, ITEM_TABLE: weights[ITEM_TABLE] + narrow @ up}
    patched = run(encoder, weights, rows, Adapter(items=(narrow, up)))
    torch.testing.assert_close(patched, run(encoder, moved, rows), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(patched, run(encoder, weights, rows))


@every_shape
def test_same_seed_same_weights(config: EncoderConfig) -> None:
    first, again, other = (initial_weights(config, 20, seed) for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first[ITEM_TABLE], other[ITEM_TABLE])
    shapes = [w for name, w in first.items() if name in build_encoder(config).prunable()]
    assert not any(a.shape == b.shape and torch.equal(a, b) for i, a in enumerate(shapes) for b in shapes[:i])


def test_parameter_count_of_the_papers_backbone() -> None:
    weights = initial_weights(EncoderConfig(dim=256, length=100, dilations=(1, 4) * 4), n_items=6, seed=0)
    encoder = build_encoder(EncoderConfig(dim=256, length=100, dilations=(1, 4) * 4))
    assert sum(weights[name].numel() for name in encoder.prunable()) == 3_145_728
    assert sum(w.numel() for name, w in weights.items() if name.startswith("norms")) == 8_192
    assert len(encoder.second_norms()) == 16


def test_receptive_field_of_the_papers_dilations_is_121() -> None:
    config = EncoderConfig(dim=16, length=130, dilations=(1, 4) * 4, layout="pre_activation")
    encoder = build_encoder(config)
    weights = {name: w.double() for name, w in initial_weights(config, 20, seed=0).items()}
    rows = torch.randint(FIRST_ITEM, FIRST_ITEM + 20, (1, 130), generator=torch.Generator().manual_seed(0))
    base = run(encoder, weights, rows)[0, -1]

    def moves(position: int) -> bool:
        changed = rows.clone()
        changed[0, position] = FIRST_ITEM + (rows[0, position] - FIRST_ITEM + 1) % 20
        return not torch.equal(run(encoder, weights, changed)[0, -1], base)

    assert moves(130 - 121)
    assert not moves(130 - 122)


@pytest.mark.parametrize(
    "wrong",
    [{"name": "bert"}, {"dim": 1}, {"layout": "x"}, {"heads": 3}, {"dilations": ()}, {"dropout": 1.0}],
)
def test_impossible_shapes_are_refused_by_name(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        dataclasses.replace(EncoderConfig(), **wrong)
