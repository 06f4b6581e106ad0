"""The command line as people use it: what it prints, what it changes, how it says no."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from small_world import (
    DAYS,
    NASTY_ITEM,
    NASTY_USER,
    NOW,
    TOML,
    VERSIONS,
    current,
    day_of_events,
    log,
    make,
    span_rows,
    states,
    tree,
    version_rows,
)
from typer.testing import CliRunner

from flows import cli
from flows.cli import app
from imsr_core.errors import ConfigError, ImsrError, NonFiniteError
from pipelines.interests import training
from pipelines.interests.recommend import Recommender
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import SpanState


def imsr(*words: object, code: int = 0) -> str:
    """Run a command in this process; its output, folded to single spaces."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


def process(*words: object, cwd=None) -> subprocess.CompletedProcess[str]:
    """Run a command as a process of its own."""
    command = [sys.executable, "-m", "flows.cli", *map(str, words)]
    script = "import sys; from flows.cli import main; sys.argv[0] = 'imsr'; main()"
    return subprocess.run(
        [command[0], "-c", script, *command[3:]], capture_output=True, text=True, cwd=cwd, timeout=120
    )


def cells(output: str) -> list[list[str]]:
    """The rows of a printed table."""
    rows = [line for line in output.splitlines() if line.startswith(("│", "┃"))]
    return [[cell.strip() for cell in row.strip("│┃").replace("┃", "│").split("│")] for row in rows]


def write_events(path, events):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["user_id", "item_id", "timestamp"])
        writer.writerows(events)
    return path


# ---------------------------------------------------------------- the way from nothing to recommendations


def test_fewer_spans_than_the_base_model_needs_are_said_with_what_to_do(tmp_path):
    folder, settings = tmp_path / "w", tmp_path / "small.toml"
    settings.write_text(TOML)
    imsr("init", folder, "--settings", settings)
    lacking = "the base model is learnt from 2 spans ([spans] pretrain), of which 1 with data is there"
    output = imsr("ingest", "-w", folder, write_events(tmp_path / "a.csv", log(range(1))))
    assert lacking in output
    assert "next: imsr run" not in output
    for command in ("run", "status", "plan"):
        assert f"nothing is due yet: {lacking}; ingest more, or lower it" in imsr(command, "-w", folder)
    output = imsr("ingest", "-w", folder, write_events(tmp_path / "b.csv", log(range(1, 2))))
    assert "next: imsr run" in output
    assert "nothing is due" not in imsr("plan", "-w", folder)


def test_from_nothing_to_recommendations(tmp_path):
    settings = tmp_path / "my.toml"
    settings.write_text(TOML)
    folder = tmp_path / "shop"
    output = imsr("init", folder, "--settings", settings)
    assert str(folder) in output
    assert "imsr ingest" in output
    assert "[source]" in output
    assert "no events yet" in imsr("status", "-w", folder)
    output = imsr("ingest", "-w", folder, write_events(tmp_path / "a.csv", log(range(3))))
    assert f"{DAYS[0]} .. {DAYS[2]}" in output.replace("\n", " ")
    assert "due: 2" in imsr("status", "-w", folder)
    output = imsr("run", "-w", folder)
    rows = cells(output)
    assert [row[0] for row in rows[1:]] == [f"{DAYS[0]} .. {DAYS[1]}", DAYS[2]]
    assert f"version {VERSIONS[0]}" in output
    assert "nothing is due" in imsr("run", "-w", folder)
    assert "nothing is due" in imsr("status", "-w", folder)
    rows = cells(imsr("versions", "-w", folder))
    assert [(row[0], row[-1]) for row in rows[1:]] == [(VERSIONS[0], "no"), (VERSIONS[1], "yes")]
    rows = cells(imsr("recommend", "-w", folder, "--user", "u1", "-n", 3))
    assert [row[:2] for row in rows[1:]] == [["u1", "1"], ["u1", "2"], ["u1", "3"]]


def test_the_landing_folder_is_what_is_ingested_without_files(tmp_path):
    workspace = Workspace.create(tmp_path / "w", TOML)
    assert "nothing to ingest" in imsr("ingest", "-w", workspace.root)
    write_events(workspace.root / "landing" / "a.csv", day_of_events(0))
    assert DAYS[0] in imsr("ingest", "-w", workspace.root)
    assert states(workspace) == {DAYS[0]: "ingested"}
    before = tree(workspace.root / "lake")
    imsr("ingest", "-w", workspace.root)
    assert tree(workspace.root / "lake") == before


