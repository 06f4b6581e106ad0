"""A box of the report's page."""

from __future__ import annotations

from dataclasses import dataclass, field

from markupsafe import Markup

from pipelines.report.facts import Rows


@dataclass(frozen=True)
class Section:
    """A box of the page: what it is about in a sentence, a chart, a table, or both."""

    title: str
    says: str
    chart: Markup = field(default=Markup(""))
    table: Rows | None = None
    wide: bool = False
