"""Dynamic routing: items as low-level capsules, interests as high-level ones (ComiRec-DR and MIND).

One routing iteration, for interest k and item i (paper, section III-B; Sabour et al. 2017):

    c_ik = softmax over k of b_ik              how much of item i belongs to interest k
    h_k  = squash(m_k h_k^old + sum_i c_ik e_i')   the interest, with its past as a prior (see below)
    b_ik = b_ik + e_i' . h_k                   agreement sharpens the next round

Decided where the sources disagree:

- c is a softmax over *interests*. The IMSR paper's sentence says over items; both codebases and MIND route each
  item's vote to the interests, and that is the form that works.
- b_ik starts at e_i' . h_k^old, as in IMSR's released code: it is how stored interests carry over. With one shared
  map, the zero logits of ComiRec would give K identical capsules.
- A start without a past is random, or with ``[model] starts = "spread"`` (ours) lies at an item of the user: see
  `spread_starts`.
- Gradients flow through the last iteration only; the earlier ones see detached items, as in MIND and ComiRec.

Ours, not the paper's: the stored interest enters the sum as a prior of ``m`` items. The paper extracts from the
span's items alone, so that one or two of them overwrite everything that was known; with the prior the interest
drifts instead, and an interest that wins no item mostly keeps its place: the shares are soft, so that every item
pulls at every interest a little (cosine to where it was .91 to .95 on average in our logs, below .85 for one in
ten). ``m = 0`` is the paper's form.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from imsr_core.config import ModelConfig
from imsr_core.extractors.protocol import Extractor, Prior

#: A logit whose share of a softmax is exactly 0.
NEVER = -1e30
#: Cosine from which on an item is one that was taken already.
SAME_ITEM = 0.99


def squash(x: Tensor) -> Tensor:
    """|x|^2 / (1 + |x|^2) * x / |x| along the last axis: keeps the direction, length below 1; 0 stays 0."""
    square = (x * x).sum(-1, keepdim=True)
    # |x| / (1 + |x|^2) * x, with a floor under the root: its gradient at 0 must not be NaN
    return x * ((square + 1e-12).sqrt() / (1 + square))


def spread_starts(items: Tensor, item_mask: Tensor, prior: Prior) -> Tensor:
    """Starts (B, K, d) of which those of users without a past lie at items far from each other (Gonzalez 1985).

    Random starts differ by what a random vector says of a user's items, and where that is little the capsules converge:
    twins. Here the first start is at the item that its random one likes best, each further one at the item (B, n, d)
    that is least like those taken; where no item is left that differs, the random start stays. The lengths stay.
    """
    if not items.shape[1]:
        return prior.start
    fresh = prior.mask & ~prior.stored & ~prior.stored.any(1, keepdim=True)
    unit = functional.normalize(items, dim=-1)
    starts, nearest = prior.start.clone(), items.new_full(items.shape[:2], -1.0)
    nearest = nearest.masked_fill(item_mask == 0, torch.inf)
    each = torch.arange(len(unit), device=unit.device)
    for k in range(prior.start.shape[1]):
        liked = (prior.start[:, k, None] * unit).sum(-1)
        wish = -nearest if k else liked.masked_fill(item_mask == 0, -torch.inf)
        best = wish.argmax(1)
        chosen = unit[each, best]
        takes = fresh[:, k] & (nearest[each, best] < SAME_ITEM)
        length = prior.start[:, k].norm(dim=-1, keepdim=True)
        starts[:, k] = torch.where(takes[:, None], chosen * length, prior.start[:, k])
        likeness = (unit * functional.normalize(starts[:, k], dim=-1)[:, None]).sum(-1)
        nearest = torch.maximum(nearest, likeness)
    return starts


class _RoutingExtractor(Extractor):
    """The routing loop; a subclass maps the items and says where the logits start."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.iterations = config.routing_iterations
        self.spreads = False

    def map_items(self, items: Tensor) -> Tensor:
        """e_i' (B, n, d) from e_i (B, n, d)."""
        raise NotImplementedError

    def first_logits(self, mapped: Tensor, prior: Prior) -> Tensor:
        """b_ik (B, K, n) before the first iteration."""
        return prior.start @ mapped.transpose(1, 2)

    def forward(self, items: Tensor, item_mask: Tensor, prior: Prior) -> Tensor:
        mapped = self.map_items(items) * item_mask[..., None]  # (B, n, d)
        past = prior.mass[..., None] * prior.start  # (B, K, d)
        with torch.no_grad():
            votes = mapped.detach()
            # a padded interest starts so low that it never gets a share
            if self.spreads:
                prior = replace(prior, start=spread_starts(votes, item_mask, prior))
            logits = self.first_logits(votes, prior).masked_fill(~prior.mask[..., None], NEVER)  # (B, K, n)
            for _ in range(self.iterations - 1):
                capsule = squash(torch.baddbmm(past, logits.softmax(1), votes))  # (B, K, d)
                logits = torch.baddbmm(logits, capsule, votes.transpose(1, 2))
            coupling = logits.softmax(1)
        return squash(torch.baddbmm(past, coupling, mapped)) * prior.mask[..., None]


class DynamicRoutingExtractor(_RoutingExtractor):
    """ComiRec-DR as IMSR uses it: one affine map shared by all positions, e' = W e + b.

    ComiRec itself has a map for each position; IMSR shares one. W starts at the identity, b at zero.
    """

    def __init__(self, config: ModelConfig, generator: torch.Generator | None = None) -> None:
        super().__init__(config)
        self.spreads = config.starts == "spread"
        self.map = nn.Linear(config.dim, config.dim)
        with torch.no_grad():
            self.map.weight.copy_(torch.eye(config.dim))
            self.map.bias.zero_()

    def map_items(self, items: Tensor) -> Tensor:
        return self.map(items)


class MindExtractor(_RoutingExtractor):
    """MIND (Li et al. 2019): behaviour-to-interest routing with one shared bilinear map S and no bias.

    MIND's logits start random and stay fixed for a sequence. Here that holds for interests without a past: their
    logits come from a fixed table drawn once, N(0, 1), by position and interest. Stored interests start from
    e_i' . h_k^old as everywhere in IMSR, else they would not carry over.
    """

    start_logits: Tensor

    def __init__(self, config: ModelConfig, generator: torch.Generator) -> None:
        super().__init__(config)
        self.map = nn.Linear(config.dim, config.dim, bias=False)
        with torch.no_grad():
            self.map.weight.copy_(torch.eye(config.dim))
        slots = config.max_interests
        self.register_buffer("start_logits", torch.randn(config.history, slots, generator=generator))

    def map_items(self, items: Tensor) -> Tensor:
        return self.map(items)

    def first_logits(self, mapped: Tensor, prior: Prior) -> Tensor:
        width = prior.start.shape[1]
        # counted from the most recent item, so that padding at the front changes nothing
        fixed = self.start_logits[len(self.start_logits) - mapped.shape[1] :, :width]
        stored = super().first_logits(mapped, prior)
        return torch.where(prior.stored[..., None], stored, fixed.T)
