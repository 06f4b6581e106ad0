"""SIGTERM in the middle of a command: it ends with code 143 (a stream: 0), the lease is free, the next run finishes."""

from __future__ import annotations

import pytest
from children import imsr
from tiny_world import SCENARIOS
from workspace_content import content, differences, require_clean, require_usable

from pipelines.workspace.failpoints import FailPoint

EXIT_CODE = 143
#: Scenario -> points of it, with the pass that is interrupted.
QUICK = [("ingest", FailPoint.INGEST_STAGED), ("night", FailPoint.TRAIN_STARTED)]
SLOW = [
    ("ingest", FailPoint.LEASE_TAKEN),
    ("ingest", FailPoint.INGEST_RENAMED_ONE),
    ("ingest", FailPoint.INGEST_BEFORE_COMMIT),
    ("withdraw", FailPoint.INGEST_BEFORE_COMMIT),
    ("replace", FailPoint.INGEST_RENAMED_ONE),
    ("backfill", FailPoint.TRAIN_STARTED),
    ("restate", FailPoint.TRAIN_BEFORE_COMMIT),
    ("stream", FailPoint.STREAM_WRITTEN),
    ("task", FailPoint.TASK_STARTED),
    ("night", FailPoint.SEQUENCES_BUCKET_WRITTEN),
    ("night", FailPoint.SEQUENCES_BEFORE_COMMIT),
    ("night", FailPoint.EVALUATE_BEFORE_COMMIT),
    ("night", FailPoint.TRAIN_BEFORE_COMMIT),
    ("night", FailPoint.PROMOTE_BEFORE_COMMIT),
    ("night", FailPoint.CATALOG_STAGED),
    ("forget", FailPoint.REWRITE_REPLACED),
    ("forget", FailPoint.FORGET_BEFORE_COMMIT),
    ("prune", FailPoint.PRUNE_AFTER_COMMIT),
]


@pytest.mark.parametrize(("name", "point"), [*QUICK, *(pytest.param(*each, marks=pytest.mark.slow) for each in SLOW)])
def test_a_command_that_is_asked_to_end(worlds, references, done, tmp_path, name, point):
    code = 0 if name == "stream" else EXIT_CODE  # a stream is there to be ended: after its batch all is well
    _end(worlds, references, done, tmp_path, name, point, "term", code)


def test_a_command_whose_terminal_is_closed(worlds, references, done, tmp_path):
    _end(worlds, references, done, tmp_path, "night", FailPoint.TRAIN_STARTED, "hup", 129)


def _end(worlds, references, done, tmp_path, name, point, signal, code):
    scenario, wanted = SCENARIOS[name], references[name]
    workspace = worlds.copy(scenario.start, tmp_path / "workspace", scenario.setting)
    ended = imsr(tmp_path / "log", *scenario.words(workspace), fail=f"{point}:1:{signal}")
    assert ended.code == code, ended.said
    assert "Traceback" not in ended.said
    with workspace.ledger.snapshot() as view:
        assert view.lease().holder is None
    require_usable(workspace)
    ended = imsr(tmp_path / "log", *scenario.words(workspace, again=True))
    assert ended.code == 0, ended.said
    assert differences(content(workspace), wanted.content) == []
    require_clean(workspace)
    done["terminations"] += 1
