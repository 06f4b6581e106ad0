"""A workspace, or somebody's id, that was given without its option: the complaint of an argument too many says so."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from flows.lazy import LazyGroup
from flows.next_command import named_workspace

#: An error of how a command was typed; typer has no public name for this one of the classes that it brings along.
_UsageError: type[Any] = typer.BadParameter.__bases__[0]
_EXTRA = re.compile(r"unexpected extra arguments?(?:\(s\))? \((.*)\)")


class ForgivingGroup(LazyGroup):
    """A group whose complaints of an argument too many name the option that was forgotten."""

    def invoke(self, ctx: Any) -> Any:
        """See click."""
        arguments = [*getattr(ctx, "_protected_args", ()), *ctx.args]
        try:
            return super().invoke(ctx)
        except _UsageError as error:
            error.message += forgotten_option(arguments, error)
            raise


def forgotten_option(arguments: Sequence[str], error: Any) -> str:
    """The option that was meant, as it is typed; "" for other complaints. ``error``: click's UsageError."""
    found = _EXTRA.search(error.message)
    if found is None:
        return ""
    from pipelines.workspace.layout import is_workspace  # too much to import for those who type no mistake

    extra = [word for word in arguments if word in found[1].split() or f" {word} " in f" {found[1]} "]
    folders = [word for word in extra if is_workspace(Path(word))]
    if folders and named_workspace(arguments) is None:
        return f"; a workspace is named with its option: -w {shlex.quote(folders[0])}"
    if extra and any(part.name in ("user", "users") for part in error.ctx.command.params):
        option = next(part.opts[0] for part in error.ctx.command.params if part.name in ("user", "users"))
        return f"; a user is named with the option: {option} {shlex.quote(extra[0])}"
    return ""
