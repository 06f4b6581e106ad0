"""Losses of a head: full or sampled softmax, and BPR."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from imsr_core.lifelong.config import ObjectiveConfig
from imsr_core.lifelong.heads import Head


def head_loss(
    vectors: Tensor, labels: Tensor, head: Head, config: ObjectiveConfig, generator: torch.Generator
) -> Tensor:
    """Mean loss of user vectors (B, d) with labels (B,).

    Softmax over all labels where they are few, else sampled; or BPR against one uniform negative.
    """
    if config.loss == "bpr":
        loss = bpr(vectors, labels, head, generator)
    elif len(head.weight) <= config.full_softmax_limit:
        loss = F.cross_entropy(head.logits(vectors), labels)
    else:
        loss = sampled_softmax(vectors, labels, head, config.negatives, generator)
    if config.head_l2:
        loss = loss + config.head_l2 / (2 * len(labels)) * head.weight.square().sum()
    return loss


def sampled_softmax(
    vectors: Tensor, labels: Tensor, head: Head, n_negatives: int, generator: torch.Generator
) -> Tensor:
    """Softmax of the label against uniform negatives that the batch shares; a negative that is the label is out.

    Uniform sampling needs no log-Q correction: it would add the same constant to every negative. The papers'
    log-uniform sampler assumes ids sorted by frequency, which first-seen ids are not.
    """
    negatives = torch.randint(len(head.weight), (n_negatives,), generator=generator).to(labels.device)
    logits = head.some_logits(vectors, negatives)  # (B, n)
    logits = logits.masked_fill(labels.unsqueeze(1) == negatives, float("-inf"))
    logits = torch.cat([head.own_logits(vectors, labels).unsqueeze(1), logits], dim=1)
    return F.cross_entropy(logits, torch.zeros_like(labels))


def bpr(vectors: Tensor, labels: Tensor, head: Head, generator: torch.Generator) -> Tensor:
    """softplus(negative - positive) with one uniform negative that is never the label.

    The released code takes -log(sigmoid(x)) + 1e-24, which overflows where softplus does not.
    """
    n_labels = len(head.weight)
    step = torch.randint(1, n_labels, labels.shape, generator=generator).to(labels.device)
    negatives = (labels + step) % n_labels
    return F.softplus(head.own_logits(vectors, negatives) - head.own_logits(vectors, labels)).mean()
