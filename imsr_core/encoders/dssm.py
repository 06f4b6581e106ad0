"""The user tower of DSSM, the papers' "DNN" baseline: the scaled sum of the items' vectors through an MLP."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imsr_core.encoders.adapter import Adapter
from imsr_core.encoders.config import EncoderConfig
from imsr_core.encoders.protocol import Encoder


class DSSM(Encoder):
    """Sum of all n items so far / sqrt(n), then layers of width d. Order within the sequence does not matter.

    Sites: one a layer. The state at position l is the tower of the first l items, so that next-item training
    works as for every other encoder.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        self.layers = nn.ModuleList(nn.Linear(config.dim, config.dim) for _ in range(config.layers))

    @property
    def sites(self) -> int:
        return self.config.layers

    def prunable(self) -> tuple[str, ...]:
        return tuple(f"layers.{site}.weight" for site in range(self.sites))

    def site_parameters(self, site: int) -> tuple[str, ...]:
        return (f"layers.{site}.weight", f"layers.{site}.bias")

    def transform(self, vectors: Tensor, valid: Tensor, adapter: Adapter) -> Tensor:
        so_far = valid.to(vectors.dtype).cumsum(dim=1).clamp(min=1)
        x = vectors.cumsum(dim=1) / torch.sqrt(so_far)  # a mean would fade with n; this keeps the scale
        for site, layer in enumerate(self.layers):
            y = adapter.patch(site, x, layer(x))
            x = adapter.gate(site, y if site == self.sites - 1 else F.relu(y))
        return x
