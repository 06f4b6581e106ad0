"""Every command is killed (SIGKILL) at every point that it passes; the same command then finishes the work.

At the moment of the kill the live version loads, answers, and every view works. In the end the workspace holds what
an unkilled run gives: ledger, events, sequences, tensors, and no file more.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from children import imsr
from references import References, Unkilled
from tiny_world import SCENARIOS, Scenario, Worlds
from workspace_content import content, differences, ledger, require_clean, require_usable

from pipelines.workspace.failpoints import VARIABLE, FailPoint
from pipelines.workspace.layout import Workspace

#: Which command is killed at which point. A new point has to be given one; those named ``task.`` are `TASK`'s.
REACHED_BY = {
    FailPoint.PUBLISH_SEALED: "night",
    FailPoint.PUBLISH_RENAMED: "night",
    FailPoint.INGEST_STAGED: "ingest",
    FailPoint.INGEST_RENAMED_ONE: "ingest",
    FailPoint.INGEST_BEFORE_COMMIT: "ingest",
    FailPoint.INGEST_AFTER_COMMIT: "late events",
    FailPoint.LEASE_TAKEN: "night",
    FailPoint.SEQUENCES_BUCKET_WRITTEN: "night",
    FailPoint.SEQUENCES_BEFORE_COMMIT: "night",
    FailPoint.EVALUATE_BEFORE_COMMIT: "night",
    FailPoint.TRAIN_STARTED: "night",
    FailPoint.TRAIN_STAGED: "restate",
    FailPoint.TRAIN_BEFORE_COMMIT: "backfill",
    FailPoint.TRAIN_AFTER_COMMIT: "shadow",
    FailPoint.PROMOTE_BEFORE_COMMIT: "night",
    FailPoint.PROMOTE_AFTER_COMMIT: "promote",
    FailPoint.REJECT_BEFORE_COMMIT: "rejected night",
    FailPoint.ROLLBACK_BEFORE_COMMIT: "rollback",
    FailPoint.ROLLBACK_AFTER_COMMIT: "rollback",
    FailPoint.CATALOG_STAGED: "promote",
    FailPoint.CATALOG_REPLACED: "night",
    FailPoint.REWRITE_STARTED: "forget",
    FailPoint.REWRITE_REPLACED: "forget",
    FailPoint.REWRITE_SEALED: "forget",
    FailPoint.REWRITE_DROPPED: "forget",
    FailPoint.FORGET_JOURNALED: "forget",
    FailPoint.FORGET_LANDING_REPLACED: "forget",
    FailPoint.FORGET_BEFORE_COMMIT: "forget",
    FailPoint.FORGET_AFTER_COMMIT: "forget",
    FailPoint.FORGET_VIEWS_WRITTEN: "forget",
    FailPoint.STREAM_WRITTEN: "stream",
    FailPoint.STREAM_TIDIED: "stream",
    FailPoint.PRUNE_BEFORE_COMMIT: "prune",
    FailPoint.PRUNE_AFTER_COMMIT: "prune",
    FailPoint.PRUNE_REMOVED_ONE: "prune",
}
TASK = "task"
#: Killed in every run of the tests; the others take a minute or two and are marked slow.
QUICK = {
    FailPoint.INGEST_BEFORE_COMMIT,
    FailPoint.PUBLISH_RENAMED,
    FailPoint.SEQUENCES_BEFORE_COMMIT,
    FailPoint.PROMOTE_BEFORE_COMMIT,
    FailPoint.CATALOG_REPLACED,
    FailPoint.FORGET_LANDING_REPLACED,
    FailPoint.REWRITE_DROPPED,
}
#: What takes events back is killed at these points in every run of the tests, too.
TAKEN_BACK = [
    ("withdraw", FailPoint.INGEST_BEFORE_COMMIT),
    ("replace", FailPoint.INGEST_BEFORE_COMMIT),
    ("replace", FailPoint.INGEST_AFTER_COMMIT),
]
#: Through the real console script; the others run its function in a forked child.
BY_CONSOLE_SCRIPT = ("train.before_commit", "promote.before_commit")


def scenario_of(point: FailPoint) -> str:
    """The name of the scenario whose command passes a point."""
    return REACHED_BY.get(point, TASK if point.startswith("task.") else "")


def _slow_unless(quick: bool) -> tuple[pytest.MarkDecorator, ...]:
    return () if quick else (pytest.mark.slow,)


def test_every_point_has_a_command_that_reaches_it():
    assert [point for point in FailPoint if scenario_of(point) not in SCENARIOS] == []


@pytest.mark.parametrize("point", [pytest.param(p, marks=_slow_unless(p in QUICK)) for p in FailPoint])
def test_a_command_killed_at_a_point_is_finished_by_the_next(worlds, references, done, tmp_path, point):
    _kill_and_finish(worlds, references, done, tmp_path, scenario_of(point), point)


@pytest.mark.parametrize(("name", "point"), TAKEN_BACK)
def test_taking_events_back_killed_is_finished_by_the_same_command(worlds, references, done, tmp_path, name, point):
    _kill_and_finish(worlds, references, done, tmp_path, name, point)


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_command_killed_at_every_single_pass_is_finished_by_the_next(worlds, references, done, tmp_path, name, every):
    passed: Counter[str] = Counter()
    for number, point in enumerate(references[name].passes):
        passed[point] += 1
        if number % every:
            continue
        folder = tmp_path / f"{point}.{passed[point]}"
        folder.mkdir()
        _kill_and_finish(worlds, references, done, folder, name, f"{point}:{passed[point]}")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["night", "ingest", "forget", "prune"])
def test_killed_again_and_again_while_it_is_finished(worlds, references, done, tmp_path, name):
    """Each attempt is killed one point later than the one before."""
    scenario = SCENARIOS[name]
    workspace = worlds.copy(scenario.start, tmp_path / "workspace", scenario.setting)
    for point in dict.fromkeys(references[name].passes):
        ended = imsr(tmp_path / "log", *scenario.words(workspace), fail=point)
        assert ended.code in (-signal.SIGKILL, references[name].code), ended.said
        done["kills"] += ended.code == -signal.SIGKILL
        require_usable(workspace)
    _finish(workspace, scenario, references[name], tmp_path, begun=True)


@pytest.mark.slow
@pytest.mark.parametrize("point", BY_CONSOLE_SCRIPT)
def test_the_console_script_killed(worlds, references, done, tmp_path, point):
    workspace = worlds.copy("third day due", tmp_path / "workspace")
    script = [sys.executable, "-c", "from flows.cli import main; main()", "run", "-w", str(workspace.root)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1", VARIABLE: point}
    ended = subprocess.run(script, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    require_usable(workspace)
    environment[VARIABLE] = ""
    ended = subprocess.run(script, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    require_clean(workspace)
    assert differences(content(workspace), references["night"].content) == []
    done["kills"] += 1


def _kill_and_finish(
    worlds: Worlds, references: References, done: Counter[str], folder: Path, name: str, fail: str
) -> None:
    scenario = SCENARIOS[name]
    wanted = references[name]
    workspace = worlds.copy(scenario.start, folder / "workspace", scenario.setting)
    before = ledger(workspace)
    ended = imsr(folder / "log", *scenario.words(workspace), fail=fail)
    assert ended.code == -signal.SIGKILL, f"{name} does not reach {fail}: {ended.said}"
    require_usable(workspace)
    _finish(workspace, scenario, wanted, folder, begun=ledger(workspace) != before)
    done["kills"] += 1


def _finish(workspace: Workspace, scenario: Scenario, wanted: Unkilled, folder: Path, *, begun: bool) -> None:
    ended = imsr(folder / "log", *scenario.words(workspace, again=begun))
    assert ended.code in (0, wanted.code), ended.said
    assert differences(content(workspace), wanted.content) == []
    require_clean(workspace)
