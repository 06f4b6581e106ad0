"""A schedule on one machine: the nightly flow by cron, with a Prefect server of its own if there is none."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from imsr_core.errors import ImsrError

HOST = "127.0.0.1"
START_SECONDS = 300.0
STOP_SECONDS = 15.0

#: Prefect's server would otherwise report on its use to its makers, and a temporary one give up on a busy machine.
DEFAULTS = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": str(int(START_SECONDS)),
}


class ServeError(ImsrError):
    """The schedule cannot be served: no server came up, or its port is taken."""


def serve_nightly(workspace: str, *, cron: str, landing: str, name: str) -> None:
    """Run the nightly flow by ``cron`` (UTC), one run at a time, until SIGINT or SIGTERM.

    On the way out the schedule is paused, so that a server that lives on does not pile up late runs, and a night that
    is under way is finished.
    """
    from prefect.flows import EntrypointType
    from prefect.runner import Runner

    from flows.nightly import nightly

    class Service(Runner):
        def handle_sigterm(self, *_: Any) -> None:
            # Prefect's own would cancel the run under way from another event loop, and hang there for ever
            signal.raise_signal(signal.SIGINT)

    service = Service(name=name, limit=1, pause_on_shutdown=True)
    service.add_flow(
        nightly,
        name=name,
        cron=cron,
        parameters={"workspace": workspace, "landing": landing},
        entrypoint_type=EntrypointType.MODULE_PATH,
        tags=[f"workspace:{name}"],
    )
    with suppress(KeyboardInterrupt):
        asyncio.run(service.start())


@contextmanager
def prefect_server(port: int) -> Iterator[str]:
    """The API of a Prefect server: of PREFECT_API_URL if that is set, else of one that is started here and ended after.

    Prefect's own temporary server will not do: it has no scheduler, and would never start a run.

    Raises:
        ServeError: the port is taken, or the server did not come up.
    """
    url = os.environ.get("PREFECT_API_URL")
    if url:
        yield url
        return
    with socket.socket() as probe:
        if probe.connect_ex((HOST, port)) == 0:
            raise ServeError(
                f"port {port} on {HOST} is taken", hint="use --port, or set PREFECT_API_URL to the server that has it"
            )
    url = f"http://{HOST}:{port}/api"
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", HOST, "--port", str(port)]
    process = subprocess.Popen(
        command,
        env={**DEFAULTS, "PREFECT_LOGGING_SERVER_LEVEL": "WARNING", **os.environ},
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for the flows first, the server is ended after them
    )
    try:
        _wait_until_healthy(process, url)
        os.environ["PREFECT_API_URL"] = url
        yield url
    finally:
        os.environ.pop("PREFECT_API_URL", None)
        _end(process)


def _wait_until_healthy(process: subprocess.Popen[bytes], url: str) -> None:
    direct = build_opener(ProxyHandler({}))
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            direct.open(f"{url}/health", timeout=2).close()
            return
        except (URLError, OSError):
            time.sleep(0.2)
    raise ServeError(f"no Prefect server at {url}", hint="see what `prefect server start` says")


def _end(process: subprocess.Popen[bytes]) -> None:
    for ask in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        process.send_signal(ask)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            continue
