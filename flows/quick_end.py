"""The end of a command's process: everything that waits for it is done, and then it is over.

Python would take a process down module by module, object by object, a tenth of a second for what torch has brought;
the system takes it all at once.
"""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def ending_quickly(at_last: Callable[[int], int] = int) -> Iterator[None]:
    """The process ends with the exit code of the ``SystemExit`` that leaves the block, once all threads and everything
    that was registered at `atexit` are through; after any other exception, and where a stream cannot be written, as it
    always would. To be entered before anything else waits for the end: what is registered first is run last.

    Args:
        at_last: is given the exit code when all that was said is written, and says which it is to be.
    """
    code: int | None = None

    def end() -> None:
        if code is None:
            return
        try:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            ending = at_last(code)
            sys.stderr.flush()
        except (OSError, ValueError):  # a pipe that nobody reads, a stream that is closed: Python's own end says so
            return
        os._exit(ending)

    atexit.register(end)
    try:
        yield
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            code = (ended.code or 0) & 0xFF
        raise
