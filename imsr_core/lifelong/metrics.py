"""How well a task is predicted: always by ranking all labels, never a sample of them.

The papers rank 1 positive against 99 negatives drawn with replacement (PeterRec), which is not the accuracy or
the MRR it is called. A tie counts against the model, so that a constant score is worth nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from imsr_core.errors import NonFiniteError
from imsr_core.lifelong.tasks import TaskKind

CUTOFFS = (5, 20)


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
