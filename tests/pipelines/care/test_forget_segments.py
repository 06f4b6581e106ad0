"""A table about users says something about people: who is forgotten goes from it, and from its copies."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest
from small_world import DAYS, NOW, TOML, VERSIONS

from pipelines.care.forget import forget
from pipelines.interests.rank_job import score
from pipelines.lake.tables_beside import table_problems
from pipelines.sequences.chain import latest_rows
from pipelines.tasks.labels import read_labels
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


@pytest.mark.parametrize(("name", "mark"), [("users.dat", "::"), ("u.user", "|"), ("people.csv", ",")])
def test_a_table_without_a_header_is_read_and_loses_a_forgotten_user(learnt, copy_of, without_beam, name, mark):
    workspace = copy_of(learnt)
    table = workspace.root / name
    rows = [mark.join((user, plan, "48067")) for user, plan in (("u1", "free"), ("u2", "gold"), ("u11", "u1"))]
    table.write_text("\n".join(rows) + "\n")
    names = 'user_id = "who"\nheader = ["who", "plan", "zip"]\n'
    workspace.settings_file.write_text(
        f'{TOML}[segments]\nusers = "{name}"\n{names}columns = ["plan"]\n'
        f'[tasks.plan]\nlabels = "{name}"\nlabel = "plan"\n{names}'
    )
    opened = Workspace.open(workspace.root)
    with writing(opened, "test", now=NOW) as writer:
        assert table_problems(writer) == []
    labels, _ = read_labels(opened, "plan", opened.settings.tasks["plan"], 2**62)
    assert labels["label"].to_pylist() == ["free", "u1", "gold"]
    assert forget(opened, "u1", now=NOW).landing[name] == "rewritten"
    (copy,) = stored_files(workspace.root / "metadata", "users-*.parquet")
    assert pq.read_table(copy)["user_id"].to_pylist() == ["u11", "u2"]
    assert table.read_text() == "\n".join(rows[1:]) + "\n"
