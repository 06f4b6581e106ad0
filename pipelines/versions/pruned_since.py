"""A version that was opened, and whose files a prune has removed since: what is read later says so."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from imsr_core.errors import ImsrError
from pipelines.versions.lineage import VersionError
from pipelines.workspace.layout import Workspace
from pipelines.workspace.states import GONE


@contextmanager
def saying_if_pruned(workspace: Workspace, version_id: str, needed: Iterable[str]) -> Iterator[None]:
    """Where a read fails because the version was pruned since it was opened, that is the error.

    Args:
        workspace: of the version.
        version_id: the version that was opened.
        needed: paths in the workspace that are read on demand.

    Raises:
        VersionError: the version, or what it reads, was pruned since; every other error stays what it is.
    """
    try:
        yield
    except (ImsrError, FileNotFoundError) as error:
        with workspace.ledger.snapshot() as view:
            row, named = view.version(version_id), view.paths()
        lost = [path for path in needed if path not in named and not workspace.resolve(path).exists()]
        if row is not None and row.state not in GONE and not lost:
            raise
        raise VersionError(
            f"version {version_id} was pruned since it was opened",
            hint="open it again, or the one that is current now: imsr versions lists what is left",
        ) from error
