"""The tables that people keep beside the events, taken as they are now: at the beginning of everything that learns."""

from __future__ import annotations

from pipelines.lake.item_metadata import item_table
from pipelines.lake.kept_table import KeptTableError
from pipelines.lake.user_segments import segment_table
from pipelines.workspace.writer import Writer


def table_problems(writer: Writer) -> list[str]:
    """Take the tables as they are now; what is wrong with them. No run fails by it: what was known of items and users
    before stays in force."""
    settings, problems = writer.workspace.settings, []
    for table in (item_table(settings), segment_table(settings)):
        try:
            table.keep(writer)
        except KeptTableError as error:
            problems.append(f"{error.message}; what {table.name} are stays as it was ({error.hint})")
    return problems
