"""What the command line shows: one console, tables, a progress display, errors for people."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from flows.next_command import keep_workspace

if TYPE_CHECKING:
    from pipelines.nights.night import SpanOutcome

#: Columns of output that goes to a file or a pipe, where nothing may be cut off.
PIPE_WIDTH = 200


class _Speaking(Console):
    """Prints commands that are advised so that they can be typed as they stand."""

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*(keep_workspace(each) if isinstance(each, str) else each for each in objects), **options)


console = _Speaking(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
errors = Console(stderr=True, highlight=False)

#: Called with (steps done, steps in all at most, loss).
StepProgress = Callable[[int, int, float], None]


def show_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *, wrap: bool = False) -> None:
    """Print a table; numbers to the right, None as a dash. ``wrap`` breaks long cells instead of cutting them."""
    rows = [list(row) for row in rows]
    table = Table(title=title, title_justify="left", header_style="bold")
    for n, column in enumerate(columns):
        numeric = any(isinstance(row[n], int | float) for row in rows)
        table.add_column(column, justify="right" if numeric else "left", no_wrap=not wrap, overflow="fold")
    for row in rows:
        table.add_row(*(Text(text(cell)) for cell in row))  # not str: an id may look like markup
    console.print(table)


def plain(words: str) -> str:
    """Words in which brackets are no markup."""
    return words.replace("[", r"\[")


def text(cell: object) -> str:
    """A value as a table shows it."""
    if cell is None:
        return "-"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, int):
        return f"{cell:,}"
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)


@contextmanager
def span_progress(label: str) -> Iterator[StepProgress]:
    """A live line for one span: steps done, loss, time left. Silent where the output is not a terminal."""
    display = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.completed:.0f}/{task.total:.0f} steps  {task.fields[loss]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=errors,
        transient=True,
        disable=not errors.is_terminal,
    )
    with display:
        task = display.add_task(label, total=1, loss="")

        def advance(done: int, total: int, loss: float) -> None:
            display.update(task, completed=done, total=total, loss=f"loss {loss:.3f}")

        yield advance


SPAN_COLUMNS = (
    "span",
    "events",
    "users",
    "new users",
    "new items",
    "HR@{n}",
    "NDCG@{n}",
    "interests/user",
    "born",
    "trimmed",
    "seconds",
)


def span_row(outcome: SpanOutcome, top_n: int) -> list[object]:
    """One span of the table that `imsr run` and `imsr demo` print."""
    summary = outcome.version.summary if outcome.version else {}
    return [
        " .. ".join(dict.fromkeys((outcome.run.spans[0], outcome.run.spans[-1]))),
        outcome.events,
        summary.get("active_users"),
        summary.get("new_users"),
        sum(row.new_items for row in outcome.sequences),
        _rounded(outcome.metric(f"hr@{top_n}")),
        _rounded(outcome.metric(f"ndcg@{top_n}")),
        _fixed(summary.get("mean_interests"), 2),
        summary.get("born"),
        summary.get("trimmed"),
        _fixed(outcome.total_seconds(), 1),
    ]


def show_outcomes(outcomes: Sequence[SpanOutcome], top_n: int) -> None:
    """The table of all spans of a run. The scores are those of the version *before* the span: tested, then trained."""
    columns = [column.format(n=top_n) for column in SPAN_COLUMNS]
    show_table("", columns, [span_row(outcome, top_n) for outcome in outcomes])


def _rounded(value: float | None) -> str | None:
    return None if value is None else f"{value:.4f}"


def _fixed(value: float | None, digits: int) -> str | None:
    return None if value is None else f"{value:.{digits}f}"
