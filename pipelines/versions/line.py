"""The lines of versions: each is a chain of models with a current pointer and a log of its own."""

from __future__ import annotations

from enum import StrEnum

from pipelines.versions.lineage import VersionError
from pipelines.workspace.ledger import Snapshot, VersionRow
from pipelines.workspace.states import GONE


class Line(StrEnum):
    """A line, by the name that the ledger has for it.

    ``INTERESTS`` learns every span, a night at a time; ``USERS`` learns tasks on top of the spans that are learnt.
    """

    INTERESTS = "interests"
    USERS = "users"

    @property
    def begin(self) -> str:
        """How its first version is made, as a hint."""
        return {
            Line.INTERESTS: "train one with: imsr run",
            Line.USERS: "declare a [tasks.NAME], then: imsr task add NAME",
        }[self]

    def known(self, view: Snapshot, version_id: str | None = None) -> VersionRow:
        """The row of one of its versions, or of the current one; its folder may be gone.

        Raises:
            VersionError: there is no such version in this line, or no current one yet.
        """
        wanted = version_id or view.pointer(self)
        if wanted is None:
            raise VersionError(f"the {self} line has no current version yet", hint=self.begin)
        row = view.version(wanted)
        if row is None or row.line != self:
            raise VersionError(f"the {self} line has no version {wanted!r}", hint="list them with: imsr versions")
        return row

    def row(self, view: Snapshot, version_id: str | None = None) -> VersionRow:
        """The row of one of its versions that can be opened, or of the current one.

        Raises:
            VersionError: there is no such version in this line, or no current one yet, or it is no longer kept.
        """
        row = self.known(view, version_id)
        if row.state in GONE:
            again = f"; learn its span again with: imsr restate {row.span_id}" if self is Line.INTERESTS else ""
            raise VersionError(
                f"version {row.version_id} is no longer kept: {row.removed}",
                hint=f"list what is left with: imsr versions{again}",
            )
        return row
