"""Memory that a step is done with goes back to the system before the next step takes its own."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress

import pyarrow as pa


def release_memory() -> None:
    """Give back what Arrow's and the C library's allocators hold in reserve; where they cannot, nothing happens."""
    pa.default_memory_pool().release_unused()
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # glibc's own: musl has none
            ctypes.CDLL(None).malloc_trim(0)
