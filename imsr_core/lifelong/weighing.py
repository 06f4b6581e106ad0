"""What a task about items answers with: its deep part, its wide part, or so much of each.

    scores = share * deep + (1 - share) * wide          share in ``SHARES``

Both have learnt the labels, each by itself; the sum of their scores is a product of their probabilities, and the better
of two such experts is seldom as good as both (Hinton, Products of Experts, 2002). Decided: the share is the one under
which the labels of the validation users are likeliest, and the deep part is only kept where they gain more than a
standard error by it over the wide part alone. One number is chosen, not a network, so that one standard error does. The
shares are multiplied into the head and into the wide part's weights: a version is served as any other.
"""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor

from imsr_core.lifelong.evidence import error_of_sum
from imsr_core.lifelong.linear import Linear
from imsr_core.lifelong.problems import TaskProblem
from imsr_core.lifelong.state import LifelongState
from imsr_core.lifelong.tasks import Examples
from imsr_core.lifelong.view import View, batched_vectors
from imsr_core.lifelong.wide import wide_tensors

#: Shares of the deep part to choose from; 0 = the wide part alone, 1 = the deep part alone.
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
STANDARD_ERRORS = 1.0
"""What the deep part adds must be worth so many of held-out users."""
_CELLS = 20_000_000  # logits held at once


@torch.no_grad()
def deep_share(deep: View, wide: Linear, judges: Examples) -> float:
    """The share of the deep part with which the labels of these examples (N >= 1) are likeliest; 0 unless that is
    clearly likelier than with the wide part alone."""
    likelihoods = _likelihoods(deep, wide, judges)
    gains = likelihoods - likelihoods[:, :1]
    best = int(gains.mean(dim=0).argmax())
    chosen = gains[:, best].numpy()
    return SHARES[best] if chosen.sum() > STANDARD_ERRORS * error_of_sum(chosen, judges.users) else 0.0


def weighed(state: LifelongState, problem: TaskProblem, wide: Linear, share: float) -> LifelongState:
    """The version with this share of the deep part of its newest task, and the rest of the wide part."""
    head = {name: tensor * share for name, tensor in state.tensors.items() if name.startswith(f"head/{problem.name}/")}
    rest = wide.times(1 - share)
    record = state.tasks[-1]
    record = dataclasses.replace(record, details=record.details | {"deep_share": share})
    weighed = state.replaced(head | wide_tensors(problem.name, rest if share < 1 else None))
    return dataclasses.replace(weighed, tasks=(*state.tasks[:-1], record))


def _likelihoods(deep: View, wide: Linear, judges: Examples) -> Tensor:
    """(N, shares) log-likelihood of each example's label with each share."""
    used, position = torch.unique(judges.rows, return_inverse=True)  # a user with m labels is encoded once
    vectors, found = batched_vectors(deep, judges.inputs[used]), []
    step = max(1, _CELLS // max(1, len(deep.head.weight), judges.inputs.shape[1]))
    for start in range(0, len(judges), step):
        chosen = slice(start, start + step)
        labels, logits = judges.labels[chosen], deep.head.logits(vectors[position[chosen]])
        beside = wide.logits(judges.inputs[judges.rows[chosen]])
        mixed = [share * logits + (1 - share) * beside for share in SHARES]
        found.append(torch.stack([-F.cross_entropy(each, labels, reduction="none") for each in mixed], dim=1))
    return torch.cat(found).double().cpu()
