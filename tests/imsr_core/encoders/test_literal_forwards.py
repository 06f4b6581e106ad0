"""Every encoder's forward pass against its formula written out position by position, in plain loops."""

from __future__ import annotations

import dataclasses
import math
from typing import get_args

import pytest
import torch
from torch import Tensor

from imsr_core.encoders.build import build_encoder, initial_weights
from imsr_core.encoders.config import EncoderConfig, Layout
from imsr_core.encoders.protocol import ITEM_TABLE, run
from imsr_core.encoders.tokens import FIRST_ITEM, PAD

DIM, LENGTH = 6, 7
Weights = dict[str, Tensor]


def weights_of(config: EncoderConfig) -> Weights:
    """Float64 weights in which nothing stands at a trivial value."""
    generator = torch.Generator().manual_seed(3)
    weights = initial_weights(config, n_items=12, seed=1)
    moved = {n: w.double() + 0.4 * torch.empty(w.shape).normal_(generator=generator) for n, w in weights.items()}
    moved[ITEM_TABLE][PAD] = 0.0
    return moved


def rows_of() -> Tensor:
    rows = torch.randint(FIRST_ITEM, FIRST_ITEM + 12, (3, LENGTH), generator=torch.Generator().manual_seed(4))
    rows[0, :3] = PAD
    return rows


def norm(x: Tensor, weights: Weights, name: str, epsilon: float) -> Tensor:
    centred = x - x.mean()
    return (
        centred / math.sqrt(float(centred.square().mean()) + epsilon) * weights[f"{name}.weight"]
        + weights[f"{name}.bias"]
    )


def relu(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, torch.zeros_like(x))


def states_of(config: EncoderConfig, user: Tensor, weights: Weights) -> list[Tensor]:
    """The hidden states of one user's items, the padding left out."""
    x = [weights[ITEM_TABLE][row] for row in user if row != PAD]
    return LITERAL[config.name](config, x, weights)


def nextitnet(config: EncoderConfig, x: list[Tensor], weights: Weights) -> list[Tensor]:
    site = 0
    for k in config.dilations:
        inner = x
        for dilation in (k, 2 * k):
            inner = layer(config, inner, weights, site, dilation)
            site += 1
        x = [a + b for a, b in zip(x, inner, strict=True)]
    return x


def layer(config: EncoderConfig, x: list[Tensor], weights: Weights, site: int, dilation: int) -> list[Tensor]:
    normed = [norm(v, weights, f"norms.{site}", 1e-8) for v in x]
    if config.layout == "pre_activation":
        return convolution(config, [relu(v) for v in normed], weights, site, dilation)
    if config.layout == "norm_conv_relu":
        return [relu(v) for v in convolution(config, normed, weights, site, dilation)]
    return [relu(norm(v, weights, f"norms.{site}", 1e-8)) for v in convolution(config, x, weights, site, dilation)]


def convolution(config: EncoderConfig, x: list[Tensor], weights: Weights, site: int, dilation: int) -> list[Tensor]:
    taps = weights[f"convolutions.{site}.weight"].split(DIM, dim=1)
    places = range(-config.kernel + 1, 1) if config.name == "nextitnet" else range(-1, 2)
    out = []
    for position in range(len(x)):
        y = weights[f"convolutions.{site}.bias"].clone()
        for tap, place in zip(taps, places, strict=True):
            seen = position + place * dilation
            if 0 <= seen < len(x):
                y = y + tap @ x[seen]
        out.append(y)
    return out


