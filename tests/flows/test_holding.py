"""Whoever holds the workspace leaves views that are as new as the ledger, whatever happened in between."""

from __future__ import annotations

import pytest
from small_world import DAYS, NOW, span_rows

from flows.holding import holding
from pipelines.nights.restate import mark_stale
from pipelines.warehouse.catalog import catalog_is_current, connect
from pipelines.workspace.ledger import SpanState
from pipelines.workspace.writer import writing


def shown(workspace) -> dict[str, str]:
    """The states of spans as the views tell them."""
    with connect(workspace) as connection:
        return dict(connection.execute("SELECT span_id, state FROM spans").fetchall())


def told(workspace) -> dict[str, str]:
    return {span_id: str(row.state) for span_id, row in span_rows(workspace).items()}


def test_the_views_show_what_was_done(learnt, copy_of):
    workspace = copy_of(learnt)
    with holding(workspace, "test", now=NOW) as writer:
        mark_stale(writer, DAYS[3])
    assert shown(workspace) == told(workspace)
    assert shown(workspace)[DAYS[3]] == "stale"


def test_the_views_show_what_was_done_before_it_failed_and_the_failure_is_raised(learnt, copy_of):
    workspace = copy_of(learnt)

    def fail_half_way() -> None:
        with holding(workspace, "test", now=NOW) as writer:
            mark_stale(writer, DAYS[3])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert shown(workspace)[DAYS[3]] == "stale"
    assert shown(workspace) == told(workspace)


def test_a_command_that_changes_nothing_shows_what_a_killed_one_left(learnt, copy_of):
    workspace = copy_of(learnt)
    with writing(workspace, "killed before it could write the views", now=NOW) as writer, writer.transaction() as tx:
        tx.set_span_state(DAYS[-1], SpanState.FAILED, at=NOW, error="killed")
    assert not catalog_is_current(workspace)
    with holding(workspace, "test", now=NOW):
        pass
    assert catalog_is_current(workspace)
    assert shown(workspace)[DAYS[-1]] == "failed"
