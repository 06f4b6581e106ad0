"""Tables in a terminal that is narrower than they are; what the terminal would obey is not sent to it."""

from __future__ import annotations

import io
import re
from decimal import Decimal

import pytest
from rich.cells import cell_len
from rich.console import Console

from flows import console
from flows.answers import answer

SPANS = [["2017-01 .. 2017-04", 250_372, 744, None, 2_976, 61.25], ["2017-05", 66_447, 737, 0.1722, 1_014, 11.5]]
COLUMNS = ["span", "events", "users", "interests/user", "born", "seconds"]
NAMES = [["u1", rank, f"i{rank}", f"a name of many words {rank} " * 8, rank / 7] for rank in range(1, 4)]


@pytest.fixture
def shown(monkeypatch):
    """The lines that a table takes in a terminal of so many cells (0: a pipe)."""

    def lines(columns, rows, width, *, wrap=False):
        stream = io.StringIO()
        own = Console(file=stream, width=width or console.PIPE_WIDTH, force_terminal=bool(width), color_system=None)
        monkeypatch.setattr(console, "console", own)
        answer.begin(as_json=False, quiet=False)
        console.show_table("", columns, rows, wrap=wrap)
        return re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue()).splitlines()

    return lines


def words(lines: list[str]) -> set[str]:
    return {cell.strip() for line in lines for cell in re.split("[│┃]", line)}


@pytest.mark.parametrize("width", [30, 50, 60, 80, 200])
def test_no_figure_is_cut_and_no_line_is_wider_than_the_terminal(shown, width):
    lines = shown(COLUMNS, SPANS, width)
    assert all(cell_len(line) <= width for line in lines)
    assert {"250,372", "66,447", "744", "737", "2,976", "1,014", "61.25", "11.5", "0.1722"} <= words(lines)
    assert "events" in words(lines)
    parts = sum(line.startswith("┏") for line in lines)
    assert sum("2017-05" in line for line in lines) == (parts if width > 2 * 18 else 1)  # what tells the rows apart


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_cut_name_ends_in_dots_which_are_explained(shown, width):
    lines = shown(["user_id", "rank", "item_id", "name", "score"], NAMES, width)
    assert all(cell_len(line) <= width for line in lines)
    assert {"u1", "1", "i1", "0.1429", "3", "i3", "0.4286"} <= words(lines)
    assert sum("…" in line for line in lines) == len(NAMES) + 1
    assert "(…: cut to fit this terminal; in a pipe, or with --json, nothing is)" in " ".join(map(str.strip, lines))


def test_where_all_fits_nothing_is_said_of_it(shown):
    assert not any("…" in line for line in shown(COLUMNS, SPANS, 200))


def test_words_that_may_go_on_in_the_next_line_are_not_cut(shown):
    lines = shown(
        ["interest", "nearest items", "more"], [[1, "one two three " * 20, "four five six " * 20]], 60, wrap=True
    )
    assert sum(line.count("three") for line in lines) == 20
    assert sum(line.count("six") for line in lines) == 20
    assert not any("…" in line for line in lines)


def test_in_a_pipe_nothing_is_cut(shown):
    lines = shown(["user_id", "rank", "item_id", "name", "score"], NAMES, 0)
    assert all(row[3].strip() in words(lines) for row in NAMES)
    assert len(lines) == 3 + len(NAMES) + 1


def test_a_terminal_is_not_commanded_by_names(shown, monkeypatch):
    evil = "a\x1b[2Jb\x07c\rd\x9be\u202ef\tg"
    lines = shown(["item"], [[evil], ["two\nlines"]], 100)
    assert r"a\x1b[2Jb\x07c\rd\x9be\u202ef\tg" in words(lines)
    assert {"two", "lines"} <= words(lines)
    for each in (
        console._Harmless(file=(stream := io.StringIO()), width=200),
        console._Speaking(file=stream, width=200),
    ):
        each.print(f"not known: {evil}", markup=False)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", stream.getvalue())


def test_letters_of_any_script_stay(shown):
    assert {"日本語", "שלום", "é", "👩‍👧"} <= words(shown(["name"], [["日本語"], ["שלום"], ["é"], ["👩‍👧"]], 80))


def test_values_with_parts_are_shown_as_json_has_them(shown):
    rows = [[["a", None], {"b": Decimal("1.50")}, b"\x01\xff", Decimal("1234.50")]]
    assert {'["a", null]', '{"b": 1.5}', "01ff", "1,234.50"} <= words(shown(["l", "s", "b", "d"], rows, 0))
