"""What test users did decides nothing: with other items and labels of theirs, weights and best epochs are the same.

And what validation users did selects, but does not train: with other items and labels of theirs, every epoch's weights
are the same, whichever is kept.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from imsr_core.lifelong.config import LifelongConfig, PhaseConfig
from imsr_core.lifelong.methods import METHODS, get_method
from imsr_core.lifelong.problems import base_problem, task_problem
from imsr_core.lifelong.splits import PARTS, parts_of
from imsr_core.lifelong.state import LifelongState
from imsr_core.lifelong.tasks import TaskData
from imsr_core.ragged import SpanSequences
from imsr_core.testing.planted_users import planted_sequences, planted_task, small_config

QUICK = PhaseConfig(6, min_epochs=1, patience=1, patience_steps=1, batch_size=64, learning_rate=0.03)


def config() -> LifelongConfig:
    return dataclasses.replace(small_config(), pretrain=QUICK, task=QUICK, retrain=QUICK)


def scrambled(sequences: SpanSequences, part: str) -> SpanSequences:
    """The items of the users of one part exchanged among them at random; lengths stay."""
    owners = np.repeat(np.arange(len(sequences)), sequences.counts)
    theirs = parts_of(sequences.users, config().split)[owners] == PARTS.index(part)
    items = sequences.items.copy()
    items[theirs] = np.random.default_rng(3).permutation(items[theirs])
    assert not np.array_equal(items, sequences.items)
    return dataclasses.replace(sequences, items=items)


def relabelled(task: TaskData, sequences: SpanSequences, part: str) -> TaskData:
    theirs = parts_of(task.users, config().split) == PARTS.index(part)
    labels = task.labels.copy()
    labels[theirs] = (labels[theirs] + 1) % task.n_labels
    return dataclasses.replace(task, sequences=sequences, labels=labels)


def learnt(method: str, sequences: SpanSequences, tasks: list[TaskData]) -> LifelongState:
    state = get_method(method).pretrain(sequences, config(), seed=1, n_items=48)
    for task in tasks:
        state = get_method(method).add_task(state, task, config(), seed=1)
    return state


@pytest.mark.parametrize("method", METHODS)
def test_test_users_decide_nothing(method) -> None:
    sequences = planted_sequences()
    other = scrambled(sequences, "test")
    tasks = [planted_task(name, sequences) for name in ("genre", "shop")]
    moved = [relabelled(task, other, "test") for task in tasks]
    first, second = learnt(method, sequences, tasks), learnt(method, other, moved)
    assert first.fingerprints() == second.fingerprints()
    assert [task.phases for task in first.tasks] == [task.phases for task in second.tasks]


def test_validation_users_do_select() -> None:
    """The same change of validation users does move what is selected, so the test above can fail."""
    sequences = planted_sequences()
    other = scrambled(sequences, "validation")
    task = planted_task("genre", sequences)
    first = learnt("sinmo", sequences, [task])
    second = learnt("sinmo", other, [relabelled(task, other, "validation")])
    assert [t.phases for t in first.tasks] != [t.phases for t in second.tasks]


def test_only_training_users_train() -> None:
    sequences = planted_sequences()
    task = planted_task("genre", sequences)
    problem = base_problem(sequences, config(), 1, 48)
    parts = parts_of(sequences.users, config().split)
    trained = sequences.counts[parts == 0]
    assert int((problem.rows != 0).sum()) - len(problem.rows) == int((trained - 1).sum())  # each step once
    assert set(parts_of(problem.validation.users, config().split)) == {1}
    for changed in ("validation", "test"):
        again = base_problem(scrambled(sequences, changed), config(), 1, 48)
        assert torch.equal(again.rows, problem.rows)
    later = task_problem(get_method("sinmo").pretrain(sequences, config(), 1, 48), task, config(), 1)
    assert set(parts_of(later.train.users, config().split)) == {0}
    assert set(parts_of(later.validation.users, config().split)) == {1}
