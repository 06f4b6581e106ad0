"""A schedule on one machine: the nightly flow by cron, with a Prefect server of its own if there is none."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from cronsim import CronSim, CronSimError

from flows.termination import hangs_up
from imsr_core.errors import ConfigError, ImsrError
from pipelines.workspace.ending import Terminated

FIELDS = 5
GRACE_SECONDS = 2.0
AGAIN = "start it again with the same command (systemd: Restart=always); the next night goes on from the ledger"


#: How the messages begin with which Prefect says, as a RuntimeError, that it has no server.
_NO_SERVER = ("Failed to reach API", "Timed out while attempting to connect to ephemeral")


class ServeError(ImsrError):
    """There is no Prefect server: none came up, its port is taken, it ended, or it does not answer."""


def next_run(cron: str) -> datetime:
    """When a schedule (UTC) comes due next.

    Raises:
        ConfigError: it is no schedule, or never comes due.
    """
    hint = "minute hour day month weekday in UTC, as in: --cron '30 2 * * *'"
    try:
        if len(cron.split()) != FIELDS:
            raise CronSimError(f"{FIELDS} fields are wanted")
        return next(CronSim(cron, datetime.now(UTC)))
    except CronSimError as error:
        raise ConfigError(f"--cron {cron!r} is no schedule: {error}", hint=hint) from error
    except StopIteration as error:
        raise ConfigError(f"--cron {cron!r} never comes due", hint=hint) from error


def no_server(error: Exception) -> ServeError | None:
    """What an error of a flow says in words if it is that Prefect's server does not answer; None of any other."""
    import httpx

    text = next(iter(str(error).splitlines()), "") or type(error).__name__
    if not isinstance(error, httpx.TransportError) and not (
        isinstance(error, RuntimeError) and text.startswith(_NO_SERVER)
    ):
        return None
    hint = "start it, or unset PREFECT_API_URL for a temporary one; without Prefect: imsr ingest && imsr run"
    return ServeError(f"the Prefect server does not answer: {text}", hint=hint)


def serve_nightly(
    workspace: str, *, cron: str, landing: str, name: str, wait_for_server: Callable[[], object] | None = None
) -> None:
    """Run the nightly flow by ``cron`` (UTC), one run at a time, until SIGINT, SIGTERM or SIGHUP.

    On the way out the schedule is paused, so that a server that lives on does not pile up late runs, and a night that
    is under way is finished; a second signal does not wait for it.

    Args:
        wait_for_server: returns when the server that the schedule depends on has ended.

    Raises:
        ServeError: the server is gone.
    """
    import httpx
    from prefect.flows import EntrypointType
    from prefect.runner import Runner

    from flows.nightly import nightly

    class Service(Runner):
        def handle_sigterm(self, *_: Any) -> None:
            # Prefect's own would cancel the run under way from another event loop, and hang there for ever
            ending.set()
            signal.raise_signal(signal.SIGINT)

    ending = threading.Event()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs begin with it ignored
    try:
        service = Service(name=name, limit=1, pause_on_shutdown=True)
        if hangs_up():
            signal.signal(signal.SIGHUP, service.handle_sigterm)
        service.add_flow(
            nightly,
            name=name,
            cron=cron,
            parameters={"workspace": workspace, "landing": landing},
            entrypoint_type=EntrypointType.MODULE_PATH,
            tags=[f"workspace:{name}"],
        )
        if wait_for_server is not None:
            threading.Thread(target=_end_with, args=(wait_for_server, ending), daemon=True).start()
        asyncio.run(service.start())
    except (KeyboardInterrupt, Terminated):
        return
    except (OSError, httpx.HTTPError) as error:
        raise ServeError(f"the schedule has ended, the Prefect server does not answer: {error}", hint=AGAIN) from error
    finally:
        ending.set()


def _end_with(wait_for_server: Callable[[], object], ending: threading.Event) -> None:
    """End this process when the server is gone: nothing could be scheduled, and Prefect's runner would wait for it.

    A night that is under way fails at its next step, which asks the server; what it has done stands in the ledger.
    """
    wait_for_server()
    time.sleep(GRACE_SECONDS)  # the runner may notice by itself
    if not ending.is_set():
        print(f"error: the schedule has ended, its Prefect server did\n  -> {AGAIN}", file=sys.stderr, flush=True)
        os._exit(1)
