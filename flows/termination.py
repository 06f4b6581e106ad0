"""SIGTERM ends a command the way an exception does: what is open is closed, the lease is given back, exit code 143."""

from __future__ import annotations

import signal
from types import FrameType
from typing import NoReturn

#: What a shell reports for a process that SIGTERM ended.
EXIT_CODE = 128 + signal.SIGTERM


class Terminated(SystemExit):
    """The process was asked to end. No ``except Exception`` stops it, every ``finally`` runs."""


def end_cleanly_on_sigterm() -> None:
    """Raise ``Terminated`` in the main thread at the first SIGTERM; a second one kills as usual."""
    signal.signal(signal.SIGTERM, _terminate)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    raise Terminated(EXIT_CODE)
