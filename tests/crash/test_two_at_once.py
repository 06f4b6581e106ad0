"""Two commands on one workspace: the second says who is at work, takes over from the dead, and cannot be overtaken.

The first command is suspended (SIGSTOP) at a fail point, so that nothing here depends on who is faster.
"""

from __future__ import annotations

import os
import signal
import time

import pytest
from children import Child, Ended, imsr, start
from tiny_world import SECOND, Worlds
from workspace_content import content, differences, pointer, require_clean, require_usable

from pipelines.warehouse.catalog import catalog_is_current
from pipelines.workspace.failpoints import FailPoint
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import LEASE, LeaseRow

NIGHTS = [("run",), ("backfill", "--which", "missing"), ("rollback",)]
OTHERS = [
    ("ingest",),
    ("promote", f"{SECOND}.1"),
    ("restate", SECOND, "--yes"),
    ("forget", "--user", "u3"),
    ("prune",),
]
#: Where a run holds no transaction of the ledger, so that others can look at it.
OUTSIDE = [FailPoint.LEASE_TAKEN, FailPoint.SEQUENCES_BUCKET_WRITTEN, FailPoint.TRAIN_STARTED, FailPoint.TRAIN_STAGED]


def command(workspace: Workspace, *words: str) -> tuple[str, ...]:
    return (*words, "-w", str(workspace.root))


def suspended(workspace: Workspace, log, point: FailPoint, *words: str) -> Child:
    """A command that stands still at this point."""
    child = start(log, *command(workspace, *words), fail=f"{point}:1:stop")
    child.wait_until_stopped()
    return child


def age_heartbeat(workspace: Workspace) -> None:
    """As if an hour had passed."""
    with workspace.ledger.transaction() as tx:
        row = tx.lease()
        tx.put_lease(LeaseRow(LEASE, row.holder, row.token, time.time() - 3600))


def woken(child: Child) -> Ended:
    """How a suspended command ends once it goes on."""
    os.kill(child.pid, signal.SIGCONT)
    return child.wait()


@pytest.fixture
def world(worlds: Worlds, tmp_path) -> Workspace:
    return worlds.copy("third day due", tmp_path / "workspace")


@pytest.mark.parametrize("others", [NIGHTS, pytest.param(OTHERS, marks=pytest.mark.slow)], ids=["nights", "others"])
def test_every_other_command_is_told_who_is_at_work(world, references, done, tmp_path, others):
    first = suspended(world, tmp_path / "first", FailPoint.TRAIN_STARTED, "run")
    before = content(world)
    for words in others:
        second = imsr(tmp_path / "second", *command(world, *words))
        assert second.code == 1, second.said
        assert f"in use by 'imsr run', process {first.pid}" in " ".join(second.said.split())
        assert "Traceback" not in second.said
        assert differences(content(world), before) == []
        done["second runs refused"] += 1
    require_usable(world)
    assert woken(first).code == 0
    assert differences(content(world), references["night"].content) == []
    require_clean(world)


@pytest.mark.slow
def test_readers_are_served_while_a_run_is_suspended(world, tmp_path):
    first = suspended(world, tmp_path / "first", FailPoint.TRAIN_STARTED, "run")
    for words in (("status",), ("versions",), ("plan",), ("sql", "SELECT count(*) FROM interests"), ("doctor",)):
        found = imsr(tmp_path / "second", *command(world, *words))
        assert found.code == 0, found.said
    assert woken(first).code == 0


@pytest.mark.parametrize(
    "point", [pytest.param(p, marks=() if p == FailPoint.TRAIN_STAGED else pytest.mark.slow) for p in OUTSIDE]
)
def test_a_suspended_run_that_was_overtaken_cannot_publish(world, references, done, tmp_path, point):
    first = suspended(world, tmp_path / "first", point, "run")
    age_heartbeat(world)
    second = imsr(tmp_path / "second", *command(world, "run"))
    assert second.code == 0, second.said
    assert differences(content(world), references["night"].content) == []
    ended = woken(first)
    assert ended.code == 1, ended.said
    assert "no longer holds the workspace" in " ".join(ended.said.split())
    assert "Traceback" not in ended.said
    assert differences(content(world), references["night"].content) == []
    require_clean(world)
    done["suspended runs overtaken"] += 1


@pytest.mark.slow
@pytest.mark.parametrize("point", [FailPoint.CATALOG_STAGED, FailPoint.PROMOTE_AFTER_COMMIT])
def test_a_run_that_was_overtaken_while_it_wrote_the_views_leaves_those_of_the_ledger(world, done, tmp_path, point):
    first = suspended(world, tmp_path / "first", point, "run")
    age_heartbeat(world)
    second = imsr(tmp_path / "second", *command(world, "rollback"))
    assert second.code == 0, second.said
    woken(first)
    assert pointer(world) == f"{SECOND}.1"
    assert catalog_is_current(world)
    require_usable(world)
    done["suspended runs overtaken"] += 1


@pytest.mark.slow
def test_the_lease_of_a_killed_run_is_taken_over_at_once(world, references, done, tmp_path):
    first = suspended(world, tmp_path / "first", FailPoint.TRAIN_STARTED, "run")
    first.process.kill()
    first.wait()
    second = imsr(tmp_path / "second", *command(world, "run"))
    assert second.code == 0, second.said
    assert differences(content(world), references["night"].content) == []
    done["leases of the dead taken over"] += 1


@pytest.mark.slow
@pytest.mark.parametrize("words", [("run",), ("backfill", "--which", "missing")])
def test_two_started_together(worlds, references, done, tmp_path, words):
    """Whoever comes second is refused, or finds nothing to do; the workspace is that of one run."""
    for number in range(5):
        world = worlds.copy("third day due", tmp_path / f"workspace {number}")
        both = [
            start(tmp_path / f"{number}.1", *command(world, "run")),
            start(tmp_path / f"{number}.2", *command(world, *words)),
        ]
        ended = [each.wait() for each in both]
        assert 0 in {each.code for each in ended}
        for each in ended:
            assert each.code == 0 or "the workspace is in use by" in " ".join(each.said.split()), each.said
        require_clean(world)
        assert differences(content(world), references["night"].content) == []
        done["pairs of runs"] += 1
