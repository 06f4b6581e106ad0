"""Where everything lies. A workspace is one folder, and ``ls`` tells its story:

    imsr.toml                                settings
    ledger.sqlite                            what happened to each span; the truth
    landing/                                 files as they arrive (optional; ingest reads from anywhere)
    lake/span=<id>/v=<n>/bucket=<NN>.parquet interactions, one immutable folder a span version
    quarantine/batch=<id>.parquet            refused rows, with the reason
    sequences/span=<id>/<fingerprint16>/     per-user sequences and the ids new in that span
    versions/<version id>/                   trained models
    trials/                                  settings that `imsr tune` has tried; may be removed
    staging/                                 work in progress; whatever a dead run left here is rubbish
    catalog.duckdb, views.sql                views for analysts
    alerts.json                              what people were told (with [alerts]); may be removed

A Parquet file that was rewritten, as where a user was forgotten, has another name: ``bucket=03@1.parquet`` (see
`editions`). This module knows paths only. Names are checked before they become paths.
"""

from __future__ import annotations

import os.path
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from imsr_core.errors import ConfigError
from pipelines.settings.alerts import AlertsSettings
from pipelines.settings.imsr_toml import Settings, default_toml, load_alerts, load_settings
from pipelines.settings.names import WorkspaceError, check_name
from pipelines.workspace.ledger import Ledger
from pipelines.workspace.places import folder_to_make

SETTINGS_NAME = "imsr.toml"
FOLDERS = ("landing", "lake", "quarantine", "sequences", "versions", "staging")


