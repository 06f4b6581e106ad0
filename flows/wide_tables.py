"""A table in a window that is narrower than it: long words are cut where one sees it, figures never.

First the longest columns give way, each cell that is cut ending in "…". Where that is not enough the columns stand in
several tables, one below the other, each beginning with what tells the rows apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

#: Cells that no column of words has to go below: a time, a version, a short name.
WORDS = 20
#: Cells of a column of words in a table that is split.
SPLIT_WORDS = 40
#: Cells that the lines between columns take, for each column and for the table.
_RULES, _EDGE = 3, 1


@dataclass(frozen=True)
class Column:
    """A column as it is shown: its title, the text of each row, whether it holds figures, which are never cut."""

    title: str
    cells: tuple[str, ...]
    figures: bool

    @cached_property
    def body(self) -> int:
        """Cells that its longest line needs."""
        return max((cell_len(line) for cell in self.cells for line in cell.split("\n")), default=0)

    @property
    def wanted(self) -> int:
        """Cells with which nothing is cut and the title stands on one line."""
        return max(self.body, cell_len(self.title))

    @property
    def least(self) -> int:
        """Cells below which it does not go; its title may stand on several lines."""
        title = max((cell_len(word) for word in re.findall(r"[^ _/]*[ _/]?", self.title)), default=0)
        return max(self.body if self.figures else min(self.body, WORDS), min(title, WORDS), 1)


def tables(title: str, columns: Sequence[Column], width: int, *, wrap: bool) -> tuple[list[Table], bool]:
    """The table, or the parts of it, in a window of ``width`` cells; and whether a cell had to be cut.

    Args:
        wrap: words that do not fit go on in the next line and are not cut.
    """
    if _all_of(column.wanted for column in columns) <= width:
        return [_table(title, columns, [column.wanted for column in columns], wrap=wrap)], False
    made, cut = [], False
    for n, part in enumerate(_parts(columns, width)):
        widths = _fitted(part, width)
        made.append(_table(title if not n else "", part, widths, wrap=wrap))
        cut |= not wrap and any(
            own < column.body and not column.figures for column, own in zip(part, widths, strict=True)
        )
    return made, cut


def _parts(columns: Sequence[Column], width: int) -> list[list[Column]]:
    """The columns in as many tables as it takes, each with the column that tells the rows apart."""
    if _all_of(column.least for column in columns) <= width:
        return [list(columns)]
    first = columns[0] if columns else None
    rows = len(first.cells) if first else 0
    if first is not None and len(set(first.cells)) == rows and first.body <= min(SPLIT_WORDS, width // 2):
        key, rest = first, columns[1:]
    else:
        key, rest = Column("row", tuple(f"{n + 1:,}" for n in range(rows)), figures=True), columns
    parts: list[list[Column]] = []
    room = 0
    for column in rest:
        own = max(column.least, min(column.wanted, SPLIT_WORDS))
        if parts and room >= own + _RULES:
            parts[-1].append(column)
        else:
            parts.append([key, column])
            room = width - _all_of([key.least])
        room -= own + _RULES
    return parts


def _fitted(columns: Sequence[Column], width: int) -> list[int]:
    """(columns,) cells of each: the longest give way until all fit, none below the least it needs."""
    room = width - _all_of(0 for _ in columns)
    low, high = 0, max(column.wanted for column in columns)
    while low < high:  # the largest width that no column need exceed
        most = (low + high + 1) // 2
        if sum(max(column.least, min(column.wanted, most)) for column in columns) <= room:
            low = most
        else:
            high = most - 1
    return [max(column.least, min(column.wanted, low)) for column in columns]


def _all_of(widths: Iterable[int]) -> int:
    """Cells of a table whose columns have these."""
    return sum(width + _RULES for width in widths) + _EDGE


def _table(title: str, columns: Sequence[Column], widths: Sequence[int], *, wrap: bool) -> Table:
    table = Table(title=title, title_justify="left", header_style="bold")
    for column, width in zip(columns, widths, strict=True):
        table.add_column(
            Text(column.title, no_wrap=False, overflow="fold"),
            justify="right" if column.figures else "left",
            width=width,
            no_wrap=not wrap and not column.figures,
            overflow="fold" if wrap or column.figures else "ellipsis",
        )
    for row in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*map(Text, row))  # not str: an id may look like markup
    return table
