"""How many of what, in words: "1 span", "2 spans"."""

from __future__ import annotations

#: Words whose plural is not their singular and an s.
_PLURALS = {"class": "classes", "batch": "batches", "stretch": "stretches", "is": "are", "does": "do"}


def counted(count: int, noun: str) -> str:
    """A number with its noun, which is given in the singular and may have words before it: "1,204 new rows"."""
    return f"{count:,} {plural(count, noun)}"


def plural(count: int, noun: str) -> str:
    """The noun, or "is" or "does", as it stands with that number."""
    return noun if count == 1 else _PLURALS.get(noun) or _of_last_word(noun)


def _of_last_word(noun: str) -> str:
    *before, last = noun.split(" ")
    return " ".join([*before, _PLURALS.get(last, f"{last}s")])
