"""Errors that only say that memory was wanted and not had, by whichever library and in whose words."""

from __future__ import annotations

import errno
import re
import sys
from collections.abc import Iterator

ADVICE = (
    "there is too little memory: end what else runs, or raise the limit (of the container, systemd's MemoryMax, "
    "ulimit -v), and run the command again: what is published is as it was"
)
#: torch's allocator, and the loader of a compiled module.
_WANTED = re.compile(r"can't allocate memory|not enough memory|failed to map segment|cannot allocate memory", re.I)


def lacks_memory(error: BaseException) -> bool:
    """Whether an error, or one that it was raised from, is a want of memory."""
    return any(_wants(each) for each in _chain(error))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _wants(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    duckdb = sys.modules.get("duckdb")  # an error of an engine that was never imported cannot be
    if isinstance(error, MemoryError) or (duckdb is not None and isinstance(error, duckdb.OutOfMemoryException)):
        return True
    return isinstance(error, RuntimeError | ImportError) and _WANTED.search(str(error)) is not None
