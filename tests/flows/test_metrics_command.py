"""`imsr metrics`: what Prometheus reads is what the ledger says."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from prometheus_client.parser import text_string_to_metric_families
from small_world import DAYS, NOW, VERSIONS
from test_cli import imsr

from flows.metrics import metrics_text
from pipelines.workspace.ledger import Snapshot
from pipelines.workspace.writer import writing


def values(text: str) -> dict[tuple, float]:
    """(name, label values but the workspace) -> value."""
    return {(name, *labels.values()): value for name, (_, labels), value in series(text)}


def series(text: str):
    """(name, (workspace, the other labels), value) of each."""
    for family in text_string_to_metric_families(text):
        for s in family.samples:
            labels = dict(s.labels)
            yield s.name, (labels.pop("workspace"), labels), s.value


def test_the_gauges_are_those_of_the_ledger(learnt):
    found = values(metrics_text(learnt, now=NOW).decode())
    assert found["imsr_spans", "published"] == len(DAYS)
    assert found["imsr_spans", "failed"] == found["imsr_runs_due",] == found["imsr_rows_quarantined",] == 0
    assert found["imsr_current_version", "interests", VERSIONS[-1]] == 1
    assert found["imsr_seconds_since_learnt",] == (NOW - datetime(2024, 3, 7, tzinfo=UTC)).total_seconds()
    with learnt.ledger.snapshot() as view:
        rows = {(row.span_id, row.version_id, row.metric, row.slice): row for row in view.metrics()}
    row = rows[DAYS[-1], VERSIONS[-2], "hr@10", "all"]
    assert found["imsr_score", "hr@10", "all", DAYS[-1]] == pytest.approx(row.value)


def test_a_failed_span_is_seen(ingested, copy_of):
    workspace = copy_of(ingested)
    with writing(workspace, "test", now=NOW) as writer, writer.transaction() as tx:
        tx.set_span_state(DAYS[0], "failed", at=NOW, error="no")
    found = values(metrics_text(workspace, now=NOW).decode())
    assert found["imsr_spans", "failed"] == 1
    assert found["imsr_runs_due",] > 0
    assert not [key for key in found if key[0] == "imsr_current_version"]


def test_a_file_for_a_node_exporter(learnt, tmp_path):
    assert imsr("metrics", "-w", learnt.root, "--out", tmp_path / "imsr.prom") == ""
    written = values((tmp_path / "imsr.prom").read_text())
    assert written.keys() == values(imsr("metrics", "-w", learnt.root)).keys()


def test_two_workspaces_of_one_machine_have_no_series_in_common(learnt, copy_of):
    names = [learnt.root, copy_of(learnt).root]
    found = [{labels[0] for _, labels, _ in series(imsr("metrics", "-w", name))} for name in names]
    assert found == [{str(name)} for name in names]


def test_the_ledger_is_not_asked_for_each_score_whose_version_it_is(learnt, monkeypatch):
    asked = []
    monkeypatch.setattr(Snapshot, "version", lambda self, name: asked.append(name))
    assert values(metrics_text(learnt, now=NOW).decode())["imsr_score", "hr@10", "all", DAYS[-1]] >= 0
    assert asked == []
