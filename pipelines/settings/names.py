"""Names that may become file names."""

from __future__ import annotations

import re

from imsr_core.errors import ImsrError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class WorkspaceError(ImsrError):
    """The folder is no workspace, already is one, or a path would leave it."""


def check_name(name: str) -> str:
    """Return ``name`` if it can safely be a file name (letters, digits, ``.``, ``_``, ``-``), else raise."""
    if not _NAME.fullmatch(name) or name.endswith("."):
        raise WorkspaceError(
            f"{name[:80]!r} cannot be a file name", hint="use letters, digits, '.', '_' and '-', 128 at most"
        )
    return name
