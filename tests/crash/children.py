"""Commands in processes of their own, that can be killed for real.

Importing torch takes seconds and a kill a millisecond, so that a server process imports everything once and forks a
child for each command. The server runs nothing itself: its children have no threads, or locks, of others.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import faulty_files

from flows import cli
from flows.command_list import COMMANDS as ENTRIES
from pipelines.workspace import failpoints

_CONTEXT = multiprocessing.get_context("forkserver")
SECONDS = 300.0
#: What `imsr` understands.
COMMANDS = {entry.name for entry in ENTRIES}

#: Runs in the child before the command.
Prepare = Callable[..., None]


@dataclass
class Child:
    """A command under way; ``log`` is what it prints."""

    process: Any
    log: Path

    @property
    def pid(self) -> int:
        """The process number."""
        return self.process.pid

    def wait(self, seconds: float = SECONDS) -> Ended:
        """How it ended; killed and an error if it does not."""
        self.process.join(seconds)
        code = self.process.exitcode
        if code is None:
            self.process.kill()
            self.process.join()
            raise TimeoutError(f"the command did not end in {seconds:g} s: {self.log.read_text()}")
        return Ended(code, self.log.read_text())

    def wait_until_stopped(self) -> None:
        """Return when it was suspended (SIGSTOP)."""
        deadline = time.monotonic() + SECONDS
        while _process_state(self.pid) != "T":
            assert self.process.is_alive(), self.log.read_text()
            assert time.monotonic() < deadline, "not suspended in time"
            time.sleep(0.01)


@dataclass(frozen=True)
class Ended:
    """The exit code (negative: the signal), and what the command printed."""

    code: int
    said: str


def start(log: Path, *command: str, fail: str = "", prepare: Prepare | None = None, args: tuple = ()) -> Child:
    """Start ``imsr COMMAND...`` with ``IMSR_FAIL=fail``; ``prepare(*args)`` runs in the child before it."""
    return call(log, run_imsr, command, fail, prepare, args)


def call(log: Path, function: Callable[..., None], *arguments: Any) -> Child:
    """Start a function in a child."""
    _start_server()
    process = _CONTEXT.Process(target=_logged, args=(str(log), function, arguments), daemon=True)
    process.start()
    return Child(process, log)


def imsr(log: Path, *command: str, fail: str = "", prepare: Prepare | None = None, args: tuple = ()) -> Ended:
    """Run ``imsr COMMAND...`` to its end."""
    return start(log, *command, fail=fail, prepare=prepare, args=args).wait()


def record_passes(path: str) -> None:
    """In a child: write the name of each fail point that is passed to a file, in order, and never fail."""

    def hit(point: failpoints.FailPoint) -> None:
        with open(path, "a", encoding="utf-8") as file:
            file.write(f"{point.value}\n")

    original = failpoints.hit
    for module in list(sys.modules.values()):
        if getattr(module, "hit", None) is original:
            module.hit = hit  # type: ignore[attr-defined]


def _start_server() -> None:
    """Let the server know what to import; a second call does nothing."""
    before = dict(os.environ)
    os.environ |= {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1", "TZ": "UTC"}
    os.environ |= {"LD_PRELOAD": str(faulty)} if (faulty := faulty_files.library()) else {}
    try:
        _CONTEXT.set_forkserver_preload([__name__])
        forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(before)


def _logged(log: str, function: Callable[..., None], arguments: tuple) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    for number, as_usual in ((signal.SIGHUP, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler)):
        signal.signal(number, as_usual)  # the tests may run in the background, where both are ignored
    function(*arguments)


def run_imsr(command: tuple[str, ...], fail: str, prepare: Prepare | None, args: tuple) -> None:
    """In a child: what the console script ``imsr`` does."""
    os.environ[failpoints.VARIABLE] = fail
    sys.argv = ["imsr", *command]
    if prepare is not None:
        prepare(*args)
    cli.run_command()


def _process_state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