def test_one_span_at_a_time(ingested, copy_of):
    workspace = copy_of(ingested)
    with pytest.raises(ImsrError, match="not learnt: 2024-03-02"):
        imsr("run", "-w", workspace.root, "--span", DAYS[2])
    imsr("run", "-w", workspace.root, "--span", DAYS[0])
    assert current(workspace) == VERSIONS[0]
    imsr("run", "-w", workspace.root, "--span", DAYS[2])
    assert current(workspace) == VERSIONS[1]
    assert f"span {DAYS[2]} is learnt already" in imsr("run", "-w", workspace.root, "--span", DAYS[2])
    with pytest.raises(ImsrError, match="has no data"):
        imsr("run", "-w", workspace.root, "--span", "2024-02-30")


def test_a_run_of_nothing_changes_nothing(learnt, copy_of, monkeypatch):
    workspace = copy_of(learnt)
    imsr("views", "-w", workspace.root)
    monkeypatch.setattr(training, "strategy_named", None)
    before = tree(workspace.root)
    for _ in range(2):
        assert "nothing is due" in imsr("run", "-w", workspace.root)
    assert tree(workspace.root) == before


# ---------------------------------------------------------------- looking


def test_status_shows_spans_versions_and_errors(learnt, copy_of):
    rows = cells(imsr("status", "-w", learnt.root))
    assert [(row[0], row[3], row[4]) for row in rows[1:]] == [
        (day, "published", VERSIONS[max(n - 1, 0)]) for n, day in enumerate(DAYS)
    ]
    assert "gate        1 hidden event, fewer than 30: quality was not judged" in imsr("status", "-w", learnt.root)
    workspace = copy_of(learnt)
    with workspace.ledger.transaction() as tx:
        tx.set_span_state(DAYS[-1], SpanState.FAILED, at=NOW, error="the loss became [nan]")
    output = imsr("status", "-w", workspace.root)
    assert "the loss became [nan]" in output
    assert "due: 1" in output


def test_status_of_a_long_chain_is_one_screen(tmp_path):
    workspace = Workspace.create(tmp_path / "w", TOML)
    days = [datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=n) for n in range(80)]
    write_events(workspace.root / "landing" / "a.csv", [("u", "i", day.isoformat()) for day in days])
    imsr("ingest", "-w", workspace.root)
    with workspace.ledger.transaction() as tx:
        for number, span in enumerate(tx.spans()):
            state = SpanState.FAILED if number == 3 else SpanState.PUBLISHED
            tx.set_span_state(span.span_id, state, at=NOW, error="the disk" if number == 3 else None)
    output = imsr("status", "-w", workspace.root)
    assert [row[0] for row in cells(output)[1:]] == ["2024-01-04", *(f"{day:%Y-%m-%d}" for day in days[-20:])]
    assert "earlier     59 spans" in output
    assert len(cells(imsr("status", "--all", "-w", workspace.root))) == 81


def test_the_workspace_is_the_current_folder_or_named_by_the_environment(learnt, monkeypatch):
    monkeypatch.chdir(learnt.root)
    assert VERSIONS[-1] in imsr("status")
    monkeypatch.chdir("/")
    monkeypatch.setenv("IMSR_WORKSPACE", str(learnt.root))
    assert VERSIONS[-1] in imsr("status")


def test_sql(learnt, monkeypatch):
    rows = cells(imsr("sql", "-w", learnt.root, "SELECT span_id, events FROM spans"))
    assert [row[0] for row in rows] == ["span_id", *DAYS]
    output = imsr("sql", "-w", learnt.root, "--csv", "SELECT user_id, count(*) AS n FROM interactions GROUP BY 1")
    found = {row["user_id"]: int(row["n"]) for row in csv.DictReader(io.StringIO(output))}
    assert found[NASTY_USER] > 0
    assert sum(found.values()) == len(set(log()))
    result = CliRunner().invoke(app, ["sql", "-w", str(learnt.root), "-"], input="SELECT 41 + 1 AS answer")
    assert cells(result.output) == [["answer"], ["42"]]
    output = imsr("sql", "-w", learnt.root, "--limit", 2, "FROM spans")
    assert len(cells(output)) == 3
    assert "--limit 0 shows all" in output
    assert len(cells(imsr("sql", "-w", learnt.root, "--limit", 0, "SELECT unnest(range(60))"))) == 61


