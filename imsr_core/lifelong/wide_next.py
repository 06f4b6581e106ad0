"""T1's wide part in a version: fitted once T1 is learnt, kept as ``wide/T1/...``, the same for ever."""

from __future__ import annotations

import dataclasses

import numpy as np
from torch import Tensor

from imsr_core.lifelong.counts import NextItemCounts, fit_counts, most_examples
from imsr_core.lifelong.followers import Followers, followers_of
from imsr_core.lifelong.problems import VALIDATION_STEPS, BaseProblem
from imsr_core.lifelong.splits import parts_of
from imsr_core.lifelong.state import LifelongState
from imsr_core.lifelong.tasks import BASE_TASK, next_item_examples
from imsr_core.lifelong.training import PhaseProgress, Step
from imsr_core.lifelong.view import View
from imsr_core.ragged import SpanSequences, take_rows

COUNTS = "counts"
"""The detail of T1 that says how many items of a user its wide part reads."""
PHASE = "counts"


def with_counts(state: LifelongState, deep: View, sequences: SpanSequences, problem: BaseProblem) -> LifelongState:
    """The version with T1's wide part, where it is asked for and the validation users gain by it.

    Args:
        deep: how the version serves T1 without it.
        sequences: whole histories; those of the training users make the table of followers, those of the validation
            users the weights. Without validation users there is no wide part.
    """
    goal = problem.config.objective
    if not goal.wide_next or not goal.wide or problem.validated_on != "validation":
        return state
    parts = parts_of(sequences.users, problem.config.split)
    judges = take_rows(sequences, np.flatnonzero(parts == 1))
    width = max(deep.encoded, min(goal.wide, int(judges.counts.max(initial=0))))
    most = most_examples(width, problem.n_items)
    judges = take_rows(judges, np.unique(np.linspace(0, len(judges) - 1, min(most, len(judges))).astype(np.int64)))
    steps = max(1, min(VALIDATION_STEPS, most // max(1, len(judges))))
    problem.progress(PhaseProgress(problem.name, PHASE, Step(0, 0, 1), 0.0, 0, 1, 1))
    device = problem.config.device
    examples = next_item_examples(judges, width, steps).to(device)
    train = take_rows(sequences, np.flatnonzero(parts == 0))
    table = Followers(*(part.to(device) for part in followers_of(train, problem.n_items)))
    deep.encoder.eval()
    found = fit_counts(deep.logits, table, examples, goal.wide)
    if found is None:
        return state
    record = state.task(BASE_TASK)
    record = dataclasses.replace(record, details=record.details | {COUNTS: found.length})
    tensors = {"followers": found.followers.items, "lift": found.followers.lift, "weights": found.weights}
    state = state.replaced({f"wide/{BASE_TASK}/{name}": tensor for name, tensor in tensors.items()})
    return dataclasses.replace(state, tasks=(record, *state.tasks[1:]))


def counts_in(state: LifelongState) -> NextItemCounts | None:
    """T1's wide part, where the version has one."""
    length = int(state.task(BASE_TASK).details.get(COUNTS, 0))
    own: dict[str, Tensor] = state.group(f"wide/{BASE_TASK}") if length else {}
    return NextItemCounts(Followers(own["followers"], own["lift"]), own["weights"], length) if own else None
