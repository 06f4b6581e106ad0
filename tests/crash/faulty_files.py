"""File operations that fail when they are told to: compiles, arms and reads `faulty_files.c`."""

from __future__ import annotations

import ctypes
import errno
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")
NEVER = 2**40

_built = tempfile.TemporaryDirectory(prefix="imsr-faults-")


@cache
def library() -> Path | None:
    """The compiled library, to be named by LD_PRELOAD; None where there is no C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    out = Path(_built.name) / "faulty_files.so"
    done = subprocess.run(
        [compiler, "-O1", "-shared", "-fPIC", "-o", out, SOURCE, "-ldl"], capture_output=True, check=False
    )
    return out if done.returncode == 0 else None


def arm(folder: str, nth: int = NEVER, number: int = errno.EIO) -> None:
    """In a process with the library: let the nth file operation below a folder fail with an error number."""
    ctypes.CDLL(None).faults_arm(folder.encode(), ctypes.c_long(nth), number)


def passed() -> int:
    """How many operations were counted since the library was armed."""
    count = ctypes.CDLL(None).faults_passed
    count.restype = ctypes.c_long
    return count()
