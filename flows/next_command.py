"""What to type next keeps the workspace that was named: a hint that is typed as it stands must work."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence

from flows.command_list import COMMANDS

#: Commands that take no workspace, or whose workspace is not the one of the hint.
WITHOUT = ("demo", "init", "bench", "api")
#: A command, or a command of a group; what else may follow the word (imsr over a counter) is prose.
_NAMES = [entry.name + (" [a-z]+" if entry.place.endswith(":app") else "") for entry in COMMANDS]
_COMMAND = re.compile(rf"\bimsr ({'|'.join(_NAMES)})\b(?!\s+(?:-w|--workspace|--help|-h)\b)")


def named_workspace(arguments: Sequence[str]) -> str | None:
    """The folder that a command line gives with -w or --workspace; None if it gives none."""
    for place, word in enumerate(arguments):
        if word in ("-w", "--workspace"):
            return arguments[place + 1] if place + 1 < len(arguments) else None
        for start in ("--workspace=", "-w"):
            if word.startswith(start):
                return word.removeprefix(start)
    return None


def keep_workspace(text: str, arguments: Sequence[str] | None = None) -> str:
    """``text`` with the workspace of this command line in every command that it advises."""
    folder = named_workspace(sys.argv[1:] if arguments is None else arguments)
    if folder is None:
        return text

    def with_it(found: re.Match[str]) -> str:
        known = found[1].split()[0] not in WITHOUT
        return f"{found[0]} -w {shlex.quote(folder)}" if known else found[0]

    return _COMMAND.sub(with_it, text)
