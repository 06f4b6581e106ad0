"""A process that was asked to end ends at its next step, also if the exception of the signal was swallowed.

An exception that a signal raises can come up anywhere, and is lost in a weakref callback, a destructor, a query, or
somebody's ``except:``. So it leaves a note as well, and every step looks for it (each fail point is one, each batch of
training).
"""

from __future__ import annotations

import signal
from collections.abc import Callable

#: What a shell reports for a process that SIGTERM ended.
EXIT_CODE = 128 + signal.SIGTERM

#: All that DuckDB says when Python's handler of a signal raised something.
_INTERRUPTED = "Query interrupted"

#: The exit code that the signal asks for; 0: nobody asked.
_asked = 0


class Terminated(SystemExit):
    """The process was asked to end. No ``except Exception`` stops it, every ``finally`` runs."""

    @property
    def signal(self) -> int:
        """The number of the signal that asked; its exit code is 128 more."""
        return self.code - 128 if isinstance(self.code, int) and self.code > 128 else int(signal.SIGTERM)


def ask_to_end(asked: bool = True, code: int = EXIT_CODE) -> None:
    """Leave the note, with the exit code that the signal asks for, or take it away."""
    global _asked
    _asked = code if asked else 0


def end_if_asked() -> None:
    """Raise Terminated if the process was asked to end. One exception is enough: what cleans up after it may step."""
    if _asked:
        code = _asked
        ask_to_end(False)
        raise Terminated(code)


def raise_signal_behind(error: Exception) -> None:
    """Where DuckDB made an error of its own of what a signal raised in the midst of a query, raise that instead.

    Raises:
        Terminated: the process was asked to end.
        KeyboardInterrupt: it was not, so that it was Ctrl-C.
    """
    if isinstance(error, RuntimeError) and str(error) == _INTERRUPTED:
        end_if_asked()
        raise KeyboardInterrupt from error


def noticing(progress: Callable[[int, int, float], None]) -> Callable[[int, int, float], None]:
    """A report of progress that looks for the note at every step."""

    def report(done: int, total: int, loss: float) -> None:
        end_if_asked()
        progress(done, total, loss)

    return report
