"""Packed files of text: by their ending gzip, bzip2, Zstandard or xz. Several streams in one file are one text."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa

#: Ending -> how a file is packed.
PACKINGS = {".gz": "gzip", ".bz2": "bzip2", ".zst": "zstd", ".xz": "xz"}
#: What files that are no plain text begin with -> what they are, and the ending that says so.
MAGIC = {
    b"\x1f\x8b": ("packed by gzip", ".gz"),
    **{b"BZh%d1AY&SY" % level: ("packed by bzip2", ".bz2") for level in range(1, 10)},
    b"\x28\xb5\x2f\xfd": ("packed by zstd", ".zst"),
    b"\xfd7zXZ\x00": ("packed by xz", ".xz"),
    b"PAR1\x15": ("Parquet", ".parquet"),
    b"PK\x03\x04": ("a ZIP archive, or a spreadsheet", ""),
    b"SQLite format 3\x00": ("a SQLite database", ""),
    b"%PDF-": ("a PDF", ""),
}
_CHUNK = 1 << 20
#: No gzip stream ends with so many zeros: its last eight bytes are checksum and size.
_PADDING = 9


def packing_of(path: Path) -> str:
    """How a file is packed, by its ending; "" if it is not."""
    return PACKINGS.get(path.suffix.lower(), "")


def kind_by_content(first: bytes) -> tuple[str, str]:
    """(what a file is, the ending that says so) by its first bytes, where they are of no text; else ("", "")."""
    return next((found for magic, found in MAGIC.items() if first.startswith(magic)), ("", ""))


def is_padded(path: Path) -> bool:
    """Whether zeros follow the last stream of a file, as where it was cut out of a tape or off a block device."""
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - _PADDING, 0))
        return file.read() == bytes(_PADDING)


def open_unpacked(path: Path, packing: str) -> BinaryIO:
    """The bytes of a file before it was packed, as a stream. What follows the last stream of a file may go unseen."""
    match packing:
        case "gzip":
            return cast(BinaryIO, gzip.open(path))
        case "bzip2":
            return cast(BinaryIO, bz2.open(path))
        case "xz":
            return cast(BinaryIO, lzma.open(path))
        case "zstd":
            return cast(BinaryIO, io.BufferedReader(cast(Any, pa.CompressedInputStream(path.open("rb"), "zstd"))))
    return path.open("rb")


def open_packing(file: BinaryIO, packing: str) -> BinaryIO:
    """A stream that packs into ``file`` what is written to it; the same text gives the same bytes."""
    match packing:
        case "gzip":
            return cast(BinaryIO, gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0))
        case "bzip2":
            return cast(BinaryIO, bz2.open(file, "wb"))
        case "xz":
            return cast(BinaryIO, lzma.open(file, "wb"))
    return cast(BinaryIO, pa.CompressedOutputStream(file, "zstd"))


def unpacked(path: Path, packing: str) -> Iterator[bytes]:
    """The bytes of a file before it was packed, all of them or an error; zeros behind its end are padding (not zstd).

    Raises:
        OSError, EOFError, lzma.LZMAError: it is not packed so, damaged, cut off, or followed by something else.
    """
    makers: dict[str, Callable[[], Any]] = {"bzip2": bz2.BZ2Decompressor, "xz": lzma.LZMADecompressor}
    if packing in makers:
        yield from _streams(path, makers[packing])
        return
    with open_unpacked(path, packing) as stream:
        while part := stream.read(_CHUNK):
            yield part


def _streams(path: Path, make: Callable[[], Any]) -> Iterator[bytes]:
    """Stream after stream: Python's own readers take what follows the first one for an end where it is damaged."""
    decompressor = None
    with path.open("rb") as file:
        data = file.read(_CHUNK)
        while data:
            data = data if decompressor else data.lstrip(b"\0")
            if not data:
                data = file.read(_CHUNK)
                continue
            decompressor = decompressor or make()
            yield decompressor.decompress(data)
            data = decompressor.unused_data if decompressor.eof else b""
            decompressor = None if decompressor.eof else decompressor
            data = data or file.read(_CHUNK)
    if decompressor is not None:
        raise EOFError("it is cut off: its end is missing")
