"""Workspaces that are learnt once a test run; a test that changes one asks for a copy."""

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
from pipelines.workspace.layout import Workspace

pytest_plugins = ["survived", "dask_workers"]

MOST_WORKERS = 4

torch.set_num_threads(1)
settings.register_profile("suite", deadline=None)  # tests assert no times
settings.load_profile("suite")


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
