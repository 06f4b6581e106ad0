"""SIGTERM, and SIGHUP of a terminal that is closed, end a command the way an exception does: what is open is closed,
the lease is given back, exit code 143 or 129."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType
from typing import NoReturn

from pipelines.workspace.ending import Terminated, ask_to_end

#: Seconds until a signal whose exception was swallowed comes again.
AGAIN_SECONDS = 0.05


def end_cleanly_on_sigterm() -> None:
    """Raise ``Terminated`` in the main thread at the first SIGTERM or SIGHUP; a second one kills as usual.

    A SIGHUP that is ignored, as under nohup, stays so.
    """
    signal.signal(signal.SIGTERM, _terminate)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
        signal.signal(signal.SIGHUP, _terminate)
    bring_back_swallowed_signals()


def bring_back_swallowed_signals() -> None:
    """Where Python can only print an exception (weakref callbacks, destructors), let that of a signal come again."""
    if sys.unraisablehook is not _again:
        sys.unraisablehook = _again


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    signal.signal(number, signal.SIG_DFL)
    ask_to_end(code=128 + number)
    raise Terminated(128 + number)


def _again(swallowed: sys.UnraisableHookArgs) -> None:
    kind, number = swallowed.exc_type, signal.SIGTERM
    if issubclass(kind, KeyboardInterrupt):
        number = signal.SIGINT
    elif not issubclass(kind, Terminated) and kind.__name__ != "TerminationSignal":  # Prefect's, while a flow runs
        sys.__unraisablehook__(swallowed)
        return
    if issubclass(kind, Terminated):
        signal.signal(signal.SIGTERM, _terminate)
    main = threading.main_thread().ident
    assert main is not None
    timer = threading.Timer(AGAIN_SECONDS, signal.pthread_kill, (main, number))
    timer.daemon = True
    timer.start()
