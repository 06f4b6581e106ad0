"""SIGTERM, and SIGHUP of a terminal that is closed, end a command the way an exception does: what is open is closed,
the lease is given back, exit code 143 or 129.

Nothing is raised while an extension module is being set up, by Ctrl-C neither: C++ that calls Python there takes an
exception for its own failure, and aborts the process. The signal comes again when it is through."""

from __future__ import annotations

import signal
import sys
import threading
from importlib.machinery import ExtensionFileLoader
from types import FrameType

from pipelines.workspace.ending import Terminated, ask_to_end

#: Seconds until a signal comes again whose exception was swallowed, or could not be raised.
AGAIN_SECONDS = 0.05
#: What runs while a module that is compiled sets itself up, in one step or in two.
_SETTING_UP = {loading.__code__ for loading in (ExtensionFileLoader.create_module, ExtensionFileLoader.exec_module)}


def end_cleanly_on_sigterm() -> None:
    """Raise ``Terminated`` in the main thread at the first SIGTERM or SIGHUP; a second one kills as usual.

    A SIGHUP that is ignored, as under nohup, stays so.
    """
    signal.signal(signal.SIGTERM, _terminate)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
        signal.signal(signal.SIGHUP, _terminate)
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    bring_back_swallowed_signals()


def hangs_up() -> bool:
    """Whether a terminal that is closed ends this process: under nohup it does not."""
    return signal.getsignal(signal.SIGHUP) != signal.SIG_IGN


def bring_back_swallowed_signals() -> None:
    """Where Python can only print an exception (weakref callbacks, destructors), let that of a signal come again."""
    if sys.unraisablehook is not _again:
        sys.unraisablehook = _again


def _terminate(number: int, frame: FrameType | None) -> None:
    if _within_an_extension(frame):
        _send_again(number)
        return
    signal.signal(number, signal.SIG_DFL)
    ask_to_end(code=128 + number)
    raise Terminated(128 + number)


def _interrupt(number: int, frame: FrameType | None) -> None:
    if _within_an_extension(frame):
        _send_again(number)
        return
    signal.default_int_handler(number, frame)


def _within_an_extension(frame: FrameType | None) -> bool:
    """Whether an extension module is being set up where a signal arrives."""
    while frame is not None:
        if frame.f_code in _SETTING_UP:
            return True
        frame = frame.f_back
    return False


def _again(swallowed: sys.UnraisableHookArgs) -> None:
    kind, number = swallowed.exc_type, int(signal.SIGTERM)
    if issubclass(kind, KeyboardInterrupt):
        number = signal.SIGINT
    elif isinstance(swallowed.exc_value, Terminated):
        number = swallowed.exc_value.signal
    elif not issubclass(kind, Terminated) and kind.__name__ != "TerminationSignal":  # Prefect's, while a flow runs
        sys.__unraisablehook__(swallowed)
        return
    if issubclass(kind, Terminated):
        signal.signal(number, _terminate)
    _send_again(number)


def _send_again(number: int) -> None:
    main = threading.main_thread().ident
    assert main is not None
    timer = threading.Timer(AGAIN_SECONDS, signal.pthread_kill, (main, number))
    timer.daemon = True
    timer.start()
