"""Commands are killed (SIGKILL) at random moments; the same command again leaves what an unkilled one leaves.

These are the commands that pass few or no points where they could be killed on purpose: what is written for others to
read (exports, reports, lists), a stream, and labels that are read again.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from children import call, imsr, start
from tiny_world import SCENARIOS, Scenario, Worlds
from workspace_content import content, differences, require_clean, require_usable

from pipelines.workspace.layout import Workspace


def other_labels(workspace: Workspace) -> None:
    """The label file says something else than when the task was learnt, and of one user more."""
    path = workspace.root / "club.csv"
    first, *rows = path.read_text().splitlines()
    path.write_text("\n".join([first, *rows[::-1][:-2], "u1,club 9"]) + "\n")


#: Command, and what is changed of the workspace before it. ``{workspace}/../out`` is where exports go.
COMMANDS: dict[str, tuple[Scenario, Callable[[Workspace], object] | None]] = {
    "export": (Scenario("learnt", ("export", "{workspace}/../out", "--lists", "5")), None),
    "report": (Scenario("learnt", ("report",)), None),
    "lists": (Scenario("learnt", ("recommend", "--all")), None),
    "explain": (Scenario("learnt", ("explain", "--all")), None),
    "stream": (SCENARIOS["stream"], None),
    "views": (Scenario("learnt", ("views",)), None),
    "task": (SCENARIOS["task"], None),
    "labels again": (Scenario("task learnt", ("task", "add", "club")), other_labels),
    "forget": (SCENARIOS["forget"], None),
    "night": (SCENARIOS["night"], None),
}
#: Says the time.
UNEQUAL = ("reports/",)


@pytest.mark.parametrize(
    ("name", "times"),
    [
        ("export", 1),
        ("report", 1),
        *(pytest.param(name, 6, marks=pytest.mark.slow) for name in COMMANDS),
    ],
)
def test_a_command_killed_at_a_random_moment_is_finished_by_the_next(worlds, done, tmp_path, name, times):
    chance = random.Random(name)
    wanted, seconds = _unkilled(worlds, tmp_path, name)
    for number in range(times):
        folder = tmp_path / str(number)
        workspace = _start(worlds, folder / "workspace", name)
        scenario = COMMANDS[name][0]
        child = start(folder / "log", *scenario.words(workspace))
        time.sleep(chance.uniform(0.05, 0.95) * seconds)
        with suppress(ProcessLookupError):  # it was quicker than the first one
            os.kill(child.pid, signal.SIGKILL)
        killed = child.wait().code == -signal.SIGKILL
        require_usable(workspace)
        require_whole(folder / "out", tmp_path / "unkilled" / "out")
        ended = imsr(folder / "log", *scenario.words(workspace))
        assert ended.code == 0 or (name == "export" and "exists already" in ended.said), ended.said
        require_whole(folder / "out", tmp_path / "unkilled" / "out")
        assert differences(_content(workspace), wanted) == []
        require_clean(workspace)
        done["kills at random moments"] += killed
        shutil.rmtree(folder)


def require_whole(folder: Path, wanted: Path) -> None:
    """An export is not there, or has all its files."""
    if folder.exists():
        found, whole = ({p.name: p.stat().st_size for p in each.iterdir()} for each in (folder, wanted))
        assert found == whole


def _start(worlds: Worlds, root: Path, name: str) -> Workspace:
    scenario, change = COMMANDS[name]
    root.parent.mkdir()
    workspace = worlds.copy(scenario.start, root, scenario.setting)
    if change is not None:
        change(workspace)
    return workspace


def _unkilled(worlds: Worlds, tmp_path: Path, name: str) -> tuple[dict[str, str], float]:
    """What the command leaves, and how long it takes."""
    workspace = _start(worlds, tmp_path / "unkilled" / "workspace", name)
    call(tmp_path / "log", os.getpid).wait()  # the server of children has imported everything
    began = time.monotonic()
    ended = imsr(tmp_path / "log", *COMMANDS[name][0].words(workspace))
    assert ended.code == 0, ended.said
    return _content(workspace), time.monotonic() - began


def _content(workspace: Workspace) -> dict[str, str]:
    return {name: text if not name.startswith(UNEQUAL) else "" for name, text in content(workspace).items()}
