"""What every test begins with, whichever others are run: one thread, the same draws, no fail point passed. And
workspaces that are learnt once a test run; a test that changes one asks for a copy."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from small_world import log, make, run_all
from task_world import taught_copy

from pipelines.sequences import beam_job as beam_sequences
from pipelines.sequences.bucket import build_bucket
from pipelines.workspace import failpoints
from pipelines.workspace.layout import Workspace

pytest_plugins = ["survived", "dask_workers"]

MOST_WORKERS = 4

CORE = Path(__file__).parent / "imsr_core"

torch.set_num_threads(1)
#: Tests assert no times, and are drawn the same examples in every run.
settings.register_profile("suite", deadline=None, derandomize=True)
settings.register_profile("core", settings.get_profile("suite"), max_examples=40)


def pytest_collectstart(collector: pytest.Collector) -> None:
    """A test keeps the profile that is loaded when its module is: that of its folder, whatever else is collected."""
    if isinstance(collector, pytest.Module):
        settings.load_profile("core" if CORE in collector.path.parents else "suite")


@pytest.fixture(autouse=True)
def _no_fail_point_was_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that fails at the n-th pass of a point counts its own."""
    monkeypatch.setattr(failpoints, "_passed", {})


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """`-n auto`: each worker makes the workspaces below for itself, and some tests start servers."""
    return min(os.cpu_count() or 1, MOST_WORKERS)


@pytest.fixture(scope="session")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Six days, all learnt in one run. Read only."""
    workspace = make(tmp_path_factory.mktemp("learnt") / "workspace", log())
    run_all(workspace)
    return workspace


@pytest.fixture(scope="session")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Six days in the lake, nothing learnt. Read only."""
    return make(tmp_path_factory.mktemp("ingested") / "workspace", log())


@pytest.fixture(scope="session")
def taught(learnt: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Workspace]:
    """Method -> six days learnt, and T1, `club` and `shop` on the `users` line. Read only."""

    @cache
    def taught_by(method: str) -> Workspace:
        return taught_copy(learnt, tmp_path_factory.mktemp(method) / "workspace", method)

    return taught_by


@pytest.fixture
def copy_of(tmp_path: Path) -> Callable[[Workspace], Workspace]:
    """A copy of a workspace that the test may change."""

    def copy(workspace: Workspace, name: str = "copy") -> Workspace:
        shutil.copytree(workspace.root, tmp_path / name)
        return Workspace.open(tmp_path / name)

    return copy


@pytest.fixture
def without_beam(monkeypatch: pytest.MonkeyPatch) -> None:
    """Buckets are built in this process: starting Beam takes longer than everything else, and it cannot be forked."""
    monkeypatch.setattr(beam_sequences, "run_bucket_tasks", lambda tasks, options: [build_bucket(t) for t in tasks])