def sasrec(config: EncoderConfig, x: list[Tensor], weights: Weights) -> list[Tensor]:
    x = [v + weights["positions.weight"][len(x) - 1 - n] for n, v in enumerate(x)]  # counted from the most recent

    def dense(v: Tensor, name: str) -> Tensor:
        return weights[f"{name}.weight"] @ v + weights[f"{name}.bias"]

    for block in range(config.layers):
        normed = [norm(v, weights, f"norms.{2 * block}", 1e-5) for v in x]
        q, k, v = ([dense(u, f"attentions.{block}.{part}") for u in normed] for part in ("query", "key", "value"))
        width, mixed = DIM // config.heads, []
        for position in range(len(x)):
            heads = []
            for head in range(config.heads):
                own = slice(head * width, (head + 1) * width)
                scores = [float(q[position][own] @ k[n][own]) / math.sqrt(width) for n in range(position + 1)]
                shares = torch.tensor(scores, dtype=torch.float64).softmax(0)
                heads.append(sum((s * v[n][own] for n, s in enumerate(shares)), torch.zeros(width)))
            mixed.append(torch.cat(heads))
        x = [a + b for a, b in zip(x, mixed, strict=True)]
        normed = [norm(v, weights, f"norms.{2 * block + 1}", 1e-5) for v in x]
        stem = f"feed_forwards.{block}"
        x = [a + dense(relu(dense(u, f"{stem}.inner")), f"{stem}.outer") for a, u in zip(x, normed, strict=True)]
    return [norm(v, weights, "final_norm", 1e-5) for v in x]


def gru4rec(config: EncoderConfig, x: list[Tensor], weights: Weights) -> list[Tensor]:
    for site in range(config.layers):
        w_i, w_h, b_i, b_h = (
            weights[f"layers.{site}.{kind}_l0"] for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        state, out = torch.zeros(DIM, dtype=torch.float64), []
        for v in x:
            i_r, i_z, i_n = (w_i @ v + b_i).split(DIM)
            h_r, h_z, h_n = (w_h @ state + b_h).split(DIM)
            z, candidate = torch.sigmoid(i_z + h_z), torch.tanh(i_n + torch.sigmoid(i_r + h_r) * h_n)
            state = (1 - z) * candidate + z * state
            out.append(state)
        x = out
    return x


def dssm(config: EncoderConfig, x: list[Tensor], weights: Weights) -> list[Tensor]:
    out = []
    for position in range(len(x)):
        v = sum(x[: position + 1], torch.zeros(DIM)) / math.sqrt(position + 1)
        for site in range(config.layers):
            v = weights[f"layers.{site}.weight"] @ v + weights[f"layers.{site}.bias"]
            v = relu(v) if site < config.layers - 1 else v
        out.append(v)
    return out


LITERAL = {"nextitnet": nextitnet, "grec": nextitnet, "sasrec": sasrec, "gru4rec": gru4rec, "dssm": dssm}
BASE = EncoderConfig(dim=DIM, length=LENGTH, dilations=(1, 2), heads=2)
SHAPES = [
    *(dataclasses.replace(BASE, layout=layout) for layout in get_args(Layout)),
    *(dataclasses.replace(BASE, name=name) for name in LITERAL if name != "nextitnet"),
]
every_shape = pytest.mark.parametrize("config", SHAPES, ids=lambda c: f"{c.name}-{c.layout}")


@every_shape
def test_forward_is_the_formula(config: EncoderConfig) -> None:
    rows, weights = rows_of(), weights_of(config)
    hidden = run(build_encoder(config), weights, rows)
    for number, user in enumerate(rows):
        expected = torch.stack(states_of(config, user, weights))
        found = hidden[number, LENGTH - len(expected) :]
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)


@every_shape
def test_pooling_is_the_formula(config: EncoderConfig) -> None:
    rows, weights = rows_of(), weights_of(config)
    encoder = build_encoder(config)
    for number, user in enumerate(rows):
        states = states_of(config, user, weights)
        expected = {"last": states[-1], "ends": states[0] + states[-1], "mean": torch.stack(states).mean(dim=0)}
        for pooling, vector in expected.items():
            found = run(encoder, weights, rows, pooling=pooling)[number]  # type: ignore[arg-type]
            torch.testing.assert_close(found, vector, rtol=1e-6, atol=1e-8)
