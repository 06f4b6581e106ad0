"""TERACON's task masks: one function of (task, number of tasks, s, embeddings, relation weights) and nothing else.

Training, distillation, scoring and serving all call ``task_mask``. The released code chooses the plain or the
relation-aware mask by *why* it is called, and serves T1 wrongly while there are exactly two tasks.

Shapes: a task embedding is (sites, d); for n tasks a task's relation layer is weight (sites, 2n - 1) and bias
(sites,), shared by all channels of a site.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from imsr_core.lifelong.training import Step

EMBEDDING_HIGH = 2.0  # task embeddings start uniform in (0, 2)
RELATION_SCALE, RELATION_BIAS = 0.01, 0.1  # a relation layer starts at N(0, 0.01^2) and 0.1


def annealed(step: Step, s_max: float) -> float:
    """s of a batch: from 1 / s_max in the first of each epoch, linear, below s_max in the last."""
    low = 1.0 / s_max
    return (s_max - low) * step.batch / step.batches + low


def task_mask(tensors: Mapping[str, Tensor], tasks: Sequence[str], task: str, s: float) -> Tensor:
    """The channel mask of ``task`` among ``tasks``, (sites, d) in (0, 1).

    A task without a relation layer: m = sigmoid(s e). With one: m = sigmoid(s a) with, for each channel,
    a = f([tanh(s e_t)] ++ [tanh(s e_j), tanh(-s e_j) for every other task j that it knows, in the order of learning]).
    It knows all, or those that were there when the network last moved (`holding`).

    Args:
        tensors: holds ``embedding/<task>`` and, for a task that knows others, ``relation/<task>/weight`` and ``bias``.
    """
    own = tensors[f"embedding/{task}"]
    if f"relation/{task}/weight" not in tensors:
        return torch.sigmoid(s * own)
    others = [torch.tanh(s * tensors[f"embedding/{name}"]) for name in tasks if name != task]
    signals = [torch.tanh(s * own), *(signed for other in others for signed in (other, -other))]
    stacked = torch.stack(signals, dim=-1)  # (sites, d, 2n - 1)
    weight, bias = tensors[f"relation/{task}/weight"], tensors[f"relation/{task}/bias"]
    mixed = torch.einsum("sdi,si->sd", stacked[..., : weight.shape[1]], weight) + bias.unsqueeze(1)
    return torch.sigmoid(s * mixed)


def initial_embedding(sites: int, dim: int, generator: torch.Generator) -> Tensor:
    """A fresh task embedding (sites, d)."""
    return torch.empty(sites, dim).uniform_(0.0, EMBEDDING_HIGH, generator=generator)


def initial_relations(tasks: Sequence[str], sites: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Fresh relation layers of all tasks for n = len(tasks) >= 2."""
    tensors: dict[str, Tensor] = {}
    for task in tasks:
        weight = torch.empty(sites, 2 * len(tasks) - 1)
        tensors[f"relation/{task}/weight"] = weight.normal_(0.0, RELATION_SCALE, generator=generator)
        tensors[f"relation/{task}/bias"] = torch.full((sites,), RELATION_BIAS)
    return tensors


def carried_relations(fresh: Mapping[str, Tensor], old: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Old tasks' relation layers with a zero weight on the two inputs of the newest task; others as in ``fresh``.

    With it an old task starts exactly where the parent left it. Not in the paper, which starts all of them anew.
    """
    carried = dict(fresh)
    for name, tensor in old.items():
        wider = torch.zeros_like(fresh[name])
        wider[..., : tensor.shape[-1]] = tensor
        carried[name] = wider
    return carried


def sampling_rate(teacher: Tensor, student: Tensor, gate_factor: float) -> float:
    """rho of a past task: 1 - mean over sites of sigmoid(c cos(its teacher mask, the new task's mask)).

    Similar tasks are sampled less. Masks are positive, so rho is in [1 - sigmoid(c), 0.5].
    """
    cosine = torch.nn.functional.cosine_similarity(teacher, student, dim=1).clamp(0.0, 1.0)
    return float(1.0 - torch.sigmoid(gate_factor * cosine).mean())
