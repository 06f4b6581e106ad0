"""Commands that are imported when they run: `imsr --help` costs no torch, `imsr sql` no Beam."""

from __future__ import annotations

import ast
import gc
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from inspect import cleandoc
from typing import Any

import typer
from rich.markup import escape
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from flows.answers import answer, reporting

#: Where a sentence is over and another one begins.
_SENTENCE = re.compile(r"(?<=\.) (?=[A-Z])")


@dataclass(frozen=True)
class Entry:
    """A command: its ``name``, its ``place`` ("module:function" or "module:app"), and its panel in the help.

    ``reports``: what it says is of use to a program, so that it has --json and --quiet.
    """

    name: str
    place: str
    panel: str
    reports: bool = True


class LazyCommand(TyperCommand):
    """Stands for a command until it is called; knows its name and its summary, which is all that --help shows."""

    def __init__(self, entry: Entry, package: str) -> None:
        self._reports = entry.reports
        self._module, _, self._attribute = f"{package}.{entry.place}".partition(":")
        super().__init__(entry.name, rich_help_panel=entry.panel)

    @property
    def help(self) -> str:
        """The summary: read when it is shown, since reading those of all commands costs more than many a command."""
        return escape(_summary(self._module, self._attribute))

    @help.setter
    def help(self, value: object) -> None:
        """Click sets it; what it would set is not known before the command is loaded."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        with uncollected():  # typer imports what checks arguments when it reads the first
            return self.load().make_context(info_name, args, parent=parent, **extra)

    def load(self) -> Any:
        """The command itself: its module is imported now."""
        answer.begin(as_json=False, quiet=False)
        with uncollected():
            found = getattr(import_module(self._module), self._attribute)
        if not isinstance(found, typer.Typer):
            app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
            app.command(self.name)(reporting(found) if self._reports else found)
            found = app
        else:
            for each in found.registered_commands:
                if each.callback is not None and not hasattr(each.callback, "__wrapped__"):
                    each.callback = reporting(each.callback)
        command = get_command(found)
        command.name = self.name
        return _literally(command)


class LazyGroup(TyperGroup):
    """A group whose commands are a table of entries."""

    package: str = ""
    entries: Sequence[Entry] = ()

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = {entry.name: LazyCommand(entry, self.package) for entry in self.entries}

    @classmethod
    def of(cls, package: str, entries: Sequence[Entry]) -> type[LazyGroup]:
        """A group with these entries, whose modules are in ``package``."""
        return type("Commands", (cls,), {"package": package, "entries": entries})


@contextmanager
def uncollected() -> Iterator[None]:
    """No garbage collection while modules are imported, which are no garbage: it would look through them again and
    again, a tenth of the time that torch takes. Afterwards it leaves alone what is there; not where nothing was
    imported, so that what a long run left behind is still found. Within another such block it is that one's part."""
    if not gc.isenabled():
        yield
        return
    known = len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > known:
            gc.freeze()
        gc.enable()


def _literally(command: Any) -> Any:
    """The command, whose help is shown as it is written: [gate] is a section of imsr.toml, not a style."""
    for part in (command, *command.params):
        if getattr(part, "help", None):
            part.help = escape(part.help)
    for each in getattr(command, "commands", {}).values():
        _literally(each)
    return command


def _summary(module: str, attribute: str) -> str:
    """The first sentence of a function's docstring, or of the module's, read from the source: nothing is imported."""
    spec = find_spec(module)
    source = spec.loader.get_source(module) if spec and spec.loader else None  # type: ignore[attr-defined]
    tree = ast.parse(source or "")
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == attribute]
    documented = functions[0] if functions else tree
    paragraph = cleandoc(ast.get_docstring(documented) or "").split("\n\n")[0].replace("\n", " ")
    return _SENTENCE.split(paragraph)[0]
