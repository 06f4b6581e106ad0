"""A real year of grocery shopping, cut small enough to travel with the code; see README.md in this folder."""

from __future__ import annotations

from pathlib import Path


def path() -> Path:
    """The folder that holds the data, in a checkout and in an installed wheel alike."""
    return Path(__file__).resolve().parent
