"""What the command line shows: one console, tables, a progress display, errors for people.

With --json or --quiet (see `answers`) nothing of it is shown, and tables go into the answer.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from flows.answers import Shown, answer, flat, objects
from flows.next_command import keep_workspace
from flows.standard_streams import open_closed_streams
from flows.wide_tables import Column, tables
from imsr_core.counted import counted

if TYPE_CHECKING:
    from pipelines.nights.night import SpanOutcome

#: Columns of output that goes to a file or a pipe: lines are as long as what they say, and nothing is cut off.
PIPE_WIDTH = 1_000_000
#: Numbers of a vector that a terminal shows; a pipe gets all of them.
VECTOR_SHOWN = 4
#: Control characters, ends of lines apart, and the marks that turn the direction of what follows.
_OBEYED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


class _Harmless(Console):
    """Prints what ids and names hold, and does not let a terminal obey it."""

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*(visible(each) if isinstance(each, str) else each for each in objects), **options)


class _Speaking(_Harmless):
    """Prints commands that are advised so that they can be typed as they stand; silent with --json and --quiet."""

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*(keep_workspace(each) if isinstance(each, str) else each for each in objects), **options)

    @property
    def quiet(self) -> bool:
        """Whether nothing is printed."""
        return answer.as_json or answer.quiet

    @quiet.setter
    def quiet(self, value: bool) -> None:
        """Rich sets it at the start."""


open_closed_streams()
console = _Speaking(highlight=False, emoji=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
errors = _Harmless(stderr=True, highlight=False, emoji=False, width=None if sys.stderr.isatty() else PIPE_WIDTH)

#: Seconds between two lines on progress where there is no terminal.
LINE_SECONDS = 30.0

#: Called with (steps done, steps in all at most, loss).
StepProgress = Callable[[int, int, float], None]


def show_table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    wrap: bool = False,
    part: str = "",
    as_objects: Sequence[Mapping[str, Any]] | None = None,
) -> None:
    """Print a table; numbers to the right, None as a dash. ``wrap`` breaks long cells instead of cutting them.

    Args:
        part: with --json, the name of the table where the command's answer has more parts.
        as_objects: with --json, the rows, where they are to say more than the table.
    """
    rows = [list(row) for row in rows]
    if answer.as_json:
        answer.add(objects(columns, rows) if as_objects is None else as_objects, part)
        return
    shown = [
        Column(
            visible(column),
            tuple(text(row[n]) for row in rows),
            any(isinstance(_value(row[n]), int | float | Decimal) for row in rows),
        )
        for n, column in enumerate(columns)
    ]
    made, cut = tables(title, shown, console.width, wrap=wrap)
    for table in made:
        console.print(table)
    if cut:
        console.print("(…: cut to fit this terminal; in a pipe, or with --json, nothing is)")


def plain(words: str) -> str:
    """Words in which brackets are no markup."""
    return words.replace("[", r"\[")


def say(line: str) -> None:
    """Print a line that can be copied: what stands in it is neither wrapped nor markup."""
    console.print(line, markup=False, soft_wrap=True)


def text(cell: object) -> str:
    """A value as a table shows it."""
    if cell is None:
        return "-"
    if isinstance(cell, Shown):
        return cell.text
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, int | Decimal):
        return f"{cell:,}"
    if isinstance(cell, float):
        return f"{cell:.4g}"
    if isinstance(cell, list | tuple) and len(cell) > VECTOR_SHOWN and isinstance(cell[0], float):
        return _vector(cell)
    return visible(flat(cell))


def visible(words: str) -> str:
    """Words without what a terminal would obey: control characters but the end of a line, and turns of direction, are
    shown as they are written in a program."""
    return _OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), words)


def warn(message: str) -> None:
    """Say on the standard error what a person should know though nothing failed."""
    if answer.as_json:
        print(json.dumps({"warning": message}, ensure_ascii=False), file=sys.stderr, flush=True)
    else:
        errors.print(f"[yellow]warning:[/] {plain(message)}", soft_wrap=True)


def progress_is_shown() -> bool:
    """Whether bars are drawn: on a terminal, for people who did not ask for silence."""
    return errors.is_terminal and not answer.as_json and not answer.quiet


def _value(cell: object) -> object:
    return cell.value if isinstance(cell, Shown) else cell


def _vector(values: Sequence[float]) -> str:
    """All numbers in a pipe; on a terminal, where the other columns would be squeezed, the first ones."""
    if not console.is_terminal:
        return f"[{', '.join(f'{value:.4g}' for value in values)}]"
    return f"[{', '.join(f'{value:.2f}' for value in values[:VECTOR_SHOWN])}, … {len(values)}]"


@contextmanager
def span_progress(label: str) -> Iterator[StepProgress]:
    """How far one span is: a live line on a terminal; elsewhere a line as it begins, and one every half minute."""
    if not progress_is_shown():
        yield _lines_of(label)
        return
    display = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[steps]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=errors,
        transient=True,
    )
    with display:
        task = display.add_task(label, total=None, steps="")

        def advance(done: int, total: int, loss: float) -> None:
            display.update(
                task, completed=done, total=total, steps=f"{done:,}/{counted(total, 'step')}  loss {loss:.3f}"
            )

        yield advance


def _lines_of(label: str) -> StepProgress:
    if answer.as_json or answer.quiet:
        return lambda done, total, loss: None
    errors.print(f"{label}: begins", markup=False, soft_wrap=True)
    said, first, last = time.monotonic(), (0.0, 0), 0

    def advance(done: int, total: int, loss: float) -> None:
        nonlocal said, first, last
        now = time.monotonic()
        if done <= last or not last:  # a training begins: what came before its first step says nothing of a step
            first = (now, done)
        last = done
        if now - said >= LINE_SECONDS and done > first[1]:
            said = now
            left = (now - first[0]) / (done - first[1]) * (total - done)
            errors.print(
                f"{label}: {done:,} of {counted(total, 'step')}, loss {loss:.3f}, "
                f"at most {left:.0f} s of training left",
                markup=False,
                soft_wrap=True,
            )

    return advance


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
        Shown.as_(outcome.metric(f"hr@{top_n}"), ".4f"),
        Shown.as_(outcome.metric(f"ndcg@{top_n}"), ".4f"),
        Shown.as_(summary.get("mean_interests"), ".2f"),
        summary.get("born"),
        summary.get("trimmed"),
        Shown.as_(outcome.total_seconds(), ".1f"),
    ]


def show_outcomes(outcomes: Sequence[SpanOutcome], top_n: int, part: str = "") -> None:
    """The table of all spans of a run. The scores are those of the version *before* the span: tested, then trained."""
    columns = [column.format(n=top_n) for column in SPAN_COLUMNS]
    rows = [span_row(outcome, top_n) for outcome in outcomes]
    made = [
        {"version": o.version.version_id if o.version else None, "rejected": o.rejected, **row}
        for o, row in zip(outcomes, objects(columns, rows), strict=True)
    ]
    show_table("", columns, rows, part=part, as_objects=made)
