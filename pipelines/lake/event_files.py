"""Which files are events: named one by one, as folders or as patterns; and what a file is by its name.

A folder brings every file of data in it; what is plainly something else (a marker, a lock, a note, an empty file, a
copy under way) is left alone, with the reason. The parts ``key=value`` of a path are columns of its file, as Hive and
Spark write them.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from urllib.parse import unquote

from imsr_core.errors import ImsrError
from pipelines.lake.packing import PACKINGS, packing_of
from pipelines.workspace.file_system import UNKNOWN

#: Ending -> format.
FORMATS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".dat": "csv",
    ".data": "csv",
    ".inter": "inter",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".parquet": "parquet",
    ".pq": "parquet",
}
#: RecBole's tables beside a log, ``name:type`` above each column: read where one is named, never found as events.
TYPED_TABLES = (".item", ".user")
#: Where files that cannot be read are set aside, in the folder that they landed in.
REFUSED = "refused"

_NO_DATA = (
    (".*", "hidden"),
    ("_*", "a marker"),
    ("*.tmp", "unfinished"),
    ("*.temp", "unfinished"),
    ("*.part", "unfinished"),
    ("*.partial", "unfinished"),
    ("*.crdownload", "unfinished"),
    ("*.filepart", "unfinished"),
    ("*.swp", "unfinished"),
    ("*~", "a backup"),
    ("*.bak", "a backup"),
    ("*.lock", "a lock"),
    ("*.lck", "a lock"),
    ("*.crc", "a checksum"),
    ("*.md5", "a checksum"),
    ("*.sha1", "a checksum"),
    ("*.sha256", "a checksum"),
    ("*.done", "a marker"),
    ("*.ok", "a marker"),
    ("*.success", "a marker"),
    ("*.log", "a log"),
    ("*.md", "a note"),
    ("*.rst", "a note"),
    ("*.pdf", "a note"),
    ("*.html", "a note"),
    ("*.reason.txt", "a note"),
    ("readme*", "a note"),
    ("license*", "a note"),
    ("licence*", "a note"),
    ("changelog*", "a note"),
    ("thumbs.db", "made by a desktop"),
    ("desktop.ini", "made by a desktop"),
    ("icon\r", "made by a desktop"),
)
#: Ending of what is no file of events, but often holds one -> what to do.
_ADVICE = {
    **dict.fromkeys((".zip", ".7z", ".rar", ".tar", ".tgz"), "unpack it"),
    **dict.fromkeys((".xlsx", ".xls", ".ods"), "export it as CSV"),
    **dict.fromkeys((".feather", ".arrow", ".avro", ".orc", ".pkl", ".sas7bdat", ".dta"), "convert it to Parquet"),
}
_PARTITION = re.compile(r"([^=/]+)=(.*)")
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
_WILD = re.compile(r"[*?\[]")


class ReadError(ImsrError):
    """A file that cannot be read as what its name says, or that lacks a wanted column."""


@dataclass(frozen=True)
class EventFile:
    """A file to read. ``link`` is a plain name of it: DuckDB would take ``*`` or ``[`` as a pattern."""

    path: Path
    link: Path

    @classmethod
    def linked(cls, path: Path, link: Path) -> EventFile:
        """A file under the plain name ``link``, which is made as a symbolic link to it, or as a copy where there is
        none.
        """
        try:
            link.symlink_to(path.absolute())
        except OSError as error:
            if error.errno not in UNKNOWN:
                raise
            shutil.copyfile(path, link)
        return cls(path, link)

    @property
    def packing(self) -> str:
        """How the file is packed, by its ending; "" if it is not."""
        return packing_of(self.path)

    def format(self, wanted: str = "auto") -> str:
        """csv, inter, json, python or parquet: what is wanted, else by the ending. Raises ReadError for another one."""
        named = "inter" if self.path.suffix in TYPED_TABLES else _format_of(self.path)
        kind = named if wanted == "auto" else wanted
        if kind is None or (kind == "parquet" and self.packing):
            packed = " ".join(PACKINGS)
            hint = f"known endings: {' '.join(FORMATS)}, and {packed} after those of text; or set format under [source]"
            suffixes = [suffix.lower() for suffix in self.path.suffixes]
            if advice := _ADVICE.get(".tar" if ".tar" in suffixes else self.path.suffix.lower()):
                hint = f"{advice}; {hint}"
            raise ReadError(f"{self.path}: unknown format", hint=hint)
        return kind

    @property
    def partitions(self) -> dict[str, str | None]:
        """The columns that the path names: ``dt=2024-01-01/part-0.parquet`` has a column ``dt``."""
        found = {}
        for part in self.path.absolute().parent.parts:
            if match := _PARTITION.fullmatch(part):
                found[unquote(match[1])] = None if match[2] == _NO_VALUE else unquote(match[2])
        return found


@dataclass(frozen=True)
class Given:
    """A file as it was given: where it lies, and the name under which the lake and its reports know it."""

    path: Path
    name: str


@dataclass(frozen=True)
class Found:
    """The files that a folder, or what was named, stands for; ``ignored``: path -> why it was left alone."""

    files: tuple[Given, ...]
    ignored: dict[Path, str]


def find(names: Iterable[Path | str], format: str = "auto") -> Found:
    """The files behind names: a file is itself; a folder is searched; a pattern (``*``, ``**``, ``?``) is matched.

    Raises:
        ReadError: a name stands for nothing, or for a table beside the events.
    """
    found = [_behind(name, format) for name in map(Path, names)]
    ignored = {path: why for each in found for path, why in each.ignored.items()}
    return Found(tuple(file for each in found for file in each.files), ignored)


def _behind(name: Path, format: str) -> Found:
    if name.is_dir():
        inside = look_into(name, format)
        if not inside.files:
            raise ReadError(f"{name}: no event files in this folder", hint=_why(inside.ignored))
        return inside
    if not name.exists() and _WILD.search(str(name)):
        return _matching(name, format)
    if name.suffix in TYPED_TABLES and format == "auto":
        about = "[items] metadata" if name.suffix == ".item" else "[segments] users, or labels of a task,"
        raise ReadError(
            f"{name}: a table of RecBole's about {name.suffix[1:]}s, and no events",
            hint=f"copy it into the workspace and name it as {about} in imsr.toml",
        )
    return Found((Given(name, printable(name.name)),), {})


def _matching(pattern: Path, format: str) -> Found:
    anchor = _anchor(pattern)
    matches = [path for path in sorted(anchor.glob(str(pattern.relative_to(anchor)))) if path.is_file()]
    if not matches:
        raise ReadError(f"{pattern}: no file matches", hint="quote the pattern, or name the files one by one")
    ignored = {path: why for path in matches if (why := no_data(path, format))}
    files = [Given(path, printable(path.relative_to(anchor))) for path in matches if path not in ignored]
    return Found(tuple(files), ignored)


def look_into(folder: Path, format: str = "auto") -> Found:
    """The files of data in a folder and its folders, by name; what was set aside before is not looked at.

    Raises:
        ReadError: the folder may not be read, or is a link to one that is not there: nobody can say that it is empty.
    """
    if folder.is_symlink() and not folder.exists():
        raise ReadError(f"{folder} is a link to {os.readlink(folder)}, which is not there", hint="is it mounted?")
    if folder.exists() and not _is_open(folder):
        raise ReadError(f"{folder} may not be read by this user", hint="change its permissions")
    files, ignored = [], {}
    for path in sorted(folder.rglob("*")):
        below = path.relative_to(folder)
        if below.parts[0] == REFUSED:
            continue
        if path.is_dir():
            if not _is_open(path):
                ignored[path] = "a folder that this user may not read"
            continue
        hidden = any(part.startswith((".", "_")) for part in below.parts[:-1])
        why = "hidden" if hidden else no_data(path, format)
        if why:
            ignored[path] = why
        else:
            files.append(Given(path, printable(below)))
    return Found(tuple(files), ignored)


def _is_open(folder: Path) -> bool:
    """Whether the files in a folder can be seen: where they cannot, a search finds none and says nothing."""
    return os.access(folder, os.R_OK | os.X_OK)


def no_data(path: Path, format: str = "auto") -> str | None:
    """Why a file in a folder is plainly no file of events; None if it may be one."""
    name = path.name.lower()
    for pattern, why in _NO_DATA:
        if fnmatch(name, pattern):
            return why
    if not path.is_file():
        return "a broken link" if path.is_symlink() else "not a file"
    if path.stat().st_size == 0:
        return "empty"
    if format == "auto" and _format_of(path) is None:
        advice = _ADVICE.get(path.suffix.lower(), "set format under [source] if it is data")
        return f"an unknown ending: {advice} ({' '.join(FORMATS)})"
    return None


def printable(path: Path | str) -> str:
    """A name of a file as text; bytes in it that are no UTF-8, which a system allows, are written as ``\\xe9``."""
    text = path if isinstance(path, str) else path.as_posix()
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _format_of(path: Path) -> str | None:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    compressed = bool(packing_of(path))
    ending = suffixes[-2] if compressed and len(suffixes) > 1 else "".join(suffixes[-1:])
    return FORMATS.get(ending)


def _anchor(pattern: Path) -> Path:
    """The folder in front of the first part with a wildcard."""
    parts = pattern.parts
    first = next(n for n, part in enumerate(parts) if _WILD.search(part))
    return Path(*parts[:first]) if first else Path()


def _why(ignored: dict[Path, str]) -> str:
    if not ignored:
        return "it is empty"
    path, why = next(iter(ignored.items()))
    return f"left alone: {path.name} ({why})" + (f", and {len(ignored) - 1} more" if len(ignored) > 1 else "")
