"""What a command answers to programs: `--json` and `--quiet`, for every command that reports.

A command goes on saying what it says to people; with --json its tables are kept as rows and printed once, at its end,
as one JSON document. That is a list of objects where a command has one table, and an object of lists and facts where
it has more to say; which of the two does not depend on the data.
"""

from __future__ import annotations

import inspect
import json
import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from functools import wraps
from typing import Annotated, Any

import typer

from imsr_core.errors import ConfigError

JsonOption = Annotated[bool, typer.Option("--json", help="Print the answer as JSON, for programs; errors too.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors: the exit code tells.")]


@dataclass(frozen=True)
class Shown:
    """A value that people see in a form of its own, and programs as it is."""

    value: Any
    text: str

    @classmethod
    def as_(cls, value: float | None, form: str) -> Shown | None:
        """A number in a format such as ``.4f`` or ``.1%``; nothing for None and NaN."""
        return None if value is None or math.isnan(value) else cls(value, format(value, form))


@dataclass
class Answer:
    """The answer of the command that runs: ``rows``, or ``parts`` by name."""

    as_json: bool = False
    quiet: bool = False
    rows: list[Any] = field(default_factory=list)
    parts: dict[str, Any] = field(default_factory=dict)

    def begin(self, as_json: bool, quiet: bool) -> None:
        """Forget what an earlier command in this process has answered."""
        self.as_json, self.quiet, self.rows, self.parts = as_json, quiet, [], {}

    def add(self, rows: Iterable[Mapping[str, Any]], part: str = "") -> None:
        """Rows of the command's one table, or of a part of its answer."""
        target: list[Any] = self.parts.setdefault(part, []) if part else self.rows
        target.extend(rows)

    def fact(self, **facts: Any) -> None:
        """A part of the answer that is one value."""
        self.parts |= facts

    def print(self) -> None:
        """The answer as one JSON document on the standard output, if JSON is what was asked for."""
        if self.as_json:
            print(json.dumps(_plain(self.parts or self.rows), ensure_ascii=False, indent=1), flush=True)


#: The answer of the command that runs in this process.
answer = Answer()


def objects(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[dict[str, Any]]:
    """Rows as objects; a column's title becomes a plain name: "interests/user" is ``interests_user``."""
    names = [re.sub(r"[^a-z0-9@]+", "_", column.lower()).strip("_") for column in columns]
    return [dict(zip(names, row, strict=True)) for row in rows]


def flat(value: Any) -> str:
    """A value as one text; what has parts (a list, a struct, a map) as JSON has it, bytes in hexadecimal digits."""
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(_plain(value), ensure_ascii=False)
    return value.hex() if isinstance(value, bytes) else str(value)


def complain(message: str, hint: str = "") -> None:
    """Say on the standard error, as JSON, what went wrong and what to do."""
    told = {"error": message, "hint": hint} if hint else {"error": message}
    print(json.dumps(told, ensure_ascii=False), file=sys.stderr, flush=True)


def reporting(command: Callable[..., Any]) -> Callable[..., Any]:
    """The command with --json and --quiet; its answer is printed when it ends, unless by an error."""
    signature = inspect.signature(command, eval_str=True)
    more = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=option)
        for name, option in (("as_json", JsonOption), ("quiet", QuietOption))
    ]

    @wraps(command)
    def run(*arguments: Any, as_json: bool, quiet: bool, **options: Any) -> None:
        answer.begin(as_json, quiet)
        _require_text(options)
        try:
            command(*arguments, **options)
        except typer.Exit:  # the gate's rejection, or findings: the answer holds all the same
            answer.print()
            raise
        answer.print()

    run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), *more])  # type: ignore[attr-defined]
    return run


def _require_text(options: Mapping[str, Any]) -> None:
    """Raises `ConfigError` for an argument that holds bytes which are no text; names of files may."""
    for name, value in options.items():
        for each in value if isinstance(value, list | tuple) else [value]:
            if isinstance(each, str) and not each.isascii() and re.search("[\ud800-\udfff]", each):
                raise ConfigError(f"{name}: {each!r} is no text", hint="give it in UTF-8")


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, Shown):
        return _plain(value.value)
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(each) for each in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, datetime | date):
        return value.isoformat()
    if value is None or isinstance(value, bool | int):
        return value
    return value.hex() if isinstance(value, bytes) else str(value)
