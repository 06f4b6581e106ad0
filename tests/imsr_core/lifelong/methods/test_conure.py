"""Conure's invariants (numbered as in the method's specification) on NextItNet and on the Transformer."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from imsr_core.encoders.protocol import ITEM_TABLE
from imsr_core.lifelong.config import ConureConfig, PhaseConfig
from imsr_core.lifelong.errors import CapacityError
from imsr_core.lifelong.methods import conure, get_method
from imsr_core.lifelong.methods.conure import capacity
from imsr_core.lifelong.methods.ownership import requested
from imsr_core.lifelong.state import LifelongState
from imsr_core.lifelong.tasks import BASE_TASK
from imsr_core.testing.planted_users import planted_task, small_config

CONURE = get_method("conure")
both_encoders = pytest.mark.parametrize("encoder", ["nextitnet", "sasrec"])
QUICK = PhaseConfig(epochs=3, min_epochs=3, batch_size=64, learning_rate=0.01)


def owned_bytes(state: LifelongState, number: int) -> list[torch.Tensor]:
    """All weights of tasks 1 .. number, and everything that is frozen after T1, as one list."""
    parts = []
    for name, owner in state.group("owner").items():
        parts.append(state.tensors[f"encoder/{name}"][(owner > 0) & (owner <= number)])
    parts += [t for n, t in state.group("encoder").items() if n not in state.group("owner")]
    return parts + [t for task in state.task_names[:number] for t in state.group(f"head/{task}").values()]


def all_equal(left: list[torch.Tensor], right: list[torch.Tensor]) -> bool:
    return len(left) == len(right) and all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


@both_encoders
def test_invariant_05_owners_are_disjoint_and_counts_as_requested(versions, encoder) -> None:
    chain = versions("conure", encoder=encoder)
    rates: list[float] = []
    for number, state in enumerate(chain, start=1):
        rates.append(0.7)
        for name, owner in state.group("owner").items():
            assert int((owner == number).sum()) == requested(owner.numel(), rates)
            assert int(owner.max()) == number
            if number > 1:
                before = chain[number - 2].tensors[f"owner/{name}"]
                assert torch.equal(owner[before > 0], before[before > 0])
                assert int((owner == 0).sum()) < int((before == 0).sum())


def test_invariant_05_add_task_without_capacity_fails_and_leaves_the_parent(versions, sequences, probe) -> None:
    config = dataclasses.replace(small_config(pretrain=QUICK, retrain=QUICK), conure=ConureConfig(pruning_rate=0.0))
    full = CONURE.pretrain(sequences, config, seed=1)
    before, scores = full.fingerprints(), CONURE.predict(full, BASE_TASK, probe)
    with pytest.raises(CapacityError, match="0 free weights"):
        CONURE.add_task(full, planted_task("genre", sequences), config, seed=1)
    assert full.fingerprints() == before
    assert torch.equal(CONURE.predict(full, BASE_TASK, probe), scores)


@both_encoders
def test_invariant_06_earlier_weights_are_bitwise_unchanged(versions, encoder) -> None:
    chain = versions("conure", encoder=encoder)
    for number, state in enumerate(chain, start=1):
        for later in chain[number:]:
            expected = owned_bytes(state, number)
            masked = dataclasses.replace(later, tasks=later.tasks[:number])
            owners = {
                f"owner/{n}": torch.where(o <= number, o, torch.zeros_like(o)) for n, o in later.group("owner").items()
            }
            assert all_equal(owned_bytes(masked.replaced(owners), number), expected)


@both_encoders
def test_invariant_07_predictions_are_bitwise_identical_in_all_later_versions(versions, probe, encoder) -> None:
    chain = versions("conure", encoder=encoder)
    for number, state in enumerate(chain):
        name = state.task_names[number]
        first = CONURE.predict(state, name, probe)
        for later in chain[number + 1 :]:
            assert torch.equal(CONURE.predict(later, name, probe), first)


@both_encoders
@pytest.mark.parametrize("garbage", [1e6, float("nan")])
def test_invariant_08_poison_in_later_and_free_weights_changes_nothing(versions, probe, encoder, garbage) -> None:
    state = versions("conure", encoder=encoder)[-1]
    for number, name in enumerate(state.task_names, start=1):
        poisoned = {}
        for weight, owner in state.group("owner").items():
            tensor = state.tensors[f"encoder/{weight}"]
            foreign = (owner == 0) | (owner > number)
            poisoned[f"encoder/{weight}"] = torch.where(foreign, torch.full_like(tensor, garbage), tensor)
        for later in state.task_names[number:]:
            poisoned[f"head/{later}/weight"] = torch.full_like(state.head(later).weight, garbage)
        hurt = state.replaced(poisoned)
        assert torch.equal(CONURE.predict(hurt, name, probe), CONURE.predict(state, name, probe))


def test_invariant_08_poison_in_own_weights_does_change_the_task(versions, probe) -> None:
    state = versions("conure")[-1]
    name = next(iter(state.group("owner")))
    owner, tensor = state.tensors[f"owner/{name}"], state.tensors[f"encoder/{name}"]
    hurt = state.replaced({f"encoder/{name}": torch.where(owner == 2, tensor + 10.0, tensor)})
    assert torch.equal(CONURE.predict(hurt, BASE_TASK, probe), CONURE.predict(state, BASE_TASK, probe))
    for task in state.task_names[1:]:  # the second task's weights serve it and all later ones
        assert not torch.equal(CONURE.predict(hurt, task, probe), CONURE.predict(state, task, probe))


@pytest.mark.parametrize(
    "phase",
    [
        dataclasses.replace(QUICK, optimizer="adamw", weight_decay=0.1),
        dataclasses.replace(QUICK, optimizer="sgd", momentum=0.9, weight_decay=0.01),
    ],
    ids=["adamw", "momentum"],
)
def test_invariant_09_optimisers_that_move_without_gradient_do_not_move_frozen_weights(
    versions, sequences, phase
) -> None:
    parent = versions("conure")[0]
    child = CONURE.add_task(parent, planted_task("genre", sequences), small_config(task=phase, retrain=phase), 1)
    frozen = {n: o > 0 for n, o in parent.group("owner").items()}
    assert all(
        torch.equal(child.tensors[f"encoder/{n}"][m], parent.tensors[f"encoder/{n}"][m]) for n, m in frozen.items()
    )
    assert not any(
        torch.equal(child.tensors[f"encoder/{n}"][~m], parent.tensors[f"encoder/{n}"][~m]) for n, m in frozen.items()
    )


def test_invariant_09_negative_control_without_masking_the_task_forgets(
    versions, sequences, probe, monkeypatch
) -> None:
    monkeypatch.setattr(
        conure,
        "movable_weights",
        lambda owners, number: {f"encoder/{n}": torch.ones_like(o, dtype=torch.bool) for n, o in owners.items()},
    )
    parent = versions("conure")[0]
    child = CONURE.add_task(parent, planted_task("genre", sequences), small_config(task=QUICK, retrain=QUICK), 1)
    assert not all_equal(owned_bytes(parent, 1)[:1], owned_bytes(child, 1)[:1])
    assert not torch.equal(CONURE.predict(child, BASE_TASK, probe), CONURE.predict(parent, BASE_TASK, probe))


def test_invariant_10_pruned_weights_keep_their_phase_a_values(versions, sequences, monkeypatch) -> None:
    parent = versions("conure")[0]  # before anything is recorded: it may be learnt only now
    phases = []
    fit = conure.fit

    def recorded(*args, **kwargs):
        phases.append(fit(*args, **kwargs))
        return phases[-1]

    monkeypatch.setattr(conure, "fit", recorded)
    child = CONURE.add_task(parent, planted_task("genre", sequences), small_config(), 1)
    dense = phases[0].parameters
    for name, owner in child.group("owner").items():
        values, before = child.tensors[f"encoder/{name}"], dense[f"encoder/{name}"]
        assert torch.equal(values[owner == 0], before[owner == 0])
        assert not torch.equal(values[owner == 2], before[owner == 2])
        kept, pruned = before[owner == 2].abs().min(), before[owner == 0].abs().max()
        assert kept >= pruned


@both_encoders
def test_invariant_10_retraining_recovers_what_pruning_cost(versions, encoder) -> None:
    for row in capacity(versions("conure", encoder=encoder)[-1]):
        assert row["after_retraining"] >= row["before_pruning"] - 0.15


def test_ledger_reports_shares_and_both_scores(versions) -> None:
    rows = capacity(versions("conure")[-1])
    assert [row["task"] for row in rows] == [BASE_TASK, "genre", "shop", "half"]
    assert [round(row["kept"], 2) for row in rows] == [0.3, 0.21, 0.15, 0.1]
    assert [round(row["free"], 2) for row in rows] == [0.7, 0.49, 0.34, 0.24]
    assert all(0 <= row["before_pruning"] <= 1 for row in rows)


def test_items_pruned_as_in_table_5_keep_every_invariant(sequences, probe) -> None:
    config = small_config(conure=ConureConfig(prune_items=True), pretrain=QUICK, task=QUICK, retrain=QUICK)
    first = CONURE.pretrain(sequences, config, seed=1)
    assert f"owner/{ITEM_TABLE}" in first.tensors
    second = CONURE.add_task(first, planted_task("genre", sequences), config, seed=1)
    table, owner = f"encoder/{ITEM_TABLE}", first.tensors[f"owner/{ITEM_TABLE}"]
    assert torch.equal(second.tensors[table][owner > 0], first.tensors[table][owner > 0])
    assert not torch.equal(second.tensors[table], first.tensors[table])
    assert torch.equal(CONURE.predict(second, BASE_TASK, probe), CONURE.predict(first, BASE_TASK, probe))


@pytest.mark.parametrize("token", ["fixed", "trained"])
def test_a_task_token_is_the_tasks_own(versions, sequences, probe, token) -> None:
    config = small_config(conure=ConureConfig(token=token), task=QUICK, retrain=QUICK)
    parent = versions("conure")[0]
    child = CONURE.add_task(parent, planted_task("genre", sequences), config, seed=1)
    assert ("token/genre" in child.tensors) == (token == "trained")
    assert torch.equal(child.tensors[f"encoder/{ITEM_TABLE}"], parent.tensors[f"encoder/{ITEM_TABLE}"])
    assert torch.equal(CONURE.predict(child, BASE_TASK, probe), CONURE.predict(parent, BASE_TASK, probe))
