"""A file of item ids, for --exclude and --only: what is written in it is meant."""

from __future__ import annotations

import pytest

from flows.commands.recommend import item_ids_in, item_lines_of


class Knowing:
    """A version that knows some items."""

    def __init__(self, *items: str) -> None:
        self.items = items

    def unknown_items(self, item_ids):
        return [each for each in dict.fromkeys(item_ids) if each not in self.items]


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        (" lead\ntrail \r\n  both  \n", [" lead", "trail ", "  both  "]),  # never shown means these, too
        ("\ufeffi1  \r\n\r\n\ti2", ["i1", "i2"]),
        ("item_id\ni1\n", ["i1", "item_id"]),
        ('item_id\n"a,b"\ni1\n"line\nbreak"\n"say ""hi"""\n', ["i1", "item_id", "a,b", "line\nbreak", 'say "hi"']),
        ('"quoted"\n"half', ['"quoted"', '"half']),
        ("one\u2028id\nand\x0canother\x85\n", ["one\u2028id", "and\x0canother\x85"]),
        ("", []),
    ],
)
def test_a_file_of_ids_means_them_as_they_are_written(tmp_path, text, ids):
    known = Knowing(" lead", "trail ", "  both  ", "i1", "i2", "a,b", "line\nbreak", 'say "hi"', '"quoted"', '"half',
                    "one\u2028id", "and\x0canother\x85")  # fmt: skip
    (tmp_path / "ids.txt").write_bytes(text.encode("utf-8"))
    assert item_ids_in(item_lines_of(tmp_path / "ids.txt"), known) == ids
