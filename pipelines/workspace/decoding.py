"""A row of the ledger as its dataclass; what cannot be one is damage, and named."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import MISSING, fields
from functools import cache
from typing import Any, TypeVar

from imsr_core.errors import ImsrError
from pipelines.workspace.rows import LeaseRow
from pipelines.workspace.states import SpanState, VersionState

Row = TypeVar("Row")
T = TypeVar("T")

RESTORE = "restore ledger.sqlite from a backup; see: imsr doctor"

#: Who holds a lease whose own words cannot be read: dead as soon as its heartbeat stops.
UNKNOWN_HOLDER = {"command": "unknown: its entry is damaged", "pid": 0, "host": "unknown", "since": "unknown"}


class LedgerError(ImsrError):
    """The ledger is missing, of another schema, not readable, damaged, or busy."""


def decode(kind: type[Row], row: sqlite3.Row) -> Row:
    """The dataclass of a row.

    Raises:
        LedgerError: a value is not what belongs there.
    """
    known = _columns_of(kind)  # type: ignore[arg-type]
    record: dict[str, Any] = {key: value for key, value in dict(row).items() if key in known}
    try:
        for column, value in record.items():
            shape, may_be_missing = known[column]
            if shape is not None and not (value is None and may_be_missing):
                record[column] = shape(value)
        return kind(**record)
    except (ValueError, TypeError, RecursionError) as error:
        name = f"{kind.__name__.removesuffix('Row').lower()} {next(iter(record.values()), '')}"
        raise LedgerError(f"the ledger is damaged: {name}: {error}", hint=RESTORE) from error


@cache
def _columns_of(kind: type) -> dict[str, tuple[Callable[[Any], Any] | None, bool]]:
    """Column -> what a value of it must pass, and whether NULL stands for the default."""
    return {
        field.name: (
            _SHAPES.get((kind.__name__, field.name)) or _BY_TYPE.get(str(field.type)),
            field.default is not MISSING,
        )
        for field in fields(kind)
    }


def decode_meta(key: str, text: str, make: Callable[[Any], T]) -> T:
    """What a JSON value of the ledger's ``meta`` table stands for. Raises LedgerError if it is damaged."""
    try:
        return make(json.loads(text))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise LedgerError(f"the ledger is damaged: {key}: {error}", hint=RESTORE) from error


def _object(text: Any) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError(f"{str(text)[:40]!r} is no JSON object")
    return value


def _files(text: Any) -> tuple[dict[str, Any], ...]:
    value = json.loads(text)
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise ValueError(f"{str(text)[:40]!r} is no list of files")
    return tuple(value)


def _holder(text: Any) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        return UNKNOWN_HOLDER | _object(text)
    except (ValueError, TypeError, RecursionError):
        return dict(UNKNOWN_HOLDER)


def _summary(text: Any) -> dict[str, Any]:
    value = _object(text)
    if not all(isinstance(value.get(name, []), list) for name in ("spans", "tasks")):
        raise ValueError("its summary is damaged")
    if not isinstance(value.get("verdict") or {}, dict):
        raise ValueError("its verdict is damaged")
    return value


def _whole(value: Any) -> int:
    if not isinstance(value, int):
        raise ValueError(f"{str(value)[:40]!r} is no whole number")
    return value


_SHAPES: dict[tuple[str, str], Callable[[Any], Any]] = {
    ("BatchRow", "files"): _files,
    ("VersionRow", "summary"): _summary,
    (LeaseRow.__name__, "holder"): _holder,
}
_BY_TYPE: dict[str, Callable[[Any], Any]] = {
    "SpanState": SpanState,
    "VersionState": VersionState,
    "int": _whole,
    "int | None": lambda value: None if value is None else _whole(value),
}
