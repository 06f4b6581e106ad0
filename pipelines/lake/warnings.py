"""What a person should look at after an ingest: it went well, and may still not be what was meant."""

from __future__ import annotations

from imsr_core.counted import counted, plural
from imsr_core.errors import ImsrError
from pipelines.lake.refusals import advice, shown
from pipelines.lake.report import IngestReport
from pipelines.lake.single_span import single_span
from pipelines.lake.validation import Reason
from pipelines.settings.imsr_toml import Settings
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import BatchRow, Snapshot, SpanRow

#: A gap this many times as long as all that follows it is no pause in a log.
_FAR = 2.0
_DAY_US = 86_400_000_000
#: A shorter gap is no reason to warn.
_LONG_DAYS = 365


class QuarantinedShareError(ImsrError):
    """Too many rows of an ingest are in quarantine; everything is recorded, and somebody should look."""


def warnings_of(workspace: Workspace, view: Snapshot, report: IngestReport) -> tuple[str, ...]:
    """Warnings after a batch was committed."""
    settings = workspace.settings
    found = [far_first_span(view.spans())]
    for file in report.files:
        if file.left_out and not file.read:
            found.append(
                f"{file.name}: not one of its {file.left_out:,} rows is wanted by keep_events, min_value or "
                "item_pattern under [source]"
            )
        if file.without_value:
            found.append(
                f"{file.name}: the value of {counted(file.without_value, 'row')} cannot be read; such events are "
                + ("kept without" if settings.source.min_value is None else "left out, as they may be below min_value")
                + (' (decimal = "," under [source]?)' if settings.source.decimal == "." else "")
            )
    if late := report.reasons.get(Reason.TOO_LATE):
        found.append(
            f"{counted(late, 'event')} {plural(late, 'is')} too late: from before the newest learnt spans that "
            f"late events may change ([ingest] lookback_spans = {settings.ingest.lookback_spans}). To learn from them, "
            "and all later spans again: imsr ingest --accept-late --again FILE"
        )
    found.append(single_span(workspace, view))
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


def check_quarantined(report: IngestReport, settings: Settings) -> None:
    """Raise QuarantinedShareError if more of an ingest's rows were refused than ``max_quarantined_share`` allows."""
    share, most = report.quarantined_share, settings.ingest.max_quarantined_share
    if share <= most:
        return
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(report.reasons.items()))
    main, refusal = max(report.refusals.items(), key=lambda each: (each[0] != Reason.TOO_LATE, each[1].rows))
    to_set = advice(main, refusal) or "correct [source]"
    shares = f"{share_of_rows(share)}, more than {share_of_rows(most)}"
    counts = f"{report.quarantined:,} of {counted(report.read, 'row')} ({shares})"
    raise QuarantinedShareError(
        f"{counts} are in quarantine: {reasons}; the first {main} is {shown(refusal)}",
        hint=f"batch {report.batch_id} is recorded, look: imsr sql 'FROM quarantine'; then {to_set} in imsr.toml and "
        "give the file once more: imsr ingest --replace FILE; or raise [ingest] max_quarantined_share",
    )


def share_of_rows(share: float) -> str:
    """A share as people read it: 90%, 1.3%, 0.05%; a limit below a per cent is not shown as none."""
    return f"{share:.0%}" if share >= 0.1 else f"{100 * share:.2g}%"


def over_the_limit(batch: BatchRow, settings: Settings) -> float | None:
    """The share of a recorded ingest's rows that were refused, if ``max_quarantined_share`` does not allow it."""
    share = batch.quarantined_share
    return share if share > settings.ingest.max_quarantined_share else None
