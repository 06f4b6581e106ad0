"""Encoders of a user's item sequence; see ``protocol`` for what they share."""

from __future__ import annotations

import torch
from torch import Tensor

from imsr_core.encoders.adapter import Adapter
from imsr_core.encoders.config import EncoderConfig
from imsr_core.encoders.protocol import ITEM_TABLE, Encoder, run
from imsr_core.encoders.tokens import FIRST_ITEM, PAD
from imsr_core.parts import ENCODERS

__all__ = [
    "ENCODERS",
    "ITEM_TABLE",
    "Adapter",
    "Encoder",
    "EncoderConfig",
    "build_encoder",
    "initial_rows",
    "initial_weights",
    "run",
]


QUIET = 0.1
"""Gain of a block's last norm before anything is learnt."""


def build_encoder(config: EncoderConfig) -> Encoder:
    """The encoder's shape, without memory for weights: they are handed to ``run``."""
    with torch.device("meta"):
        encoder: Encoder = ENCODERS.named(config.name)(config)
    return encoder.eval()


def initial_weights(config: EncoderConfig, n_items: int, seed: int) -> dict[str, Tensor]:
    """Fresh weights for a catalogue of ``n_items``, the same for the same seed.

    Matrices start Xavier-uniform, vectors at 0, norms at 1, table rows as ``initial_rows``. The last norm of each block
    starts at `QUIET`: a block begins near the identity, and few data do not drown in what random layers say.
    """
    generator = torch.Generator().manual_seed(seed)
    weights: dict[str, Tensor] = {}
    encoder = build_encoder(config)
    shapes = {name: parameter.shape for name, parameter in encoder.named_parameters()}
    for name, shape in shapes.items():
        if name == ITEM_TABLE:
            weights[name] = initial_rows(FIRST_ITEM + n_items, config.dim, generator)
            weights[name][PAD] = 0.0
        elif name.startswith("positions"):
            weights[name] = initial_rows(shape[0], config.dim, generator)
        elif len(shape) >= 2:
            bound = (6.0 / (shape[0] + shape[1])) ** 0.5
            weights[name] = torch.empty(shape).uniform_(-bound, bound, generator=generator)
        else:
            gain = QUIET if name in encoder.second_norms() else 1.0
            weights[name] = torch.full(shape, gain if "norm" in name and name.endswith("weight") else 0.0)
    return weights


def initial_rows(n: int, dim: int, generator: torch.Generator) -> Tensor:
    """(n, d) fresh table rows of length 0.3 or so at every d: what is learnt soon outweighs where they began."""
    return torch.empty(n, dim).normal_(0.0, 0.3 * dim**-0.5, generator=generator)
