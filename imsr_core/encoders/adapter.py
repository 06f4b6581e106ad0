"""What a task adds to an encoder from outside, so that one encoder serves every lifelong method.

An encoder has numbered *sites*: a convolution, an attention or a feed-forward layer. At each site it calls
``patch`` on the layer's output (PeterRec) and ``gate`` on the activated output (TERACON). The default adapter
changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from imsr_core.encoders.lookup import lookup
from imsr_core.encoders.tokens import TASK

Patch = Callable[[Tensor, Tensor], Tensor]
"""(the layer's input, the layer's output), both (B, L, d) -> new output."""


@dataclass(frozen=True)
class Adapter:
    """A task's additions to a forward pass.

    Attributes:
        token: (d,) the task's own vector for the TASK token; None reads the shared table row.
        new_rows: (n, d) the last n rows of the item table while they are being learnt by the task that
            introduced them, the older rows being frozen; None where no row is new.
        first_new: table row of new_rows[0].
        items: (V, r) and (r, d), a patch of the item table: their product is added to its rows; None adds nothing.
        patches: site -> patch.
        gates: (sites, d) factor on each channel of each site's output.
    """

    token: Tensor | None = None
    new_rows: Tensor | None = None
    first_new: int = 0
    items: tuple[Tensor, Tensor] | None = None
    patches: Mapping[int, Patch] = field(default_factory=dict)
    gates: Tensor | None = None

    def embed(self, rows: Tensor, vectors: Tensor) -> Tensor:
        """The looked-up vectors (B, L, d) of rows (B, L) as the task has them."""
        if self.token is not None:
            vectors = torch.where((rows == TASK).unsqueeze(-1), self.token, vectors)
        if self.new_rows is not None:
            own = self.new_rows[(rows - self.first_new).clamp(min=0)]
            vectors = torch.where((rows >= self.first_new).unsqueeze(-1), own, vectors)
        if self.items is not None:
            narrow, up = self.items
            vectors = vectors + lookup(narrow, rows) @ up
        return vectors

    def patch(self, site: int, inputs: Tensor, outputs: Tensor) -> Tensor:
        """The layer's output as the task wants it, (B, L, d)."""
        patch = self.patches.get(site)
        return outputs if patch is None else patch(inputs, outputs)

    def gate(self, site: int, outputs: Tensor) -> Tensor:
        """The activated output times the task's channel mask, (B, L, d)."""
        return outputs if self.gates is None else outputs * self.gates[site]
