"""New items across spans: rows are appended and nothing learnt before changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from imsr_core.encoders.tokens import FIRST_ITEM
from imsr_core.lifelong.config import ConureConfig, PhaseConfig, TeraconConfig
from imsr_core.lifelong.errors import TaskError
from imsr_core.lifelong.growing import TABLE, grow_items
from imsr_core.lifelong.methods import METHODS, get_method
from imsr_core.lifelong.methods.distillation import Retention
from imsr_core.lifelong.state import LifelongState
from imsr_core.lifelong.tasks import BASE_TASK, TaskData
from imsr_core.testing.planted_users import planted_sequences, planted_task, sequences_of, small_config

QUICK = PhaseConfig(epochs=2, min_epochs=2, batch_size=64, learning_rate=0.01)
N_OLD, N_NEW = 48, 60
exact_methods = pytest.mark.parametrize("name", [n for n, m in METHODS.items() if m.exact and n != "dnn"])


def with_new_items() -> TaskData:
    """A task whose users end with items 48 .. 59, which tell its label."""
    old = planted_sequences()
    rng = np.random.default_rng(4)
    lists = [
        [*old.items[a:b].tolist(), int(rng.integers(N_OLD, N_NEW))]
        for a, b in zip(old.offsets[:-1], old.offsets[1:], strict=True)
    ]
    grown = sequences_of(lists)
    labels = (grown.items[grown.offsets[1:] - 1] - N_OLD) // 6
    return TaskData("new", grown, grown.users, labels, 2)


def grown_by_task(name: str, config, versions) -> tuple[LifelongState, LifelongState, LifelongState]:
    before = versions(name, ("genre",))[-1]
    larger = grow_items(before, N_NEW, seed=1)
    return before, larger, get_method(name).add_task(larger, with_new_items(), config, 1)


@exact_methods
def test_growing_changes_no_old_row_and_no_prediction(versions, probe, name) -> None:
    before = versions(name, ("genre",))[-1]
    larger, method = grow_items(before, N_NEW, seed=1), get_method(name)
    assert larger.n_items == N_NEW
    assert len(larger.tensors[TABLE]) == FIRST_ITEM + N_NEW
    assert torch.equal(larger.tensors[TABLE][: FIRST_ITEM + N_OLD], before.tensors[TABLE])
    assert before.n_items == N_OLD
    for task in before.task_names:
        assert torch.equal(method.predict(larger, task, probe), method.predict(before, task, probe))


@exact_methods
def test_older_tasks_stay_bitwise_equal_when_a_later_task_trains_the_new_rows(versions, probe, name) -> None:
    method = get_method(name)
    before, larger, after = grown_by_task(name, small_config(task=QUICK, retrain=QUICK), versions)
    new = with_new_items().sequences
    for task in before.task_names:
        assert torch.equal(method.predict(after, task, probe), method.predict(before, task, probe))
        # on sequences with new items too: an older task reads them as UNKNOWN, whatever their rows became
        assert torch.equal(method.predict(after, task, new), method.predict(larger, task, new))


@pytest.mark.parametrize("name", ["conure", "peterrec", "finesmax"])
def test_the_task_that_brings_items_trains_their_rows_and_then_they_freeze(versions, name) -> None:
    config, method = small_config(), get_method(name)
    _, larger, after = grown_by_task(name, config, versions)
    rows = slice(FIRST_ITEM + N_OLD, None)
    assert not torch.equal(after.tensors[TABLE][rows], larger.tensors[TABLE][rows])
    assert torch.equal(after.tensors[TABLE][: FIRST_ITEM + N_OLD], larger.tensors[TABLE][: FIRST_ITEM + N_OLD])
    assert method.evaluate(after, with_new_items())["accuracy"] > 0.8  # only the new items tell the label
    later = method.add_task(after, planted_task("half", planted_sequences()), small_config(task=QUICK), 1)
    assert torch.equal(later.tensors[TABLE], after.tensors[TABLE])


def test_a_grown_table_of_conure_with_pruned_items_gets_free_weights(sequences, probe) -> None:
    config = small_config(pretrain=QUICK, task=QUICK, retrain=QUICK, conure=ConureConfig(prune_items=True))
    method = get_method("conure")
    first = method.pretrain(sequences, config, 1)
    larger = grow_items(first, N_NEW, 1)
    after = method.add_task(larger, with_new_items(), config, 1)
    assert torch.equal(method.predict(after, BASE_TASK, probe), method.predict(first, BASE_TASK, probe))
    owners = after.tensors["owner/items.weight"][FIRST_ITEM + N_OLD :]
    assert set(owners.unique().tolist()) <= {0, 2}


def test_teracon_leaves_users_with_newer_items_out_of_the_distillation(versions, monkeypatch) -> None:
    before, seen = versions("teracon", ("genre",))[-1], []
    error = Retention._error

    def watched(self, view, task, inputs, s, everywhere):
        assert not everywhere
        seen.append((inputs < FIRST_ITEM + N_OLD).all(dim=1))
        return error(self, view, task, inputs, s, everywhere)

    monkeypatch.setattr(Retention, "_error", watched)
    task = with_new_items()
    half_old = TaskData(
        "new",
        sequences_of([s.tolist()[: -1 if i % 2 else None] for i, s in enumerate(_lists(task))]),
        task.users,
        task.labels,
        2,
    )
    config = small_config(task=QUICK, teracon=TeraconConfig(min_sampled=1, held_places=0))
    method = get_method("teracon")
    method.add_task(grow_items(before, N_NEW, 1), half_old, config, 1)
    assert all(bool(old.all()) and len(old) for old in seen)
    seen.clear()
    after = method.add_task(grow_items(before, N_NEW, 1), task, config, 1)  # nobody without a new item
    assert all(len(old) for old in seen)
    assert all(torch.isfinite(t).all() for t in after.tensors.values())


def _lists(task: TaskData) -> list[np.ndarray]:
    return np.split(task.sequences.items, task.sequences.offsets[1:-1])


def test_items_that_no_version_knows_are_read_as_unknown(versions) -> None:
    state, method = versions("conure", ("genre",))[-1], get_method("conure")
    strange = method.predict(state, "genre", sequences_of([[0, 1, 500], [0, 1, 77]]))
    assert torch.equal(strange[0], strange[1])
    assert not torch.equal(strange[0], method.predict(state, "genre", sequences_of([[0, 1, 2]]))[0])


def test_items_are_never_removed(versions) -> None:
    state = versions("conure", ("genre",))[-1]
    assert grow_items(state, N_OLD, 1) is state
    with pytest.raises(TaskError, match="48 items"):
        grow_items(state, 10, 1)
