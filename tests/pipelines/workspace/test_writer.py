"""The right to write: workspace, lease and clock in one object, its own or lent."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from pipelines.workspace.layout import Workspace
from pipelines.workspace.lease import LeaseHeld, LeaseLost
from pipelines.workspace.ledger import LEASE, LeaseRow
from pipelines.workspace.writer import lent, writing

NOW = datetime(2024, 3, 1, tzinfo=UTC)


@pytest.fixture
def workspace(tmp_path):
    return Workspace.create(tmp_path / "w")


def test_a_lent_writer_is_the_callers_and_one_of_ones_own_takes_the_lease(workspace):
    with writing(workspace, "flow", now=NOW) as outer, lent(outer, workspace, "step", now=NOW) as inner:
        assert inner is outer
        with pytest.raises(LeaseHeld), lent(None, workspace, "step", now=NOW):
            pass
    with lent(None, workspace, "step", now=NOW) as own:
        assert own.lease.token == outer.lease.token + 1


def test_a_clock_is_asked_each_time_and_a_moment_stands(workspace):
    times = iter([NOW, NOW.replace(day=2)])
    with writing(workspace, "run", now=lambda: next(times)) as writer:
        assert [writer.now, writer.now] == [NOW, NOW.replace(day=2)]
    with writing(workspace, "run", now=NOW) as writer:
        assert writer.now == writer.now == NOW


def test_a_writer_that_was_overtaken_commits_nothing(workspace):
    with writing(workspace, "run", now=NOW) as writer:
        with writer.transaction() as tx:
            tx.put_meta("mine", "yes")
        with workspace.ledger.transaction() as tx:
            tx.put_lease(LeaseRow(LEASE, tx.lease().holder, writer.lease.token + 1, time.time()))
        with pytest.raises(LeaseLost), writer.transaction() as tx:
            tx.put_meta("mine", "no")
    with workspace.ledger.snapshot() as view:
        assert view.meta("mine") == "yes"
