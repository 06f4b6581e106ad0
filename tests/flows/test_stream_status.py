"""`imsr status` beside a stream: how far it is and what it waits for, for people and for programs."""

from __future__ import annotations

import json
import os

import pytest
from typer.testing import CliRunner

from flows.cli import app

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
    assert f"folder:{folder}: lag 0, watermark 2024-03-02 09:30:00" in shown
    assert "waits for an event of 2024-03-03 01:00:00 or later" in shown  # the span's end and an hour for the late
    assert "then 2024-03-02 is over" in shown


def test_status_as_json_has_a_row_for_each_partition(streamed):
    answer = json.loads(run("status", "-w", streamed[0], "--json"))
    (partition,) = answer["streams"]
    assert partition["lag"] == 0
    assert partition["watermark"] == "2024-03-02 09:30:00"
    assert partition["partition"] == "files"
