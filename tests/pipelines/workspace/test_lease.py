import os
import signal
import subprocess
import sys
import time

import pytest

from pipelines.workspace import lease as lease_module
from pipelines.workspace.ending import Terminated
from pipelines.workspace.layout import Workspace
from pipelines.workspace.lease import LeaseHeld, LeaseLost, ended_early, hold
from pipelines.workspace.ledger import LEASE, LeaseRow

#: Takes the lease, says so, waits for a line, then tries to commit.
HOLDER = """
import sys
from pipelines.workspace.lease import hold, LeaseLost
from pipelines.workspace.layout import Workspace
workspace = Workspace.open(sys.argv[1])
try:
    with hold(workspace, "the first run", stale_after=float(sys.argv[2])) as lease:
        print("holding", flush=True)
        sys.stdin.readline()
        with workspace.ledger.transaction(fence=lease.token) as tx:
            tx.put_meta("winner", "first")
except LeaseLost as error:
    print("lost:", error, flush=True)
    sys.exit(7)
"""


@pytest.fixture
def workspace(tmp_path):
    return Workspace.create(tmp_path / "w", "")


@pytest.fixture
def start(workspace):
    """Start another process that holds the lease; it is ended after the test."""
    started = []

    def go(stale_after: float) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(workspace.root), str(stale_after)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"PYTHONPATH": ":".join(sys.path)},
        )
        started.append(process)
        assert process.stdout.readline() == "holding\n"
        return process

    yield go
    for process in started:
        process.kill()
        process.communicate()


def meta(workspace):
    with workspace.ledger.snapshot() as view:
        return view.meta("winner")


def test_tokens_grow_and_a_fence_lets_the_holder_commit(workspace):
    with hold(workspace, "one") as one:
        one.check()
        with workspace.ledger.transaction(fence=one.token) as tx:
            tx.put_meta("winner", "one")
    with hold(workspace, "two") as two:
        assert two.token == one.token + 1
        with pytest.raises(LeaseLost), workspace.ledger.transaction(fence=one.token):
            pass
    with pytest.raises(LeaseLost), workspace.ledger.transaction(fence=two.token):
        pass  # given back: a thread that forgot to stop must not write
    assert meta(workspace) == "one"


def test_a_second_run_is_told_who_holds_it(workspace):
    with hold(workspace, "imsr nightly"), pytest.raises(LeaseHeld) as caught, hold(workspace, "imsr ingest"):
        pass
    for words in ("imsr nightly", str(os.getpid()), "since 20", "-> wait"):
        assert words in str(caught.value)


def test_the_heartbeat_moves(workspace):
    with hold(workspace, "one", stale_after=0.12):
        with workspace.ledger.snapshot() as view:
            first = view.lease().heartbeat
        for _ in range(200):
            time.sleep(0.02)
            with workspace.ledger.snapshot() as view:
                if view.lease().heartbeat > first:
                    return
    pytest.fail("no heartbeat in 4 s")


def test_a_live_holder_in_another_process_is_respected(workspace, start):
    process = start(60)
    with pytest.raises(LeaseHeld, match=str(process.pid)), hold(workspace, "second"):
        pass
    process.communicate("\n")
    assert process.returncode == 0
    with hold(workspace, "second") as lease:
        assert lease.token == 2
    assert meta(workspace) == "first"


def test_a_killed_holder_is_replaced_at_once(workspace, start):
    process = start(60)
    process.kill()
    process.wait()
    with hold(workspace, "second") as lease:
        assert lease.token == 2


def test_a_suspended_holder_that_wakes_up_cannot_commit(workspace, start):
    process = start(60)
    os.kill(process.pid, signal.SIGSTOP)
    with workspace.ledger.transaction() as tx:  # as if an hour had passed
        row = tx.lease()
        tx.put_lease(LeaseRow(LEASE, row.holder, row.token, row.heartbeat - 3600))
    with hold(workspace, "second") as lease:
        os.kill(process.pid, signal.SIGCONT)
        said, _ = process.communicate("\n")
        assert process.returncode == 7
        assert "lost: this run (lease 1) no longer holds the workspace" in said
        with workspace.ledger.transaction(fence=lease.token) as tx:
            tx.put_meta("winner", "second")
    assert meta(workspace) == "second"


