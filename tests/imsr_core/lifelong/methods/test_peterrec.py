"""PeterRec's invariants: patches in a backbone that nothing moves."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from imsr_core.encoders.build import initial_weights
from imsr_core.encoders.config import EncoderConfig
from imsr_core.encoders.tokens import FIRST_ITEM, left_pad
from imsr_core.errors import CheckpointError, ConfigError
from imsr_core.lifelong.config import PeterRecConfig, PhaseConfig, SplitConfig
from imsr_core.lifelong.heads import initial_head
from imsr_core.lifelong.methods import get_method
from imsr_core.lifelong.methods.patches import initial_item_patch, initial_patches, item_patch_in, patched_sites
from imsr_core.lifelong.methods.peterrec import PeterRec, parameter_share
from imsr_core.lifelong.problems import task_problem
from imsr_core.lifelong.state import LifelongState, TaskRecord, named
from imsr_core.lifelong.tasks import BASE_TASK
from imsr_core.testing.planted_users import planted_task, small_config

PETERREC = PeterRec()
QUICK = PhaseConfig(epochs=3, min_epochs=3, batch_size=64, learning_rate=0.01)
every_variant = pytest.mark.parametrize(
    "patch",
    [
        PeterRecConfig(insertion="serial-2", reduction=4),
        PeterRecConfig(insertion="serial-1", reduction=4),
        PeterRecConfig(insertion="parallel", reduction=4),
        PeterRecConfig(train_norms=True),
        PeterRecConfig(token="trained"),
        PeterRecConfig(token="none"),
        PeterRecConfig(item_rank=0),
    ],
    ids=lambda p: f"{p.insertion}-{p.train_norms}-{p.token}-{p.item_rank}",
)
both_directions = pytest.mark.parametrize("encoder", ["nextitnet", "grec"])


@every_variant
@both_directions
def test_invariant_01_the_base_and_all_other_tasks_are_bitwise_unchanged(
    versions, sequences, probe, patch, encoder
) -> None:
    config = small_config(encoder, task=QUICK, peterrec=patch)
    base = versions("peterrec", (), encoder)[0]
    first = PETERREC.add_task(base, planted_task("genre", sequences), config, 1)
    second = PETERREC.add_task(first, planted_task("half", sequences), config, 1)
    for name, tensor in base.tensors.items():
        assert torch.equal(second.tensors[name], tensor)
    assert torch.equal(PETERREC.predict(second, BASE_TASK, probe), PETERREC.predict(base, BASE_TASK, probe))
    assert torch.equal(PETERREC.predict(second, "genre", probe), PETERREC.predict(first, "genre", probe))


@every_variant
@both_directions
def test_invariant_02_a_fresh_patch_is_the_pretrained_function(versions, sequences, probe, patch, encoder) -> None:
    base = versions("peterrec", (), encoder)[0]
    problem = task_problem(base, planted_task("genre", sequences), small_config(encoder, peterrec=patch), 1)
    start = PETERREC.fresh_task(base, problem)
    reading = "items" if patch.token == "none" else "token"
    facts = {"insertion": patch.insertion, "reading": reading}
    record = TaskRecord("genre", "classes", 4, base.n_items, 1, details=facts)
    patched = PETERREC.view(base.replaced(start, task=record), "genre")
    plain = dataclasses.replace(patched, adapter=dataclasses.replace(patched.adapter, patches={}, items=None))
    inputs = left_pad(probe, base.encoder.length)
    assert len(patched.adapter.patches) == (2 if patch.insertion == "serial-1" else 4)
    assert torch.equal(patched.logits(inputs), plain.logits(inputs))


@every_variant
def test_invariant_03_exactly_the_patches_and_the_head_are_trained(versions, sequences, patch) -> None:
    base = versions("peterrec", ())[0]
    config = small_config(task=QUICK, peterrec=patch)
    child = PETERREC.add_task(base, planted_task("genre", sequences), config, 1)
    added = set(child.tensors) - set(base.tensors)
    kinds = {name.split("/")[0] for name in added}
    expected = {"patch", "head"} | ({"norm"} if patch.train_norms else set())
    assert kinds == expected | ({"token"} if patch.token == "trained" else set())
    assert all(name.split("/")[1] == "genre" for name in added)
    assert ("patch/genre/items/up" in added) == (patch.item_rank > 0)


def test_invariant_03_parameter_count_of_the_paper() -> None:
    encoder = EncoderConfig(dim=256, length=100, dilations=(1, 4) * 4)
    weights = initial_weights(encoder, n_items=30, seed=0)
    patches = initial_patches(patched_sites("serial-2", 16), dim=256, reduction=8, seed=0)
    head = initial_head(10, 256, 0, bias=False)
    tensors = named("encoder", weights) | named("patch/T2", patches) | named("head/T2", head)
    state = LifelongState("peterrec", encoder, SplitConfig(), 30, (), tensors)
    share = parameter_share(state, "T2")
    assert share["patch"] == 266_752 == 16 * (2 * 256 * 256 // 8 + 256 // 8 + 256)
    assert share["head"] == 2_560
    assert share["share"] == 266_752 / share["backbone"]
    # the paper's 0.16 %: the same patches beside 168.5 million backbone parameters
    assert round(100 * share["patch"] / (645_974 * 256 + 3_145_728), 2) == 0.16
    assert sum(p.numel() for p in initial_patches(range(16), 64, 4, 0).values()) == 34_048


@both_directions
def test_invariant_04_the_order_of_tasks_does_not_matter(versions, encoder) -> None:
    forth = versions("peterrec", ("genre", "half"), encoder)[-1]
    back = versions("peterrec", ("half", "genre"), encoder)[-1]
    assert forth.fingerprints() == back.fingerprints()


def test_patches_are_refused_in_another_backbone(versions, sequences) -> None:
    state = versions("peterrec", ("genre",))[-1]
    name = "encoder/convolutions.0.weight"
    moved = state.replaced({name: state.tensors[name] + 1e-6})
    with pytest.raises(CheckpointError, match="genre"):
        PETERREC.add_task(moved, planted_task("half", sequences), small_config(), 1)


def test_unknown_insertion_is_refused() -> None:
    with pytest.raises(ConfigError, match="insertion"):
        PeterRecConfig(insertion="sideways")


@pytest.mark.parametrize("encoder", ["sasrec", "gru4rec"])
def test_patches_fit_other_encoders_too(sequences, probe, encoder) -> None:
    config = small_config(encoder, pretrain=QUICK, task=QUICK)
    base = PETERREC.pretrain(sequences, config, 1)
    child = PETERREC.add_task(base, planted_task("genre", sequences), config, 1)
    assert torch.equal(PETERREC.predict(child, BASE_TASK, probe), PETERREC.predict(base, BASE_TASK, probe))


def test_peterzero_patches_a_random_backbone(versions, sequences) -> None:
    state = get_method("peterzero").pretrain(sequences, small_config(), 1)
    assert state.tasks[0].phases == {}
    pretrained = versions("peterrec", ("genre",))[-1]
    zero = get_method("peterzero").add_task(state, planted_task("genre", sequences), small_config(), 1)
    reached = [s.task("genre").phases["train"]["metric"] for s in (zero, pretrained)]
    assert reached[0] < reached[1]


def test_an_item_patch_begins_as_no_op_and_can_go_anywhere() -> None:
    rows, up = item_patch_in(initial_item_patch(n_items=50, dim=64, rank=4, seed=0))
    assert rows.shape == (FIRST_ITEM + 50, 4)
    assert not rows.any()
    bound = (6 / (4 + 64)) ** 0.5
    assert float(up.abs().max()) <= bound
    assert float(up.mean()) == pytest.approx(0, abs=0.05)
    assert float(up.std()) == pytest.approx(bound / 3**0.5, rel=0.1)
    assert item_patch_in(initial_item_patch(50, 64, 0, 0)) is None
