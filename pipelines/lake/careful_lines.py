"""The careful way through a delimited file: line by line, so that no line is swallowed by a quote.

A quote that opens a field and does not close in its line is one of two things. Either the field goes on in the next
lines, as the format allows; or the quote is a character of the text, and what follows are records of their own. A
reader that believes in the first swallows lines until the next quote, or the rest of the file. Here the lines decide:

* if the line has all its columns when the quote is taken as a character, and one of the lines that would be inside the
  field has all columns too, with a time of the same shape, then the quote is a character;
* else, if the field closes and the record has all its columns, then the lines are one record;
* else the line is malformed, by itself: what comes after it is read anew.

This is slow (some 500,000 lines a second) and only reads files in which records and lines do not agree.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from imsr_core.counted import counted

#: A quoted field that is still open after so many lines, or characters, is not one.
MAX_FIELD_LINES = 2_000
MAX_FIELD_CHARS = 1 << 24
#: A line may have this many bytes.
MAX_LINE_BYTES = 1 << 26
#: What quarantine shows of a line that is malformed.
SHOWN = 1_000

_SHAPE = (re.compile(r"[0-9]+"), re.compile(r"[A-Za-z]+"))


@dataclass(frozen=True)
class Record:
    """A record: the number of its first line, its fields, or what is wrong with it and its text, and its lines."""

    line: int
    fields: list[str] | None
    complaint: str = ""
    lines: int = 1


@dataclass(frozen=True)
class Layout:
    """How the columns of a file stand in a line. ``quote`` is "" where nothing is quoted; ``time`` is a column.

    Inside quotes a quote is doubled; with ``backslash`` it may have one before it, as a backslash itself may.
    """

    width: int
    delimiter: str
    quote: str
    time: int | None = None
    backslash: bool = False


def records(lines: Iterable[bytes], layout: Layout, first: int = 1) -> Iterator[Record]:
    """The records of the lines of a file; a line that is empty is none.

    Args:
        lines: without their ends.
        layout: how the columns stand.
        first: number of the first line.
    """
    source = _Lines(_apart(lines, layout), first)
    for number, raw in source:
        if not raw:
            continue
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            yield _bad(number, f"no UTF-8 text ({error.reason})", raw.decode("utf-8", "backslashreplace"))
            continue
        if len(raw) >= MAX_LINE_BYTES:
            yield _bad(number, f"a line of {counted(len(raw), 'byte')} or more", text)
            continue
        fields, is_open = split(text, layout)
        if is_open:
            yield _open_record(number, text, source, layout)
        elif fields is None:
            yield _bad(number, "text after a closing quote", text)
        elif len(fields) != layout.width:
            yield _bad(number, f"Expected Number of Columns: {layout.width} Found: {len(fields)}", text)
        else:
            yield Record(number, fields)


def split(text: str, layout: Layout) -> tuple[list[str] | None, bool]:
    """The fields of a record, and whether its last one is a quoted field that is still open.

    The fields are None if something stands between a closing quote and the next delimiter.
    """
    quote, delimiter = layout.quote, layout.delimiter
    if not quote or quote not in text:
        return text.split(delimiter), False
    fields: list[str] = []
    at = 0
    while True:
        if not text.startswith(quote, at):
            end = text.find(delimiter, at)
            if end < 0:
                return [*fields, text[at:]], False
            fields.append(text[at:end])
            at = end + len(delimiter)
            continue
        end = _closing(text, layout, at + 1)
        if end < 0:
            return [*fields, text[at + 1 :]], True
        fields.append(_unescaped(text[at + 1 : end], layout))
        at = end + 1
        if at == len(text):
            return fields, False
        if not text.startswith(delimiter, at):
            return None, False
        at += len(delimiter)


def _apart(lines: Iterable[bytes], layout: Layout) -> Iterator[bytes]:
    """The lines; one in which rows end with CR, as in files put together on several machines, is as many as it has."""
    for line in lines:
        parts = [part for part in line.split(b"\r") if part] if b"\r" in line else []
        if len(parts) > 1 and all(_is_row(part, layout) for part in parts):
            yield from parts
        else:
            yield line


def _is_row(line: bytes, layout: Layout) -> bool:
    fields, is_open = split(line.decode("utf-8", "replace"), layout)
    return fields is not None and len(fields) == layout.width and not is_open


def _closing(text: str, layout: Layout, start: int) -> int:
    """Where a quoted field that begins at ``start`` ends: the next quote that is not escaped; -1 if there is none."""
    quote, at = layout.quote, start
    while (at := text.find(quote, at)) >= 0:
        if layout.backslash and _backslashes(text, start, at) % 2:
            at += 1
        elif text.startswith(quote, at + 1):
            at += 2
        else:
            return at
    return -1


def _backslashes(text: str, start: int, at: int) -> int:
    """How many backslashes stand before ``at``, from ``start`` on."""
    first = at
    while first > start and text[first - 1] == "\\":
        first -= 1
    return at - first


def _unescaped(field: str, layout: Layout) -> str:
    """What a quoted field says."""
    if not layout.backslash:
        return field.replace(layout.quote * 2, layout.quote)
    quote = re.escape(layout.quote)
    return re.sub(rf"\\({quote}|\\)|{quote}({quote})", lambda found: found[1] or found[2], field)


class _Lines:
    """Numbered lines that can be looked at before they are taken."""

    def __init__(self, lines: Iterable[bytes], first: int) -> None:
        self._lines = iter(enumerate(lines, first))
        self._ahead: deque[tuple[int, bytes]] = deque()

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        while True:
            try:
                yield self._ahead.popleft() if self._ahead else next(self._lines)
            except StopIteration:
                return

    def ahead(self) -> Iterator[bytes]:
        """The lines to come, without taking them."""
        for n in range(MAX_FIELD_LINES):
            if n == len(self._ahead):
                self._ahead.extend(islice(self._lines, 1))
            if n == len(self._ahead):
                return
            yield self._ahead[n][1]

    def take(self, count: int) -> None:
        """Take lines that were looked at."""
        for _ in range(count):
            self._ahead.popleft()


def _open_record(number: int, text: str, source: _Lines, layout: Layout) -> Record:
    """The record that begins with a line in which a quote opens and does not close."""
    alone = _as_it_stands(text, layout)
    parts, size, closed = [text], len(text), False
    for line in source.ahead():
        part = line.decode("utf-8", "replace")
        parts.append(part)
        size += len(part)
        if alone is not None and _is_like(part, alone, layout):
            return Record(number, alone)
        if layout.quote in part:
            fields, is_open = split("\n".join(parts), layout)
            if not is_open:
                closed = fields is not None and len(fields) == layout.width and "\ufffd" not in "".join(parts)
                break
        if size > MAX_FIELD_CHARS:
            break
    if closed:
        source.take(len(parts) - 1)
        return Record(number, fields, lines=len(parts))
    if alone is not None and len(parts) == 1:  # the last line of the file
        return Record(number, alone)
    return _bad(number, f"a quote opens on line {number} and does not close as it should", text)


def _as_it_stands(text: str, layout: Layout) -> list[str] | None:
    """The fields of a line if its quote is a character of the text; None if it has not all columns then."""
    fields = text.split(layout.delimiter)
    return fields if len(fields) == layout.width else None


def _is_like(text: str, fields: list[str], layout: Layout) -> bool:
    """Whether a line is a record of its own, like one that is known: all columns, and a time of the same shape.

    Where there is no time, which has digits, it is none: a text with commas and line ends can have as many columns.
    """
    own = _as_it_stands(text, layout)
    if own is None or layout.time is None:
        return own is not None
    shape = _shape(own[layout.time])
    return "0" in shape and shape == _shape(fields[layout.time])


def _shape(text: str) -> str:
    for pattern, mark in zip(_SHAPE, "0a", strict=True):
        text = pattern.sub(mark, text)
    return text.strip('"')


def _bad(number: int, complaint: str, text: str) -> Record:
    return Record(number, None, f"{complaint}: {text[:SHOWN]}")
