"""What each scenario's command leaves if nobody disturbs it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from children import COMMANDS, imsr, record_passes
from tiny_world import SCENARIOS, Worlds
from workspace_content import content, require_clean


@dataclass(frozen=True)
class Unkilled:
    """A run that nobody killed: its exit code, what it left, and the points that it passed."""

    code: int
    content: dict[str, str]
    passes: list[str]


class References:
    """The unkilled run of each scenario, made once."""

    def __init__(self, worlds: Worlds, folder: Path) -> None:
        self._worlds, self._folder = worlds, folder
        self._runs: dict[str, Unkilled] = {}

    def __getitem__(self, name: str) -> Unkilled:
        if name not in self._runs:
            scenario, root, passes = SCENARIOS[name], self._folder / name.replace(" ", "_"), self._folder / "passes"
            assert scenario.command[0] in COMMANDS, f"imsr has no command {scenario.command[0]!r}"
            workspace = self._worlds.copy(scenario.start, root, scenario.setting)
            passes.write_text("")
            ended = imsr(self._folder / "log", *scenario.words(workspace), prepare=record_passes, args=(str(passes),))
            assert ended.code in (0, 3), ended.said
            require_clean(workspace)
            passed = passes.read_text().split()
            assert passed, f"{name}: nothing was passed where it could be killed"
            self._runs[name] = Unkilled(ended.code, content(workspace), passed)
        return self._runs[name]
