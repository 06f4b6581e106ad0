"""EIR, the existing-interests retainer: yesterday's interests teach today's (paper, section IV-B).

For every existing interest k of a user and a target item a, with teacher = (h^{t-1}, e^{t-1}) fixed and student =
(h^t, e^t):

    bce        L_k = CE( sigmoid(e_a . h_k^t / tau), sigmoid(e_a . h_k^{t-1} / tau) )      the paper's equation
    listwise   L_k = KL( softmax_i(e_i . h_k^{t-1} / tau) || softmax_i(e_i . h_k^t / tau) )   over the target and
               some sampled items i
    euclidean  L_k = | h_k^t - h_k^{t-1} |^2                                        the paper's ablation DIR

L_EIR is the sum over the existing interests and the mean over the batch (the paper sums over users; the mean keeps
lambda independent of the batch size).

Decided: `listwise` is the default. The paper's form sees one item an interest, and on real logs does nothing until
it does harm. A target that the teacher has never seen is not distilled: its row was random yesterday.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from imsr_core.config import RetainerConfig

#: A logit whose share of a softmax is exactly 0.
LOWEST = -1e30


@dataclass(frozen=True)
class Distillation:
    """What the loss needs of one batch.

    ``student`` and ``teacher`` (B, K, d) interests; ``existing`` (B, K) marks those that have a teacher.
    ``student_items`` and ``teacher_items``: the target in place 0 and n shared items behind it, given as
    (B, d) + (n, d); ``known_target`` (B,) and ``known_items`` (n,) mark what the teacher has seen. ``scale`` turns
    inner products into logits.
    """

    student: Tensor
    teacher: Tensor
    existing: Tensor
    student_target: Tensor
    teacher_target: Tensor
    student_items: Tensor
    teacher_items: Tensor
    known_target: Tensor
    known_items: Tensor
    scale: float


def retainer_loss(batch: Distillation, config: RetainerConfig) -> Tensor:
    """L_EIR of a batch, a scalar >= 0 (`bce` is bounded below by the teacher's entropy instead)."""
    if config.form == "euclidean":
        distance = (batch.student - batch.teacher).square().sum(-1)
        return (distance * batch.existing).sum() / len(distance)
    losses = _bce(batch, config) if config.form == "bce" else _listwise(batch, config)
    return (losses * batch.existing).sum() / len(losses)


def _target_logits(interests: Tensor, target: Tensor) -> Tensor:
    return (interests @ target[..., None]).squeeze(-1)  # (B, K)


def _bce(batch: Distillation, config: RetainerConfig) -> Tensor:
    factor = batch.scale / config.temperature
    student = factor * _target_logits(batch.student, batch.student_target)
    teacher = torch.sigmoid(factor * _target_logits(batch.teacher, batch.teacher_target))
    losses = functional.binary_cross_entropy_with_logits(student, teacher, reduction="none")
    return losses * batch.known_target[:, None]


def _listwise(batch: Distillation, config: RetainerConfig) -> Tensor:
    factor = batch.scale / config.temperature
    strange = ~batch.known_target
    with torch.no_grad():
        items = batch.teacher_items[batch.known_items]
        log_teacher = _list_logits(batch.teacher, batch.teacher_target, items, factor, strange).log_softmax(-1)
    items = batch.student_items[batch.known_items]
    log_student = _list_logits(batch.student, batch.student_target, items, factor, strange).log_softmax(-1)
    return (log_teacher.exp() * (log_teacher - log_student)).sum(-1)  # (B, K)


def _list_logits(interests: Tensor, target: Tensor, items: Tensor, factor: float, strange: Tensor) -> Tensor:
    """Scaled logits (B, K, 1 + n) of the target and the items; a strange target gets no share."""
    first = _target_logits(interests, target).masked_fill(strange[:, None], LOWEST)
    return factor * torch.cat([first[..., None], interests @ items.T], -1)
