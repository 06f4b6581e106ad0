"""Ingest is killed at every step, for real; the next run ends as if nothing had happened."""

import os
import signal
import subprocess
import sys
import time

import pytest
from ingest_cases import NOW, ROWS, files_below, lake, make_workspace, quarantine, run, write_csv

from pipelines.workspace.failpoints import VARIABLE, FailPoint
from pipelines.workspace.lease import LeaseLost
from pipelines.workspace.ledger import LEASE, LeaseRow

LATE = [("dan", "tea", "2024-02-20"), ("", "nobody", "2024-02-20"), ("eve", "pie", "2024-04-01"), ROWS[0]]

#: argv: workspace, file, now
INGEST = """
import sys
from datetime import datetime
from pipelines.lake.ingest import ingest
from pipelines.workspace.layout import Workspace
ingest(Workspace.open(sys.argv[1]), [sys.argv[2]], now=datetime.fromisoformat(sys.argv[3]))
"""

#: Everything an ingest passes; a fail point added to the enum is tested by being there.
POINTS = [point for point in FailPoint if point.startswith(("ingest.", "publish.", "lease."))]
QUICK = [FailPoint.INGEST_BEFORE_COMMIT, FailPoint.INGEST_AFTER_COMMIT]
OTHERS = [
    *(point for point in POINTS if point not in QUICK),
    "ingest.renamed_one:2",
    "publish.renamed:3",
    "publish.sealed:2",
]


def start(workspace, file, failure):
    environment = {"PYTHONPATH": ":".join(sys.path), "PATH": os.environ["PATH"], VARIABLE: failure}
    command = [sys.executable, "-c", INGEST, str(workspace.root), str(file), NOW.isoformat()]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def prepared(root, tmp_path):
    workspace = make_workspace(root)
    run(workspace, write_csv(tmp_path / "log.csv", ROWS))
    return workspace


def state(workspace):
    """All that must be the same: spans, versions, batches, rows, quarantine, and no file more."""
    with workspace.ledger.snapshot() as view:
        ledger = view.spans(), view.span_versions(), view.batches(), view.meta("calendar")
    return ledger, lake(workspace), quarantine(workspace), files_below(workspace.root)


@pytest.fixture(scope="module")
def unkilled(tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("unkilled")
    workspace = prepared(tmp_path / "w", tmp_path)
    run(workspace, write_csv(tmp_path / "late.csv", LATE))
    return state(workspace)


@pytest.mark.parametrize("failure", [*QUICK, *(pytest.param(point, marks=pytest.mark.slow) for point in OTHERS)])
def test_a_killed_ingest_is_finished_by_the_next(tmp_path, unkilled, failure):
    workspace = prepared(tmp_path / "w", tmp_path)
    before = lake(workspace)
    late = write_csv(tmp_path / "late.csv", LATE)
    process = start(workspace, late, failure)
    _, complaint = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, complaint
    assert lake(workspace) in (before, unkilled[1])  # all of it or nothing, before anyone repairs anything
    report = run(workspace, late)
    assert bool(report.skipped) == (failure == FailPoint.INGEST_AFTER_COMMIT)
    run(workspace, late)
    assert state(workspace) == unkilled


@pytest.mark.slow
@pytest.mark.parametrize("failure", ["ingest.staged:1:term", "ingest.before_commit:1:raise"])
def test_other_ends_than_a_kill(tmp_path, unkilled, failure):
    workspace = prepared(tmp_path / "w", tmp_path)
    late = write_csv(tmp_path / "late.csv", LATE)
    process = start(workspace, late, failure)
    process.communicate(timeout=60)
    assert process.returncode not in (0, None)
    run(workspace, late)
    assert state(workspace) == unkilled


@pytest.mark.parametrize("point", [pytest.param("ingest.staged", marks=pytest.mark.slow), "ingest.renamed_one"])
def test_an_ingest_that_was_suspended_and_overtaken_changes_nothing(tmp_path, unkilled, point):
    workspace = prepared(tmp_path / "w", tmp_path)
    late = write_csv(tmp_path / "late.csv", LATE)
    process = start(workspace, late, f"{point}:1:stop")
    try:
        os.waitpid(process.pid, os.WUNTRACED)
        with workspace.ledger.transaction() as tx:  # as if an hour had passed
            row = tx.lease()
            tx.put_lease(LeaseRow(LEASE, row.holder, row.token, time.time() - 3600))
        run(workspace, late)
        assert state(workspace) == unkilled
        os.kill(process.pid, signal.SIGCONT)
        _, complaint = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 1
    assert LeaseLost.__name__ in complaint
    run(workspace, late)
    assert state(workspace) == unkilled
