"""Lists in words: what has a name is called by it, and what has none stays as it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from imsr_core.errors import ConfigError
from pipelines.insight.explain import Meaning
from pipelines.insight.meaning import Standout, labels, standouts, tidy
from pipelines.insight.sentences import sentences
from pipelines.insight.words import Words
from pipelines.interests.catalogue import Catalogue, Category

IDS = ("a", "b", "c", "d")


class Known:
    """The look-up of a vocabulary."""

    def items_of(self, ids: pa.Array) -> np.ndarray:
        return np.array([IDS.index(each) if each in IDS else -1 for each in ids.to_pylist()], dtype=np.int64)


@pytest.fixture
def words():
    kind = Category("kind", ("DAIRY", "fruit"), np.array([[0], [1], [1], [-1]]))
    names = pa.array(["WHOLE  MILK", "Pears", "apples", "d"])
    return Words(Catalogue(pa.array(IDS), names, (kind,), 3), Known())


def test_items_have_names_and_categories_and_reasons_name_other_items(words):
    rows = [
        {"item_id": "a", "reason": "goes with b", "interest_id": 3},
        {"item_id": "d", "reason": "had once, last today"},
        {"item_id": "?", "reason": "goes with ?"},
        {"item_id": "c", "reason": "interest 3", "interest_id": 3},
    ]
    told = words.of_list(rows, {3: "Dairy & Fruit"})
    assert [row["name"] for row in told] == ["Whole milk", "d", "?", "apples"]
    assert [row["categories"] for row in told] == [{"kind": "Dairy"}, {}, {}, {"kind": "fruit"}]
    assert [row["why"] for row in told] == [
        "goes with Pears", "had once, last today", "goes with ?", "fits the interest Dairy & Fruit",
    ]  # fmt: skip
    assert told[0]["interest"] == "Dairy & Fruit"
    assert all(row.items() <= more.items() for row, more in zip(rows, told, strict=True))


def test_items_are_found_by_a_part_of_their_name_or_id(words):
    assert [row["item_id"] for row in words.search("P", 9)] == ["b", "c"]
    assert [row["item_id"] for row in words.search("p", 1)] == ["b"]
    assert words.search(" milk ", 9) == [{"item_id": "a", "name": "Whole milk", "categories": {"kind": "Dairy"}}]
    assert words.search("100%", 9) == []
    with pytest.raises(ConfigError):
        words.search("  ", 9)


def test_a_category_that_repeats_another_is_left_out():
    """Yogurt, and the department of the same items."""
    codes = np.array([0] * 5 + [1] * 95)
    ids = pa.array([str(n) for n in range(100)])
    twice = (
        Category("type", ("yogurt", "rest"), codes[:, None]),
        Category("department", ("YOGURT", "other"), codes[:, None]),
    )
    (told,) = standouts(np.arange(10)[None, :], Catalogue(ids, ids, twice, 100))
    assert [each.value for each in told] == ["yogurt"]


def test_labels_tell_interests_apart():
    produce, milk, eggs = (Standout("kind", value, 0.3, 10.0) for value in ("PRODUCE", "MILK", "EGGS"))
    assert labels([[produce, milk], [produce, eggs], [produce], []], ["x"] * 3 + ["AB12"]) == [
        "Milk & Produce", "Eggs & Produce", "Produce", "AB12",
    ]  # fmt: skip


def test_names_do_not_shout():
    assert tidy("SOFT  DRINKS ") == "Soft drinks"
    assert tidy("iPod") == "iPod"


def meaning(number: int, brings: int, born: str, overlap: float | None) -> Meaning:
    return Meaning(number, f"L{number}", born, born, 1, 1.0, overlap, None, brings, 20, (), ())


def test_sentences_say_what_a_stranger_wants_to_know():
    told = sentences("7", [meaning(0, 2, "s1", None), meaning(1, 9, "s1", 0.95), meaning(2, 0, "s2", 0.1)])
    assert told == (
        "User 7 has 3 interests, 2 of them distinct (the rest nearly repeat another). "
        "Where the first 20 recommendations come from: L1 (9), L0 (2). 1 interest brings none of these now. "
        "Newest, of s2: L2."
    )
    alike = [replace(meaning(n, brings, "s1", None), label="tea") for n, brings in enumerate((8, 5, 4))]
    assert "recommendations come from: tea (17), L3 (3)." in sentences("7", [*alike, meaning(3, 3, "s1", None)])
    assert sentences("7", []) == "User 7 has 0 interests."
    long = replace(meaning(0, 3, "s1", None), label="a name " * 30)
    assert len(sentences("7", [long])) < 200  # the table has it whole