@dataclass(frozen=True)
class Workspace:
    """The layout of one workspace folder. ``create`` makes one, ``open`` checks that one is there."""

    root: Path

    @classmethod
    def create(cls, root: Path | str, settings_toml: str | None = None) -> Workspace:
        """Make the folders, the settings file (``settings_toml`` or all defaults) and an empty ledger.

        Raises:
            WorkspaceError: ``root`` already holds a workspace, or its name is one that DuckDB cannot open files in.
            ConfigError: the settings are not valid, or a file stands in the way; nothing is written then.
        """
        workspace = cls(Path(root).absolute())
        if signs := pattern_signs(workspace.root):
            raise WorkspaceError(
                f"{workspace.root} has {signs} in it, which DuckDB takes for a pattern",
                hint=f"give the folder a name without {signs}",
            )
        if workspace.settings_file.exists():
            raise WorkspaceError(f"{workspace.root} already is a workspace", hint="edit its imsr.toml instead")
        folder_to_make(workspace.root)
        text = default_toml() if settings_toml is None else settings_toml
        load_settings(text=text)
        for folder in FOLDERS:
            (workspace.root / folder).mkdir(parents=True, exist_ok=True)
        Ledger.create(workspace.ledger_file)
        workspace.settings_file.write_text(text, encoding="utf-8")
        return workspace

    @classmethod
    def open(cls, root: Workspace | Path | str) -> Workspace:
        """The workspace at ``root``, or one that was opened already; raises WorkspaceError if there is none."""
        if isinstance(root, Workspace):
            return root
        workspace = cls(Path(root).absolute())
        if not workspace.settings_file.is_file():
            raise WorkspaceError(
                f"{workspace.root} is not a workspace: {_what_lacks(workspace.root)}",
                hint=_where_one_may_be(workspace.root),
            )
        return workspace

    @cached_property
    def _real_root(self) -> str:
        """The root without links, with a slash at its end."""
        return os.path.join(os.path.realpath(self.root), "")

    @cached_property
    def settings(self) -> Settings:
        """The settings in ``imsr.toml``, read once."""
        return load_settings(self.settings_file)

    @property
    def alerts(self) -> AlertsSettings:
        """Who is told: also where another section of ``imsr.toml`` cannot be read, which is a thing to tell."""
        try:
            return self.settings.alerts
        except ConfigError:
            return load_alerts(self.settings_file)

    @cached_property
    def ledger(self) -> Ledger:
        """The ledger of this workspace."""
        return Ledger(self.ledger_file)

    @property
    def settings_file(self) -> Path:
        """``imsr.toml``."""
        return self.root / SETTINGS_NAME

    @property
    def ledger_file(self) -> Path:
        """The SQLite file of the ledger."""
        return self.root / "ledger.sqlite"

    @property
    def catalog_file(self) -> Path:
        """The DuckDB file that holds views only."""
        return self.root / "catalog.duckdb"

    @property
    def views_file(self) -> Path:
        """The same views as text."""
        return self.root / "views.sql"

    @property
    def staging(self) -> Path:
        """Work in progress, on the same file system as everything else (so that a rename is atomic)."""
        return self.root / "staging"

    @property
    def trials(self) -> Path:
        """What `imsr tune` has tried: a cache, made by it when it is asked."""
        return self.root / "trials"

    @property
    def versions(self) -> Path:
        """Parent folder of all model versions."""
        return self.root / "versions"

    def span_folder(self, span_id: str, data_version: int) -> Path:
        """``lake/span=<id>/v=<n>``."""
        return self.root / "lake" / f"span={check_name(span_id)}" / f"v={int(data_version)}"

    def quarantine_file(self, batch_id: str) -> Path:
        """``quarantine/batch=<id>.parquet``."""
        return self.root / "quarantine" / f"batch={check_name(batch_id)}.parquet"

    def sequences_folder(self, span_id: str, fingerprint: str) -> Path:
        """``sequences/span=<id>/<first 16 digits of the fingerprint>``."""
        return self.root / "sequences" / f"span={check_name(span_id)}" / check_name(fingerprint)[:16]

    def version_folder(self, version_id: str) -> Path:
        """``versions/<version id>``."""
        return self.versions / check_name(version_id)

    def list_file(self, version_id: str, variant: str = "") -> Path:
        """Everybody's lists of a version: ``recommendations/<version id>[~<variant>].parquet``."""
        return self.root / "recommendations" / f"{version_id}{f'~{variant}' if variant else ''}.parquet"

    def matrix_file(self, version_id: str) -> Path:
        """How a version ranks the spans it has learnt: ``matrix/<version id>.parquet``."""
        return self.root / "matrix" / f"{version_id}.parquet"

    def report_file(self, version_id: str) -> Path:
        """The report on a version: ``reports/<version id>.html``."""
        return self.root / "reports" / f"{version_id}.html"

    def relative(self, path: Path) -> str:
        """``path`` as the ledger stores it: relative to the root, with forward slashes."""
        text, root = path.as_posix(), os.path.join(self.root.as_posix(), "")
        if not text.startswith(root):
            raise WorkspaceError(f"{path} is not inside {self.root}")
        return text[len(root) :]

    def resolve(self, stored: str) -> Path:
        """The path behind a stored one. Raises WorkspaceError if it leads out of the root, links included."""
        pure = PurePosixPath(stored)
        if pure.is_absolute() or ".." in pure.parts or not self._is_inside(pure.parts):
            raise WorkspaceError(f"{stored!r} leads out of the workspace {self.root}", hint="run: imsr doctor")
        return self.root / pure

    def _is_inside(self, parts: Sequence[str]) -> bool:
        """Whether a path of these parts below the root stays below it; without a link on its way it does."""
        path = str(self.root)
        for part in parts:
            path = os.path.join(path, part)
            if os.path.islink(path):
                whole = os.path.realpath(self.root.joinpath(*parts))
                return os.path.join(whole, "").startswith(self._real_root)
        return True


def pattern_signs(path: Path) -> str:
    """The signs in a path that DuckDB takes for a pattern, or (?) for the end of the name."""
    return " ".join(sign for sign in "*?[" if sign in str(path))


def _what_lacks(root: Path) -> str:
    if root.exists():
        return f"it has no {SETTINGS_NAME}"
    return (
        f"it is a link to {os.readlink(root)}, which is not there" if root.is_symlink() else "there is no such folder"
    )


def _where_one_may_be(root: Path) -> str:
    """What to type where a folder is no workspace: the one in it, or around it; else how to make it."""
    above = [folder for folder in root.parents if is_workspace(folder)]
    try:
        near = above[:1] or sorted(folder for folder in root.iterdir() if is_workspace(folder))
    except OSError:  # it is not there, or not ours to read
        near = []
    if near:
        named = " or ".join(f"-w {shlex.quote(os.path.relpath(folder))}" for folder in near[:3])
        return f"the workspace {'around it' if above else 'in it'} is named with {named}"
    if root.is_symlink():
        return "let it lead to where the workspace is now, or name that folder with -w"
    make = f"imsr init {shlex.quote(os.path.relpath(root))}"
    return f"run: {make}" if root.exists() else f"was it moved, or is its disk not mounted? A new one: {make}"


def is_workspace(folder: Path) -> bool:
    """Whether a workspace lies in a folder; one that cannot be read is none."""
    try:
        return (folder / SETTINGS_NAME).is_file()
    except OSError:
        return False
