"""A command whose standard streams are closed, as by some schedulers, runs as with ``/dev/null`` in their place."""

from __future__ import annotations

import os
import sys


def open_closed_streams() -> None:
    """Let the null device stand for each standard stream that is closed: otherwise the next file that is opened would
    have its number, and what is printed would go there."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8"))
