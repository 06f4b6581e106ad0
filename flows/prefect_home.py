"""A home for Prefect where the user of a command has none: no night fails for the want of a folder for its notes."""

from __future__ import annotations

import atexit
import os
import tempfile
from pathlib import Path

from flows.console import warn

VARIABLE = "PREFECT_HOME"


def provide_prefect_home() -> None:
    """Give Prefect a temporary home if its own cannot be written, as under cron without a HOME, in a container with a
    read-only one, or on a full disk: its server would otherwise be waited for in vain. To be called before Prefect is
    imported. The ledger remembers the nights, what Prefect notes of them is needed by nothing."""
    home = Path(os.environ.get(VARIABLE) or "~/.prefect")
    try:
        home = home.expanduser()
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home) as file:
            file.write(b"room?" * 1024)
        return
    except (OSError, RuntimeError) as error:  # RuntimeError: a user without an entry, and without HOME
        why = error.strerror if isinstance(error, OSError) else str(error)
    folder = tempfile.TemporaryDirectory(prefix="imsr-prefect-", ignore_cleanup_errors=True)
    atexit.register(folder.cleanup)
    os.environ[VARIABLE] = folder.name
    warn(f"{home} cannot be written ({why}): Prefect forgets its runs when this ends; {VARIABLE}=FOLDER keeps them")
