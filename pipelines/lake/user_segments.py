"""The table about users that ``[segments] users`` names: which groups of people scores are also told of.

Only the named columns are copied, for a table about people may say more of them than is needed here.
"""

from __future__ import annotations

from dataclasses import asdict

from pipelines.lake.kept_table import PLAIN, KeptTable, TableKind, kept_table
from pipelines.settings.imsr_toml import Settings
from pipelines.settings.source import SourceSettings
from pipelines.workspace.ledger import Snapshot

#: Key of the ledger's notes.
NOTE = "user_segments"


def segment_table(settings: Settings) -> TableKind:
    """The table about users of these settings."""
    segments = settings.segments
    options = asdict(segments)
    if not segments.header:  # earlier releases had no such setting: the same table is not read again
        del options["header"]
    return TableKind(
        name="users",
        note=NOTE,
        setting="[segments] users",
        file=segments.users,
        id_name="user_id",
        own_id=segments.user_id,
        wanted=segments.columns,
        options=options,
        only_wanted=True,
        endings=(".parquet", *PLAIN),  # the kinds that `imsr forget` takes a user out of
        written=SourceSettings(columns=segments.header),
    )


def kept_segments(view: Snapshot) -> KeptTable | None:
    """The copy of the table about users that is in force; None if there never was one."""
    return kept_table(view, NOTE)
