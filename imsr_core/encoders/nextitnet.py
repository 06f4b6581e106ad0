"""NextItNet (Yuan et al., WSDM 2019): residual blocks of two dilated causal convolutions.

The backbone of PeterRec, Conure and TERACON: blocks with dilations (k, 2k), k = 1, 4, 1, 4, ...; kernel 3;
with the papers' eight blocks an output sees 121 items. Three orders inside a block are in circulation, see
``EncoderConfig.layout``.

Decided: padding is masked before every convolution (no released code does), and the weights start at random
independently (the released TensorFlow code gives every equal-shaped convolution the same start).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imsr_core.encoders.adapter import Adapter
from imsr_core.encoders.config import EncoderConfig
from imsr_core.encoders.protocol import Encoder

LAYER_NORM_EPSILON = 1e-8  # as released


class DilatedConvolution(nn.Module):
    """A one-dimensional convolution over positions, as one matrix product over shifted copies.

    weight is (d, kernel * d); tap j sees the position (kernel - 1 - j) * dilation back (causal), or the
    positions on both sides (not causal).
    """

    def __init__(self, dim: int, kernel: int, dilation: int, causal: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(dim, kernel * dim))
        self.bias = nn.Parameter(torch.empty(dim))
        span = (kernel - 1) * dilation
        self.left, self.right = (span, 0) if causal else (span // 2, span // 2)
        self.starts = tuple(tap * dilation for tap in range(kernel))

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, d) -> (B, L, d); positions beyond the edges count as zero."""
        length = x.shape[1]
        padded = F.pad(x, (0, 0, self.left, self.right))
        taps = torch.cat([padded[:, start : start + length] for start in self.starts], dim=-1)  # (B, L, kernel d)
        return F.linear(taps, self.weight, self.bias)


class NextItNet(Encoder):
    """Causal dilated convolutions. Sites: 2 a block, in order."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        dilations = [d for k in config.dilations for d in (k, 2 * k)]
        self.convolutions = nn.ModuleList(
            DilatedConvolution(config.dim, config.kernel, dilation, self.causal) for dilation in dilations
        )
        self.norms = nn.ModuleList(nn.LayerNorm(config.dim, eps=LAYER_NORM_EPSILON) for _ in dilations)

    @property
    def sites(self) -> int:
        return len(self.convolutions)

    def prunable(self) -> tuple[str, ...]:
        return tuple(f"convolutions.{site}.weight" for site in range(self.sites))

    def site_parameters(self, site: int) -> tuple[str, ...]:
        return tuple(f"{part}.{site}.{kind}" for part in ("convolutions", "norms") for kind in ("weight", "bias"))

    def second_norms(self) -> tuple[str, ...]:
        return tuple(f"norms.{site}.{kind}" for site in range(1, self.sites, 2) for kind in ("weight", "bias"))

    def transform(self, vectors: Tensor, valid: Tensor, adapter: Adapter) -> Tensor:
        x = vectors
        for site in range(0, self.sites, 2):
            inner = self._layer(site, x, valid, adapter)
            x = x + self._layer(site + 1, inner, valid, adapter)
        return x

    def _layer(self, site: int, x: Tensor, valid: Tensor, adapter: Adapter) -> Tensor:
        """One convolution with its norm and ReLU in the order of the layout: (B, L, d) -> (B, L, d)."""
        norm, layout = self.norms[site], self.config.layout
        if layout == "post_activation":
            y = F.relu(norm(self._convolve(site, x, valid, adapter)))
        elif layout == "pre_activation":
            y = self._convolve(site, F.relu(norm(x)), valid, adapter)
        else:
            y = F.relu(self._convolve(site, norm(x), valid, adapter))
        return adapter.gate(site, y)

    def _convolve(self, site: int, x: Tensor, valid: Tensor, adapter: Adapter) -> Tensor:
        x = x * valid  # a norm's bias would otherwise leak from the padding into the first items
        return adapter.patch(site, x, self.convolutions[site](x))
