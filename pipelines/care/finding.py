"""One thing that `imsr doctor` has found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

RUN = "imsr run"
PRUNE = "imsr prune"
#: Mends damage to what can be built again.
DAMAGED = "imsr prune --damaged, then: imsr run"


class Severity(StrEnum):
    """``ERROR``: something is lost or wrong; ``WARNING``: untidy, or old; ``NOTE``: nothing to do."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True)
class Finding:
    """What is wrong, where (a path below the workspace, or a part of it), and the command that mends it.

    ``subject`` names what `imsr prune --damaged` has to discard: (kind, key), the key as the ledger has it.
    """

    severity: Severity
    what: str
    where: str
    mend: str
    subject: tuple[str, str] | None = None
