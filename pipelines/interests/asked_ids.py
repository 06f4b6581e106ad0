"""What somebody asks with from Python: ids, as text or as the whole numbers that a log's ids often are there, and how
many."""

from __future__ import annotations

import re
from collections.abc import Iterable
from numbers import Integral

import pyarrow as pa

from imsr_core.errors import ConfigError

#: One id.
Id = str | int
#: Halves of letters, which UTF-8 does not have; in an argument of a command they stand for bytes that are no text.
_HALF = re.compile("[\ud800-\udfff]")


def asked_ids(ids: Iterable[Id] | pa.Array | pa.ChunkedArray) -> list[str]:
    """Ids as text, in order; 1453 is "1453".

    Raises:
        ConfigError: one text in place of several, whose letters would be taken for ids; or an id that is neither text
            nor a whole number.
    """
    if isinstance(ids, str | bytes):
        raise ConfigError(f"{ids!r} is one id, where several are wanted", hint=f"ask with a list: [{ids!r}]")
    values = ids.to_pylist() if isinstance(ids, pa.Array | pa.ChunkedArray) else list(ids)
    return [asked_id(value) for value in values]


def asked_id(value: object) -> str:
    """One id as text. Raises ConfigError as `asked_ids` does."""
    if isinstance(value, str):
        if not value.isascii() and _HALF.search(value):
            raise ConfigError(f"{value!r} is no text, and no id", hint="ids are UTF-8, as the events have them")
        return str(value)
    if isinstance(value, Integral) and not isinstance(value, bool):
        return str(int(value))
    raise ConfigError(f"{value!r} is no id", hint="ids are texts, as the events have them, or whole numbers")


def asked_count(n: object, what: str = "items") -> int:
    """How many are wanted. Raises ConfigError where that is no whole number of 1 or more."""
    if not isinstance(n, Integral) or isinstance(n, bool) or n < 1:
        raise ConfigError(f"{n!r} {what}", hint="ask for a whole number, 1 or more")
    return int(n)
