"""A task's head, one row of weights for each label, and its losses: full or sampled softmax, and BPR."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from imsr_core.encoders.lookup import lookup
from imsr_core.lifelong.config import ObjectiveConfig

HEAD_SCALE = 0.02  # standard deviation of a fresh head (PeterRec, Conure: 0.02; TERACON: 0.01)


@dataclass(frozen=True, eq=False)
class Head:
    """score(y) = h . V_y + b_y, and what a task's wide part says where there is one.

    Attributes:
        weight: (Y, d).
        bias: (Y,), or None as in PeterRec's and Conure's later tasks.
        wide: (B, Y) what is added to the scores of one batch; None adds nothing.
    """

    weight: Tensor
    bias: Tensor | None = None
    wide: Tensor | None = None

    def logits(self, vectors: Tensor) -> Tensor:
        """(B, d) -> (B, Y)."""
        scores = F.linear(vectors, self.weight, self.bias)
        return scores if self.wide is None else scores + self.wide

    def some_logits(self, vectors: Tensor, labels: Tensor) -> Tensor:
        """Scores of a few labels (n,) for everybody: (B, d) -> (B, n). Gradients touch those rows only."""
        bias = None if self.bias is None else self.bias[labels]
        scores = F.linear(vectors, lookup(self.weight, labels), bias)
        return scores if self.wide is None else scores + self.wide[:, labels]

    def own_logits(self, vectors: Tensor, labels: Tensor) -> Tensor:
        """Each row's score of its own label: (B, d), (B,) -> (B,)."""
        scores = (vectors * lookup(self.weight, labels)).sum(dim=1)
        scores = scores if self.bias is None else scores + self.bias[labels]
        return scores if self.wide is None else scores + self.wide.gather(1, labels.unsqueeze(1)).squeeze(1)


def initial_head(n_labels: int, dim: int, seed: int, *, bias: bool) -> dict[str, Tensor]:
    """Fresh tensors ``weight`` and, where asked for, ``bias``."""
    generator = torch.Generator().manual_seed(seed)
    head = {"weight": torch.empty(n_labels, dim).normal_(0.0, HEAD_SCALE, generator=generator)}
    return {**head, "bias": torch.zeros(n_labels)} if bias else head


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