@pytest.mark.parametrize("shift", [-61.0, 61.0])
def test_an_old_heartbeat_is_stale_and_so_is_one_from_the_future(workspace, monkeypatch, shift):
    holder = {"pid": os.getpid(), "host": "other", "command": "x", "since": "then", "machine": "other"}
    with workspace.ledger.transaction() as tx:
        tx.put_lease(LeaseRow(LEASE, holder, 5, time.time() + shift / 2))
    with pytest.raises(LeaseHeld), hold(workspace, "second"):
        pass
    with workspace.ledger.transaction() as tx:
        tx.put_lease(LeaseRow(LEASE, holder, 5, time.time() + shift))
    with hold(workspace, "second") as lease:
        assert lease.token == 6


def test_a_reused_process_number_does_not_count_as_alive(workspace):
    with hold(workspace, "one"), workspace.ledger.snapshot() as view:
        row = view.lease()
    with workspace.ledger.transaction() as tx:
        tx.put_lease(LeaseRow(LEASE, {**row.holder, "started": "1"}, row.token, time.time()))
    with hold(workspace, "second") as lease:
        assert lease.token == 2


def test_the_loser_hears_why_its_files_are_gone(workspace):
    def lose() -> None:
        with hold(workspace, "one") as lease:
            with workspace.ledger.transaction() as tx:
                tx.put_lease(LeaseRow(LEASE, tx.lease().holder, lease.token + 1, time.time()))
            raise FileNotFoundError("staging/ingest.123/x")

    with pytest.raises(LeaseLost) as caught:
        lose()
    assert isinstance(caught.value.__context__, FileNotFoundError)


def test_own_start_time_is_known():
    assert lease_module._started(os.getpid()) is not None
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert lease_module._started(ended.pid) is None


def test_what_the_run_is_at_can_be_read_by_others(workspace):
    def doing():
        with workspace.ledger.snapshot() as view:
            return view.lease().holder["doing"]

    with hold(workspace, "a night") as lease:
        lease.tell("span 2024-03-01: train")
        assert doing() == "span 2024-03-01: train"
        lease.doing = "span 2024-03-01: train, 3 of 9 steps"
        assert lease.beat()
        assert doing() == "span 2024-03-01: train, 3 of 9 steps"


def early(workspace):
    with workspace.ledger.snapshot() as view:
        return ended_early(view)


@pytest.mark.parametrize(
    ("asked", "signal_name"),
    [(Terminated(143), "SIGTERM"), (Terminated(129), "SIGHUP"), (KeyboardInterrupt(), "SIGINT (Ctrl-C)")],
)
def test_a_run_that_a_signal_ended_is_noted_until_another_one_is_done(workspace, asked, signal_name):
    with pytest.raises(type(asked)), hold(workspace, "imsr run") as lease:  # noqa: PT012
        lease.doing = "span 7: train, 3 of 9 steps"
        raise asked
    found = early(workspace)
    assert (found["command"], found["signal"], found["doing"]) == (
        "imsr run",
        signal_name,
        "span 7: train, 3 of 9 steps",
    )
    with hold(workspace, "imsr run"):
        assert early(workspace) is None
    assert early(workspace) is None


def test_a_run_that_failed_was_not_ended_by_a_signal(workspace):
    with pytest.raises(ValueError, match="no"), hold(workspace, "imsr run"):
        raise ValueError("no")
    assert early(workspace) is None


def test_a_run_that_was_killed_is_seen_from_its_lease(workspace, start):
    process = start(60.0)
    assert early(workspace) is None
    process.kill()
    process.wait()
    assert early(workspace)["signal"].startswith("SIGKILL")
    with hold(workspace, "the next one"):
        assert early(workspace) is None
    assert early(workspace) is None
