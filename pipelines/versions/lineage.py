"""Where a version comes from, and what is needed to read it."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, dataclass, field
from importlib.metadata import version as package_version
from pathlib import Path, PurePosixPath
from typing import Any

from imsr_core.errors import CheckpointError, ImsrError
from pipelines.workspace.known_content import KnownContent

PACKAGES = ("imsr", "torch", "numpy", "pyarrow", "duckdb", "apache-beam")


class VersionError(ImsrError):
    """A version that is unknown, or damaged."""


@dataclass(frozen=True)
class Lineage:
    """Where a version comes from, and what is needed to read it. Paths are relative to the workspace.

    ``spans`` names the span of each ordinal: spans[0] is the last span of pre-training. ``data`` maps the spans that
    this version learnt to the fingerprint of their sequences. ``vocabulary`` are the delta folders and ``interests``
    the interest files, oldest first; ``model`` are the folders of the checkpoints that its model is read from, oldest
    first and its own last, and empty where its own is whole. ``categories`` is the fingerprint of the table that the
    categories of its items are from, empty without.
    """

    version_id: str
    span_id: str
    spans: tuple[str, ...]
    parent: str | None
    strategy: str
    protocol: str
    fingerprint: str
    data: dict[str, str]
    vocabulary: tuple[str, ...]
    interests: tuple[str, ...]
    config: dict[str, Any]
    packages: dict[str, str] = field(default_factory=dict)
    model: tuple[str, ...] = ()
    categories: str = ""

    @property
    def interest_versions(self) -> tuple[str, ...]:
        """The versions whose interest files are read, oldest first; each file lies in ``versions/<id>/``."""
        return tuple(PurePosixPath(path).parts[1] for path in self.interests)

    @property
    def model_versions(self) -> tuple[str, ...]:
        """The versions whose checkpoints are read, oldest first."""
        return tuple(PurePosixPath(path).parts[1] for path in self.model)

    def to_json(self) -> str:
        """The lineage as it is stored."""
        values = asdict(self)
        for later in ("model", "categories"):
            if not values[later]:
                del values[later]
        return json.dumps(values, indent=1) + "\n"

    @classmethod
    def read(cls, folder: Path) -> Lineage:
        """The lineage of a version folder. Raises CheckpointError if it is missing or damaged."""
        path = folder / "lineage.json"
        try:
            return _LINEAGES.of(path)
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise CheckpointError(f"{path}: not a readable lineage: {error}", hint="run: imsr doctor") from error


def _parse(path: Path) -> Lineage:
    values = json.loads(path.read_text(encoding="utf-8"))
    values.setdefault("model", ())  # it came later
    tuples = {name: tuple(map(str, values[name])) for name in ("spans", "vocabulary", "interests", "model")}
    if not isinstance(values["data"], dict):
        raise ValueError("it does not say what was learnt")
    return Lineage(**(values | tuples))


_LINEAGES: KnownContent[Lineage] = KnownContent(_parse)


def installed_packages() -> dict[str, str]:
    """Versions of what can change a result."""
    return {"python": platform.python_version()} | {name: package_version(name) for name in PACKAGES}
