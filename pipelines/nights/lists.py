"""Everybody's lists, written by the night: of the version that is live, under the name that [recommend] gives them."""

from __future__ import annotations

from pathlib import Path

from pipelines.versions.line import Line
from pipelines.warehouse.catalog import publish_catalog
from pipelines.workspace.editions import plain, stored_files
from pipelines.workspace.parquet_files import ParquetFileError, column_names, read_pieces
from pipelines.workspace.writer import Writer


def write_nightly_lists(writer: Writer) -> Path | None:
    """Write the lists of the live version, unless they are there and whole; None where [recommend] does not want them.

    Lists of this name stay for two versions, the one that is live and the one before, so that a rollback has its own;
    earlier ones are removed. A night that was killed in between is finished by the next one.
    """
    workspace, wanted = writer.workspace, writer.workspace.settings.recommend
    with workspace.ledger.snapshot() as view:
        current = view.pointer(Line.INTERESTS)
        moves = view.promotions(Line.INTERESTS)
    if not wanted.nightly or current is None:
        return None
    path = workspace.list_file(current, wanted.name)
    if not _is_whole(path):
        from pipelines.interests.list_job import write_lists  # torch: not for a night that finds them there

        write_lists(workspace, current, wanted.n, variant=wanted.name, exclude_seen=wanted.new_only)
    before = next((move.previous for move in reversed(moves) if move.version_id == current), None)
    kept = {path, *([workspace.list_file(before, wanted.name)] if before else [])}
    old = [each for each in stored_files(path.parent, f"*~{wanted.name}.parquet") if plain(each) not in kept]
    for each in old:
        each.unlink()
    publish_catalog(workspace)
    return path


def _is_whole(path: Path) -> bool:
    """Whether the file is there and can be read to its end; one that is damaged is written anew."""
    try:
        read_pieces(path, column_names(path), lambda rows: None)
    except ParquetFileError:
        return False
    return True
