"""Versions that hold what their span changed: read, checked, pruned, rolled back, exported and killed as whole ones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta

import pytest
import torch
from safetensors.torch import load_file
from small_world import NOW, START, current, land, run_all, run_one, version_rows
from wide_world import ITEMS, NIGHTS, TOML, wide

from imsr_core.checkpoint import load_state, save_state
from imsr_core.testing.planted_logs import assert_equal, tensors_of
from pipelines.care.doctor import examine
from pipelines.care.forget import forget
from pipelines.care.prune import plan_pruning, prune
from pipelines.interests.comparison import compare
from pipelines.interests.promotion import rollback
from pipelines.interests.recommend import Recommender
from pipelines.interests.version import Version
from pipelines.serving.export import export
from pipelines.workspace.failpoints import VARIABLE, FailPoint
from pipelines.workspace.layout import Workspace
from pipelines.workspace.seal import READY, seal
from pipelines.workspace.writer import writing

LATER = NOW + timedelta(days=1)
DELTAS = NIGHTS[1:]


@pytest.fixture(scope="module")
def wide_workspace(tmp_path_factory):
    """Four days, all learnt. Read only."""
    return wide(tmp_path_factory.mktemp("wide") / "workspace")


def models(workspace, version_id=None):
    state = Version.open(workspace, version_id).load(optimizer=True)
    named = tensors_of(state)
    assert state.score is not None
    return named | {f"score.{name}": tensor for name, tensor in state.score.tensors().items()}


def keep(workspace, versions):
    workspace.settings_file.write_text(f"{TOML}[retention]\nkeep_versions = {versions}\n")
    return Workspace.open(workspace.root)


def test_a_night_writes_the_rows_that_it_touched(wide_workspace):
    for night, (base, name) in enumerate(zip([NIGHTS[0]] * 3, DELTAS, strict=True), 1):
        folder = wide_workspace.version_folder(name)
        assert 0 < len(load_file(folder / "model.safetensors")["changed.items"]) < 40
        assert len(Version.open(wide_workspace, name).model_folders()) == night + 1
        sizes = [
            (wide_workspace.version_folder(each) / "optimizer.safetensors").stat().st_size for each in (name, base)
        ]
        assert sizes[0] < sizes[1] / 4


def test_one_night_at_a_time_or_all_at_once_gives_the_same(wide_workspace, tmp_path):
    workspace = wide(tmp_path / "one", learn=False)
    for name in NIGHTS:
        run_one(workspace, name.removesuffix(".1"))
    for name in NIGHTS:
        assert_equal(models(workspace, name), models(wide_workspace, name))


def test_what_is_learnt_from_changes_is_what_is_learnt_from_a_whole_checkpoint(wide_workspace, copy_of, tmp_path):
    """The last night again, from a parent whose checkpoint somebody has written whole."""
    workspace = wide(tmp_path / "one", learn=False)
    for name in NIGHTS[:3]:
        run_one(workspace, name.removesuffix(".1"))
    parent = Version.open(workspace, NIGHTS[2])
    state = replace(parent.load(optimizer=True), user_memory={})
    for name in ("config.json", "model.safetensors", "optimizer.safetensors"):
        (parent.folder / name).unlink()
    save_state(state, parent.folder)
    lineage = replace(parent.lineage, model=())
    (parent.folder / "lineage.json").write_text(lineage.to_json())
    (parent.folder / READY).unlink()
    seal(parent.folder)
    run_all(workspace)
    assert len(Version.open(workspace, NIGHTS[3]).model_folders()) == 2
    assert_equal(models(workspace, NIGHTS[3]), models(wide_workspace, NIGHTS[3]))


def test_the_doctor_finds_nothing_wrong_and_a_link_that_is_gone(wide_workspace, copy_of):
    assert examine(wide_workspace, deep=True) == []
    workspace = copy_of(wide_workspace)
    (workspace.version_folder(NIGHTS[1]) / "optimizer.safetensors").unlink()
    assert {finding.where for finding in examine(workspace)} == {f"versions/{NIGHTS[1]}"}
    _, discarded = prune(workspace, now=LATER, damaged=True)
    assert {path for path in discarded if path.startswith("versions/")} == {f"versions/{name}" for name in DELTAS}
    run_all(workspace)
    assert_equal(models(workspace), models(wide_workspace))


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors"])
def test_nothing_is_learnt_from_a_chain_with_a_flipped_bit(wide_workspace, copy_of, name, tmp_path):
    workspace = wide(tmp_path / "one", learn=False)
    for night in NIGHTS[:3]:
        run_one(workspace, night.removesuffix(".1"))
    path = workspace.version_folder(NIGHTS[0]) / name
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(Exception, match="damaged"):
        run_all(workspace)
    assert current(workspace) == NIGHTS[2]


def test_pruning_keeps_the_checkpoints_that_others_are_changes_of(wide_workspace, copy_of):
    workspace = keep(copy_of(wide_workspace), 1)
    expected = {name: models(workspace, name) for name in NIGHTS[2:]}
    prune(workspace, now=LATER)
    states = {name: str(row.state) for name, row in version_rows(workspace).items()}
    assert states == dict(zip(NIGHTS, ["archived", "archived", "published", "published"], strict=True))
    for name in NIGHTS[:2]:
        files = {path.name for path in workspace.version_folder(name).iterdir()}
        assert {"model.safetensors", "optimizer.safetensors", "config.json", "interests.parquet"} <= files
        assert "gate.parquet" not in files
    for name in NIGHTS[2:]:
        assert_equal(models(workspace, name), expected[name])
    assert examine(workspace, deep=True) == []
    assert plan_pruning(workspace, now=LATER).going() == []


def test_checkpoints_that_nobody_reads_any_more_go_at_the_next_pruning(wide_workspace, copy_of, monkeypatch):
    workspace = keep(copy_of(wide_workspace), 1)
    prune(workspace, now=LATER)
    monkeypatch.setattr("imsr_core.changed_rows.MOST_LINKS", 0)  # from here on, versions are whole
    for day in (5, 6):
        at = (START + timedelta(days=day)).isoformat()
        land(workspace, [(f"u{n}", f"i{n}", at) for n in range(3)], f"day{day}.csv")
    run_all(workspace)
    prune(workspace, now=LATER)
    assert not (workspace.version_folder(NIGHTS[0]) / "model.safetensors").exists()
    assert (workspace.version_folder(NIGHTS[0]) / "interests.parquet").exists()
    assert examine(workspace, deep=True) == []
    assert Recommender.open(workspace).top_n(["u29"], 3).num_rows == 3


def test_rolling_back_to_changes_and_comparing_them(wide_workspace, copy_of):
    workspace = copy_of(wide_workspace)
    assert compare(workspace, NIGHTS[1], NIGHTS[2]).first.version_id == NIGHTS[1]
    with writing(workspace, "test", now=LATER) as writer:
        rollback(writer, to=NIGHTS[1])
    assert current(workspace) == NIGHTS[1]
    assert Recommender.open(workspace).top_n(["u1"], 3).num_rows == 3


def test_an_export_holds_the_whole_model(wide_workspace, tmp_path):
    export(wide_workspace, tmp_path / "out")
    alone = load_state(tmp_path / "out", optimizer=False)
    assert alone.n_items == ITEMS
    assert torch.equal(alone.items.weight, Version.open(wide_workspace).load().items.weight)


def test_a_user_is_forgotten_and_the_chain_goes_on(wide_workspace, copy_of):
    workspace = copy_of(wide_workspace)
    before = models(workspace)
    forget(workspace, "u2", now=LATER)
    assert examine(workspace, deep=True) == []
    items = [name for name in before if name.startswith(("items.", "trend.", "score."))]
    after = models(workspace)
    assert all(torch.equal(before[name], after[name]) for name in items)


RUN = """
import sys
from small_world import run_all
from pipelines.workspace.layout import Workspace
run_all(Workspace.open(sys.argv[1]))
"""
POINTS = [
    FailPoint.TRAIN_STARTED,
    FailPoint.TRAIN_STAGED,
    FailPoint.TRAIN_BEFORE_COMMIT,
    FailPoint.TRAIN_AFTER_COMMIT,
    FailPoint.PROMOTE_BEFORE_COMMIT,
    FailPoint.PROMOTE_AFTER_COMMIT,
]


@pytest.mark.slow
@pytest.mark.parametrize("nth", [2, 3])
@pytest.mark.parametrize("point", POINTS)
def test_killed_while_changes_are_published_the_same_command_ends_the_same(wide_workspace, tmp_path, point, nth):
    workspace = wide(tmp_path / "killed", learn=False)
    environment = {"PYTHONPATH": ":".join(sys.path), "PATH": os.environ["PATH"], VARIABLE: f"{point}:{nth}"}
    done = subprocess.run([sys.executable, "-c", RUN, str(workspace.root)], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    run_all(workspace)
    for name in NIGHTS:
        assert_equal(models(workspace, name), models(wide_workspace, name))
    assert examine(workspace, deep=True) == []


@pytest.mark.slow
@pytest.mark.parametrize("point", [FailPoint.PRUNE_AFTER_COMMIT, FailPoint.REWRITE_STARTED, FailPoint.REWRITE_REPLACED])
def test_killed_while_pruning_the_next_one_ends_the_same(wide_workspace, copy_of, point):
    workspace = keep(copy_of(wide_workspace), 1)
    expected = models(workspace)
    code = (
        "import sys; from datetime import datetime; from pipelines.care.prune import prune;"
        "from pipelines.workspace.layout import Workspace;"
        "prune(Workspace.open(sys.argv[1]), now=datetime.fromisoformat(sys.argv[2]))"
    )
    environment = {"PYTHONPATH": ":".join(sys.path), "PATH": os.environ["PATH"], VARIABLE: str(point)}
    command = [sys.executable, "-c", code, str(workspace.root), LATER.isoformat()]
    assert subprocess.run(command, env=environment, check=False).returncode == -signal.SIGKILL
    assert_equal(models(workspace), expected)
    prune(workspace, now=LATER)
    assert_equal(models(workspace), expected)
    assert examine(workspace, deep=True) == []
