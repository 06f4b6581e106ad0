"""What every lifelong method must do. A new one gets these tests by inheriting the contract:

class TestStacking(LifelongContract):
    name = "stacking"

A method that promises `exact` is held to every bit of its earlier scores, one that promises `star` to taking a task
out again; one that does not promise it is held to refusing.
"""

from __future__ import annotations

import dataclasses
import json
from functools import cache
from pathlib import Path

import pytest
import safetensors.torch
import torch

from imsr_core.encoders.tokens import left_pad
from imsr_core.errors import CheckpointError
from imsr_core.lifelong.config import PhaseConfig
from imsr_core.lifelong.errors import TaskError
from imsr_core.lifelong.linear import Linear
from imsr_core.lifelong.methods import get_method
from imsr_core.lifelong.protocol import LifelongMethod
from imsr_core.lifelong.removing import remove_task
from imsr_core.lifelong.state import LifelongState, from_tensors
from imsr_core.lifelong.tasks import BASE_TASK, task_examples
from imsr_core.parts import ENCODERS
from imsr_core.ragged import SpanSequences, restrict_users
from imsr_core.testing.planted_users import N_GENRES, N_ITEMS, planted_sequences, planted_task, small_config

TASKS = ("genre", "shop", "half")
QUICK = PhaseConfig(epochs=2, min_epochs=2, batch_size=64, learning_rate=0.01)
#: The tests of versions are on this encoder; on the others a method runs for one step.
ENCODER = "nextitnet"


@cache
def version(method: str, encoder: str, tasks: tuple[str, ...]) -> LifelongState:
    """The version after T1 and these tasks of the planted users: trained once, and no test may write to it."""
    if not tasks:
        return get_method(method).pretrain(planted_sequences(), small_config(encoder), seed=1)
    parent = version(method, encoder, tasks[:-1])
    task = planted_task(tasks[-1], planted_sequences())
    return get_method(method).add_task(parent, task, small_config(encoder), seed=1)


def versions_of(method: str, tasks: tuple[str, ...] = TASKS, encoder: str = ENCODER) -> list[LifelongState]:
    """All versions on the way to the one after these tasks, T1's first."""
    return [version(method, encoder, tasks[:count]) for count in range(len(tasks) + 1)]


def some_users() -> SpanSequences:
    """Others than those that are learnt, to compare predictions on."""
    return planted_sequences(40, seed=9)


