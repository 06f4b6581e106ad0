"""The contract of lifelong methods, for each one that there is; and what sets them apart."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from imsr_core.errors import ConfigError
from imsr_core.lifelong.config import ConureConfig
from imsr_core.lifelong.errors import TaskError
from imsr_core.lifelong.methods import METHODS, get_method
from imsr_core.lifelong.splits import parts_of
from imsr_core.lifelong.tasks import BASE_TASK, TaskData
from imsr_core.lifelong.transfer_matrix import forgetting, transfer_matrix
from imsr_core.testing.lifelong_contract import QUICK, LifelongContract
from imsr_core.testing.planted_users import planted_task, small_config


class TestConure(LifelongContract):
    name = "conure"


class TestPeterRec(LifelongContract):
    name = "peterrec"


class TestTeracon(LifelongContract):
    name = "teracon"


class TestSinMo(LifelongContract):
    name = "sinmo"


class TestDnn(LifelongContract):
    name = "dnn"


class TestSinMoAll(LifelongContract):
    name = "sinmoall"


class TestFineSmax(LifelongContract):
    name = "finesmax"


class TestFineLast(LifelongContract):
    name = "finelast"


class TestFineAll(LifelongContract):
    name = "fineall"


class TestPeterZero(LifelongContract):
    name = "peterzero"


class TestMtl(LifelongContract):
    name = "mtl"


def test_no_method_goes_without_the_contract():
    assert {case.name for case in LifelongContract.__subclasses__()} == set(METHODS)


def quality(method, state, sequences, task: str) -> float:
    if task == BASE_TASK:
        return method.evaluate_base(state, sequences)["mrr@5"]
    values = method.evaluate(state, planted_task(task, sequences))
    return values.get("accuracy", values.get("mrr@5", float("nan")))


def test_invariant_11_the_unprotected_control_forgets(versions, sequences) -> None:
    chain, method = versions("sinmoall"), get_method("sinmoall")
    rows = [{t: quality(method, s, sequences, t) for t in s.task_names} for s in chain]
    lost = forgetting(transfer_matrix(rows, chain[-1].task_names))
    assert lost[0] > 0.5  # T1
    assert lost[1] > 0.2  # genre
    conure = get_method("conure")
    rows = [{t: quality(conure, s, sequences, t) for t in s.task_names} for s in versions("conure")]
    assert forgetting(transfer_matrix(rows, chain[-1].task_names)).tolist() == [0.0] * len(chain)


@pytest.mark.parametrize("name", ["conure", "peterrec", "teracon"])
def test_invariant_17_a_junk_task_does_not_spoil_the_others(versions, sequences, probe, name) -> None:
    method = get_method(name)
    clean, junk = versions(name, ("genre",))[-1], versions(name, ("genre", "junk"))[-1]
    for task in clean.task_names:
        if method.exact:
            assert torch.equal(method.predict(junk, task, probe), method.predict(clean, task, probe))
        else:
            assert quality(method, junk, sequences, task) > 0.75 * quality(method, clean, sequences, task)
    after_junk = quality(method, versions(name, ("genre", "junk", "shop"))[-1], sequences, "shop")
    assert after_junk > 0.5 * quality(method, versions(name, ("genre", "shop"))[-1], sequences, "shop")


def test_invariant_18_conures_last_task_is_worse_when_capacity_is_short(sequences) -> None:
    """PeterRec's equality is test_invariant_04."""
    conure = get_method("conure")
    phase = dataclasses.replace(small_config().task, epochs=30, patience=10)
    conure_only = ConureConfig(pruning_rate=0.3, item_rank=0)  # a patch of the items is capacity that no task shares
    config = small_config(conure=conure_only, task=phase, retrain=phase)

    def run(*tasks: str) -> float:
        state = conure.pretrain(sequences, config, 1)
        for task in tasks:
            state = conure.add_task(state, planted_task(task, sequences), config, 1)
        return quality(conure, state, sequences, "half")

    assert run("half") > run("genre", "shop", "half") + 0.1


def test_invariant_18_teracon_is_close_in_either_order(versions, sequences) -> None:
    method = get_method("teracon")
    forth, back = versions("teracon", ("genre", "shop"))[-1], versions("teracon", ("shop", "genre"))[-1]
    for task in forth.task_names:
        assert quality(method, forth, sequences, task) == pytest.approx(quality(method, back, sequences, task), abs=0.2)


def test_pretraining_learns_on_every_encoder(versions, sequences) -> None:
    for encoder in ("nextitnet", "grec", "sasrec", "gru4rec"):
        state = versions("peterrec", (), encoder)[0]
        assert get_method("peterrec").evaluate_base(state, sequences)["mrr@5"] > 0.4, encoder


@pytest.mark.parametrize("name", ["finesmax", "finelast", "fineall", "sinmo", "mtl"])
def test_fine_tuning_keeps_only_what_it_trained(versions, name) -> None:
    state = versions(name, ("genre",))[-1]
    tuned = set(state.group("tuned/genre"))
    backbone = set(state.group("encoder"))
    last = {f"{part}.{s}.{kind}" for part in ("convolutions", "norms") for s in (2, 3) for kind in ("weight", "bias")}
    assert tuned == {"finesmax": set(), "finelast": last}.get(name, backbone)
    assert not any(tensor.startswith("auxiliary") for tensor in state.tensors)


def test_dnn_is_the_shallow_encoder(versions) -> None:
    assert versions("dnn", ())[0].encoder.name == "dssm"


def test_names_are_checked_and_the_nearest_is_suggested(versions, probe, sequences) -> None:
    with pytest.raises(ConfigError, match="'conure'"):
        get_method("conur")
    assert get_method("finecls").name == "finesmax"
    with pytest.raises(TaskError, match="no task 'age'"):
        get_method("conure").predict(versions("conure", ())[0], "age", probe)
    parent = versions("peterrec", ("genre",))[-1]
    with pytest.raises(TaskError, match="already"):
        get_method("peterrec").add_task(parent, planted_task("genre", sequences), small_config(), 1)


def test_a_task_without_a_training_user_is_refused(versions, sequences) -> None:
    parent = versions("peterrec", ())[0]
    examples = planted_task("genre", sequences)
    test_users = parts_of(examples.users, parent.split) == 2
    few = TaskData("few", sequences, examples.users[test_users], examples.labels[test_users], 4)
    with pytest.raises(TaskError, match="training part"):
        get_method("peterrec").add_task(parent, few, small_config(), 1)
    only_train = parts_of(examples.users, parent.split) == 0
    state = get_method("peterrec").add_task(
        parent,
        TaskData("t", sequences, examples.users[only_train], examples.labels[only_train], 4),
        small_config(task=QUICK),
        1,
    )
    assert state.task("t").details["validated_on"] == "train"
    assert get_method("peterrec").evaluate(state, TaskData("t", sequences, *_nobody(), 4)) == {}


def _nobody() -> tuple[np.ndarray, np.ndarray]:
    none = np.zeros(0, dtype=np.int64)
    return none, none
