"""Numbers with their nouns, and that messages have them from there: nobody reads "1 labels"."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from imsr_core.counted import counted, plural

ROOT = Path(__file__).parents[2]
#: What follows a number: one word or two, of which the last is many.
MANY = re.compile(r"^ (?!is |was |has )(?:[a-z]+ )?[a-z]+[^su ]s\b")
#: Of these there are never exactly one, or the sentence is right with one, too.
EXEMPT = [
    " events to pre-train on",  # very many
    " files",  # where they are too many to be named
    " monthly files",  # the demo's
    " items have some",
    " runs are due",  # one run has its own sentence
    " days before the next one",  # a year at least
    " characters)",  # 80 at least
    " of its lines ",  # of how many, nobody counts
]
#: Behind these a plural is right with one, too.
NOT_ONE_OF = ("not one of its ", "none of its ")


@pytest.mark.parametrize(
    ("count", "noun", "wanted"),
    [
        (0, "span", "0 spans"),
        (1, "span", "1 span"),
        (1204, "new row", "1,204 new rows"),
        (2, "class", "2 classes"),
        (2, "empty batch", "2 empty batches"),
    ],
)
def test_a_number_with_its_noun(count, noun, wanted):
    assert counted(count, noun) == wanted


def test_a_verb_with_its_number():
    assert [plural(n, verb) for verb in ("is", "does") for n in (1, 2)] == ["is", "are", "does", "do"]


def bare(source: str) -> Iterator[str]:
    """What stands behind a number of an f-string and is a plural whatever the number."""
    for node in ast.walk(ast.parse(source)):
        parts = node.values if isinstance(node, ast.JoinedStr) else []
        for before, number, words in zip([None, *parts], parts, parts[1:], strict=False):
            if isinstance(number, ast.FormattedValue) and isinstance(words, ast.Constant) and is_count(number):
                told = str(before.value) if isinstance(before, ast.Constant) else ""
                if MANY.match(str(words.value)) and not told.endswith(NOT_ONE_OF):
                    yield str(words.value)


def is_count(value: ast.FormattedValue) -> bool:
    return ast.unparse(value.value).startswith(("len(", "sum(")) or ast.unparse(value.format_spec or value) == "f','"


def test_bare_plurals_are_found():
    assert list(bare('f"{n:,} new rows, {len(a)} spans. {n:,} is few, not one of its {m:,} rows is"')) == [
        " new rows, ",
        " spans. ",
    ]


@pytest.mark.parametrize("room", ["flows", "pipelines", "imsr_core"])
def test_no_message_has_a_plural_whatever_the_number(room):
    found = [(path.name, words) for path in (ROOT / room).rglob("*.py") for words in bare(path.read_text("utf-8"))]
    assert not [each for each in found if not each[1].startswith(tuple(EXEMPT))]
