"""A hint can be typed as it stands."""

import shlex
from pathlib import Path

import duckdb
import pytest
from typer.testing import CliRunner

from flows.cli import app
from flows.next_command import keep_workspace, named_workspace
from pipelines.settings.names import WorkspaceError
from pipelines.workspace.layout import Workspace

SHOP = ["run", "-w", "shop"]


@pytest.mark.parametrize(
    ("arguments", "folder"),
    [
        (["run", "-w", "a b"], "a b"),
        (["run", "-wshop"], "shop"),
        (["-w"], None),
        (["run", "--workspace", "x"], "x"),
        (["run", "--workspace=x=y"], "x=y"),
        (["sql", "FROM x"], None),
    ],
)
def test_the_workspace_that_a_command_line_names(arguments, folder):
    assert named_workspace(arguments) == folder


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("run: imsr doctor", "run: imsr doctor -w shop"),
        ("imsr restate 2024-03", "imsr restate -w shop 2024-03"),
        ("imsr prune --damaged, then: imsr run", "imsr prune -w shop --damaged, then: imsr run -w shop"),
        ("imsr task add NAME", "imsr task add -w shop NAME"),
        ("the views: imsr sql --help", "the views: imsr sql --help"),
        ("run: imsr init", "run: imsr init"),
        ("imsr alerts test", "imsr alerts test -w shop"),
        ("imsr against each", "imsr against each"),
        ("what imsr runs", "what imsr runs"),
        ("`imsr ingest` reads", "`imsr ingest -w shop` reads"),
    ],
)
def test_it_stands_in_every_command_that_is_advised(said, wanted):
    assert keep_workspace(said, SHOP) == wanted
    assert keep_workspace(wanted, SHOP) == wanted
    assert keep_workspace(said, ["run"]) == said


def test_a_folder_with_a_space_is_quoted():
    assert keep_workspace("imsr run", ["run", "-w", "my shop"]) == "imsr run -w 'my shop'"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["run", "my shop"], "-w 'my shop'"),
        (["task", "list", "my shop"], "-w 'my shop'"),
        (["recommend", "my shop"], "-w 'my shop'"),
        (["recommend", "1453", "27", "-w", "my shop"], "--user 1453"),
    ],
)
def test_a_workspace_or_a_user_without_its_option_is_told_which_one(tmp_path, monkeypatch, typed, meant):
    monkeypatch.chdir(tmp_path)
    Workspace.create(tmp_path / "my shop")
    result = CliRunner().invoke(app, typed)
    assert result.exit_code == 2
    said = " ".join(line.strip("│ ") for line in result.output.splitlines())
    assert f"with its option: {meant}" in said or f"with the option: {meant}" in said


def test_another_argument_too_many_is_only_that(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "named with" not in CliRunner().invoke(app, ["status", "nowhere"]).output
    assert "named with" not in CliRunner().invoke(app, ["run", "--nothing"]).output


def test_a_folder_that_is_no_workspace_names_the_one_that_is_near(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Workspace.create("my shop")
    for folder, wanted in ((".", "in it is named with -w 'my shop'"), ("my shop/lake", "around it is named with -w")):
        with pytest.raises(WorkspaceError) as caught:
            Workspace.open(folder)
        assert wanted in caught.value.hint
    with pytest.raises(WorkspaceError) as caught:
        Workspace.open("other")
    assert caught.value.hint == "was it moved, or is its disk not mounted? A new one: imsr init other"
    Path("other").mkdir()
    with pytest.raises(WorkspaceError) as caught:
        Workspace.open("other")
    assert caught.value.hint == "run: imsr init other"


def test_what_init_and_views_advise_can_be_typed_where_the_folder_has_an_odd_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "Ann's shop $HOME"
    said = CliRunner().invoke(app, ["init", name]).output
    typed = {shlex.split(line)[4] for line in said.splitlines() if "imsr ingest" in line or "imsr run" in line}
    assert typed == {name}
    assert f"workspace: {tmp_path / name}" in said
    Path("events.csv").write_text("user_id,item_id,timestamp\nu,i,1735689600\n")
    assert CliRunner().invoke(app, ["ingest", "-w", name, "events.csv"]).exit_code == 0
    shell, _, elsewhere, imports, expression = CliRunner().invoke(app, ["views", "-w", name]).output.splitlines()
    assert shlex.split(shell)[-1] == str(tmp_path / name / "catalog.duckdb")
    scope: dict[str, object] = {}
    exec(imports.removeprefix("Python").strip(), scope)
    assert len(eval(expression.strip(), scope).fetchall()) == 1
    with duckdb.connect(":memory:") as connection:
        connection.execute(elsewhere.removeprefix("elsewhere").split(";")[0].strip())
        assert connection.execute("SELECT getvariable('workspace')").fetchall() == [(str(tmp_path / name),)]
