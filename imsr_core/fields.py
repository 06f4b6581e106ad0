"""How a configuration documents and checks its keys: a default with its meaning, and one form of refusal."""

from __future__ import annotations

from dataclasses import field
from typing import Any

from imsr_core.errors import ConfigError


def documented(default: Any, doc: str) -> Any:
    """A dataclass field with its default and its meaning, which `imsr init` writes as a comment."""
    return field(default=default, metadata={"doc": doc})


def require(ok: bool, section: str, key: str, value: object, wanted: str) -> None:
    """Raise `ConfigError` by section and key unless ``ok``; ``wanted`` says what would do."""
    if not ok:
        raise ConfigError(f"[{section}] {key} = {value!r}: must be {wanted}", hint=f"change {key} in imsr.toml")
