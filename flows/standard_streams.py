"""What a command does never hangs on whether anybody hears what it says.

A standard stream that is closed, as by some schedulers, is the null device. One that breaks off meanwhile (the disk
under a log is full, the terminal is gone, nobody reads the pipe any more) is from then on: a night is learnt to its
end, and only then the command says that its words were lost.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from typing import TextIO


def open_closed_streams() -> None:
    """Let the null device stand for each standard stream that is closed: otherwise the next file that is opened would
    have its number, and what is printed would go there."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))


class _Unhindered(io.RawIOBase):
    """A stream's descriptor to write to: the system's first error is kept, and what comes after it is dropped."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self.error: OSError | None = None

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, data: object) -> int:
        view = memoryview(data)  # type: ignore[arg-type]
        while self.error is None:
            try:
                return os.write(self._descriptor, view)
            except BlockingIOError:  # another process has set the pipe that it shares so
                select.select([], [self._descriptor], [])
            except OSError as error:
                self.error = error
        return view.nbytes


def never_fail_to_speak() -> None:
    """Let the standard output and the standard error of this process take all that is written."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        stream.flush()
        spoken = io.TextIOWrapper(
            io.BufferedWriter(_Unhindered(stream.fileno())),
            encoding=stream.encoding,
            errors=stream.errors,
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )
        setattr(sys, name, spoken)


def lost_words() -> OSError | None:
    """Why not all of the standard output was written; None if it was, or whoever read it has read enough."""
    raw = _raw(sys.stdout)
    error = raw.error if raw is not None else None
    return None if error is None or error.errno == errno.EPIPE else error


def _raw(stream: TextIO) -> _Unhindered | None:
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    return raw if isinstance(raw, _Unhindered) else None
