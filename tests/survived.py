"""The count of what was tried against the project in a run of the tests, and whether anything was lost.

Loaded by the root conftest. Crash tests count what they did by the fixture ``done``; of the others each test is a try.
"""

from __future__ import annotations

from collections import Counter

import pytest

DONE: Counter[str] = Counter()
#: Test file -> what one of its tests tries.
TRIES = {
    "hostile/test_damage.py": "damaged files",
    "hostile/test_damaged_notes.py": "damaged notes and rows",
    "hostile/test_every_file.py": "damaged files against every command",
    "hostile/test_lost_rows.py": "lost rows",
    "hostile/test_names_and_links.py": "hostile names and links",
    "warehouse/test_sandbox.py": "queries and views against the sandbox",
    "care/test_forget_obstacles.py": "obstacles to a forgetting",
    "care/test_forget_crash.py": "kills of a forgetting",
    "lake/test_found_cases.py": "inputs as they were found",
    "lake/test_invented_text.py": "inputs as they were invented",
    "lake/test_invented_parquet.py": "inputs as they were invented",
    "lake/test_careful_lines.py": "inputs with stray quotes",
    "lake/test_packed_files.py": "packed inputs",
    "lake/test_datasets.py": "inputs of published layouts",
    "flows/test_swallowed_signals.py": "signals in bad places",
}


#: Long rows of tests of which ``--every N`` takes every Nth.
ROWS = ("hostile/test_every_file.py",)


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--every N``: of the long rows of kills and faults try every Nth one; a row of all takes hours."""
    parser.addoption("--every", type=int, default=1, help="of long rows of kills and faults try every Nth one")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what ``--every`` leaves out."""
    every = config.getoption("--every")
    row = [item for item in items if any(file in item.nodeid for file in ROWS) and "[" in item.nodeid]
    left_out = {item.nodeid for number, item in enumerate(row) if number % every}
    if left_out:
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid in left_out])
        items[:] = [item for item in items if item.nodeid not in left_out]


@pytest.fixture(scope="session")
def every(request: pytest.FixtureRequest) -> int:
    """See ``--every``."""
    return request.config.getoption("--every")


@pytest.fixture(scope="session")
def done() -> Counter[str]:
    """Counts kills, faults and takeovers whose outcome was checked."""
    return DONE


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count a test that passed by what its file tries."""
    if report.when == "call" and report.passed:
        DONE.update(what for file, what in TRIES.items() if file in report.nodeid)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how much was survived, if anything was tried."""
    if DONE:
        counts = ", ".join(f"{count:,} {what}" for what, count in sorted(DONE.items()))
        lost = "something failed" if terminalreporter.stats.get("failed") else "none"
        terminalreporter.write_line(f"tried: {counts}; lost: {lost}")
