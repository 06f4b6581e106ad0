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
        padding = (high // 2, wide // 2) if config.kernel == "5x5" else (0, 0)
        rows = 3 if config.kernel == "5x5" else 1
        self.stack = nn.Conv2d(1, config.filters, (high, wide), padding=padding)
        self.mix = nn.Conv2d(config.filters, config.mixed, 1)
        self.hidden = nn.Linear(config.mixed * rows * dim, config.hidden)
        self.out = nn.Linear(config.hidden, dim)
        with torch.no_grad():
            for layer in (self.stack, self.mix, self.hidden):
                fan_in = layer.weight[0].numel()
                layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) / fan_in**0.5)
                layer.bias.zero_()  # type: ignore[union-attr]
            self.out.weight.zero_()
            self.out.bias.zero_()

    def forward(self, old: Tensor, new: Tensor) -> Tensor:
        """Merged rows (n, d) from old and new ones (n, d)."""
        length = old.norm(dim=-1, keepdim=True).clamp(min=1e-12)
        image = torch.stack([old, new, old * new / length], 1)[:, None]  # (n, 1, 3, d)
        stacked = functional.gelu(self.mix(functional.gelu(self.stack(image))))
        return new + self.out(functional.gelu(self.hidden(stacked.flatten(1))))

    @torch.no_grad()
    def merged(self, old: Tensor, new: Tensor) -> Tensor:
        """`forward` for any number of rows, without gradient; rows that training did not move stay as they are."""
        moved = (old != new).any(-1).nonzero()[:, 0]
        result = new.clone()
        for rows in moved.split(CHUNK):
            result[rows] = self(old[rows], new[rows])
        return result


class Transfers(nn.Module):
    """The two of a chain: one for ``item`` rows and the extractor's, one for a ``user``'s interests."""

    def __init__(self, dim: int, config: SmlConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.item = Transfer(dim, config, generator)
        self.user = Transfer(dim, config, generator)
