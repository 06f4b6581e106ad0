"""One scenario that is disturbed in many ways, each time from the start; the next run has to make up for it."""

from __future__ import annotations

import errno
import hashlib
import subprocess
from pathlib import Path

import faulty_files
from children import Ended, call, imsr, run_imsr
from tiny_world import SCENARIOS, Scenario, Worlds
from workspace_content import content, differences, require_clean, require_usable

from pipelines.warehouse.catalog import catalog_is_current
from pipelines.workspace.layout import Workspace


class Failing:
    """One scenario, tried with many faults."""

    def __init__(self, worlds: Worlds, name: str, folder: Path, log: Path | None = None) -> None:
        self.worlds, self.folder = worlds, folder
        self.scenario: Scenario = SCENARIOS[name]
        self.log = log or folder.with_name(f"{folder.name}.log")  # not in it: its disk may be full
        self.finished: set[str] = set()
        workspace = self.start("reference")
        assert self.run(workspace).code == 0
        self.wanted = content(workspace)

    def start(self, name: str) -> Workspace:
        """A workspace that the command has not seen yet."""
        return self.worlds.copy(self.scenario.start, self.folder / name, self.scenario.setting)

    def run(self, workspace: Workspace, **options: object) -> Ended:
        """Run the command."""
        return imsr(self.log, *self.scenario.words(workspace), **options)

    def operations(self, number: int) -> int:
        """How many operations could fail with this error."""
        workspace, count = self.start(f"counted {number}"), self.folder / "count"
        arguments = (self.scenario.words(workspace), str(workspace.root), number, str(count))
        assert call(self.log, count_operations, *arguments).wait().code == 0
        subprocess.run(["rm", "-r", workspace.root], check=True)
        counted = int(count.read_text())
        assert counted > 0, f"{self.scenario.command} did nothing that could fail"
        return counted

    def survives(self, nth: int, number: int) -> bool:
        """Let the nth operation fail; False if there was none any more."""
        workspace = self.start(f"{errno.errorcode[number]} {nth}")
        ended = self.run(workspace, prepare=faulty_files.arm, args=(str(workspace.root), nth, number))
        self.make_up_for_it(workspace, ended)
        return ended.code != 0

    def make_up_for_it(self, workspace: Workspace, ended: Ended) -> None:
        """What is published works; another run leaves what an undisturbed one leaves."""
        require_reported(ended)
        require_usable(workspace)
        left = state(workspace)
        if left not in self.finished:
            again = self.run(workspace)
            assert again.code == 0, f"after {ended.said}: {again.said}"
            differ = differences(content(workspace), self.wanted)
            if "not cleaned: " in ended.said:  # a forgetting that named a file: the next one has a receipt of its own
                differ = [each for each in differ if not each.startswith("ledger/meta: ")]
            assert differ == [], ended.said
            require_clean(workspace)
        self.finished.add(left)
        subprocess.run(["rm", "-r", workspace.root], check=True)


def count_operations(command: tuple[str, ...], folder: str, number: int, out: str) -> None:
    """In a child: run a command and write down how many operations it made."""
    faulty_files.arm(folder, number=number)
    try:
        run_imsr(command, "", None, ())
    finally:
        Path(out).write_text(str(faulty_files.passed()))


def require_reported(ended: Ended) -> None:
    """The command was not killed, and if it failed it said so in a message of its own (Beam may have logged before)."""
    assert ended.code in (0, 1), ended.said
    assert ended.code == 0 or "\nerror: " in f"\n{ended.said}", ended.said


def state(workspace: Workspace) -> str:
    """Equal for two workspaces that the next run cannot tell apart."""
    found = {name: text for name, text in content(workspace).items() if not name.startswith("staging/")}
    return hashlib.sha256(repr((found, catalog_is_current(workspace))).encode()).hexdigest()