class LifelongContract:
    """Inherit, and name the method."""

    name: str

    @pytest.fixture
    def method(self) -> LifelongMethod:
        """By its name, as settings choose it."""
        return get_method(self.name)

    @pytest.fixture
    def parent(self) -> LifelongState:
        """The version that knows T1 and one task."""
        return version(self.name, ENCODER, ("genre",))

    def test_its_versions_carry_its_name_and_no_other_method_reads_them(
        self, method: LifelongMethod, parent: LifelongState
    ) -> None:
        assert method.name == parent.method == self.name
        with pytest.raises(CheckpointError, match="another"):
            method.predict(dataclasses.replace(parent, method="another"), BASE_TASK, some_users())

    def test_a_parent_is_never_edited(self, method: LifelongMethod, parent: LifelongState) -> None:
        before, tasks = parent.fingerprints(), parent.tasks
        child = method.add_task(parent, planted_task("half", planted_sequences()), small_config(task=QUICK), 1)
        assert parent.fingerprints() == before
        assert parent.tasks == tasks
        assert child.task_names == (*parent.task_names, "half")
        assert not any(tensor.requires_grad for tensor in child.tensors.values())

    def test_an_exact_method_keeps_every_score_bit_for_bit(self, method: LifelongMethod) -> None:
        """The others still answer every task, from every version."""
        chain, users = versions_of(self.name, ("genre", "half")), some_users()
        for count, state in enumerate(chain):
            for task in state.task_names:
                first = method.predict(state, task, users)
                for later in (method.predict(version, task, users) for version in chain[count + 1 :]):
                    assert later.shape == first.shape
                    assert torch.isfinite(later).all()
                    assert torch.equal(later, first) or not method.exact

    def test_a_star_gives_a_task_back_and_the_others_stay_as_they_were(self, method: LifelongMethod) -> None:
        state, users = versions_of(self.name, ("genre", "half"))[-1], some_users()
        if not method.star:
            with pytest.raises(TaskError, match="cannot take"):
                remove_task(state, "genre")
            return
        without = remove_task(state, "genre")
        assert without.task_names == (BASE_TASK, "half")
        assert not [name for name in without.tensors if "genre" in name.replace(".", "/").split("/")]
        for task in without.task_names:
            assert torch.equal(method.predict(without, task, users), method.predict(state, task, users))

    def test_beside_a_wide_part_it_is_as_good_as_a_linear_model_and_what_is_old_stays(
        self, method: LifelongMethod, parent: LifelongState
    ) -> None:
        users, quick = some_users(), PhaseConfig(epochs=1, min_epochs=1, batch_size=64, learning_rate=0.01)
        config = small_config(task=quick, retrain=quick)
        config = dataclasses.replace(config, objective=dataclasses.replace(config.objective, wide=30))
        task = dataclasses.replace(planted_task("genre", planted_sequences()), name="wide.genre")
        child = method.add_task(parent, task, config, 1)
        view = method.view(child, task.name)
        assert isinstance(view.wide, Linear)
        judges = task_examples(task, view.length).part("validation", child.split)
        alone = view.wide.logits(judges.inputs).index_select(0, judges.rows)
        phases = child.task(task.name).phases
        reached = phases["retrain" if "retrain" in phases else "train"]["log_likelihood"]
        assert reached >= -float(torch.nn.functional.cross_entropy(alone, judges.labels)) - 1e-6
        grandchild = method.add_task(child, planted_task("half", planted_sequences()), config, 1)
        for older in (BASE_TASK, "genre"):
            same = torch.equal(method.predict(grandchild, older, users), method.predict(parent, older, users))
            assert same or not method.exact
        assert torch.equal(method.predict(grandchild, task.name, users), method.predict(child, task.name, users)) or (
            not method.exact
        )
        for name in (name for name in child.tensors if name.startswith("wide/")):
            assert grandchild.tensors[name] is child.tensors[name]

    def test_same_parent_data_and_seed_give_the_same_bits(self, method: LifelongMethod, parent: LifelongState) -> None:
        config, sequences = small_config(task=QUICK, retrain=QUICK, pretrain=QUICK), planted_sequences()
        first, again = (method.pretrain(sequences, config, 3).fingerprints() for _ in range(2))
        assert first == again
        task = planted_task("half", sequences)
        first, again, other = (method.add_task(parent, task, config, seed).fingerprints() for seed in (1, 1, 2))
        assert first == again
        assert first != other

    def test_a_version_survives_safetensors_and_json(
        self, method: LifelongMethod, parent: LifelongState, tmp_path: Path
    ) -> None:
        tensors, meta = parent.to_tensors()
        safetensors.torch.save_file(tensors, tmp_path / "model.safetensors")
        loaded = from_tensors(safetensors.torch.load_file(tmp_path / "model.safetensors"), json.loads(json.dumps(meta)))
        assert loaded.fingerprints() == parent.fingerprints()
        assert loaded.tasks == parent.tasks
        assert loaded.encoder == parent.encoder
        for task in parent.task_names:
            assert torch.equal(method.predict(loaded, task, some_users()), method.predict(parent, task, some_users()))

    def test_predictions_have_the_shape_of_the_task_and_do_not_depend_on_who_else_is_asked_for(
        self, method: LifelongMethod, parent: LifelongState
    ) -> None:
        users = some_users()
        assert method.predict(parent, BASE_TASK, users).shape == (len(users), N_ITEMS)
        scores = method.predict(parent, "genre", users)
        assert scores.shape == (len(users), N_GENRES)
        vectors = method.user_vectors(parent, "genre", users)
        view = method.view(parent, "genre")
        torch.testing.assert_close(view.scores(vectors, left_pad(users, view.length)), scores)
        few = restrict_users(users, users.users[3:10])
        torch.testing.assert_close(method.predict(parent, "genre", few), scores[3:10], rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("encoder", [name for name in ENCODERS if name != ENCODER])
    def test_it_runs_on_every_encoder(self, method: LifelongMethod, encoder: str) -> None:
        phase = PhaseConfig(epochs=1, min_epochs=1, batch_size=400)
        config = small_config(encoder, pretrain=phase, task=phase, retrain=phase)
        sequences, users = planted_sequences(), some_users()
        state = method.add_task(method.pretrain(sequences, config, 1), planted_task("half", sequences), config, 1)
        assert torch.isfinite(method.predict(state, "half", users)).all()
        assert torch.isfinite(method.predict(state, BASE_TASK, users)).all()
