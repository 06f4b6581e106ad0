"""A text file as the readers want it: UTF-8, whole, within the budget, and its physical lines counted.

One pass over the bytes tells all that decides how a file is read: how many lines it has, how they end, how long the
longest is, and whether it is the text that it is said to be. A file in another encoding is copied as UTF-8, and one
that is packed in another way than by gzip is unpacked.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

from imsr_core.counted import counted
from pipelines.lake.event_files import EventFile, ReadError
from pipelines.lake.packing import is_padded, kind_by_content, open_unpacked, unpacked

_CHUNK = 1 << 20
_BLANK = re.compile(rb"\n(?=\r?\n)")
_SEPARATOR = re.compile(r'"?sep=(.)"?[,;\t|]*', re.IGNORECASE)
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


@dataclass(frozen=True)
class Budget:
    """What one file may unpack to: rows, and bytes of a compressed file."""

    rows: int
    bytes: int

    def check_rows(self, path: Path, rows: int) -> None:
        """Raise ReadError for more rows than that."""
        if rows > self.rows:
            raise ReadError(
                f"{path}: more than {counted(self.rows, 'row')}",
                hint="split the file, or raise [ingest] max_rows_per_file; nothing was ingested",
            )

    def check_bytes(self, path: Path, size: int) -> None:
        """Raise ReadError for more bytes than that."""
        if size > self.bytes:
            raise ReadError(
                f"{path}: unpacks to more than {self.bytes >> 20:,} MB",
                hint="split the file, or raise [ingest] max_unpacked_mb; nothing was ingested",
            )


#: Where nothing else is said.
BUDGET = Budget(200_000_000, 1 << 33)


@dataclass(frozen=True)
class Head:
    """How a file begins: its first line that says something, the lines above it, the delimiter that one of them names.

    Spreadsheets begin a file with ``sep=;``, so that they can read it themselves.
    """

    line: str
    above: int
    separator: str


@dataclass(frozen=True)
class PlainText:
    """A text file as UTF-8. ``lines`` are those that are not empty. ``packing`` is "gzip" or "".

    ``even``: all lines end alike; ``marked``: it begins with a byte order mark; ``last``: its last byte but spaces.
    """

    path: Path
    link: Path
    packing: str
    lines: int
    longest: int
    even: bool
    marked: bool
    last: bytes = b""

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """The bytes, unpacked."""
        with open_unpacked(self.link, self.packing) as stream:
            yield stream

    def first_line(self, most: int = 1 << 26) -> str:
        """The first line, without its end and a byte order mark."""
        return self.head(most).line

    def head(self, most: int = 1 << 26, comment: str | None = None) -> Head:
        """The first line that says something and begins with no ``comment``, without its end and a byte order mark, and
        what stands above it."""
        above, separator = 0, ""
        with self.open() as stream:
            for raw in physical_lines(stream, most):
                line = raw.decode("utf-8", "replace").removeprefix("\ufeff")
                says = line.strip() and not (comment and line.startswith(comment))
                if says and not (mark := _SEPARATOR.fullmatch(line)):
                    return Head(line, above, separator)
                separator = mark[1] if says and mark else separator
                above += 1
        return Head("", 0, "")


def plain_text(file: EventFile, encoding: str, budget: Budget) -> PlainText:
    """Look at a text file once, all of it; Python checks end and checksum of a packed one.

    Raises:
        ReadError: over the budget, or not text of this encoding; the message names the one that it seems to be.
    """
    plain = codecs.lookup(encoding).name in ("utf-8", "ascii")
    padded = file.packing == "gzip" and is_padded(file.link)  # Python knows padding, DuckDB does not
    if plain and file.packing in ("", "gzip") and not padded:
        return _scan(file, file.link, file.packing, budget)
    copy = file.link.with_name(f"{file.link.name}.utf8")
    if plain:
        _unpack(file, copy, budget)
    else:
        _transcode(file, copy, encoding, budget)
    return _scan(file, copy, "", budget)


def physical_lines(stream: IO[bytes], most: int = 1 << 26) -> Iterator[bytes]:
    r"""The lines of a stream without their ends, of ``most`` bytes at most.

    A line ends with \n; any \r beside it belong to its end (\r\n, \r\r\n, \n\r). Where no \n is in sight, with \r.

    What a line has beyond ``most`` bytes is dropped; it is then longer than any line may be, and its reader says so.
    """
    for line in iter(lambda: stream.readline(most), b""):
        whole = line.endswith(b"\n")
        while not whole and len(line) >= most:  # the rest of a line that is too long
            rest = stream.readline(most)
            if not rest or rest.endswith(b"\n"):
                break
        body = line[:-1] if whole else line
        body = body.strip(b"\r") if whole else body.removesuffix(b"\r")
        yield from body.split(b"\r") if b"\r" in body and not whole else [body]


def _scan(file: EventFile, link: Path, packing: str, budget: Budget) -> PlainText:
    lines = ends = windows = bare = blank = longest = current = size = 0
    last, first, final = b"\n", b"", b""
    with open_unpacked(link, packing) as stream:
        while part := stream.read(_CHUNK):
            first = first or part[:16]
            size += len(part)
            found = part.count(b"\n")
            ends += found
            windows += part.count(b"\r\n") + (last == b"\r" and part[:1] == b"\n")
            bare += part.count(b"\r")
            if part[:1] in b"\r\n" or b"\n\n" in part or b"\n\r\n" in part:
                blank += len(_BLANK.findall(last + part))
            current, longest = _lengths(part, current, longest)
            last, final = part[-1:], part.rstrip()[-1:] or final
            if packing:
                budget.check_bytes(file.path, size)
            budget.check_rows(file.path, ends - 1)  # the header is a line, too
    _check_marks(file, first)
    lines = ends + (last != b"\n") - blank
    lone = bare - windows
    even = lone == 0 and windows in (0, ends)
    if ends == 0 and lone:  # the lines of an old Macintosh
        lines = lone + (last != b"\r")
    marked = first.startswith(codecs.BOM_UTF8)
    return PlainText(file.path, link, packing, lines, max(longest, current), even, marked, final)


def _lengths(part: bytes, current: int, longest: int) -> tuple[int, int]:
    """The length of the line that ``part`` leaves open, and of the longest so far (of short ones, a bound)."""
    start = part.find(b"\n")
    if start < 0:
        return current + len(part), longest
    return len(part) - part.rfind(b"\n") - 1, max(longest, current + start, min(len(part), _CHUNK))


def _check_marks(file: EventFile, first: bytes) -> None:
    for mark, name in _MARKS.items():
        if first.startswith(mark):
            raise ReadError(
                f"{file.path}: this is {name.upper()}, not UTF-8: it begins with its byte order mark",
                hint=f'set encoding = "{name}" under [source] in imsr.toml',
            )
    kind, ending = kind_by_content(first)
    if kind:
        hint = f"name it {file.path.name}{ending}" if ending else "export it as CSV, JSON lines or Parquet"
        if file.packing:
            hint = "it is packed twice: unpack it once"
        elif ending == ".parquet":
            hint = f'name it {file.path.stem}{ending}, or set format = "parquet" under [source] in imsr.toml'
        raise ReadError(f"{file.path}: this is no text: it is {kind}", hint=hint)
    if len(first) >= 4 and 0 in first[:4]:
        raise ReadError(
            f"{file.path}: this is no UTF-8 text: it has zero bytes, as UTF-16 and binary files do",
            hint='if it is text, set encoding under [source] in imsr.toml: "utf-16-le", ...',
        )


def _unpack(file: EventFile, copy: Path, budget: Budget) -> None:
    size = 0
    with copy.open("wb") as out:
        for part in unpacked(file.link, file.packing):
            size += out.write(part)
            budget.check_bytes(file.path, size)


def _transcode(file: EventFile, copy: Path, encoding: str, budget: Budget) -> None:
    decoder = codecs.getincrementaldecoder(encoding)()
    size = 0
    try:
        with copy.open("w", encoding="utf-8", newline="") as out:
            for part in unpacked(file.link, file.packing):
                text = decoder.decode(part)
                size += out.write(text if size else text.removeprefix("\ufeff"))
                if file.packing:
                    budget.check_bytes(file.path, size)
            out.write(decoder.decode(b"", True))
    except UnicodeError as error:
        raise ReadError(
            f"{file.path}: not {encoding}: {error}", hint="set encoding under [source] in imsr.toml"
        ) from error
