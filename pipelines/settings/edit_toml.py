"""Change an imsr.toml as its owner would: a few keys, all else left as it is; and notes at its end."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from typing import Any

from imsr_core.errors import ConfigError

#: Between these a command keeps its note, and writes over the one before.
_BEGIN, _END = "# --- {name} ---", "# --- end of {name} ---"


def with_keys(text: str, settings: Mapping[str, Any]) -> str:
    """The TOML ``text`` with "section.key" set to numbers, strings or switches.

    A key that is there (or stands there commented out, as `imsr init` writes it) gets its new value; another goes to
    the end of its section, and a section that is missing to the end of the file.

    Raises:
        ConfigError: the text is written in a way that cannot be changed line by line; nothing else would be lost, so
            nothing is changed.
    """
    lines = text.splitlines()
    for path, value in settings.items():
        section, _, key = path.rpartition(".")
        lines = _with_key(lines, section, key, json.dumps(value))
    changed = "\n".join(lines) + "\n"
    expected = tomllib.loads(text)
    for path, value in settings.items():
        *sections, key = path.split(".")
        table = expected
        for name in sections:
            table = table.setdefault(name, {})
        table[key] = value
    try:
        done = tomllib.loads(changed) == expected
    except tomllib.TOMLDecodeError:
        done = False
    if not done:
        named = ", ".join(f"{path} = {json.dumps(value)}" for path, value in settings.items())
        raise ConfigError("these settings cannot be put into imsr.toml by a command", hint=f"set by hand: {named}")
    return changed


def with_note(text: str, name: str, note: str) -> str:
    """The TOML ``text`` with a ``note`` of comments at its end, in place of an earlier one of that ``name``."""
    begin, end = _BEGIN.format(name=name), _END.format(name=name)
    kept = re.sub(rf"\n*^{re.escape(begin)}$.*?^{re.escape(end)}$\n?", "\n", text, flags=re.MULTILINE | re.DOTALL)
    body = "\n".join(f"# {line}".rstrip() for line in note.splitlines())
    return f"{kept.rstrip()}\n\n{begin}\n{body}\n{end}\n"


def _with_key(lines: list[str], section: str, key: str, value: str) -> list[str]:
    header = re.compile(rf"\s*\[\s*{re.escape(section)}\s*\]\s*(#.*)?$")
    start = next((n for n, line in enumerate(lines) if header.match(line)), None)
    if start is None:
        return [*lines, "", f"[{section}]", f"{key} = {value}"]
    stop = next((n for n in range(start + 1, len(lines)) if re.match(r"\s*\[", lines[n])), len(lines))
    for pattern in (rf"\s*{re.escape(key)}\s*=", rf"#\s*{re.escape(key)}\s*= \(unset\)"):
        for n in range(start + 1, stop):
            if re.match(pattern, lines[n]):
                remark = re.search(r"\s+#.*$", lines[n]) if not lines[n].startswith("#") else None
                return [*lines[:n], f"{key} = {value}{remark.group() if remark else ''}", *lines[n + 1 :]]
    # behind the section's last line that says something, before the comment of the next section
    place = start + 1
    for n in range(start + 1, stop):
        if lines[n].strip() and not lines[n].lstrip().startswith("#"):
            place = n + 1
    return [*lines[:place], f"{key} = {value}", *lines[place:]]
