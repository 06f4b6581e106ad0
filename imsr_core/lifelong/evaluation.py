"""How well a task is predicted on held-out users: always by ranking all labels, never a sample of them.

The papers rank 1 positive against 99 negatives drawn with replacement (PeterRec), which is not the accuracy or
the MRR it is called. A tie counts against the model, so that a constant score is worth nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from imsr_core.errors import NonFiniteError
from imsr_core.lifelong.tasks import Examples, TaskKind
from imsr_core.lifelong.view import View, batched_vectors

CUTOFFS = (5, 20)
_CELLS = 20_000_000  # logits, or items of users, held at once


class Score(NamedTuple):
    """What selects a checkpoint; compared in this order, higher is better."""

    likelihood: float  # mean log-likelihood of the labels: moves while a metric sits on the majority's plateau
    metric: float  # settles ties


def label_ranks(logits: Tensor, labels: Tensor) -> Tensor:
    """Rank of the true label among all, 1 = best: (B, Y), (B,) -> (B,) int64.

    Raises:
        NonFiniteError: a score is NaN or infinite.
    """
    if not torch.isfinite(logits).all():
        raise NonFiniteError("a score of a task is not finite", hint="lower the learning rate and train again")
    own = logits.gather(1, labels.unsqueeze(1))
    return (logits >= own).sum(dim=1)  # the label itself counts as the 1


def metrics_of_ranks(ranks: Tensor, kind: TaskKind) -> dict[str, float]:
    """accuracy for classes; mrr@k, hr@k and ndcg@k for items. No example: empty."""
    if not len(ranks):
        return {}
    if kind == "classes":
        return {"accuracy": (ranks == 1).double().mean().item()}
    values: dict[str, float] = {}
    for k in CUTOFFS:
        hit = (ranks <= k).double()
        values[f"mrr@{k}"] = (hit / ranks).mean().item()
        values[f"hr@{k}"] = hit.mean().item()
        values[f"ndcg@{k}"] = (hit / torch.log2(ranks.double() + 1)).mean().item()
    return values


def main_values(ranks: Tensor, kind: TaskKind) -> Tensor:
    """(N,) what each example adds to the main metric, whose mean they are."""
    if kind == "classes":
        return (ranks == 1).double()
    return (ranks <= CUTOFFS[0]).double() / ranks


def main_metric(kind: TaskKind) -> str:
    """The metric that selects checkpoints and fills the matrix R: accuracy, or MRR@5 as in the papers."""
    return "accuracy" if kind == "classes" else f"mrr@{CUTOFFS[0]}"


@torch.no_grad()
def ranks_and_likelihood(view: View, examples: Examples) -> tuple[Tensor, Tensor]:
    """(N,) rank of each example's label among all labels, and (N,) its log-likelihood."""
    used, position = torch.unique(examples.rows, return_inverse=True)  # a user with m labels is encoded once
    vectors = batched_vectors(view, examples.inputs[used])
    step = max(1, _CELLS // max(1, len(view.head.weight), examples.inputs.shape[1]))
    ranks, likelihoods = [], []
    for start in range(0, len(examples), step):
        labels = examples.labels[start : start + step]
        chosen = slice(start, start + step)
        logits = view.scores(vectors[position[chosen]], examples.inputs[examples.rows[chosen]])
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
