"""One writer at a time. The lease is a row of the ledger: who holds it, a token, a heartbeat.

Every acquisition takes the next token. A writer hands its token to ``Ledger.transaction(fence=...)``; a run
that was suspended, taken over, and then woken up has an old token and can no longer commit.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from imsr_core.errors import ImsrError
from pipelines.workspace.ending import Terminated, raise_signal_behind
from pipelines.workspace.failpoints import FailPoint, hit
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import LEASE, LeaseLost, LeaseRow, Ledger, LedgerError, Snapshot, Transaction, iso
from pipelines.workspace.publish import clear_staging

STALE_SECONDS = 60.0
#: Key in the ledger's ``meta``: the last run, if a signal ended it.
ENDED = "ended_by_signal"

__all__ = ["Lease", "LeaseHeld", "LeaseLost", "describe", "ended_early", "hold", "is_held", "is_running"]


class LeaseHeld(ImsrError):
    """Another run is writing to the workspace; ``holder`` says which (pid, host, command, since)."""

    def __init__(self, holder: dict[str, Any]) -> None:
        super().__init__(
            "the workspace is in use by {command!r}, process {pid} on {host}, since {since}".format(**holder),
            hint="wait for it to end, or end it, and run the command again",
        )
        self.holder = holder


@dataclass
class Lease:
    """A held lease. ``token`` is the fence for ``Ledger.transaction``; ``doing`` is what the run is at, in words, and
    goes out with the next heartbeat, for `imsr status`."""

    ledger: Ledger
    token: int
    doing: str = ""
    _stop: threading.Event = field(default_factory=threading.Event)

    def check(self) -> None:
        """Raise LeaseLost if another run has taken over."""
        with self.ledger.transaction(fence=self.token):
            pass

    def beat(self) -> bool:
        """Say that this run is alive; False if the lease is lost."""
        try:
            with self.ledger.transaction(fence=self.token) as tx:
                lease = tx.lease()
                assert lease is not None
                holder = None if lease.holder is None else lease.holder | {"doing": self.doing}
                tx.put_lease(LeaseRow(LEASE, holder, self.token, time.time()))
        except LeaseLost:
            return False
        return True

    def tell(self, doing: str) -> None:
        """Say at once what the run is at."""
        self.doing = doing
        with suppress(LedgerError):  # busy: the next heartbeat says it
            self.beat()

    def _beat_on(self, seconds: float) -> None:
        while not self._stop.wait(seconds):
            try:
                if not self.beat():
                    return
            except LedgerError:
                continue  # busy or full disk: the next beat tries again, and a commit would say so itself


@contextmanager
def hold(workspace: Workspace, holder: str, *, stale_after: float = STALE_SECONDS) -> Iterator[Lease]:
    """Hold the workspace for writing, with a heartbeat from a thread, until the block ends.

    Args:
        holder: what is running, for the one who has to wait ("imsr ingest").
        stale_after: seconds without a heartbeat after which a holder counts as dead.

    Raises:
        LeaseHeld: another run holds it and is alive.
        LeaseLost: the block failed after another run had taken over.
    """
    ledger, ended_by = workspace.ledger, ""
    with ledger.transaction() as tx:
        lease = Lease(ledger, _take(tx, holder, stale_after))
    thread = threading.Thread(target=lease._beat_on, args=(stale_after / 6,), name="imsr-lease", daemon=True)
    try:
        hit(FailPoint.LEASE_TAKEN)
        thread.start()
        lease.check()  # a process that was suspended here would clear away what its successor writes
        clear_staging(workspace)  # what dead runs left: nobody else writes now
        try:
            yield lease
        except RuntimeError as error:
            raise_signal_behind(error)
            raise
    except Exception:
        lease.check()  # a loser's files are gone under its feet: say why, not that a file is missing
        raise
    except BaseException as asked:
        ended_by = _signal_of(asked)
        raise
    finally:
        lease._stop.set()
        if thread.is_alive():
            thread.join()
        _release(lease, ended_by)


def is_held(view: Snapshot, *, stale_after: float = STALE_SECONDS) -> bool:
    """Whether a run that is alive holds the workspace."""
    lease = view.lease()
    return lease is not None and lease.holder is not None and _alive(lease, stale_after)


def _take(tx: Transaction, holder: str, stale_after: float) -> int:
    lease = tx.lease()
    if lease is not None and lease.holder is not None and is_held(tx, stale_after=stale_after):
        raise LeaseHeld(lease.holder)
    token = (lease.token if lease else 0) + 1
    tx.put_lease(LeaseRow(LEASE, describe(holder), token, time.time()))
    return token


def ended_early(view: Snapshot) -> dict[str, Any] | None:
    """The last run, if a signal ended it before it was done and nothing has run since: who held the lease, ``doing``
    what, and ``signal``. One that was killed could not say by what."""
    if is_held(view):
        return None
    lease = view.lease()
    if lease is not None and lease.holder is not None:
        return lease.holder | {"signal": "SIGKILL, or a machine that went down"}
    noted = view.meta(ENDED)
    return None if noted is None else dict(json.loads(noted))


def _signal_of(asked: BaseException) -> str:
    """The signal behind an exception that is no error; nothing if there is none."""
    if isinstance(asked, KeyboardInterrupt):
        return "SIGINT (Ctrl-C)"
    if isinstance(asked, Terminated):
        return "SIGHUP" if asked.code == 128 + signal.SIGHUP else "SIGTERM"
    return "SIGTERM" if type(asked).__name__ == "TerminationSignal" else ""  # Prefect's, while a flow runs


def _release(lease: Lease, ended_by: str) -> None:
    try:
        with lease.ledger.transaction(fence=lease.token) as tx:
            held = tx.lease()
            if ended_by and held is not None and held.holder is not None:
                tx.put_meta(ENDED, json.dumps(held.holder | {"doing": lease.doing, "signal": ended_by}))
            elif tx.meta(ENDED) is not None:
                tx.delete("meta", key=ENDED)
            tx.put_lease(LeaseRow(LEASE, None, lease.token, time.time()))
    except LeaseLost:
        return  # it is another's now; nothing to give back


def describe(command: str) -> dict[str, Any]:
    """This process, for others: what it runs, and what tells whether it is alive still."""
    pid = os.getpid()
    return {
        "pid": pid,
        "host": socket.gethostname(),
        "command": command or " ".join(sys.argv)[:200],
        "since": iso(datetime.now(UTC)),
        "machine": _machine(),
        "started": _started(pid),
    }


def is_running(holder: dict[str, Any]) -> bool | None:
    """Whether a process that was described still runs; None if it is of another machine, which cannot be told here."""
    return _started(holder["pid"]) == holder.get("started") if holder.get("machine") == _machine() else None


def _alive(lease: LeaseRow, stale_after: float) -> bool:
    if is_running(lease.holder or {}) is False:
        return False  # that process has ended, or its number belongs to another one now
    # a clock that was set back shows as a heartbeat from the future: neither side may wait for ever
    return abs(time.time() - lease.heartbeat) <= stale_after


def _machine() -> str:
    """Identifies this boot of this host and its process numbers (two containers may share a host name)."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    numbers = Path("/proc/self/ns/pid")
    parts = [socket.gethostname(), boot.read_text().strip() if boot.exists() else ""]
    return "/".join([*parts, os.readlink(numbers) if numbers.exists() else ""])


def _started(pid: int) -> str | None:
    """Start time of a process, '' where the system does not tell, None if there is no such process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    stat = Path(f"/proc/{pid}/stat")
    try:
        state, *rest = stat.read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return None if state == "Z" else rest[18]
