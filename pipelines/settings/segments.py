"""Which groups of people scores are also told of: where the table is, and which of its columns group users."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from imsr_core.fields import Section, documented


@dataclass(frozen=True)
class SegmentsSettings(Section):
    """A table about users; each value of its columns is a slice of every score. Nothing is trained on it."""

    users: str = documented(
        "", "file in the workspace (CSV, TSV, .dat, Parquet, RecBole .user), a user a row; empty: none"
    )
    user_id: str = documented("user_id", "its column with the user's id")
    columns: tuple[str, ...] = documented((), "its columns that group users, such as a country or a plan")
    header: tuple[str, ...] = documented(
        (), "names of all its columns, in order, where a file of text has no header (users.dat, u.user)"
    )

    def clashes(self) -> Iterator[tuple[str, str]]:
        """A table of which no column is wanted, and names that are there twice."""
        if len(set(self.header)) < len(self.header):
            yield "header", "names that differ"
        if self.users and not self.columns:
            yield "columns", "at least one column of the table about users"
