"""Which `imsr stream` processes are at work: each notes itself in the ledger, so that `imsr status` can name it.

A note binds nobody: who may write is the lease's to say. One that a killed process left is recognised as dead, as a
lease of it would be, and goes with the next note of another.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from pipelines.workspace.layout import Workspace
from pipelines.workspace.lease import STALE_SECONDS, describe, is_held, is_running
from pipelines.workspace.ledger import LedgerError, Snapshot, Transaction

#: Key of the ledger's ``meta``.
CONSUMERS = "stream_consumers"


def consumers(view: Snapshot) -> list[dict[str, Any]]:
    """The consumers that are alive: ``stream`` (its name), ``learns``, and as a lease's holder pid, host and since."""
    lease = view.lease() if is_held(view) else None

    def is_there(noted: dict[str, Any]) -> bool:
        running = is_running(noted)
        if running is not None:
            return running
        # one that learns a long span cannot beat here meanwhile, but its lease does
        return time.time() - noted["heartbeat"] <= STALE_SECONDS or _is_same(noted, lease.holder if lease else None)

    return [noted for noted in json.loads(view.meta(CONSUMERS) or "[]") if is_there(noted)]


@contextmanager
def noted_consumer(workspace: Workspace, stream: str, *, learns: bool) -> Iterator[Callable[[Transaction], None]]:
    """This process is a consumer of the stream for the block; what is given writes a heartbeat within a transaction."""
    own = describe("imsr stream") | {"stream": stream, "learns": learns}

    def beat(tx: Transaction) -> None:
        others = [each for each in consumers(tx) if not _is_same(each, own)]
        tx.put_meta(CONSUMERS, json.dumps([*others, own | {"heartbeat": time.time()}]))

    with workspace.ledger.transaction() as tx:
        beat(tx)
    try:
        yield beat
    finally:
        with suppress(LedgerError), workspace.ledger.transaction() as tx:  # a note of the dead is recognised as such
            others = [each for each in consumers(tx) if not _is_same(each, own)]
            if others:
                tx.put_meta(CONSUMERS, json.dumps(others))
            else:
                tx.delete("meta", key=CONSUMERS)


def _is_same(one: dict[str, Any], other: dict[str, Any] | None) -> bool:
    return other is not None and all(one.get(key) == other.get(key) for key in ("machine", "pid", "started"))
