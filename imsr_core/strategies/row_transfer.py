"""SML's transfer: new parameters from the old ones and the newly trained ones, row by row (SIGIR 2020, section 4).

    image       [ x_old, x_new, x_old * x_new / |x_old| ]                    3 x d
    stacked     GELU(conv_1), GELU(conv_2 of 1 x 1), flattened
    merged      x_new + W_2 GELU(W_1 stacked)

The product row is the paper's: it tells the transfer how far the two agree. Filters of 5 x 5 are what IMSR's comparison
uses, padded so that the image keeps its size; 3 x 1, the three versions of one dimension, is what SML's own code has.

Decided: the MLP's output is added to ``x_new``, and W_2 starts at zero. SML's output replaces x_new, and its transfer
is first trained for many rounds on the pre-training periods. A chain here starts with one base model, so a transfer
that has learnt nothing must hand on what was trained: it is fine-tuning then.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from imsr_core.config import SmlConfig

KERNELS = {"5x5": (5, 5), "3x1": (3, 1)}
CHUNK = 4096


class Transfer(nn.Module):
    """f(x_old, x_new) for rows of length d."""

    def __init__(self, dim: int, config: SmlConfig, generator: torch.Generator) -> None:
        super().__init__()
        high, wide = KERNELS[config.kernel]
        self.padded = config.kernel == "5x5"
        rows = 3 if self.padded else 1

        def normal(*shape: int) -> nn.Parameter:
            fan_in = math.prod(shape[1:])
            return nn.Parameter(torch.randn(shape, generator=generator) / fan_in**0.5)

        self.stack, self.stack_bias = normal(config.filters, 1, high, wide), nn.Parameter(torch.zeros(config.filters))
        self.mix, self.mix_bias = normal(config.mixed, config.filters), nn.Parameter(torch.zeros(config.mixed))
        self.hidden = normal(config.hidden, config.mixed * rows * dim)
        self.hidden_bias = nn.Parameter(torch.zeros(config.hidden))
        self.out, self.out_bias = nn.Parameter(torch.zeros(dim, config.hidden)), nn.Parameter(torch.zeros(dim))

    def forward(self, old: Tensor, new: Tensor) -> Tensor:
        """Merged rows (n, d) from old and new ones (n, d)."""
        length = old.norm(dim=-1, keepdim=True).clamp(min=1e-12)
        image = torch.stack([old, new, old * new / length], 1)  # (n, 3, d)
        stacked = functional.gelu(self._stacked(image))  # (n, filters, P)
        mixed = torch.einsum("gf,nfp->ngp", self.mix, stacked) + self.mix_bias[:, None]
        hidden = functional.linear(functional.gelu(mixed).flatten(1), self.hidden, self.hidden_bias)
        return new + functional.linear(functional.gelu(hidden), self.out, self.out_bias)

    def _stacked(self, image: Tensor) -> Tensor:
        """The first convolution: the versions as channels, since they are too few to slide over, (n, filters, P)."""
        high, wide = self.stack.shape[2:]
        rows = 3 if self.padded else 1
        # output version v sees input version i through row i - v + 2 of a filter of 5, or row i of one of 3
        place = torch.arange(3, device=image.device)
        shift = place - (place.new_tensor(range(rows))[:, None] - high // 2 if self.padded else 0)
        kernel = self.stack[:, 0][:, shift.expand(rows, 3)].reshape(-1, 3, wide)
        bias = self.stack_bias.repeat_interleave(rows)
        maps = functional.conv1d(image, kernel, bias, padding=wide // 2 if self.padded else 0)
        return maps.unflatten(1, (-1, rows)).flatten(2)

    @torch.no_grad()
    def merged(self, old: Tensor, new: Tensor) -> Tensor:
        """`forward` for any number of rows, without gradient; rows that training did not move stay as they are."""
        moved = (old != new).any(-1).nonzero()[:, 0]
        result = new.clone()
        for rows in moved.split(CHUNK):
            result[rows] = self(old[rows], new[rows])
        return result


class Transfers(nn.Module):
    """The two of a chain: one for ``item`` rows, one for a ``user``'s interests."""

    def __init__(self, dim: int, config: SmlConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.item = Transfer(dim, config, generator)
        self.user = Transfer(dim, config, generator)