def test_ids_are_shown_letter_by_letter(learnt):
    query = f"SELECT DISTINCT item_id FROM interactions WHERE item_id = '{NASTY_ITEM}'"
    assert cells(imsr("sql", "-w", learnt.root, query))[1] == [NASTY_ITEM]
    assert cells(imsr("sql", "-w", learnt.root, "SELECT '[/b] [red]x[/red]' AS id"))[1] == ["[/b] [red]x[/red]"]


@pytest.mark.parametrize("query", ["SELEC 1", "FROM nowhere", "COPY spans TO 'x.csv'", "FROM '/etc/passwd'", ""])
def test_sql_that_cannot_be_run_is_one_message(learnt, query):
    with pytest.raises(ImsrError) as caught:
        imsr("sql", "-w", learnt.root, query)
    assert caught.value.hint


def test_views_says_how_to_use_them_and_it_works(learnt, copy_of):
    workspace = copy_of(learnt)
    output = imsr("views", "-w", workspace.root)
    assert f"duckdb -readonly {workspace.catalog_file}" in output
    start = output.index("from pipelines")
    lines = [line.strip() for line in output[start:].splitlines() if line.strip()]
    *imports, expression = lines
    scope: dict[str, object] = {}
    exec("\n".join(imports), scope)
    assert len(eval(expression, scope).fetchall()) == len(DAYS)


def test_recommend(learnt, copy_of):
    workspace = copy_of(learnt)
    wanted = Recommender.open(workspace, VERSIONS[1]).top_n(["u1", "u2"], 4, exclude_seen=True).to_pylist()
    words = ["--user", "u1", "--user", "u2", "-n", 4, "--new", "--version", VERSIONS[1]]
    rows = cells(imsr("recommend", "-w", workspace.root, *words))[1:]
    assert [row[:3] for row in rows] == [[row["user_id"], str(row["rank"]), row["item_id"]] for row in wanted]
    assert "popular" in imsr("recommend", "-w", workspace.root, "--user", "a stranger")
    assert "written" in imsr("recommend", "-w", workspace.root, "--all", "-n", 2)
    count = cells(imsr("sql", "-w", workspace.root, "SELECT count(DISTINCT user_id) FROM recommendations"))[1][0]
    assert int(count) == version_rows(workspace)[VERSIONS[-1]].summary["users"]


def test_ids_that_are_unknown_are_counted_and_a_file_of_them_is_refused(learnt, tmp_path):
    known = Recommender.open(learnt).top_n(["u1"], 2)["item_id"].to_pylist()
    stock, typos = tmp_path / "stock.txt", tmp_path / "typos.txt"
    stock.write_text("\n".join([*known, "zz1", "zz2", "zz1"]))
    typos.write_text("ZZ1\nZZ2\n")
    shown = imsr("recommend", "-w", learnt.root, "--user", "u1", "--only", stock)
    assert "2 of 4 item ids are not known to this version: 'zz1', 'zz2'" in shown
    assert all(item in shown for item in known)
    for option in ("--only", "--exclude"):
        with pytest.raises(ConfigError, match=r"typos.txt: none of its 2 item ids is known .* 'ZZ1'"):
            imsr("recommend", "-w", learnt.root, "--user", "u1", option, typos)


def test_lists_of_everybody_are_not_written_when_one_user_is_named(learnt):
    with pytest.raises(ConfigError, match="--all is for everybody"):
        imsr("recommend", "-w", learnt.root, "--all", "--user", "u1")


def test_who_is_unknown_is_said_and_several_users_in_one_option(learnt):
    shown = imsr("recommend", "-w", learnt.root, "--user", "u1,u2", "--user", "nobody")
    assert f"not known to version {VERSIONS[-1]}, and shown what is in fashion: 'u1,u2', 'nobody'" in shown
    assert "several users: --user u1 --user u2" in shown
    assert "not known" not in imsr("recommend", "-w", learnt.root, "--user", "u1")
    assert "several users" not in imsr("recommend", "-w", learnt.root, "--user", "Smith, John")


# ---------------------------------------------------------------- saying no


def test_no_workspace_is_said(tmp_path):
    for words in (["status"], ["run"], ["versions"], ["sql", "FROM spans"], ["recommend", "--user", "u"], ["ingest"]):
        with pytest.raises(ImsrError, match="is not a workspace") as caught:
            imsr(*words, "-w", tmp_path)
        assert "imsr init" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_workspace_that_was_there_is_not_advised_to_be_made_anew_without_a_question(tmp_path):
    with pytest.raises(ImsrError, match="there is no such folder") as moved:
        imsr("run", "-w", tmp_path / "gone")
    assert moved.value.hint.startswith("was it moved, or is its disk not mounted? A new one: imsr init ")
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    with pytest.raises(ImsrError, match=f"it is a link to {tmp_path}/gone, which is not there") as left:
        imsr("run", "-w", tmp_path / "link")
    assert "imsr init" not in left.value.hint
    (tmp_path / "gone").mkdir()
    with pytest.raises(ImsrError, match=r"it has no imsr\.toml"):
        imsr("run", "-w", tmp_path / "gone")


