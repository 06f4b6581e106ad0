"""Worlds for crash tests, and the count of what was done to them."""

from __future__ import annotations

from collections import Counter

import pytest
from references import References
from tiny_world import Worlds

_DONE: Counter[str] = Counter()


@pytest.fixture(scope="session")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Worlds:
    """Workspaces in each state, made once."""
    return Worlds(tmp_path_factory.mktemp("worlds"))


@pytest.fixture(scope="session")
def references(worlds: Worlds, tmp_path_factory: pytest.TempPathFactory) -> References:
    """What undisturbed commands leave, made once."""
    return References(worlds, tmp_path_factory.mktemp("references"))


@pytest.fixture(scope="session")
def done() -> Counter[str]:
    """Counts kills, faults and takeovers whose outcome was checked."""
    return _DONE


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how much was survived, if anything was tried."""
    if _DONE:
        counts = ", ".join(f"{count} {what}" for what, count in sorted(_DONE.items()))
        lost = "something was lost" if terminalreporter.stats.get("failed") else "nothing lost"
        terminalreporter.write_line(f"crash tests: {counts}; {lost}")
