"""A ledger that lost a row: the folder that the row named may be all there is, and no run removes it."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from small_world import DAYS, NOW, current, day_of_events, land, run_all, run_one, tree

from imsr_core.errors import ImsrError
from pipelines.care.doctor import examine
from pipelines.care.prune import prune
from pipelines.workspace.layout import Workspace

DUE = "2024-03-07"


def lose(workspace: Workspace, sql: str) -> Path:
    """Delete rows behind the program's back; returns a copy of the ledger from before."""
    backup = workspace.root.parent / "backup.sqlite"
    shutil.copy2(workspace.ledger_file, backup)
    with closing(sqlite3.connect(workspace.ledger_file)) as connection, connection:
        assert connection.execute(sql).rowcount
    return backup


def below(workspace: Workspace, folder: str) -> dict[str, object]:
    return {name: content for name, content in tree(workspace.root).items() if name.startswith(folder)}


def test_data_whose_row_was_lost_outlive_the_next_ingest(due):
    whole = below(due, f"lake/span={DAYS[0]}/v=1")
    backup = lose(due, f"DELETE FROM span_versions WHERE span_id = '{DAYS[0]}'")
    lost = [finding for finding in examine(due) if "the ledger lost the data" in finding.what]
    assert [finding.where for finding in lost] == [f"lake/span={DAYS[0]}/v=1"]
    prune(due, now=NOW)
    land(due, day_of_events(7), "eighth.csv")
    assert below(due, f"lake/span={DAYS[0]}/v=1") == whole
    shutil.copy2(backup, due.ledger_file)  # of before the eighth day
    land(due, day_of_events(7), "eighth.csv")
    assert not [finding for finding in examine(due) if finding.severity == "error"]


def test_data_whose_row_was_lost_outlive_an_ingest_of_the_same_span(due):
    whole = below(due, f"lake/span={DUE}/v=1")
    lose(due, f"DELETE FROM span_versions WHERE span_id = '{DUE}'")
    land(due, day_of_events(6, seed=1), "more.csv")
    assert below(due, f"lake/span={DUE}/v=1") == whole
    assert below(due, f"lake/span={DUE}/v=2")


def test_sequences_whose_row_was_lost_are_taken_up_again(due):
    whole = below(due, f"sequences/span={DAYS[-1]}")
    lose(due, f"DELETE FROM sequences WHERE span_id = '{DAYS[-1]}'")
    with pytest.raises(ImsrError, match=DAYS[-1]):
        run_one(due, DUE)
    assert below(due, f"sequences/span={DAYS[-1]}") == whole
    lose(due, f"UPDATE spans SET state = 'stale' WHERE span_id >= '{DAYS[-1]}'")
    run_all(due)
    assert below(due, f"sequences/span={DAYS[-1]}") == whole
    assert current(due) == f"{DUE}.1"


def test_a_version_whose_row_was_lost_is_not_replaced_by_another(due):
    whole = below(due, f"versions/{DAYS[-1]}.1")
    backup = lose(due, f"DELETE FROM versions WHERE version_id = '{DAYS[-1]}.1'")
    lose(due, f"UPDATE pointers SET version_id = '{DAYS[-2]}.1'")
    lose(due, f"UPDATE spans SET state = 'stale' WHERE span_id = '{DAYS[-1]}'")
    with pytest.raises(ImsrError, match="the ledger lost its row"):
        run_all(due)
    prune(due, now=NOW)
    assert below(due, f"versions/{DAYS[-1]}.1") == whole
    assert backup.exists()
