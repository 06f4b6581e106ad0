"""Tiny workspaces in each state that a command starts from, and the commands that are killed.

Three days of at most 21 users and 45 items; the first is the base model's.
"""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from children import imsr
from small_world import DAYS, log
from task_world import with_tasks

from pipelines.warehouse.catalog import publish_catalog
from pipelines.workspace.layout import Workspace

TOML = """
[spans]
unit = "day"
pretrain = 1
[ingest]
buckets = 2
[model]
dim = 8
initial_interests = 2
max_interests = 4
history = 10
[detector]
new_interests = 1
[training]
seed = 3
base_epochs = 1
epochs = 1
negatives = 10
targets_per_user = 3
[evaluation]
top_n = 10
[gate]
holdout = 0.3
min_events = 1000
[retention]
keep_versions = 1
"""

FIRST, SECOND, THIRD = DAYS[:3]
REJECT = ("min_events = 1000", "min_events = 1\nmin_hr = 1.0")
STREAM = ("[retention]", '[stream]\nsource = "folder:landing"\nkeep_interim = "0s"\n[retention]')
USER = "u3"


@dataclass(frozen=True)
class Scenario:
    """A command, the state that it starts from, and how it is finished after a kill.

    Attributes:
        start: a state of ``Worlds``.
        command: without the workspace; ``{workspace}`` in it stands for its folder.
        again: what finishes it if it was killed after it had begun; unset: the same command.
        setting: (old, new) text of imsr.toml.
    """

    start: str
    command: tuple[str, ...]
    again: tuple[str, ...] = ()
    setting: tuple[str, str] | None = None

    def words(self, workspace: Workspace, *, again: bool = False) -> tuple[str, ...]:
        """The command line for a workspace; ``again``: what finishes it."""
        command = self.again if again and self.again else self.command
        return (*(word.format(workspace=workspace.root) for word in command), "-w", str(workspace.root))


SCENARIOS = {
    "ingest": Scenario("landed", ("ingest",)),
    "stream": Scenario("more landed", ("stream", "--drain", "--no-learn"), setting=STREAM),
    "night": Scenario("third day due", ("run",)),
    "first run": Scenario("ingested", ("run",)),
    "rejected night": Scenario("third day due", ("run",), setting=REJECT),
    "late events": Scenario("late events landed", ("ingest",)),
    "withdraw": Scenario("learnt", ("withdraw", "third.csv")),
    "replace": Scenario("corrected", ("ingest", "{workspace}/corrected.csv", "--replace", "third.csv")),
    "restate": Scenario("learnt", ("restate", SECOND, "--yes"), again=("run",)),
    "backfill": Scenario("learnt", ("backfill", "--which", "all", "--from", SECOND)),
    "promote": Scenario("learnt", ("promote", f"{SECOND}.1")),
    "rollback": Scenario("learnt", ("rollback", "--to", f"{SECOND}.1")),
    "shadow": Scenario("learnt", ("refresh",)),
    "rebase": Scenario("learnt", ("refresh", "--rebase")),
    "forget": Scenario("learnt", ("forget", "--user", USER, "--landing", "--retrain", "--linger", "0")),
    "prune": Scenario("restated", ("prune",)),
    "task": Scenario("with tasks", ("task", "add", "club")),
}


class Worlds:
    """Makes each state once, in child processes, from the state before; ``copy`` gives a copy to change."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[str, Path] = {}
        self._recipes: dict[str, Callable[[Path], object]] = {
            "landed": self._landed,
            "ingested": lambda root: self._after("landed", root, "ingest"),
            "more landed": self._more_landed,
            "two learnt": self._two_learnt,
            "third day due": self._third_day_due,
            "learnt": lambda root: self._after("third day due", root, "run"),
            "late events landed": self._late_events_landed,
            "corrected": self._corrected,
            "restated": lambda root: self._after("learnt", root, "restate", SECOND, "--yes"),
            "with tasks": lambda root: with_tasks(self.copy("learnt", root)),
            "task learnt": lambda root: self._after("with tasks", root, "task", "add", "club"),
        }

    def copy(self, state: str, root: Path, setting: tuple[str, str] | None = None) -> Workspace:
        """A workspace in this state, with a setting changed."""
        if state not in self._made:
            made = self._folder / state.replace(" ", "_")
            self._recipes[state](made)
            self._made[state] = made
        shutil.copytree(self._made[state], root)
        workspace = Workspace.open(root)
        if setting is not None:
            text = workspace.settings_file.read_text()
            assert setting[0] in text
            workspace.settings_file.write_text(text.replace(*setting))
        if workspace.views_file.exists():
            publish_catalog(workspace, anew=True)  # views name files by their whole path
        return Workspace.open(root)

    def _after(self, state: str, root: Path, *command: str) -> None:
        self.copy(state, root)
        ended = imsr(self._folder / "log", *command, "-w", str(root))
        assert ended.code == 0, ended.said

    def _landed(self, root: Path) -> None:
        land(Workspace.create(root, TOML), "log.csv", range(3))

    def _two_learnt(self, root: Path) -> None:
        workspace = Workspace.create(root, TOML)
        land(workspace, "log.csv", range(2))
        for command in ("ingest", "run"):
            ended = imsr(self._folder / "log", command, "-w", str(root))
            assert ended.code == 0, ended.said

    def _third_day_due(self, root: Path) -> None:
        land(self.copy("two learnt", root), "third.csv", range(2, 3))
        ended = imsr(self._folder / "log", "ingest", "-w", str(root))
        assert ended.code == 0, ended.said

    def _more_landed(self, root: Path) -> None:
        workspace = self.copy("ingested", root)
        land(workspace, "more.csv", range(3), seed=1)
        for path in (workspace.root / "landing").iterdir():
            os.utime(path, (1e9, 1e9))  # complete long ago: a stream takes them together

    def _late_events_landed(self, root: Path) -> None:
        land(self.copy("learnt", root), "late.csv", range(2, 4), seed=1)

    def _corrected(self, root: Path) -> None:
        land(self.copy("learnt", root), "../corrected.csv", range(2, 3), seed=2)


def land(workspace: Workspace, name: str, days: range, seed: int = 0) -> None:
    """Put a file with these days, and one row that cannot be used, into ``landing/``."""
    with (workspace.root / "landing" / name).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["user_id", "item_id", "timestamp"])
        writer.writerows([*log(days, seed), ("", "of nobody", DAYS[days[0]])])
