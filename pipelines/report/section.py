"""The parts of the report's page: boxes, and the few figures above them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from markupsafe import Markup

from pipelines.report.facts import Rows


@dataclass(frozen=True)
class Section:
    """A box of the page: what it is about in a sentence, a chart, a table, or both.

    ``folded`` is a table that is shown on a click, under its title. ``nav``: the page's list of contents names it.
    """

    title: str
    says: str
    chart: Markup = field(default=Markup(""))
    table: Rows | None = None
    wide: bool = False
    folded: tuple[str, Rows] | None = None
    nav: str = ""

    @property
    def anchor(self) -> str:
        """Where the list of contents leads."""
        return re.sub(r"[^a-z0-9]+", "-", self.nav.lower()).strip("-")


@dataclass(frozen=True)
class Tile:
    """A figure above the boxes: what it is, its value, and what it is to be compared with."""

    name: str
    value: str
    beside: str = ""
