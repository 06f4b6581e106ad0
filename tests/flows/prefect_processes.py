"""A Prefect server and its workers as real processes on the loopback address, for tests; always ended again."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
#: Seconds; a server is up in five on a quiet machine.
PATIENCE = 300.0

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def environment(home: Path, **more: str) -> dict[str, str]:
    """For a process with a Prefect home of its own and quick polling."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "IMSR_"))}
    return kept | {
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "NO_PROXY": f"{HOST},localhost",
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "PREFECT_RUNNER_POLL_FREQUENCY": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        **more,
    }


@contextmanager
def running(command: list[str], env: dict[str, str], log: Path, cwd: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process in the background, ended by SIGINT (a shell's background jobs would ignore it), at last by SIGKILL."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            env=env,
            cwd=cwd,
            stdout=out,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            start_new_session=True,
        )
        try:
            yield process
        finally:
            end(process)


def end(process: subprocess.Popen[bytes], how: int = signal.SIGINT) -> int:
    """Ask a process to end, and see to it; its exit code."""
    for ask, patience in ((how, 90.0), (signal.SIGTERM, 10.0), (signal.SIGKILL, 10.0)):
        if process.poll() is None:
            process.send_signal(ask)
            with suppress(subprocess.TimeoutExpired):
                process.wait(patience)
    with suppress(ProcessLookupError):  # what it may have left in its session
        os.killpg(process.pid, signal.SIGKILL)
    return int(process.wait())


def wait_for(what: str, find: Callable[[], Any], patience: float = PATIENCE) -> Any:
    """The first true answer of ``find``, or a failure that says what did not happen."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        with suppress(OSError):
            if found := find():
                return found
        time.sleep(0.25)
    raise AssertionError(f"not within {patience:.0f} s: {what}")


@dataclass
class Server:
    """A running server: its API, and the environment of processes that use it."""

    url: str
    env: dict[str, str]
    folder: Path
    process: subprocess.Popen[bytes] | None = None

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """POST ``body`` to the API, or GET without one."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/{path}", data, {"Content-Type": "application/json"})
        with _DIRECT.open(request, timeout=20) as answer:
            return json.loads(answer.read() or b"null")

    def prefect(self, *arguments: str, cwd: Path | None = None, **more: str) -> str:
        """Run a `prefect` command to its end; its output."""
        command = [sys.executable, "-m", "prefect", "--no-prompt", *arguments]
        done = subprocess.run(
            command, env=self.env | more, cwd=cwd or self.folder, capture_output=True, text=True, timeout=PATIENCE
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def flow_runs(self, state: str) -> list[dict[str, Any]]:
        """The flow runs in a state, by the time they were expected."""
        chosen = {"state": {"type": {"any_": [state]}}}
        return self.ask("flow_runs/filter", {"flow_runs": chosen, "sort": "EXPECTED_START_TIME_ASC"})


@contextmanager
def server(folder: Path) -> Iterator[Server]:
    """A server on SQLite in ``folder``, on a port of its own."""
    port = free_port()
    url = f"http://{HOST}:{port}/api"
    env = environment(folder / "home", PREFECT_API_URL=url)
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", HOST, "--port", str(port)]
    with running(command, env, folder / "server.log", folder) as process:
        found = Server(url, env, folder, process)
        wait_for("the server is healthy", lambda: found.ask("health"))
        yield found
