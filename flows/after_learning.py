"""What is made once the spans are learnt: everybody's lists, and the report.

What makes them is imported where it is needed: a night that finds them there imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipelines.nights.lists import write_nightly_lists
from pipelines.versions.line import Line
from pipelines.warehouse.catalog import publish_catalog
from pipelines.workspace.steps import Call, plainly
from pipelines.workspace.writer import Writer


@dataclass(frozen=True)
class Made:
    """Files that were made, and the report in a sentence if it is new; None and "" where the settings want none."""

    lists: Path | None = None
    report: Path | None = None
    sentence: str = ""


def after_learning(writer: Writer, *, call: Call = plainly) -> Made:
    """Write what [recommend] and [report] want of the live version; what is there already is left alone.

    It comes after every span is published: what fails here takes nothing back, and the next run makes it.
    """
    workspace = writer.workspace
    lists = call("lists", write_nightly_lists, writer) if workspace.settings.recommend.nightly else None
    with workspace.ledger.snapshot() as view:
        current = view.pointer(Line.INTERESTS)
    if current is None:
        return Made(lists)
    if workspace.settings.evaluation.matrix_users and not workspace.matrix_file(current).exists():
        from pipelines.interests.span_matrix import write_span_matrix  # of a version that was live before

        call("matrix", write_span_matrix, workspace, current)
        publish_catalog(workspace)
    if not workspace.settings.report.nightly:
        return Made(lists)
    path = workspace.report_file(current)
    if path.exists():
        return Made(lists, path)
    from pipelines.report.page import write_and_say

    return Made(lists, *call("report", write_and_say, workspace, current))
