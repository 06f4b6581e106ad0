"""The one protocol of all encoders: a sequence of item rows in, a vector at every position out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from imsr_core.encoders.adapter import Adapter
from imsr_core.encoders.config import EncoderConfig
from imsr_core.encoders.lookup import lookup
from imsr_core.encoders.tokens import FIRST_ITEM, PAD, first_position

Weights = Mapping[str, Tensor]
Pooling = Literal["last", "ends", "mean"]

ITEM_TABLE = "items.weight"
"""Name of the item table among an encoder's weights; the only one whose number of rows grows."""

NO_CHANGE = Adapter()


class Encoder(nn.Module, ABC):
    """A user's item sequence -> hidden states, with numbered sites where a task may step in.

    Rows are left-padded; the hidden states do not depend on how long the padding is. An encoder is used as a
    *shape* with the weights handed in (``run``), so that a version is a plain dict of tensors.
    """

    causal: ClassVar[bool] = True
    """True: position l sees positions up to l only, so every position is a training example."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.items = nn.Embedding(FIRST_ITEM, config.dim)

    @property
    @abstractmethod
    def sites(self) -> int:
        """How many sites an adapter can address."""

    @abstractmethod
    def transform(self, vectors: Tensor, valid: Tensor, adapter: Adapter) -> Tensor:
        """Item vectors (B, L, d) and where they are items (B, L, 1) -> hidden states (B, L, d)."""

    @abstractmethod
    def prunable(self) -> tuple[str, ...]:
        """Names of the weight matrices that Conure shares out among tasks."""

    @abstractmethod
    def site_parameters(self, site: int) -> tuple[str, ...]:
        """Names of the parameters of one site's layer."""

    def second_norms(self) -> tuple[str, ...]:
        """Names of the last layer norm's parameters in every block (PeterRec's LN2); empty without blocks."""
        return ()

    def encode(self, items: Tensor, adapter: Adapter = NO_CHANGE) -> Tensor:
        """Table rows (B, L) int64 -> hidden states (B, L, d); zero where ``items`` is PAD."""
        valid = (items != PAD).unsqueeze(-1)
        vectors = self.drop(adapter.embed(items, lookup(self.items.weight, items))) * valid
        return self.drop(self.transform(vectors, valid, adapter)) * valid

    def drop(self, x: Tensor) -> Tensor:
        """``x`` with dropout while training; item vectors and hidden states go through it."""
        return F.dropout(x, self.config.dropout, self.training)

    def user_vector(self, items: Tensor, adapter: Adapter = NO_CHANGE, pooling: Pooling = "last") -> Tensor:
        """Table rows (B, L) -> user vectors (B, d): the last state, first + last, or the mean of all."""
        hidden = self.encode(items, adapter)
        if pooling == "last":
            return hidden[:, -1]
        if pooling == "ends":
            first = first_position(items).clamp(max=items.shape[1] - 1)
            return hidden[torch.arange(len(items), device=items.device), first] + hidden[:, -1]
        return hidden.sum(dim=1) / (items != PAD).sum(dim=1, keepdim=True).clamp(min=1)

    def forward(self, items: Tensor, adapter: Adapter, pooling: Pooling | None) -> Tensor:
        """``user_vector``, or ``encode`` where pooling is None."""
        return self.encode(items, adapter) if pooling is None else self.user_vector(items, adapter, pooling)


def run(
    encoder: Encoder,
    weights: Weights,
    items: Tensor,
    adapter: Adapter = NO_CHANGE,
    pooling: Pooling | None = None,
) -> Tensor:
    """Run the encoder's shape with these weights: (B, L, d) hidden states, or (B, d) with a pooling."""
    return functional_call(encoder, dict(weights), (items, adapter, pooling))
