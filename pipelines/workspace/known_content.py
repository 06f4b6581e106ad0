"""Small files that many steps of a night read, and that never change: each is read once while it stays as it is.

A chain of spans is a few files a span, which are looked at from its end to its beginning several times a night.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")

#: Files that are kept, and for how many seconds after it was written a file may still change without its times telling.
KEPT = 4096
RACY = 2.0


class KnownContent(Generic[T]):
    """What ``read`` makes of a file. Callers share it, and must not change it."""

    def __init__(self, read: Callable[[Path], T]) -> None:
        self._read = read
        self._known: OrderedDict[str, tuple[tuple[int, ...], T]] = OrderedDict()

    def of(self, path: Path) -> T:
        """The content of a file, as it is now. Raises what reading does."""
        found = path.stat()
        mark = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        known = self._known.get(str(path))
        if known is not None and known[0] == mark:
            return known[1]
        content = self._read(path)
        if time.time() - max(found.st_mtime, found.st_ctime) > RACY:
            self._known[str(path)] = (mark, content)
            if len(self._known) > KEPT:
                self._known.popitem(last=False)
        return content
