"""Scores of one task on held-out users."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from imsr_core.lifelong.metrics import label_ranks, main_metric, metrics_of_ranks
from imsr_core.lifelong.tasks import Examples, TaskKind
from imsr_core.lifelong.view import View, batched_vectors

_CELLS = 20_000_000  # logits held at once


class Score(NamedTuple):
    """What selects a checkpoint; compared in this order, higher is better."""

    likelihood: float  # mean log-likelihood of the labels: moves while a metric sits on the majority's plateau
    metric: float  # settles ties


@torch.no_grad()
def ranks_and_likelihood(view: View, examples: Examples) -> tuple[Tensor, Tensor]:
    """(N,) rank of each example's label among all labels, and (N,) its log-likelihood."""
    used, position = torch.unique(examples.rows, return_inverse=True)  # a user with m labels is encoded once
    vectors = batched_vectors(view, examples.inputs[used])
    step = max(1, _CELLS // max(1, len(view.head.weight)))
    ranks, likelihoods = [], []
    for start in range(0, len(examples), step):
        labels = examples.labels[start : start + step]
        logits = view.head.logits(vectors[position[start : start + step]])
        ranks.append(label_ranks(logits, labels))
        likelihoods.append(-F.cross_entropy(logits, labels, reduction="none"))
    if not ranks:
        return torch.zeros(0, dtype=torch.int64), torch.zeros(0)
    return torch.cat(ranks).cpu(), torch.cat(likelihoods).cpu()


def score(view: View, examples: Examples, kind: TaskKind) -> Score:
    """The selection score on these examples (N >= 1)."""
    ranks, likelihood = ranks_and_likelihood(view, examples)
    return Score(likelihood.double().mean().item(), metrics_of_ranks(ranks, kind)[main_metric(kind)])


def evaluate(view: View, examples: Examples, kind: TaskKind) -> dict[str, float]:
    """All metrics of a task on these examples; empty without examples."""
    return metrics_of_ranks(ranks_and_likelihood(view, examples)[0], kind)
