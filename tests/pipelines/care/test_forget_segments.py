"""A table about users says something about people: who is forgotten goes from it, and from its copies."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest
from small_world import DAYS, NOW, TOML, VERSIONS

from pipelines.care.forget import forget
from pipelines.interests.rank_job import score
from pipelines.lake.tables_beside import table_problems
from pipelines.sequences.chain import latest_rows
from pipelines.workspace.editions import stored_files
from pipelines.workspace.layout import Workspace
from pipelines.workspace.writer import writing


@pytest.mark.parametrize("name", ["people.csv", "people.tsv", "people.user"])
def test_a_forgotten_user_goes_from_the_table_and_from_every_copy(learnt, copy_of, without_beam, name):
    workspace = copy_of(learnt)
    mark = "," if name.endswith("csv") else "\t"
    header = f"who:token{mark}plan:token" if name.endswith("user") else f"who{mark}plan"
    table = workspace.root / name
    workspace.settings_file.write_text(f'{TOML}[segments]\nusers = "{name}"\nuser_id = "who"\ncolumns = ["plan"]\n')
    opened = Workspace.open(workspace.root)
    for plan in ("free", "gold"):  # two copies
        table.write_text(f"{header}\nu1{mark}{plan}\nu2{mark}free\n")
        with writing(opened, "test", now=NOW) as writer:
            assert table_problems(writer) == []
    copies = sorted((workspace.root / "metadata").glob("users-*.parquet"))
    assert len(copies) == 2
    receipt = forget(opened, "u1", now=NOW)
    copies = stored_files(workspace.root / "metadata", "users-*.parquet")
    assert [pq.read_table(copy)["user_id"].to_pylist() for copy in copies] == [["u2"], ["u2"]]
    assert table.read_text() == f"{header}\nu2{mark}free\n"
    assert receipt.rows["segments"] == 2
    with opened.ledger.snapshot() as view:
        row = latest_rows(view)[DAYS[4]]
    assert "plan=free" in {each.slice for each in score(opened, VERSIONS[2], row, "prequential")}
    assert receipt.landing[name] == "rewritten"
