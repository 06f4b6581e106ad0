"""What to add to a complaint of an argument too many: a workspace, or somebody's id, was given without its option."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flows.next_command import named_workspace
from pipelines.workspace.layout import is_workspace

_EXTRA = re.compile(r"unexpected extra arguments?(?:\(s\))? \((.*)\)")


def forgotten_option(arguments: Sequence[str], error: Any) -> str:
    """The option that was meant, as it is typed; "" for other complaints. ``error``: click's UsageError."""
    found = _EXTRA.search(error.message)
    if found is None:
        return ""
    extra = [word for word in arguments if word in found[1].split() or f" {word} " in f" {found[1]} "]
    folders = [word for word in extra if is_workspace(Path(word))]
    if folders and named_workspace(arguments) is None:
        return f"; a workspace is named with its option: -w {shlex.quote(folders[0])}"
    if extra and any(part.name in ("user", "users") for part in error.ctx.command.params):
        option = next(part.opts[0] for part in error.ctx.command.params if part.name in ("user", "users"))
        return f"; a user is named with the option: {option} {shlex.quote(extra[0])}"
    return ""