def test_a_workspace_is_not_made_twice(learnt):
    with pytest.raises(ImsrError, match="already is a workspace"):
        imsr("init", learnt.root)


def test_a_wrong_key_is_refused_with_the_nearest_one(learnt, copy_of, tmp_path):
    workspace = copy_of(learnt)
    workspace.settings_file.write_text(TOML.replace("base_epochs", "base_epoch"))
    with pytest.raises(ConfigError, match="base_epoch") as caught:
        imsr("run", "-w", workspace.root)
    assert "did you mean 'base_epochs'" in caught.value.hint
    wrong = tmp_path / "wrong.toml"
    wrong.write_text("[modle]\ndim = 8\n")
    with pytest.raises(ConfigError, match="modle") as caught:
        imsr("init", tmp_path / "new", "--settings", wrong)
    assert "did you mean 'model'" in caught.value.hint
    assert not (tmp_path / "new" / "imsr.toml").exists()


def test_files_that_cannot_be_read_are_named(tmp_path):
    workspace = Workspace.create(tmp_path / "w", TOML)
    bad = tmp_path / "bad.csv"
    bad.write_text("user,item_id,timestamp\n1,2,2024-03-01\n")
    with pytest.raises(ImsrError, match="user_id") as caught:
        imsr("ingest", "-w", workspace.root, bad)
    assert "bad.csv" in str(caught.value)
    with pytest.raises(ImsrError, match=r"nothing\.csv"):
        imsr("ingest", "-w", workspace.root, tmp_path / "nothing.csv")
    assert states(workspace) == {}


def test_unknown_users_versions_and_numbers_are_said(learnt, ingested):
    with pytest.raises(ImsrError, match=r"no version '2024-03-09\.1'"):
        imsr("recommend", "-w", learnt.root, "--user", "u1", "--version", "2024-03-09.1")
    with pytest.raises(ImsrError, match="for whom"):
        imsr("recommend", "-w", learnt.root)
    with pytest.raises(ImsrError, match="0 items"):
        imsr("recommend", "-w", learnt.root, "--user", "u1", "-n", 0)
    with pytest.raises(ImsrError, match="no current version yet"):
        imsr("recommend", "-w", ingested.root, "--user", "u1")


def test_a_failed_training_ends_with_code_1_and_is_tried_again(tmp_path, monkeypatch, capsys):
    workspace = make(tmp_path / "w", log(range(2)))

    def diverge(*_, **__):
        raise NonFiniteError("the loss became nan", hint="try a lower learning_rate")

    monkeypatch.setattr(training, "strategy_named", lambda _: diverge)
    monkeypatch.setattr(sys, "argv", ["imsr", "run", "-w", str(workspace.root)])
    with pytest.raises(SystemExit) as ended:
        cli.run_command()
    assert ended.value.code == 1
    assert {row.error for row in span_rows(workspace).values()} == {"the loss became nan"}
    assert "the loss became nan" in imsr("status", "-w", workspace.root)
    monkeypatch.undo()
    assert VERSIONS[0] in imsr("run", "-w", workspace.root)


# ---------------------------------------------------------------- as processes


def test_an_error_is_two_lines_on_standard_error(tmp_path):
    folder = tmp_path / "a [b] folder"
    folder.mkdir()
    result = process("status", "-w", folder)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.splitlines() == [
        f"error: {folder} is not a workspace: it has no imsr.toml",
        f"  -> run: imsr init '{os.path.relpath(folder)}'",
    ]


def test_status_and_sql_as_processes(learnt):
    result = process("sql", "-w", learnt.root, "--csv", "SELECT version_id FROM versions ORDER BY 1")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.split() == ["version_id", *VERSIONS]
    result = process("status", cwd=learnt.root)
    assert result.returncode == 0
    assert VERSIONS[-1] in result.stdout
    assert json.loads(json.dumps(result.stderr)) == ""


def test_a_wrong_option_is_code_2():
    result = process("run", "--sapn", "x")
    assert result.returncode == 2
    assert "--span" in result.stderr
