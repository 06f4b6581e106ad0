"""The automation on a real Prefect server: a run that nobody began, and nobody could tell of, is told. Slow."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from prefect_processes import server, wait_for
from receiver import SECRET, receiving

from pipelines.workspace.layout import Workspace

pytestmark = pytest.mark.slow

INSTALL = [sys.executable, "-c", "from flows.cli import main; main()", "alerts", "install"]


def test_the_server_tells_of_a_night_that_did_not_begin(tmp_path):
    with receiving() as receiver, server(tmp_path) as prefect:
        workspace = Workspace.create(tmp_path / "shop", f"[alerts]\nurls = {json.dumps([receiver.url])}\n")
        command = [*INSTALL, "-w", str(workspace.root)]
        for _ in range(2):  # the second writes it anew
            done = subprocess.run(command, env=prefect.env, cwd=tmp_path, capture_output=True, text=True, timeout=300)
            assert done.returncode == 0, done.stderr
            assert SECRET not in done.stdout + done.stderr
        (automation,) = prefect.ask("automations/filter", {})
        assert automation["name"] == "imsr shop: late or killed"
        assert SECRET not in json.dumps(automation)
        flow = prefect.ask("flows/", {"name": "nightly"})["id"]
        expected = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
        for tag in ("workspace:another", f"workspace:{workspace.root}"):
            state = {"type": "SCHEDULED", "state_details": {"scheduled_time": expected}}
            prefect.ask("flow_runs/", {"flow_id": flow, "name": tag, "tags": [tag], "state": state})
        (message, *more) = wait_for("the receiver was told", lambda: receiver.messages, patience=120)
        assert not more
        assert message["title"] == "imsr shop"
        assert message["message"].startswith(f"flow run workspace:{workspace.root} is Late")
