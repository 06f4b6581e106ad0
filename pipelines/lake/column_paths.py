"""The names of columns in ``[source]``: plain, a dotted path into nested fields, or a list that is taken apart.

item            a column, or a key
user.id         the field ``id`` of ``user``, unless there is a column that is called "user.id"
items[]         every element of the list ``items`` is an event
events[].item   the field ``item`` of every element
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from imsr_core.errors import ConfigError


@dataclass(frozen=True)
class ColumnPath:
    """A parsed name. ``outer`` leads to the value or the list, ``inner`` on from an element (None: no list)."""

    text: str
    outer: tuple[str, ...]
    inner: tuple[str, ...] | None = None

    @classmethod
    def parse(cls, text: str) -> ColumnPath:
        """The path of a name. Raises ConfigError for a list inside a list, or an empty part."""
        outer, found, inner = text.partition("[]")
        if "[]" in inner or not outer or (found and inner and not inner.startswith(".")):
            raise ConfigError(f"[source] {text!r} is no name of a column", hint="one list at most: events[].item")
        rest = tuple(inner.removeprefix(".").split(".")) if inner else ()
        return cls(text, tuple(outer.split(".")), rest if found else None)

    @property
    def is_list(self) -> bool:
        """Whether the column is a list that is taken apart."""
        return self.inner is not None

    @property
    def whole(self) -> str:
        """The name of the column, or of the list, as one word."""
        return self.text.partition("[]")[0]


def parsed(names: dict[str, tuple[str, ...]]) -> dict[str, list[ColumnPath]]:
    """Our name -> the paths that the files may have for it."""
    return {ours: [ColumnPath.parse(name) for name in theirs] for ours, theirs in names.items()}


def lists_of(paths: Iterable[ColumnPath]) -> list[str]:
    """The lists that paths go through, each once."""
    return list(dict.fromkeys(path.whole for path in paths if path.is_list))
