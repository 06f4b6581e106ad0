"""EIR, the existing-interests retainer: yesterday's interests teach today's (paper, section IV-B).

For every existing interest k of a user and a target item a, with teacher = (h^{t-1}, e^{t-1}) fixed and student =
(h^t, e^t):

    bce        L_k = CE( sigmoid(e_a . h_k^t / tau), sigmoid(e_a . h_k^{t-1} / tau) )      the paper's equation
    listwise   L_k = KL( softmax_i(e_i . h_k^{t-1} / tau) || softmax_i(e_i . h_k^t / tau) )   over the target and
               some sampled items i
    euclidean  L_k = | h_k^t - h_k^{t-1} |^2                                        the paper's ablation DIR

Every inner product e . h is taken times [model] logit_scale (the paper: 1), as wherever it is a logit.

L_EIR is the sum over the existing interests and the mean over the batch (the paper sums over users; the mean keeps
lambda independent of the batch size).

The paper also tries three distillation losses with a softmax, KD1 to KD3, finds them about equal, and does not print
their formulas where we could read them. Decided: they are the three softmaxes that the logits s_ki = e_i . h_k / tau
allow, each with Hinton's tau^2, which keeps the gradient's size:

    kd1        over the items, for each interest: tau^2 times `listwise`
    kd2        over the existing interests, for the target: tau^2 KL( softmax_k(s_ka^{t-1}) || softmax_k(s_ka^t) )
    kd3        over the items, for the user: tau^2 KL between the softmax_i(e_i . v / tau) of v = sum_k beta_k h_k, with
               the label-aware beta = softmax_k(e_a . h_k) over the existing interests

Decided: `listwise` and `kd1` rank items for one existing interest of each target, drawn uniformly and counted K times:
the same sum in expectation, and the cost of a step does not grow with K (`RetainerConfig.interests`).

Decided: `listwise` is the default. The paper's form sees one item an interest, and on real logs does nothing until
it does harm. A target that the teacher has never seen is not distilled: its row was random yesterday.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from imsr_core.config import RetainerConfig
from imsr_core.objectives import label_aware

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


def retainer_loss(batch: Distillation, config: RetainerConfig, generator: torch.Generator | None = None) -> Tensor:
    """L_EIR of a batch, a scalar >= 0 (`bce` is bounded below by the teacher's entropy instead).

    ``generator`` draws the interests of `listwise` and `kd1` if they do not distil all.
    """
    if config.form == "euclidean":
        distance = (batch.student - batch.teacher).square().sum(-1)
        return (distance * batch.existing).sum() / len(distance)
    if config.form in ("kd2", "kd3"):
        whole = _across_interests(batch, config) if config.form == "kd2" else _of_the_user(batch, config)
        taught = batch.existing.any(1) & batch.known_target
        return config.temperature**2 * (whole * taught).sum() / len(whole)
    if config.form == "bce":
        return (_bce(batch, config) * batch.existing).sum() / len(batch.existing)
    batch, times = _drawn(batch, config.interests, generator)
    softened = config.temperature**2 if config.form == "kd1" else 1.0
    return softened * (_listwise(batch, config) * times).sum() / len(times)


def _drawn(batch: Distillation, n: int, generator: torch.Generator | None) -> tuple[Distillation, Tensor]:
    """The batch with at most ``n`` existing interests of each user, drawn without replacement (0: all), and how many
    interests each one stands for (B, n), 0 where it is none."""
    existing = batch.existing
    if not n or existing.shape[1] <= n:
        return batch, existing
    scores = torch.rand(existing.shape, generator=generator).to(existing.device).masked_fill(~existing, -1.0)
    drawn = scores.argmax(1, keepdim=True) if n == 1 else scores.topk(n, dim=1).indices
    count, found = existing.sum(1, keepdim=True), existing.gather(1, drawn)
    # one is found wherever there is one, and stands for all
    times = count if n == 1 else found * (count.to(batch.student) / found.sum(1, keepdim=True).clamp(min=1))
    first = torch.arange(len(existing), device=drawn.device)[:, None] * existing.shape[1]
    student, teacher = (_rows(side, first + drawn) for side in (batch.student, batch.teacher))
    return replace(batch, student=student, teacher=teacher, existing=found), times


def _rows(interests: Tensor, rows: Tensor) -> Tensor:
    """Of ``interests`` (B, K, d), one behind the other, the ``rows`` (B, n): (B, n, d)."""
    return interests.flatten(0, 1).index_select(0, rows.flatten()).view(*rows.shape, -1)


def _target_logits(interests: Tensor, target: Tensor) -> Tensor:
    return (interests @ target[..., None]).squeeze(-1)  # (B, K)


def _bce(batch: Distillation, config: RetainerConfig) -> Tensor:
    factor = batch.scale / config.temperature
    student = factor * _target_logits(batch.student, batch.student_target)
    teacher = torch.sigmoid(factor * _target_logits(batch.teacher, batch.teacher_target))
    losses = functional.binary_cross_entropy_with_logits(student, teacher, reduction="none")
    return losses * batch.known_target[:, None]


def _kl(log_teacher: Tensor, log_student: Tensor) -> Tensor:
    """KL(teacher || student) over the last axis, of log shares."""
    return functional.kl_div(log_student, log_teacher, reduction="none", log_target=True).sum(-1)


def _across_interests(batch: Distillation, config: RetainerConfig) -> Tensor:
    factor = batch.scale / config.temperature

    def shares(interests: Tensor, target: Tensor) -> Tensor:
        return (factor * _target_logits(interests, target)).masked_fill(~batch.existing, LOWEST).log_softmax(-1)

    with torch.no_grad():
        log_teacher = shares(batch.teacher, batch.teacher_target)
    return _kl(log_teacher, shares(batch.student, batch.student_target))  # (B,)


def _of_the_user(batch: Distillation, config: RetainerConfig) -> Tensor:
    factor = batch.scale / config.temperature

    def shares(interests: Tensor, target: Tensor, items: Tensor) -> Tensor:
        user = label_aware(interests, batch.existing, target, batch.scale)[:, None]
        return _list_logits(user, target, items[batch.known_items], factor, ~batch.known_target)[:, 0].log_softmax(-1)

    with torch.no_grad():
        log_teacher = shares(batch.teacher, batch.teacher_target, batch.teacher_items)
    return _kl(log_teacher, shares(batch.student, batch.student_target, batch.student_items))  # (B,)


def _listwise(batch: Distillation, config: RetainerConfig) -> Tensor:
    factor = batch.scale / config.temperature
    strange = ~batch.known_target
    teacher_items, student_items = batch.teacher_items, batch.student_items
    if not bool(batch.known_items.all()):  # to select all would only cost
        teacher_items, student_items = teacher_items[batch.known_items], student_items[batch.known_items]
    with torch.no_grad():
        log_teacher = _list_logits(batch.teacher, batch.teacher_target, teacher_items, factor, strange).log_softmax(-1)
    log_student = _list_logits(batch.student, batch.student_target, student_items, factor, strange).log_softmax(-1)
    return _kl(log_teacher, log_student)  # (B, K)


def _list_logits(interests: Tensor, target: Tensor, items: Tensor, factor: float, strange: Tensor) -> Tensor:
    """Scaled logits (B, K, 1 + n) of the target and the items; a strange target gets no share."""
    first = _target_logits(interests, target).masked_fill(strange[:, None], LOWEST)
    return factor * torch.cat([first[..., None], interests @ items.T], -1)
