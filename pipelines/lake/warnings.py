"""What a person should look at after an ingest: it went well, and may still not be what was meant."""

from __future__ import annotations

from imsr_core.errors import ImsrError
from pipelines.lake.refusals import advice, shown
from pipelines.lake.report import IngestReport
from pipelines.lake.validation import Reason
from pipelines.settings.imsr_toml import Settings
from pipelines.workspace.ledger import BatchRow, Snapshot, SpanRow

#: A gap this many times as long as all that follows it is no pause in a log.
_FAR = 2.0
_DAY_US = 86_400_000_000
#: A shorter gap is no reason to warn.
_LONG_DAYS = 365
#: A unit of spans -> the next shorter one.
_SHORTER = {"month": "day", "week": "day", "day": "hour"}


class QuarantinedShareError(ImsrError):
    """Too many rows of an ingest are in quarantine; everything is recorded, and somebody should look."""


def warnings_of(view: Snapshot, report: IngestReport, settings: Settings) -> tuple[str, ...]:
    """Warnings after a batch was committed."""
    found = [far_first_span(view.spans())]
    for file in report.files:
        if file.left_out and not file.read:
            found.append(
                f"{file.name}: not one of its {file.left_out:,} rows is wanted by keep_events, min_value or "
                "item_pattern under [source]"
            )
        if file.without_value:
            found.append(
                f"{file.name}: the value of {file.without_value:,} rows cannot be read; the events are "
                + ("kept without" if settings.source.min_value is None else "left out, as they may be below min_value")
                + (' (decimal = "," under [source]?)' if settings.source.decimal == "." else "")
            )
    if late := report.reasons.get(Reason.TOO_LATE):
        found.append(
            f"{late:,} {'event is' if late == 1 else 'events are'} too late: from before the newest learnt spans that "
            f"late events may change ([ingest] lookback_spans = {settings.ingest.lookback_spans}). To learn from them, "
            "and all later spans again: imsr ingest --accept-late --again FILE"
        )
    found.append(single_span(view.spans(), len(view.batches()), settings))
    return tuple(text for text in found if text)


def far_first_span(spans: list[SpanRow]) -> str:
    """A warning if the first span with data lies far before all others; "" if not."""
    with_data = [span for span in spans if span.data_version is not None]
    if len(with_data) < 2:
        return ""
    first, second, last = with_data[0], with_data[1], with_data[-1]
    gap, rest = second.start_us - first.end_us, last.end_us - second.start_us
    if gap <= _FAR * rest or gap < _LONG_DAYS * _DAY_US:
        return ""
    return (
        f"the first span, {first.span_id}, lies {gap // _DAY_US:,} days before the next one, {second.span_id}: it "
        f"would train the base model. If its times are wrong: imsr withdraw --span {first.span_id}"
    )


def single_span(spans: list[SpanRow], batches: int, settings: Settings) -> str:
    """A warning if all of a log's first delivery falls into one span of a unit that could be a shorter one."""
    with_data = [span for span in spans if span.data_version is not None]
    shorter = _SHORTER.get(settings.spans.unit)
    if batches != 1 or len(with_data) != 1 or shorter is None:
        return ""
    return (
        f"all events fall into one span, {with_data[0].span_id}: nothing is left to test its model on. If no more are "
        f'to come, ingest them into a new workspace with unit = "{shorter}" under [spans]'
    )


def check_quarantined(report: IngestReport, settings: Settings) -> None:
    """Raise QuarantinedShareError if more of an ingest's rows were refused than ``max_quarantined_share`` allows."""
    share, most = report.quarantined_share, settings.ingest.max_quarantined_share
    if share <= most:
        return
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(report.reasons.items()))
    main, refusal = max(report.refusals.items(), key=lambda each: (each[0] != Reason.TOO_LATE, each[1].rows))
    to_set = advice(main, refusal) or "correct [source]"
    counts = f"{report.quarantined:,} of {report.read:,} rows ({share:.0%}, more than {most:.0%})"
    raise QuarantinedShareError(
        f"{counts} are in quarantine: {reasons}; the first {main} is {shown(refusal)}",
        hint=f"batch {report.batch_id} is recorded, look: imsr sql 'FROM quarantine'; then {to_set} in imsr.toml and "
        "give the file once more: imsr ingest --replace FILE; or raise [ingest] max_quarantined_share",
    )


def over_the_limit(batch: BatchRow, settings: Settings) -> float | None:
    """The share of a recorded ingest's rows that were refused, if ``max_quarantined_share`` does not allow it."""
    share = batch.quarantined_share
    return share if share > settings.ingest.max_quarantined_share else None
