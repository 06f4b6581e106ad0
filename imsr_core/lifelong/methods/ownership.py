"""Conure's bookkeeping: which task owns each weight (0 = free), and what is left.

One uint8 a weight instead of one float mask a task. Rankings see FREE weights only: the released code ranks all,
so that when the request exceeds what is free the threshold becomes 0 and *every* weight is taken, frozen ones
included, silently.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from imsr_core.counted import counted
from imsr_core.lifelong.errors import CapacityError

MAX_TASKS = 255  # an owner is one byte


def requested(size: int, rates: Sequence[float]) -> int:
    """How many weights of a tensor the newest task gets: (1 - p_t) prod_{j<t} p_j of the whole tensor, plus one.

    Args:
        rates: pruning rates p_1 .. p_t of all tasks, the newest last.

    The "plus one" is the released rule (threshold = the (k+1)-th largest value, kept where >=).
    """
    share = (1.0 - rates[-1]) * math.prod(rates[:-1])
    return min(size, int(size * share) + 1)


def wanted_of(owner: Tensor, rates: Sequence[float]) -> int:
    """How many weights of a tensor with these owners the newest task asks for; at a rate of 0 all that are free."""
    if rates[-1] == 0:
        return max(1, int((owner == 0).sum()))  # none free: the one that cannot be had says so
    return requested(owner.numel(), rates)


def check_capacity(owners: Mapping[str, Tensor], rates: Sequence[float]) -> None:
    """Refuse a task that cannot get what it asks for, before anything is trained.

    Raises:
        CapacityError: a tensor has too few free weights, or there are too many tasks.
    """
    if len(rates) > MAX_TASKS:
        raise CapacityError(f"a version holds {MAX_TASKS} tasks at most", hint="start a new version from T1")
    for name, owner in owners.items():
        wanted, free = wanted_of(owner, rates), int((owner == 0).sum())
        if wanted > free:
            raise CapacityError(
                f"no capacity left: {name} has {counted(free, 'free weight')} of {owner.numel()}, "
                f"the task asks for {wanted}",
                hint="raise conure.pruning_rate for this task, or pre-train a new version with a larger encoder",
            )


def claim(weight: Tensor, owner: Tensor, number: int, count: int) -> Tensor:
    """Give the ``count`` largest free weights to task ``number`` (1 = T1); equal ones in index order.

    Returns a new owner tensor of the same shape; other weights keep their owner.
    """
    free = torch.nonzero(owner.flatten() == 0).squeeze(1)
    largest = torch.argsort(weight.flatten()[free].abs(), descending=True, stable=True)[:count]
    claimed = owner.flatten().clone()
    claimed[free[largest]] = number
    return claimed.view_as(owner)


def visible(weight: Tensor, owner: Tensor, number: int) -> Tensor:
    """The weight as task ``number`` uses it: its own and all earlier tasks' elements, 0 elsewhere."""
    return torch.where((owner > 0) & (owner <= number), weight, torch.zeros_like(weight))


def ledger(owners: Mapping[str, Tensor], number: int) -> dict[str, dict[str, int]]:
    """Capacity by tensor: size, kept (by task ``number``) and still free."""
    return {
        name: {"size": owner.numel(), "kept": int((owner == number).sum()), "free": int((owner == 0).sum())}
        for name, owner in owners.items()
    }
