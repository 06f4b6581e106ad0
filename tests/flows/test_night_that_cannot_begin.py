"""A night that cannot begin says why in two lines, at once, and to those whom a failed night is told."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import pytest
from prefect_processes import HOST, free_port
from receiver import receiving
from small_world import NOW
from typer.testing import CliRunner

from flows.cli import app
from flows.nightly import nightly
from pipelines.workspace.lease import LeaseHeld, hold

IMSR = [sys.executable, "-c", "from flows.cli import main; main()"]


@pytest.fixture
def receiver(monkeypatch):
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1,localhost")
    with receiving() as made:
        yield made


def asking(workspace, url):
    path = workspace.root / "imsr.toml"
    path.write_text(f"{path.read_text()}\n[alerts]\nurls = ['{url}']\n")
    (workspace.root / "landing").mkdir(exist_ok=True)
    return workspace


def test_a_workspace_in_use_is_said_before_a_server_is_started(ingested, copy_of, receiver, monkeypatch):
    workspace = asking(copy_of(ingested), receiver.url)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setattr("flows.commands.serve.prepare_prefect", lambda: None)
    monkeypatch.setattr("flows.nightly.nightly", lambda *_: pytest.fail("a server was started to be told this"))
    with hold(workspace, "imsr run"):
        result = CliRunner().invoke(app, ["nightly", "-w", str(workspace.root)])
    assert isinstance(result.exception, LeaseHeld)
    (message,) = receiver.messages
    assert "the workspace is in use by 'imsr run'" in message["message"]


def test_a_server_that_does_not_answer_is_an_error_of_two_lines(ingested, copy_of, receiver, tmp_path):
    workspace = asking(copy_of(ingested), receiver.url)
    url = f"http://{HOST}:{free_port()}/api"
    environment = os.environ | {
        "PREFECT_API_URL": url,
        "PREFECT_HOME": str(tmp_path),
        "PREFECT_CLIENT_MAX_RETRIES": "0",
    }
    command = [*IMSR, "nightly", "-w", str(workspace.root)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    what, hint = [line for line in done.stderr.splitlines() if not line.startswith("warning: told")]
    assert done.returncode == 1
    assert what.startswith("error: the Prefect server does not answer")
    assert url in what
    assert "unset PREFECT_API_URL" in hint
    assert "does not answer" in receiver.messages[0]["message"]


@pytest.mark.usefixtures("prefect_server")
def test_what_we_know_the_reason_of_is_logged_without_where_it_arose(ingested, copy_of, monkeypatch):
    workspace = copy_of(ingested)
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    logger = logging.getLogger("prefect.flow_runs")
    logger.addHandler(handler)
    try:
        with hold(workspace, "imsr run"), pytest.raises(LeaseHeld):
            nightly(str(workspace.root), now=NOW.isoformat())
        known = [record for record in records if "Encountered exception" in record.getMessage()]
        monkeypatch.setattr("flows.nightly.holding", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            nightly(str(workspace.root), now=NOW.isoformat())
    finally:
        logger.removeHandler(handler)
    bugs = [record for record in records if "Encountered exception" in record.getMessage()][len(known) :]
    assert [record.exc_info for record in known] == [None]
    assert all(record.exc_info for record in bugs)
    assert bugs
