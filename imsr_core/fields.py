"""How a configuration documents and checks its keys: each field says its default, its meaning and its range.

    @dataclass(frozen=True)
    class ModelConfig(Section):
        dim: int = documented(64, "length of an item vector", at_least=2, at_most=4096)

One check, when a section is made, tells everything that is wrong with it; `imsr init` writes meaning and range.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

from imsr_core.errors import ConfigError


@dataclass(frozen=True)
class Range:
    """The numbers that a key may have; NaN is in no range."""

    at_least: float | None = None
    at_most: float | None = None
    above: float | None = None
    below: float | None = None

    def __contains__(self, value: Any) -> bool:
        try:
            return bool(
                (self.at_least is None or value >= self.at_least)
                and (self.at_most is None or value <= self.at_most)
                and (self.above is None or value > self.above)
                and (self.below is None or value < self.below)
                and value == value
            )
        except TypeError:
            return False

    def __str__(self) -> str:
        if self.at_least is not None and self.at_most is not None:
            return f"{self.at_least:,} .. {self.at_most:,}".replace(",", "_" if self.at_most > 9999 else "")
        if self.above is not None and self.below is not None:
            return f"between {self.above} and {self.below}"
        lower = f"above {self.above}" if self.above is not None else ""
        if self.at_least is not None:
            lower = f"{self.at_least} or more" if self.at_least == 0 else f"at least {self.at_least}"
        upper = f"below {self.below}" if self.below is not None else ""
        if self.at_most is not None:
            upper = f"at most {self.at_most}"
        return " and ".join(part for part in (lower, upper) if part)


def documented(
    default: Any,
    doc: str,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    above: float | None = None,
    below: float | None = None,
    choices: Collection[str] | None = None,
    like: tuple[str, str] | None = None,
    **more: Any,
) -> Any:
    """A dataclass field with its default, its meaning and what it may be; `imsr init` writes all three.

    Args:
        at_least, at_most, above, below: the range of a number, or of each number of a tuple.
        choices: the names that there are, where the annotation does not say them (a `registry.Registry`).
        like: a regular expression that a text must match, and the words that say so.
        more: anything else that a reader of the fields knows; ``fresh=VALUE`` is what a new workspace gets, where we
            know better by now: a key that is left out keeps the default, so that a configuration which nobody touched
            stays what it was; ``secret=True`` keeps the value out of every message.
    """
    bounds = Range(at_least, at_most, above, below)
    allowed = {"range": bounds if bounds != Range() else None, "choices": choices, "like": like}
    return field(default=default, metadata={"doc": doc} | {k: v for k, v in allowed.items() if v is not None} | more)


@dataclass(frozen=True)
class Problem:
    """A key whose value cannot be, and what would do."""

    key: str
    value: object
    wanted: str

    def said_of(self, section: str) -> str:
        """One line for a person."""
        return f"[{section}] {self.key} = {shortened(self.value)}: must be {self.wanted}"


class SectionError(ConfigError):
    """A section of a configuration with one or more values that cannot be."""

    def __init__(self, section: str, problems: list[Problem]) -> None:
        lines = "\n".join(problem.said_of(section) for problem in problems)
        super().__init__(lines, hint=f"change {', '.join(problem.key for problem in problems)} in imsr.toml")
        self.problems = problems


class Section:
    """Base of a frozen dataclass of documented fields: it checks itself once, when it is made."""

    def __post_init__(self) -> None:
        """Raises `SectionError` with all that is wrong."""
        problems = list(_problems(self))
        if not problems:
            kind = type(self)
            problems = [Problem(key, shown_value(kind, key, getattr(self, key)), why) for key, why in self.clashes()]
        if problems:
            raise SectionError(section_name(type(self)), problems)

    def clashes(self) -> Iterator[tuple[str, str]]:
        """(key, what it must be) of values that are fine alone and do not go together."""
        return iter(())


def section_name(kind: type) -> str:
    """The name of a section by its class: ModelConfig is [model]."""
    return kind.__name__.removesuffix("Config").removesuffix("Settings").lower()


def _problems(section: Any) -> Iterator[Problem]:
    kind: type = type(section)
    for f in fields(section):
        value = getattr(section, f.name)
        if value is None:
            continue
        wanted = _wanted(f.metadata, choices_of(kind).get(f.name), value)
        if wanted:
            yield Problem(f.name, shown_value(kind, f.name, value), wanted)


def _wanted(allowed: Any, choices: Collection[str] | None, value: Any) -> str:
    """What the value must be, empty if it is."""
    bounds, like = allowed.get("range"), allowed.get("like")
    if bounds is not None and not all(each in bounds for each in (value if isinstance(value, tuple) else (value,))):
        return str(bounds)
    if choices is not None and value not in choices:
        return f"one of {', '.join(choices)}"
    if like is not None and not (isinstance(value, str) and re.fullmatch(like[0], value)):
        return str(like[1])
    return ""


@cache
def choices_of(kind: type) -> dict[str, Collection[str]]:
    """The names that each key of a section may have, for the keys that name something."""
    hints = get_type_hints(kind)
    literal = {name: get_args(hint) for name, hint in hints.items() if get_origin(hint) is Literal}
    named = {f.name: f.metadata["choices"] for f in fields(kind) if "choices" in f.metadata}
    return literal | named


class Hidden:
    """Stands for a value that is not to be seen."""

    def __repr__(self) -> str:
        return "(not shown)"


def shown_value(kind: type, key: str, value: object) -> object:
    """The value of a section's key as a message may show it."""
    secret = any(f.name == key and f.metadata.get("secret") for f in fields(kind))
    return Hidden() if secret else value


def shortened(value: object) -> str:
    """A value as an error shows it: of a thousand digits or letters the first few."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text):,} characters)"
