"""Versions of the `users` line: what a folder holds, what identifies it, and how damage shows."""

from dataclasses import replace

import pytest
import torch
from small_world import DAYS
from task_world import users_current, users_rows

from imsr_core.errors import CheckpointError
from imsr_core.lifelong.config import ConureConfig, LifelongConfig, TeraconConfig
from imsr_core.lifelong.errors import TaskError
from pipelines.tasks.version import LearntTask, UserVersion, current_version, fingerprint_of, read_state
from pipelines.versions.lineage import VersionError
from pipelines.workspace.seal import verify_folder
from pipelines.workspace.states import VersionState

TASK = LearntTask("age", "class", "2024-03-06", "f" * 64, "u-1.age", 30, "labels/age/1.parquet", "a" * 64, ("x", "y"))
CONFIG = LifelongConfig()


def print_of(**changes):
    facts = {"parent": "p", "task": TASK, "method": "conure", "config": CONFIG, "seed": 0} | changes
    return fingerprint_of(**facts)


def test_a_version_is_named_by_everything_that_determines_it_and_nothing_else():
    assert print_of() == print_of(task=replace(TASK, version_id="u-2.age", labels="elsewhere.parquet"))
    assert print_of() == print_of(config=replace(CONFIG, device="cuda"))
    others = [
        print_of(parent=None),
        print_of(method="peterrec"),
        print_of(seed=1),
        print_of(how="remove"),
        print_of(task=replace(TASK, fingerprint="b" * 64)),
        print_of(task=replace(TASK, sequences="e" * 64)),
        print_of(task=replace(TASK, vocabulary=("y", "x"))),
        print_of(config=replace(CONFIG, conure=ConureConfig(pruning_rate=0.6))),
    ]
    assert len({print_of(), *others}) == 1 + len(others)


def test_what_only_t1_has_names_no_other_task():
    """A task of a line that is older than the setting is found where it was learnt."""
    other = replace(CONFIG, objective=replace(CONFIG.objective, wide_next=False))
    assert print_of(config=other) == print_of()
    base = replace(TASK, name="T1")
    assert print_of(config=other, task=base) != print_of(task=base)


def test_how_teracon_holds_the_past_names_its_own_later_tasks_only():
    other = replace(CONFIG, teracon=TeraconConfig(held_places=0))
    assert print_of(config=other) == print_of()
    base = {"task": replace(TASK, name="T1"), "method": "teracon"}
    assert print_of(config=other, **base) == print_of(**base)
    assert print_of(config=other, method="teracon") != print_of(method="teracon")


def test_what_is_written_is_read_again(taught):
    workspace = taught("conure")
    version = current_version(workspace)
    assert version.row.version_id == users_current(workspace)
    verify_folder(version.folder)
    assert [task.name for task in version.tasks] == ["T1", "club", "shop"] == list(version.state.task_names)
    assert version.task("club").vocabulary == tuple(f"club {n}" for n in range(5))
    assert [link.span_id for link in version.task("shop").chain(workspace)] == DAYS
    again = read_state(version.folder)
    assert again.fingerprints() == version.state.fingerprints()
    assert version.vocabulary.n_items == version.state.n_items
    assert version.lineage.parent == list(users_rows(workspace))[-2]


def test_an_earlier_version_opens_as_well(taught):
    first, *_ = users_rows(taught("conure"))
    version = UserVersion.open(taught("conure"), first)
    assert [task.name for task in version.tasks] == ["T1"]
    with pytest.raises(TaskError, match="has no task 'club'"):
        version.task("club")


def test_what_is_not_there_is_said(taught, learnt, copy_of):
    assert current_version(learnt) is None
    with pytest.raises(VersionError, match="has no current version yet"):
        UserVersion.open(learnt)
    with pytest.raises(VersionError, match=r"no version '2024-03-06\.1'"):
        UserVersion.open(taught("conure"), "2024-03-06.1")  # of the other line
    workspace = copy_of(taught("conure"))
    first, row = next(iter(users_rows(workspace).items()))
    with workspace.ledger.transaction() as tx:
        tx.put_version(replace(row, state=VersionState.PRUNED))
    with pytest.raises(VersionError, match="no longer kept"):
        UserVersion.open(workspace, first)


@pytest.mark.parametrize("name", ["state.safetensors", "state.json", "tasks.json"])
@pytest.mark.parametrize("content", [None, b"", b"{}", b"[1]"])
def test_damage_is_one_message_that_names_the_place(taught, copy_of, name, content):
    workspace = copy_of(taught("conure"))
    path = current_version(workspace).folder / name
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"not a readable|tensor|item table|format") as caught:
        _ = current_version(workspace).state
    assert "imsr" in caught.value.hint or "backup" in caught.value.hint or "program" in caught.value.hint


def test_a_version_of_other_numbers_is_told_from_one_that_goes_on(taught):
    workspace = taught("conure")
    version = current_version(workspace)
    chain = version.task("T1").chain(workspace)
    assert version.numbers_like(chain)
    assert not version.numbers_like(chain[:2])


def test_no_pickle_is_read_or_written(taught):
    folder = current_version(taught("conure")).folder
    assert {path.name for path in folder.iterdir()} == {
        "READY",
        "lineage.json",
        "state.json",
        "state.safetensors",
        "tasks.json",
    }
    for path in folder.iterdir():
        assert not path.read_bytes().startswith((b"\x80", b"PK"))
    assert all(isinstance(tensor, torch.Tensor) for tensor in read_state(folder).tensors.values())
