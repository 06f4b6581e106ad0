"""What every lifelong method must do: a new one gets these tests by being in METHODS."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from planted_users import planted_sequences, planted_task, small_config

from imsr_core.errors import CheckpointError, ConfigError
from imsr_core.lifelong.config import ConureConfig, PhaseConfig
from imsr_core.lifelong.errors import TaskError
from imsr_core.lifelong.methods import METHODS, get_method
from imsr_core.lifelong.splits import parts_of
from imsr_core.lifelong.state import from_tensors
from imsr_core.lifelong.tasks import BASE_TASK, TaskData
from imsr_core.lifelong.transfer_matrix import forgetting, transfer_matrix

QUICK = PhaseConfig(epochs=2, min_epochs=2, batch_size=64, learning_rate=0.01)
every_method = pytest.mark.parametrize("name", list(METHODS))
exact_methods = pytest.mark.parametrize("name", [n for n, m in METHODS.items() if m.exact])


def quality(method, state, sequences, task: str) -> float:
    if task == BASE_TASK:
        return method.evaluate_base(state, sequences)["mrr@5"]
    values = method.evaluate(state, planted_task(task, sequences))
    return values.get("accuracy", values.get("mrr@5", float("nan")))


@every_method
def test_a_parent_is_never_edited(versions, sequences, name) -> None:
    parent = versions(name, ("genre",))[-1]
    before, tasks = parent.fingerprints(), parent.tasks
    child = get_method(name).add_task(parent, planted_task("half", sequences), small_config(task=QUICK), 1)
    assert parent.fingerprints() == before
    assert parent.tasks == tasks
    assert child.task_names == (*parent.task_names, "half")
    assert not any(tensor.requires_grad for tensor in child.tensors.values())


@exact_methods
def test_invariant_07_exact_methods_keep_every_score_bit_for_bit(versions, probe, name) -> None:
    chain, method = versions(name, ("genre", "half")), get_method(name)
    for count, state in enumerate(chain):
        for task in state.task_names:
            first = method.predict(state, task, probe)
            assert all(torch.equal(method.predict(later, task, probe), first) for later in chain[count + 1 :])


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
    config = small_config(conure=ConureConfig(pruning_rate=0.3), task=phase, retrain=phase)

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


@every_method
def test_invariant_19_same_parent_data_and_seed_give_the_same_bits(versions, sequences, name) -> None:
    method, config = get_method(name), small_config(task=QUICK, retrain=QUICK, pretrain=QUICK)
    assert method.pretrain(sequences, config, 3).fingerprints() == method.pretrain(sequences, config, 3).fingerprints()
    parent, task = versions(name, ("genre",))[-1], planted_task("half", sequences)
    first, again, other = (method.add_task(parent, task, config, seed).fingerprints() for seed in (1, 1, 2))
    assert first == again
    assert first != other


@every_method
def test_a_version_survives_safetensors_and_json(versions, probe, name, tmp_path: Path) -> None:
    state, method = versions(name, ("genre",))[-1], get_method(name)
    tensors, meta = state.to_tensors()
    safetensors.torch.save_file(tensors, tmp_path / "model.safetensors")
    loaded = from_tensors(safetensors.torch.load_file(tmp_path / "model.safetensors"), json.loads(json.dumps(meta)))
    assert loaded.fingerprints() == state.fingerprints()
    assert loaded.tasks == state.tasks
    assert loaded.encoder == state.encoder
    for task in state.task_names:
        assert torch.equal(method.predict(loaded, task, probe), method.predict(state, task, probe))


@every_method
def test_predictions_have_the_shape_of_the_task_and_do_not_depend_on_the_batch(versions, probe, name) -> None:
    state, method = versions(name, ("genre",))[-1], get_method(name)
    assert method.predict(state, BASE_TASK, probe).shape == (len(probe), 48)
    scores = method.predict(state, "genre", probe)
    assert scores.shape == (len(probe), 4)
    half = planted_sequences(40, seed=9)
    vectors = method.user_vectors(state, "genre", half)
    torch.testing.assert_close(state.head("genre").logits(vectors), scores)


@every_method
@pytest.mark.parametrize("encoder", ["grec", "sasrec", "gru4rec", "dssm"])
def test_every_method_runs_on_every_encoder(sequences, probe, name, encoder) -> None:
    phase = PhaseConfig(epochs=1, min_epochs=1, batch_size=400)
    config, method = small_config(encoder, pretrain=phase, task=phase, retrain=phase), get_method(name)
    state = method.add_task(method.pretrain(sequences, config, 1), planted_task("half", sequences), config, 1)
    assert torch.isfinite(method.predict(state, "half", probe)).all()
    assert torch.isfinite(method.predict(state, BASE_TASK, probe)).all()


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


def test_a_version_of_one_method_is_refused_by_another(versions, probe) -> None:
    with pytest.raises(CheckpointError, match="conure"):
        get_method("peterrec").predict(versions("conure", ())[0], BASE_TASK, probe)


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
