"""Places that somebody names for what is to be written: refused before any work if something stands in the way."""

from __future__ import annotations

from pathlib import Path

from imsr_core.errors import ConfigError


def folder_to_make(path: Path) -> Path:
    """The path of a folder that may exist. Raises ConfigError if it, or one above it, is a file."""
    for each in (path, *path.absolute().parents):
        if each.exists():
            if not each.is_dir():
                raise ConfigError(f"{each} is a file, and a folder is wanted there", hint="name another folder")
            break
    return path


def file_to_write(path: Path) -> Path:
    """The path of a file that may exist. Raises ConfigError if it is a folder, or there is no folder for it."""
    if path.is_dir():
        raise ConfigError(f"{path} is a folder, and a file is wanted there", hint="name a file in it")
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"there is no folder {path.absolute().parent}", hint="make it, or name another file")
    return path
