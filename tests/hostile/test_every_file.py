"""Every kind of file of a workspace is damaged, one at a time, and every command is given: it goes on, or ends with a
message and a hint; never with a traceback.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from small_world import LATER, day_of_events, land
from typer.testing import CliRunner

from flows.cli import app
from imsr_core.errors import ImsrError
from pipelines.workspace.layout import Workspace

NEWEST, BEFORE, USER = f"{LATER[-1]}.1", f"{LATER[-2]}.1", "u1"
COMMANDS = (
    ["status"],
    ["plan"],
    ["doctor"],
    ["doctor", "--deep"],
    ["versions"],
    ["compare", BEFORE, NEWEST],
    ["sql", "SELECT count(*) FROM interactions"],
    ["sql", "SELECT count(*) FROM interests"],
    ["sql", "FROM recommendations LIMIT 3"],
    ["recommend", "--user", USER],
    ["explain", "--user", USER],
    ["metrics"],
    ["forget", "--user", USER, "--dry-run"],
    ["prune", "--dry-run"],
    ["report", "--out", "{folder}/report.html"],
    ["export", "{folder}/exported"],
    ["recommend", "--all"],
    ["ingest"],
    ["ingest", "--again"],
    ["withdraw", "--span", LATER[-1]],
    ["rollback"],
    ["promote", NEWEST],
    ["run"],
    ["restate", LATER[-1], "--yes"],
    ["forget", "--user", "u2"],
    ["views"],
    ["prune"],
    ["prune", "--damaged"],
    ["run"],
    ["doctor"],
)


def cut(path: Path) -> None:
    """Only the first half is left."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def scribble(path: Path) -> None:
    """Other bytes of the same kind of length."""
    path.write_bytes(b"\x00\xff{]\n" * (path.stat().st_size // 5 + 1))


def folder(path: Path) -> None:
    """A folder has its name."""
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, Callable[[Path], None]] = {
    "cut": cut,
    "empty": lambda path: path.write_bytes(b""),
    "scribbled": scribble,
    "gone": Path.unlink,
    "a folder": folder,
}
#: The kinds of files of the workspace that is damaged: a pattern each, of which the last match is damaged.
KINDS = (
    "imsr.toml",
    "ledger.sqlite",
    "views.sql",
    "catalog.duckdb",
    "catalog/*/lineage.parquet",
    "catalog/*/spans.parquet",
    "landing/*.csv",
    "lake/*/*/READY",
    "lake/*/*/bucket=*.parquet",
    "quarantine/*.parquet",
    "sequences/*/*/READY",
    "sequences/*/*/bucket=*.parquet",
    "sequences/*/*/items.parquet",
    "sequences/*/*/users.parquet",
    "sequences/*/*/sequences.json",
    "versions/*/READY",
    "versions/*/changes.parquet",
    "versions/*/config.json",
    "versions/*/gate.parquet",
    "versions/*/interest_counts.parquet",
    "versions/*/interests.parquet",
    "versions/*/lineage.json",
    "versions/*/memory.safetensors",
    "versions/*/model.safetensors",
    "versions/*/optimizer.safetensors",
    "recommendations/*.parquet",
    "explanations/*.parquet",
)
QUICK = {("views.sql", "scribbled"), ("versions/*/model.safetensors", "gone")}


@pytest.fixture(scope="module")
def everything(learnt: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Six days learnt, the seventh in the lake with a refused row, lists of the newest version. Read only."""
    import shutil

    root = tmp_path_factory.mktemp("everything") / "workspace"
    shutil.copytree(learnt.root, root)
    workspace = Workspace.open(root)
    land(workspace, [*day_of_events(6), ("", "of nobody", "2024-03-07T00:00:00Z")], "seventh.csv")
    for command in (["recommend", "--all"], ["explain", "--all"]):
        assert CliRunner().invoke(app, [*command, "-w", str(root)]).exit_code == 0
    return workspace


def test_every_kind_of_file_is_damaged(everything):
    found = {path for kind in KINDS for path in everything.root.glob(kind)}
    files = {path for path in everything.root.rglob("*") if path.is_file()}
    ours = {re.sub(r"[^/]+/", "", path.name) for path in files - found}
    assert ours <= {"metrics.parquet", "pointers.parquet", "promotions.parquet", "span_versions.parquet",
                    "version_chain.parquet", "versions.parquet"}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "damage"),
    [
        pytest.param(kind, damage, marks=() if (kind, damage) in QUICK else pytest.mark.slow)
        for kind in KINDS
        for damage in DAMAGES
    ],
)
def test_no_command_ends_in_a_traceback(everything, copy_of, tmp_path, kind, damage):
    workspace = copy_of(everything)
    path = sorted(workspace.root.glob(kind))[-1]
    DAMAGES[damage](path)
    wrong = [found for command in COMMANDS if (found := _wrong(workspace, command, tmp_path))]
    assert wrong == []


def _wrong(workspace: Workspace, command: list[str], out: Path) -> str | None:
    """What is wrong with how a command ended."""
    words = [word.format(folder=out) for word in command]
    error = CliRunner().invoke(app, [*words, "-w", str(workspace.root)]).exception
    if error is None or isinstance(error, SystemExit):
        return None
    if not isinstance(error, ImsrError):
        return f"{' '.join(command)}: {error!r}"
    if not error.hint or "locked" in str(error):
        return f"{' '.join(command)}: {error.message} (no hint, or locked)"
    return None
