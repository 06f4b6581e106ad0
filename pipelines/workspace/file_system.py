"""What a workspace needs of the file system that it lies on, and how to find out what one lacks.

A ledger that two processes write needs locks; a folder that is there as a whole or not at all needs to be renamed in
one go. Local disks have both; network file systems mounted without locks, and stores of objects that are shown as
folders, do not.
"""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

#: What a system says of something that a file system does not know; a full disk or a missing right are no such thing.
UNKNOWN = frozenset(
    {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL, errno.EXDEV, errno.EMLINK, errno.EPERM}
)

#: What it says where this user may not write, or nobody may.
NOT_OURS = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})

#: What it says where a disk is full, broken or gone, or a process may not have more: whatever file it is said of, that
#: file is not at fault, and the same command does its work once the machine is in order.
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ESTALE)
_OF_THE_MACHINE = frozenset({*_DISK, errno.EMFILE, errno.ENFILE, errno.ENOMEM})


def is_of_the_machine(error: Exception) -> bool:
    """Whether a file could not be read or written because of the machine. Engines pass on the system's words alone."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _OF_THE_MACHINE
    return any(os.strerror(number) in str(error) for number in _OF_THE_MACHINE)


def lacks(folder: Path) -> list[str]:
    """What the file system of ``folder`` cannot do, in words, by trying it in a folder of its own there."""
    try:
        with tempfile.TemporaryDirectory(prefix=".trial-", dir=folder, ignore_cleanup_errors=True) as name:
            trials: dict[str, Callable[[Path], None]] = {
                "lock files": _lock,
                "rename a folder": _rename_folder,
                "put a file in the place of another": _replace,
            }
            return [words for words, trial in trials.items() if not _works(trial, Path(name))]
    except OSError:
        return []  # full, or read only: that is another trouble


def lacks_in_words(folder: Path) -> str:
    """The same as a sentence, "" if nothing is lacking."""
    found = lacks(folder)
    return f"the file system of {folder} cannot {' or '.join(found)}" if found else ""


#: What to do about it.
ADVICE = "keep workspaces on a local disk, or on a network file system that is mounted with locks (NFSv4)"


def _works(trial: Callable[[Path], None], folder: Path) -> bool:
    try:
        trial(folder)
    except OSError as error:
        return error.errno not in UNKNOWN
    return True


def _lock(folder: Path) -> None:
    with (folder / "lock").open("wb") as file:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _rename_folder(folder: Path) -> None:
    (folder / "a").mkdir()
    os.rename(folder / "a", folder / "b")


def _replace(folder: Path) -> None:
    for name in ("old", "new"):
        (folder / name).write_bytes(name.encode())
    os.replace(folder / "new", folder / "old")
