"""ComiRec-SA: each interest attends to the items with a query of its own.

    A = softmax over items of w_k . tanh(W_1 (e_i + p_i))      (paper, section III-B; Lin et al. 2017)
    h_k = (m_k h_k^old + n sum_i A_ki e_i) / (m_k + n)

In ComiRec the queries are shared by all users. In IMSR **each user** has an own W_u (d_a x K_u); we keep column k
with interest k in the store, so that it is trained, trimmed and carried over with the interest. ``p`` is ComiRec's
learned position embedding, counted back from the most recent item.

The weighted mean is ours: the stored interest counts as m items beside the n of the span. ``m = 0`` is the paper's.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from imsr_core.config import ModelConfig
from imsr_core.extractors.protocol import Extractor, Prior, masked_softmax


class SelfAttentionExtractor(Extractor):
    """Shared W_1 (d_a, d) and positions (history, d); the queries come with the prior."""

    prior_mass = 4.0

    @classmethod
    def query_units(cls, config: ModelConfig) -> int:
        return config.attention_units or 4 * config.dim

    def __init__(self, config: ModelConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.hidden = nn.Linear(config.dim, config.query_units, bias=False)
        self.positions = nn.Parameter(torch.zeros(config.history, config.dim))
        with torch.no_grad():
            weight = torch.randn(config.query_units, config.dim, generator=generator)
            self.hidden.weight.copy_(weight / config.dim**0.5)

    def forward(self, items: Tensor, item_mask: Tensor, prior: Prior) -> Tensor:
        placed = items + self.positions[-items.shape[1] :]
        keys = torch.tanh(self.hidden(placed))  # (B, n, d_a)
        logits = prior.queries @ keys.transpose(1, 2)  # (B, K, n)
        attention = masked_softmax(logits, item_mask[:, None, :], -1)
        count = item_mask.sum(1)[:, None, None]  # (B, 1, 1)
        mass = prior.mass[..., None]
        read = mass * prior.start + count * (attention @ items)
        # a new interest that read nothing has no mass at all: it stays at zero
        return read / (mass + count).clamp(min=1e-12) * prior.mask[..., None]
