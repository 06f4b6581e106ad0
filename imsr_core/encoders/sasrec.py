"""SASRec (Kang and McAuley, ICDM 2018): a causal Transformer, the second backbone of Conure.

As in Conure's masked blocks there is no output projection, the feed-forward layer has width d, and attention
never sees padding. Decided: norms before the sub-layers and one at the end; positions are counted from the
most recent item backwards, so that padding does not move them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imsr_core.encoders.adapter import Adapter
from imsr_core.encoders.config import EncoderConfig
from imsr_core.encoders.protocol import Encoder

_EXTRA_POSITIONS = 2  # a task or mask token may stand before and after the items


class Attention(nn.Module):
    """Causal self-attention over the items: q, k, v are (d, d), no output projection."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(dim, dim) for _ in range(3))

    def forward(self, x: Tensor, allowed: Tensor) -> Tensor:
        """(B, L, d) and allowed (B, 1, L, L) -> (B, L, d)."""
        batch, length, dim = x.shape
        split = (batch, length, self.heads, dim // self.heads)
        q, k, v = (layer(x).view(split).transpose(1, 2) for layer in (self.query, self.key, self.value))
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed)  # (B, heads, L, d / heads)
        return mixed.transpose(1, 2).reshape(batch, length, dim)


class FeedForward(nn.Module):
    """W2 ReLU(W1 x), both (d, d)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(dim, dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, d) -> (B, L, d)."""
        return self.outer(F.relu(self.inner(x)))


class SASRec(Encoder):
    """Causal Transformer. Sites: attention and feed-forward of each block, in order."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        dim = config.dim
        self.positions = nn.Embedding(config.length + _EXTRA_POSITIONS, dim)
        self.attentions = nn.ModuleList(Attention(dim, config.heads) for _ in range(config.layers))
        self.feed_forwards = nn.ModuleList(FeedForward(dim) for _ in range(config.layers))
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(2 * config.layers))
        self.final_norm = nn.LayerNorm(dim)

    @property
    def sites(self) -> int:
        return 2 * self.config.layers

    def prunable(self) -> tuple[str, ...]:
        names = (name for site in range(self.sites) for name in self.site_parameters(site))
        return tuple(name for name in names if name.endswith("weight") and not name.startswith("norms"))

    def site_parameters(self, site: int) -> tuple[str, ...]:
        block, is_feed_forward = divmod(site, 2)
        stem = f"feed_forwards.{block}" if is_feed_forward else f"attentions.{block}"
        parts = ("inner", "outer") if is_feed_forward else ("query", "key", "value")
        layers = [f"{stem}.{part}" for part in parts] + [f"norms.{site}"]
        return tuple(f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias"))

    def second_norms(self) -> tuple[str, ...]:
        return tuple(f"norms.{site}.{kind}" for site in range(1, self.sites, 2) for kind in ("weight", "bias"))

    def transform(self, vectors: Tensor, valid: Tensor, adapter: Adapter) -> Tensor:
        length, device = vectors.shape[1], vectors.device
        from_end = torch.arange(length - 1, -1, -1, device=device).clamp(max=self.positions.num_embeddings - 1)
        x = (vectors + self.positions(from_end)) * valid
        past = torch.ones(length, length, dtype=torch.bool, device=device).tril()
        own = torch.eye(length, dtype=torch.bool, device=device)
        allowed = (past & (valid.transpose(1, 2) | own)).unsqueeze(1)  # (B, 1, L, L); a row is never empty
        for site in range(self.sites):
            inputs = self.norms[site](x)
            block, is_feed_forward = divmod(site, 2)
            y = self.feed_forwards[block](inputs) if is_feed_forward else self.attentions[block](inputs, allowed)
            x = x + adapter.gate(site, self.drop(adapter.patch(site, inputs, y)))
        return self.final_norm(x)
