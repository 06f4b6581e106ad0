"""`imsr status` while a run works, and after a signal ended one."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from flows.cli import app
from pipelines.workspace.ending import Terminated
from pipelines.workspace.layout import Workspace
from pipelines.workspace.lease import hold

DOING = "span 2024-03-07: train, 3 of 9 steps"


@pytest.fixture
def workspace(tmp_path):
    return Workspace.create(tmp_path / "w")


def status(workspace, *more):
    done = CliRunner().invoke(app, ["status", "-w", str(workspace.root), *more], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    return done.output


def test_who_works_since_when_on_which_span_and_how_far(workspace):
    with hold(workspace, "imsr run") as lease:
        lease.tell(DOING)
        shown = status(workspace)
        with workspace.ledger.snapshot() as view:
            holder = view.lease().holder
    since = holder["since"][:19].replace("T", " ")
    assert f"in use by   imsr run, process {holder['pid']} on {holder['host']}, since {since} UTC" in shown
    assert f"{DOING} (0 s ago)" in shown
    assert "in use by" not in status(workspace)


def test_a_run_that_a_signal_ended_says_so_until_another_one_is_done(workspace):
    with pytest.raises(Terminated), hold(workspace, "imsr run") as lease:  # noqa: PT012
        lease.doing = DOING
        raise Terminated(143)
    shown = status(workspace)
    assert "ended early imsr run" in shown
    assert f"by SIGTERM: {DOING}" in shown
    assert "the same command goes on from there" in shown
    assert json.loads(status(workspace, "--json"))["ended_early"]["signal"] == "SIGTERM"
    with hold(workspace, "imsr run"):
        pass
    assert "ended early" not in status(workspace)
