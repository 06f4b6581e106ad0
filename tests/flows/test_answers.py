"""What commands answer to programs: --json, --quiet, tables in a pipe, what the shell offers at TAB."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from small_world import DAYS, NASTY_USER, VERSIONS, day_of_events
from test_cli import cells, imsr, process, write_events
from typer.testing import CliRunner

from flows.answers import Shown, answer, objects
from flows.cli import COMMANDS, app
from flows.console import console, text
from imsr_core.errors import ConfigError
from pipelines.interests.recommend import Recommender
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import VersionRow


def asked(*words: object, code: int = 0):
    """The answer of a command to --json: one document, and nothing beside it."""
    result = CliRunner().invoke(app, [*map(str, words), "--json"])
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def test_a_table_is_a_list_of_objects_with_whole_numbers(learnt):
    rows = asked("versions", "-w", learnt.root)
    assert [row["version"] for row in rows] == VERSIONS
    assert [row["current"] for row in rows] == [False] * 4 + [True]
    with learnt.ledger.snapshot() as view:
        known: list[VersionRow] = view.versions()
    assert [row["interests_user"] for row in rows] == [row.summary["mean_interests"] for row in known]


def test_a_command_with_more_to_say_answers_with_an_object(learnt):
    found = asked("status", "-w", learnt.root)
    assert (found["current"], found["due"], found["lease"]) == (VERSIONS[-1], [], None)
    assert [row["span"] for row in found["spans"]] == DAYS
    planned = asked("plan", "-w", learnt.root)
    assert planned["runs"] == []
    (missing,) = planned["missing"]  # the log ends years ago
    assert missing["first"] == "2024-03-07"
    assert missing["spans"] > 500
    assert found["missing"][0]["first"] == missing["first"]
    compared = asked("compare", VERSIONS[-1], VERSIONS[-2], "-w", learnt.root)
    assert set(compared) == {"versions", "metrics", "gate"}
    assert {row["version"] for row in compared["gate"]} == {VERSIONS[-1], VERSIONS[-2]}


def test_status_says_what_share_of_the_last_ingest_was_refused(tmp_path):
    workspace, log = Workspace.create(tmp_path / "w"), tmp_path / "log.csv"
    log.write_text("user_id,item_id,timestamp\nu,i,2024-01-01\n,i,2024-01-01\n,j,2024-01-01\n")
    assert CliRunner().invoke(app, ["ingest", str(log), "-w", str(workspace.root)]).exit_code == 1
    assert asked("status", "-w", workspace.root)["quarantined_share"] == pytest.approx(2 / 3)
    told = CliRunner().invoke(app, ["status", "-w", str(workspace.root)]).output
    assert "67% of the 3 rows of the last ingest, b000001 (more than 50%)" in " ".join(told.split())
    log.write_text("user_id,item_id,timestamp\nu,k,2024-01-01\n,i,2024-01-01\n")
    asked("ingest", log, "-w", workspace.root)
    assert asked("status", "-w", workspace.root)["quarantined_share"] is None


def test_rows_of_a_query_keep_their_names_and_none_is_left_out(learnt):
    rows = asked("sql", "SELECT user_id, count(*) AS \"My Count\", [1.5, 'nan'::DOUBLE] AS v FROM interactions "
                 "GROUP BY 1", "-w", learnt.root, "--limit", 1)  # fmt: skip
    assert len(rows) == 28
    assert list(rows[0]) == ["user_id", "My Count", "v"]
    assert rows[0]["v"] == [1.5, None]


def test_no_column_of_a_query_is_lost_and_a_number_is_one(learnt):
    query = "SELECT 1 AS a, 2 AS a, 1.50 AS a_1, 3::DECIMAL(5, 2) AS d, [0.5] AS l"
    assert asked("sql", query, "-w", learnt.root) == [{"a": 1, "a_2": 2, "a_1": 1.5, "d": 3, "l": [0.5]}]


def test_csv_is_for_a_shell_and_holds_what_there_is(learnt):
    query = "SELECT e'a\\rb' AS x, [date '2024-01-01'] AS l, {'n': 1.5} AS s, 'c' AS y "
    query += "UNION ALL SELECT 'p', NULL, NULL, 'q,'"
    told = imsr("sql", query, "--csv", "-w", learnt.root)
    assert told == 'x,l,s,y\n"a\rb","[""2024-01-01""]","{""n"": 1.5}","c"\np,,,"q,"\n'


@pytest.mark.parametrize(
    "words",
    [
        ["recommend", "--user", "u1", "--user", "\udcff"], ["explain", "--user", "\udcff"], ["promote", "\udcff"],
        ["compare", "a", "\udcff"], ["report", "\udcff"], ["sql", "\udcff"], ["forget", "--user", "\udcff"],
    ],
)  # fmt: skip
def test_an_argument_that_is_no_text_is_refused_in_words(learnt, words):
    with pytest.raises(ConfigError, match="is no text"):
        imsr(*words, "-w", learnt.root)


def test_a_query_of_the_standard_input_that_is_no_text_is_refused_in_words(learnt):
    ended = CliRunner().invoke(app, ["sql", "-", "-w", str(learnt.root)], input=b"SELECT \xff")
    assert isinstance(ended.exception, ConfigError)


def test_a_limit_below_nought_is_refused(learnt):
    ended = CliRunner().invoke(app, ["sql", "FROM users", "-w", str(learnt.root), "--limit", "-1"])
    assert ended.exit_code == 2
    assert "--limit" in ended.output


def test_a_new_workspace_and_its_views_are_told(tmp_path):
    made = asked("init", tmp_path / "w")
    assert made == {"workspace": str(tmp_path / "w"), "settings": str(tmp_path / "w" / "imsr.toml")}
    assert asked("views", "-w", tmp_path / "w")["catalog"] == str(tmp_path / "w" / "catalog.duckdb")
    assert asked("views", "--dictionary", "-w", tmp_path / "w")["views"]["spans"]["columns"]["span_id"]


def test_every_command_that_ends_answers_programs():
    """serve, stream and api go on; `imsr metrics` is for a program already."""
    silent = {entry.name for entry in COMMANDS if not entry.reports}
    assert silent == {"serve", "stream", "api", "metrics"}


def test_lists_are_the_recommenders(learnt):
    rows = asked("recommend", "--user", NASTY_USER, "-n", 3, "-w", learnt.root)
    assert rows == Recommender.open(learnt).top_n([NASTY_USER], 3).to_pylist()


def test_lists_with_names_say_more_of_the_same(learnt):
    rows = asked("recommend", "--user", "u1", "--user", "nobody", "-n", 3, "-w", learnt.root)
    named = asked("recommend", "--user", "u1", "--user", "nobody", "-n", 3, "--names", "-w", learnt.root)
    assert [{name: row[name] for name in rows[0]} for row in named] == rows
    assert all(row["name"] == row["item_id"] and row["why"] for row in named)  # there is no table about items
    told = CliRunner().invoke(app, ["recommend", "--user", "u1", "-n", "3", "--names", "-w", str(learnt.root)]).output
    assert "why" in told


@pytest.mark.parametrize("words", [["doctor"], ["run"], ["run", "--dry-run"], ["task", "list"]])
def test_with_nothing_to_tell_the_answer_has_the_same_shape(learnt, words):
    assert asked(*words, "-w", learnt.root) == []


def test_pruning_names_what_stays_and_what_goes(learnt):
    found = asked("prune", "--dry-run", "-w", learnt.root)
    assert found["bytes"] == 0
    assert {item["fate"] for item in found["items"]} == {"stays"}


def test_a_dry_run_of_a_pruning_names_what_is_damaged(learnt, copy_of):
    workspace = copy_of(learnt)
    with (workspace.version_folder(VERSIONS[-1]) / "interests.parquet").open("ab") as file:
        file.write(b"x")
    planned = asked("prune", "--damaged", "--dry-run", "-w", workspace.root)["discarded"]
    assert planned == [f"versions/{VERSIONS[-1]}"]
    assert asked("prune", "--damaged", "-w", workspace.root)["discarded"] == planned


def test_ingest_and_run_say_what_they_did(ingested, copy_of, tmp_path):
    workspace = copy_of(ingested)
    found = asked("ingest", write_events(tmp_path / "a.csv", day_of_events(6)), "-w", workspace.root)
    (file,) = found["files"]
    assert file["read"] == file["kept"] + file["duplicate"] + file["quarantined"]
    assert found["spans"] == ["2024-03-07"]
    (row,) = asked("run", "--span", DAYS[0], "-w", workspace.root)
    assert (row["version"], row["rejected"], row["hr@10"]) == (VERSIONS[0], False, None)


def test_quiet_says_nothing_and_the_next_command_talks_again(learnt):
    assert imsr("versions", "--quiet", "-w", learnt.root) == ""
    assert VERSIONS[0] in imsr("versions", "-w", learnt.root)
    assert imsr("views", "-w", learnt.root)  # a command without --json after one with
    asked("versions", "-w", learnt.root)
    assert imsr("views", "-w", learnt.root)


def test_an_error_is_json_too(tmp_path):
    run = process("versions", "--json", "-w", tmp_path / "nowhere")
    assert (run.returncode, run.stdout) == (1, "")
    told = json.loads(run.stderr)
    assert "not a workspace" in told["error"]
    assert told["hint"].startswith("was it moved, or is its disk not mounted? A new one: imsr init ")
    assert told["hint"].endswith("nowhere")


def test_the_version_of_the_program():
    assert CliRunner().invoke(app, ["--version"]).output.startswith("imsr")


def test_a_table_in_a_pipe_is_as_wide_as_what_it_says(learnt):
    query = "SELECT user_id, interest_id, vector, repeat('long ', 100) AS words FROM interests"
    head, first, *_ = cells(imsr("sql", query, "-w", learnt.root, "--limit", 1))
    assert head == ["user_id", "interest_id", "vector", "words"]
    assert len(json.loads(first[2])) == 8
    assert first[3] == ("long " * 100).strip()


def test_a_terminal_shows_the_head_of_a_vector(monkeypatch):
    monkeypatch.setattr(console, "_force_terminal", True)
    assert text([0.125] * 32) == "[0.12, 0.12, 0.12, 0.12, … 32]"
    assert text([1, 2, 3, 4, 5]) == "[1, 2, 3, 4, 5]"


def test_a_number_is_shown_in_its_form_and_told_as_it_is(capsys):
    answer.begin(as_json=True, quiet=False)
    answer.add(objects(["HR@20", "a, b/c"], [[Shown.as_(0.123456, ".1%"), Shown.as_(float("nan"), ".2f")]]))
    answer.print()
    answer.begin(as_json=False, quiet=False)
    assert json.loads(capsys.readouterr().out) == [{"hr@20": 0.123456, "a_b_c": None}]
    assert text(Shown.as_(0.123456, ".1%")) == "12.3%"


@pytest.mark.parametrize(
    ("words", "offered"),
    [(["promote", "2024-03-0"], VERSIONS), (["run", "--span", "2024-03-01"], DAYS[:1]), (["promote", "x"], [])],
    ids=["versions", "spans", "none"],
)
def test_the_shell_offers_what_the_workspace_has(learnt, words, offered):
    typed = ["imsr", words[0], "-w", str(learnt.root), *words[1:]]
    script = "import sys; from flows.cli import main; sys.argv[0] = 'imsr'; main()"
    asks = {"_IMSR_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(typed), "COMP_CWORD": str(len(typed) - 1)}
    run = subprocess.run([sys.executable, "-c", script], env=os.environ | asks, capture_output=True, text=True)
    assert sorted(run.stdout.split()) == sorted(offered), run.stderr
