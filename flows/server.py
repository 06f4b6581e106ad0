"""A Prefect server of one's own: started for a block, ended after it, and never left behind.

The server is a child process that ends when the standard input that it was given ends. That happens whatever becomes
of the parent, also by kill -9; so the port is free again for the next one.
"""

from __future__ import annotations

import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from flows.serve import ServeError

HOST = "127.0.0.1"
START_SECONDS = 300.0
STOP_SECONDS = 15.0
#: How long a port may still be held by a server whose parent was killed just now.
FREE_SECONDS = 10.0

#: Prefect's server would otherwise report on its use to its makers, and a temporary one give up on a busy machine.
DEFAULTS = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": str(int(START_SECONDS)),
}


@dataclass(frozen=True)
class Server:
    """The API of a server, and its process if it is one's own."""

    url: str
    process: subprocess.Popen[bytes] | None = None


@contextmanager
def prefect_server(port: int) -> Iterator[Server]:
    """A Prefect server: of PREFECT_API_URL if that is set, else one that is started here and ended after.

    Prefect's own temporary server will not do: it has no scheduler, and would never start a run.

    Raises:
        ServeError: the port is taken, or the server did not come up.
    """
    given = os.environ.get("PREFECT_API_URL")
    if given:
        yield Server(given)
        return
    _require_free(port)
    url = f"http://{HOST}:{port}/api"
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.server", "server", "start", "--host", HOST, "--port", str(port)],
        # the UI asks the API where it is told to, by itself at Prefect's usual port
        env={**DEFAULTS, "PREFECT_LOGGING_SERVER_LEVEL": "WARNING", "PREFECT_UI_API_URL": url, **os.environ},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for the flows first, the server is ended after them
    )
    try:
        _wait_until_healthy(process, url)
        os.environ["PREFECT_API_URL"] = url
        yield Server(url, process)
    finally:
        os.environ.pop("PREFECT_API_URL", None)
        _end(process)


def _require_free(port: int) -> None:
    deadline = time.monotonic() + FREE_SECONDS
    while True:
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)) != 0:
                return
        if time.monotonic() > deadline:
            raise ServeError(
                f"port {port} on {HOST} is taken", hint="use --port, or set PREFECT_API_URL to the server that has it"
            )
        time.sleep(0.2)


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
    for ask in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            break
        process.send_signal(ask)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            continue
    if process.stdin is not None:
        process.stdin.close()


def _end_with_standard_input() -> None:
    """In the child: end when the parent has."""
    while sys.stdin.buffer.read(1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_SECONDS / 3)
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_standard_input, daemon=True).start()
    runpy.run_module("prefect", run_name="__main__", alter_sys=True)
