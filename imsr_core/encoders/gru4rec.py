"""GRU4Rec (Hidasi et al., ICLR 2016): a recurrent encoder, here as a plain baseline."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from imsr_core.encoders.adapter import Adapter
from imsr_core.encoders.config import EncoderConfig
from imsr_core.encoders.protocol import Encoder


class GRU4Rec(Encoder):
    """Stacked GRU layers of width d. Sites: one a layer."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        self.layers = nn.ModuleList(nn.GRU(config.dim, config.dim, batch_first=True) for _ in range(config.layers))

    @property
    def sites(self) -> int:
        return self.config.layers

    def prunable(self) -> tuple[str, ...]:
        return tuple(f"layers.{site}.weight_{kind}_l0" for site in range(self.sites) for kind in ("ih", "hh"))

    def site_parameters(self, site: int) -> tuple[str, ...]:
        return tuple(f"layers.{site}.{kind}_l0" for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))

    def transform(self, vectors: Tensor, valid: Tensor, adapter: Adapter) -> Tensor:
        # The items move to the left edge while the GRU runs: padding must not touch its state.
        length = vectors.shape[1]
        steps = torch.arange(length, device=vectors.device)
        padding = length - valid.squeeze(-1).sum(dim=1, keepdim=True)  # (B, 1)
        x = _shift(vectors, (steps + padding) % length)
        for site, layer in enumerate(self.layers):
            x = adapter.gate(site, adapter.patch(site, x, layer(x)[0]))
        return _shift(x, (steps - padding) % length)


def _shift(x: Tensor, source: Tensor) -> Tensor:
    """x (B, L, d) with position l taken from source[b, l]."""
    return x.gather(1, source.unsqueeze(-1).expand_as(x))
