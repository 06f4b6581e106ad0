"""`imsr status` beside a stream: how far it is and what it waits for, for people and for programs."""

from __future__ import annotations

import json
import os
import shlex
import socket
from contextlib import ExitStack
from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from flows.cli import app
from pipelines.stream.consumers import noted_consumer
from pipelines.stream.watermark import stream_states
from pipelines.workspace.layout import Workspace
from pipelines.workspace.lease import hold
from pipelines.workspace.states import SpanState

NOW = datetime(2024, 6, 15, tzinfo=UTC)

EVENTS = [("ann", "tea", "2024-03-01T10:00:00"), ("bob", "jam", "2024-03-02T09:30:00")]


def run(*words):
    done = CliRunner().invoke(app, [*map(str, words)], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture
def streamed(tmp_path):
    """A workspace of day spans that took two events of two days from a folder, and where that is."""
    folder, root = tmp_path / "in", tmp_path / "w"
    folder.mkdir()
    run("init", root)
    settings = root / "imsr.toml"
    settings.write_text(settings.read_text().replace('unit = "month"', 'unit = "day"'))
    events = folder / "events.csv"
    events.write_text("user_id,item_id,timestamp\n" + "".join(",".join(event) + "\n" for event in EVENTS))
    os.utime(events, (1e9, 1e9))  # complete long ago
    run("stream", "-w", root, "--from", f"folder:{folder}", "--drain", "--no-learn")
    return root, folder


def test_status_says_lag_watermark_and_what_it_waits_for(streamed):
    root, folder = streamed
    shown = run("status", "-w", root)
    assert f"folder:{folder}: lag 0 when it was last read, watermark 2024-03-02 09:30:00" in shown
    assert "waits for an event of 2024-03-03 01:00:00 or later" in shown  # the span's end and an hour for the late
    assert "then 2024-03-02 is over" in shown


def test_status_as_json_has_a_row_for_each_partition(streamed):
    answer = json.loads(run("status", "-w", streamed[0], "--json"))
    (partition,) = answer["streams"]
    assert partition["lag"] == 0
    assert partition["watermark"] == "2024-03-02 09:30:00"
    assert partition["partition"] == "files"


def beside(root, *, learns, lease="", doing=""):
    """What `imsr status` says of what is due beside a consumer, which holds the lease if it is given one."""
    workspace = Workspace.open(root)
    with noted_consumer(workspace, stream_name(workspace), learns=learns), ExitStack() as stack:
        if lease:
            stack.enter_context(hold(workspace, lease)).tell(doing)
        shown, answer = run("status", "-w", root), json.loads(run("status", "-w", root, "--json"))
    (due,) = [line for line in shown.splitlines() if line.startswith("due: ")]
    assert [each["learns"] for each in answer["consumers"]] == [learns]
    return shown, due


def stream_name(workspace):
    with workspace.ledger.snapshot() as view:
        (name,) = stream_states(view)
    return name


def test_what_is_due_is_left_to_the_stream_that_will_learn_it(streamed):
    root, _ = streamed
    who = f"process {os.getpid()} on "
    shown, due = beside(root, learns=True)
    assert f"read by {who}" in shown
    assert f"due: 2; the stream, {who}" in due  # by its watermark the first day is over, and the second is not
    assert due.endswith("learns 2024-03-01 next")
    with Workspace.open(root).ledger.transaction() as tx:
        tx.set_span_state("2024-03-01", SpanState.PUBLISHED, at=NOW)
    _, due = beside(root, learns=True)
    assert "learns when it has an event of 2024-03-03 01:00:00 or later" in due


def test_what_is_due_is_said_to_be_under_way(streamed):
    root, _ = streamed
    assert beside(root, learns=True, lease="imsr stream", doing="span 2024-03-01: train")[1].endswith("is at it")
    assert "imsr run, process" in beside(root, learns=False, lease="imsr run")[1]


def test_a_stream_that_learns_nothing_or_has_ended_leaves_it_to_a_run(streamed):
    root, folder = streamed
    shown, due = beside(root, learns=False)
    assert f"read by process {os.getpid()} on {socket.gethostname()} (--no-learn)" in shown
    assert due == "due: 2; next: imsr run"
    shown = run("status", "-w", root)
    (next_command,) = (line.partition("next: ")[2] for line in shown.splitlines() if "read by nobody now" in line)
    run(*shlex.split(next_command)[1:], "-w", root, "--drain", "--no-learn")
    assert next_command == f"imsr stream --from {shlex.quote(f'folder:{folder}')}"
    assert "due: 2; next: imsr run" in shown
    with Workspace.open(root).ledger.transaction() as tx:
        tx.set_span_state("2024-03-01", SpanState.FAILED, at=NOW, error="diverged")
    assert beside(root, learns=True)[1].endswith("next: imsr run")
