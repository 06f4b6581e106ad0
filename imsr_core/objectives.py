"""L_SS: label-aware attention and sampled softmax (paper, section III-B; ComiRec, section 3.3).

Shapes: B targets in a batch, K interests (padded), n shared negatives, d.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from imsr_core.extractors.protocol import masked_softmax


def unit(vectors: Tensor, enabled: bool = True) -> Tensor:
    """Vectors (..., d) at length 1, or as they are where normalisation is switched off."""
    return functional.normalize(vectors, dim=-1) if enabled else vectors


def label_aware(interests: Tensor, mask: Tensor, targets: Tensor, scale: float, hard: bool = False) -> Tensor:
    """v_u = sum_k beta_k h_k with beta = softmax_k(scale * e_a . h_k): (B, K, d), (B, K), (B, d) -> (B, d).

    ``hard`` takes the interest nearest to the target alone.
    """
    logits = scale * (interests @ targets[..., None]).squeeze(-1)  # (B, K)
    weights = masked_softmax(logits, mask, -1)
    if hard:
        best = functional.one_hot(weights.argmax(-1), weights.shape[-1])
        weights = best.to(weights) * mask
    return (weights[:, None, :] @ interests).squeeze(1)


def sampled_softmax(
    users: Tensor,
    targets: Tensor,
    negatives: Tensor,
    hits: Tensor,
    scale: float,
    offsets: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Mean cross entropy of each target against the batch's shared negatives.

    ``users`` (B, d) are label-aware user vectors, ``targets`` (B, d), ``negatives`` (n, d); ``hits`` (B, n) marks
    negatives that are the target itself, which do not count. Negatives are drawn uniformly, so that ComiRec's
    log-uniform correction is a constant and falls out of the softmax.
    ``offsets`` are added to the logits of the targets (B, 1) and of the negatives (B, n): what is known of them without
    the vectors, or how many items a drawn one stands for.
    """
    users = scale * users  # before the product, which is by far larger
    positive = (users * targets).sum(-1, keepdim=True)  # (B, 1)
    negative = (users @ negatives.T).masked_fill_(hits, -torch.inf)  # (B, n)
    logits = torch.cat([positive, negative], 1)
    if offsets is not None:
        logits = logits + torch.cat([part.expand(len(logits), -1) for part in offsets], 1)
    return -logits.log_softmax(1)[:, 0].mean()


def full_softmax(users: Tensor, items: Tensor, place: Tensor, scale: float, offsets: Tensor | None = None) -> Tensor:
    """The same against the whole catalogue, ``items`` (n, d) in any order, in which the targets have a ``place`` (B,);
    ``offsets`` (B, n). A target is one of them: nothing is put in front and nothing is masked."""
    logits = (scale * users) @ items.T
    return functional.cross_entropy(logits if offsets is None else logits + offsets, place)
