"""A log whose first delivery falls into one span leaves nothing to test a model on: say which unit would part it."""

from __future__ import annotations

from datetime import datetime

from pipelines.lake.frozen import zone_of
from pipelines.lake.spans import Calendar, Unit
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import Snapshot

#: A unit of spans -> shorter ones, the longest first.
_SHORTER: dict[str, tuple[Unit, ...]] = {
    "month": ("day", "hour"),
    "week": ("day", "hour"),
    "day": ("hour",),
    "hour": (),
}


def single_span(workspace: Workspace, view: Snapshot) -> str:
    """A warning if all of a log's first delivery falls into one span of the calendar; "" if not."""
    settings = workspace.settings
    with_data = [span for span in view.spans() if span.data_version is not None]
    units = _SHORTER.get(settings.spans.unit)
    row = view.span_version(with_data[0].span_id) if len(with_data) == 1 else None
    if row is None or units is None or len(view.batches()) != 1:
        return ""
    first, last = _reach(workspace, row.path)
    told = f"all events fall into one span, {row.span_id}: nothing is left to test its model on."
    for unit in units:
        calendar = Calendar(unit, zone=zone_of(settings))
        if calendar.span_of(first).id != calendar.span_of(last).id:
            return f'{told} If no more are to come, ingest them into a new workspace with unit = "{unit}" under [spans]'
    if first == last and row.rows > 1:
        return (
            f"{told} All {row.rows:,} are of one time, {first:%Y-%m-%d %H:%M:%S} UTC: is "
            f"[source] timestamp = {settings.source.timestamp!r} when they happened?"
        )
    return f"{told} They lie within an hour, so that no shorter unit parts them: later events are needed"


def _reach(workspace: Workspace, path: str) -> tuple[datetime, datetime]:
    """The first and the last time of a span version, from the statistics of its files."""
    import pyarrow.parquet as pq  # for a log of one span: who only looks at a workspace imports none of it

    from pipelines.lake.schemas import bucket_files

    times: list[datetime] = []
    for file in bucket_files(workspace.resolve(path)):
        found = pq.read_metadata(file)
        column = found.schema.names.index("timestamp")
        for group in range(found.num_row_groups):
            statistics = found.row_group(group).column(column).statistics
            times += [statistics.min, statistics.max]
    return min(times), max(times)
