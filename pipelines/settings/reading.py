"""From TOML to dataclasses: every key against its field's type, without guessing, and all that is wrong at once."""

from __future__ import annotations

import types
from collections.abc import Callable, Collection, Iterable
from dataclasses import is_dataclass
from difflib import get_close_matches
from functools import partial
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from imsr_core.counted import counted
from imsr_core.errors import ConfigError
from imsr_core.fields import SectionError, choices_of, shortened, shown_value
from imsr_core.own_settings import settings_of

#: What SQLite, Parquet and the engines hold.
_LARGEST = 2**63
#: What a person calls what TOML holds.
_CALLED = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    tuple: "a list",
    list: "a list",
}


class Unreadable(Exception):
    """A value that its field cannot take; the error is noted already."""


class Reading:
    """Reads sections and notes every error; `finish` raises them together."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.errors: list[ConfigError] = []
        self._show: Callable[[object], object] = lambda value: value

    def refuse(self, message: str, hint: str) -> Unreadable:
        """Note an error."""
        self.errors.append(ConfigError(message, hint=hint))
        return Unreadable(message)

    def finish(self) -> None:
        """Raise what was noted, if anything was: one error as it is, several as a list."""
        if len(self.errors) == 1:
            raise self.errors[0]
        if self.errors:
            lines = [f"  {error.message}\n    -> {error.hint}" for error in self.errors]
            message = "\n".join([f"{self.where}: {counted(len(self.errors), 'setting')} cannot be", *lines])
            raise ConfigError(message, hint="change them; `imsr init ANOTHER_FOLDER` shows every key with its default")

    def section(self, kind: type, section: str, table: dict[str, Any]) -> Any:
        """The dataclass of a section; None if it cannot be made."""
        hints, values, noted = get_type_hints(kind), {}, len(self.errors)
        for key, value in table.items():
            if key not in hints:
                self.refuse(f"[{section}] has no key {key!r}", nearest(key, hints, "keys"))
                continue
            try:
                self._show = partial(shown_value, kind, key)
                values[key] = self._value(hints[key], section, key, value, choices_of(kind).get(key))
            except Unreadable:
                continue
        try:
            return kind(**values)
        except SectionError as error:
            for problem in error.problems:
                if problem.key in table or len(self.errors) == noted:
                    self.refuse(problem.said_of(section), f"change {problem.key} in imsr.toml")
        except ConfigError as error:
            self.errors.append(error)
        return None

    def own_section(self, name: str, table: dict[str, Any]) -> Any:
        """The section of a strategy that brings its settings itself: the strategy is imported for it."""
        kind = settings_of(name)
        if kind is None:
            return self.refuse(f"[{name}]: strategy {name} has no settings", f"remove [{name}] from imsr.toml")
        return self.section(kind, name, table)

    def _told(self, value: object) -> str:
        """A value of the key that is read as an error shows it."""
        return shortened(self._show(value))

    def _value(self, hint: Any, section: str, key: str, value: Any, choices: Collection[str] | None) -> Any:
        where = f"[{section}] {key}"
        if isinstance(hint, type) and is_dataclass(hint):
            if not isinstance(value, dict):
                raise self.refuse(f"{where} = {self._told(value)}: is a section", f"write [{section}.{key}]")
            return self.section(hint, f"{section}.{key}", value)
        if isinstance(value, list) and (elements := _elements(hint, tuple)) is not None:
            return tuple(self._plain(elements, where, each, choices) for each in value)
        if isinstance(value, dict) and (elements := _elements(hint, dict)) is not None:
            return {name: self._plain(elements, f"{where}.{name}", each, choices) for name, each in value.items()}
        return self._plain(hint, where, value, choices)

    def _plain(self, hint: Any, where: str, value: Any, choices: Collection[str] | None) -> Any:
        """A text, number or boolean; only a whole number where a float is wanted is converted."""
        kinds = _kinds(hint)
        if isinstance(value, str) and choices is not None:
            if value not in choices:
                raise self.refuse(f"{where} = {self._told(value)} is no choice", nearest(value, choices, "choices"))
            return value
        if type(value) is int and abs(value) >= _LARGEST:
            raise self.refuse(f"{where} = {self._told(value)}: must be smaller", "it does not fit into 64 bits")
        if type(value) is int and float in kinds and int not in kinds:
            return float(value)
        if type(value) not in kinds:
            wanted = " or ".join(sorted(map(_called, kinds)))
            without = ", and a number has no quotes" if isinstance(value, str) and kinds & {int, float} else ""
            raise self.refuse(
                f"{where} = {self._told(value)}: must be {wanted}", f"it is {_called(type(value))} now{without}"
            )
        return value


def _elements(hint: Any, container: type) -> Any:
    """The annotation of what a tuple or dict holds; None if the field takes no such thing."""
    parts = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    found = next((part for part in parts if get_origin(part) is container), None)
    return None if found is None else get_args(found)[1 if container is dict else 0]


def _called(kind: type) -> str:
    return _CALLED.get(kind, "a section" if kind is dict else kind.__name__)


def _kinds(hint: Any) -> set[type]:
    """The types that a field's annotation allows (``None`` apart: TOML has none)."""
    if get_origin(hint) is Literal:
        return {str}
    if get_origin(hint) in (Union, types.UnionType):
        return set().union(*(_kinds(part) for part in get_args(hint) if part is not type(None)))
    return {hint if get_origin(hint) is None else get_origin(hint)}


def nearest(name: str, known: Iterable[str], what: str) -> str:
    """A hint: the known name that is most like ``name``, and all of them."""
    names = {each.casefold(): each for each in known}
    close = get_close_matches(name.casefold(), names, n=1, cutoff=0.5)
    listing = f"{what}: {', '.join(names.values())}"
    return f"did you mean {names[close[0]]!r}? {listing}" if close else listing
