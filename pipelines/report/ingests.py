"""What each ingest brought, and what share of it was refused."""

from __future__ import annotations

from pipelines.lake.warnings import over_the_limit
from pipelines.report.charts import percent
from pipelines.report.facts import Rows
from pipelines.report.section import Section
from pipelines.workspace.layout import Workspace

#: The newest ingests are shown.
SHOWN = 24
_COLUMNS = ("batch", "ingested", "files", "read", "kept", "duplicate", "refused", "share", "too many")


def ingests(workspace: Workspace) -> Section:
    """The newest ingests with the share of their rows that was refused; what is only too late does not count."""
    with workspace.ledger.snapshot() as view:
        batches = view.batches()
    rows = tuple(
        (
            batch.batch_id,
            batch.ingested_at[:16].replace("T", " "),
            len(batch.files),
            batch.read,
            batch.kept,
            batch.duplicate,
            batch.quarantined,
            percent(batch.quarantined_share),
            "yes" if over_the_limit(batch, workspace.settings) is not None else "",
        )
        for batch in reversed(batches[-SHOWN:])
    )
    most = workspace.settings.ingest.max_quarantined_share
    says = (
        f"The newest {len(rows)} of {len(batches)}. A row that cannot be used is refused, and kept with its reason: "
        f"imsr sql 'FROM quarantine'. Too many: more than {percent(most).replace('.0 ', ' ')} of the rows."
    )
    return Section("What came in", says, table=Rows(_COLUMNS, rows), wide=True)
