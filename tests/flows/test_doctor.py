"""`imsr doctor` names each kind of damage, and the command that it names mends it."""

from __future__ import annotations

import json
import shlex
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from small_world import DAYS, NOW, VERSIONS, current, interests_of, land, run_all, span_rows
from typer.testing import CliRunner

from flows.cli import app
from flows.console import console
from pipelines.care.doctor import Severity, examine
from pipelines.interests.recommend import Recommender
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import SpanState
from pipelines.workspace.seal import READY, file_sha256

DAMAGED = "imsr prune --damaged, then: imsr run"
LAST_SEQUENCES = f"sequences/span={DAYS[-1]}"


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setattr(console, "_width", 300)


@pytest.fixture
def world(learnt, copy_of) -> Workspace:
    """A learnt workspace with quarantined rows and lists of recommendations, in which all is well."""
    workspace = copy_of(learnt)
    land(workspace, [("", "i1", NOW.isoformat())], "bad.csv")
    Recommender.open(workspace).write_all(3)
    imsr(workspace, "views")
    assert examine(workspace, deep=True) == []
    return workspace


def imsr(workspace: Workspace, *words: str):
    return CliRunner().invoke(app, [*words, "--workspace", str(workspace.root)])


def follow(workspace: Workspace, advice: str) -> None:
    """Run the commands that a finding names."""
    for command in advice.split(", then: "):
        program, *words = shlex.split(command)
        assert program == "imsr"
        result = imsr(workspace, *words)
        assert result.exit_code == 0, (command, result.output, result.exception)


# ---------------------------------------------------------------- damage


def flip(path: Path, at: int | None = None) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2 if at is None else at] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def some(workspace: Workspace, pattern: str) -> Path:
    """The first file of a pattern below the workspace."""
    return sorted(workspace.root.glob(pattern))[0]


def folder(workspace: Workspace, version: int) -> Path:
    return workspace.version_folder(VERSIONS[version])


def poison(workspace: Workspace) -> None:
    """NaN in a checkpoint, sealed as if it had been written so."""
    place = folder(workspace, -1)
    path = place / "model.safetensors"
    with safe_open(path, "pt") as file:
        tensors, about = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    name = next(name for name, tensor in tensors.items() if tensor.is_floating_point() and tensor.numel() > 8)
    tensors[name].view(-1)[0] = torch.nan
    save_file(tensors, path, about)
    ready = json.loads((place / READY).read_text())
    ready["files"][path.name] = {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
    (place / READY).write_text(json.dumps(ready))


def die_in_staging(workspace: Workspace) -> None:
    (workspace.staging / "dead.1").mkdir(parents=True)


def fail(workspace: Workspace) -> None:
    set_state(workspace, DAYS[-1], SpanState.FAILED, "the loss became nan")


def set_state(workspace: Workspace, span_id: str, state: SpanState, error: str | None = None) -> None:
    with workspace.ledger.transaction() as tx:
        tx.set_span_state(span_id, state, at=NOW, error=error)


def forget_sequences(workspace: Workspace) -> None:
    with workspace.ledger.transaction() as tx:
        for row in tx.sequences():
            if row.span_id == DAYS[-1]:
                tx.delete("sequences", span_id=row.span_id, fingerprint=row.fingerprint)


def point_elsewhere(workspace: Workspace) -> None:
    with closing(sqlite3.connect(workspace.ledger_file)) as connection, connection:
        connection.execute("UPDATE pointers SET version_id = ?", (VERSIONS[0],))


def lose_the_pointer(workspace: Workspace) -> None:
    with closing(sqlite3.connect(workspace.ledger_file)) as connection, connection:
        connection.execute("DELETE FROM pointers")


def break_the_ledger(workspace: Workspace) -> None:
    data = bytearray(workspace.ledger_file.read_bytes())
    data[100:3000] = bytes(2900)
    workspace.ledger_file.write_bytes(data)


def another_calendar(workspace: Workspace) -> None:
    text = workspace.settings_file.read_text()
    workspace.settings_file.write_text(text.replace('unit = "day"', 'unit = "week"'))


#: What is done, whether only --deep sees it, the place that is named, a word of what is said.
TIDY = {
    "stray version": (lambda w: (w.root / "versions/stray").mkdir(), False, "versions/stray", "does not name it"),
    "dead run": (die_in_staging, False, "staging/dead.1", "died"),
    "views gone": (lambda w: w.views_file.unlink(), False, "views.sql", "older"),
    "catalog cut": (lambda w: cut(w.catalog_file), False, "catalog.duckdb", "does not open"),
    "list cut": (lambda w: cut(some(w, "recommendations/*")), False, "recommendations/2024-03-06.1.parquet", ""),
    "list gone bad": (
        lambda w: flip(some(w, "recommendations/*"), at=60),
        False,
        "recommendations/2024-03-06.1.parquet",
        "",
    ),
}
QUICK = "model flipped"
REBUILT = {
    "model flipped": (lambda w: flip(folder(w, -1) / "model.safetensors"), True, "versions/2024-03-06.1", "content"),
    "version gone": (lambda w: shutil.rmtree(folder(w, -1)), False, "versions/2024-03-06.1", "missing"),
    "no seal": (lambda w: (folder(w, -1) / READY).unlink(), False, "versions/2024-03-06.1", "never completed"),
    "nan in a sealed model": (poison, True, "versions/2024-03-06.1", "finite"),
    "sequences cut": (lambda w: cut(some(w, f"{LAST_SEQUENCES}/*/bucket*")), False, LAST_SEQUENCES, ""),
    "sequences lost": (forget_sequences, False, LAST_SEQUENCES, "lost"),
    "span failed": (fail, False, "ledger", "the loss became nan"),
}  # fmt: skip
HOPELESS = {
    "lake cut": (lambda w: cut(some(w, "lake/span=2024-03-03/*/bucket*")), False, "lake/span=2024-03-03", "lake/span="),
    "lake flipped": (lambda w: flip(some(w, "lake/span=2024-03-03/*/bucket*")), True, "lake/span=2024-03-03", "lake/"),
    "quarantine gone": (lambda w: some(w, "quarantine/*").unlink(), False, "quarantine/", "quarantine/"),
    "ledger broken": (break_the_ledger, False, "ledger.sqlite", "ledger.sqlite"),
    "pointer moved by hand": (point_elsewhere, False, "ledger", "ledger.sqlite"),
    "pointer gone": (lose_the_pointer, False, "ledger", "ledger.sqlite"),
}


def seen(workspace: Workspace, harm, deep: bool):
    """What the doctor finds after the harm; nothing without --deep if only that can see it."""
    harm(workspace)
    if deep:
        assert examine(workspace) == []
    return examine(workspace, deep=deep)


@pytest.mark.parametrize("case", TIDY)
def test_untidiness_is_mended_by_the_command_that_is_named(world, case):
    harm, deep, where, what = TIDY[case]
    found = seen(world, harm, deep)
    assert any(finding.where == where and what in finding.what for finding in found), found
    for finding in found:
        follow(world, finding.mend)
    assert examine(world, deep=True) == []


@pytest.mark.parametrize(
    "case", [QUICK, *(pytest.param(case, marks=pytest.mark.slow) for case in REBUILT if case != QUICK)]
)
def test_what_can_be_built_again_is_and_is_the_same(world, learnt, case):
    harm, deep, where, what = REBUILT[case]
    before = interests_of(learnt, VERSIONS[-1])
    found = seen(world, harm, deep)
    assert any(finding.where.startswith(where) and what in finding.what for finding in found), found
    follow(world, found[0].mend)
    assert examine(world, deep=True) == []
    assert set(map(str, (row.state for row in span_rows(world).values()))) == {"published"}
    assert interests_of(world, current(world)) == before


@pytest.mark.parametrize("case", HOPELESS)
def test_what_cannot_be_built_again_is_an_error_that_names_the_backup(world, case):
    harm, deep, where, mend = HOPELESS[case]
    found = seen(world, harm, deep)
    assert found[0].severity == Severity.ERROR
    assert found[0].where.startswith(where)
    assert f"restore {mend}" in found[0].mend
    result = imsr(world, "doctor", *(["--deep"] if deep else []))
    assert result.exit_code == 1
    assert found[0].where in result.output


def test_settings_that_no_longer_fit_the_lake_are_named(world):
    another_calendar(world)
    (finding,) = [each for each in examine(Workspace.open(world.root)) if each.where == "imsr.toml"]
    assert finding.severity == Severity.ERROR


def test_a_span_that_counts_as_learnt_but_was_not_is_found(world):
    with world.ledger.transaction() as tx:
        tx.promote("interests", VERSIONS[-2], "by hand", at=NOW)
    (finding,) = [each for each in examine(world) if "did not learn it" in each.what]
    assert finding.mend == f"imsr restate {DAYS[-1]}"


def test_all_is_well_and_code_0(world):
    result = imsr(world, "doctor")
    assert result.exit_code == 0
    assert "all is well" in result.output
    assert "--deep" in result.output


def test_damage_in_the_middle_of_the_chain_is_learnt_again_from_there(world, learnt):
    flip(folder(world, 2) / "interests.parquet")
    found = examine(world, deep=True)
    assert {finding.mend for finding in found} == {DAMAGED}
    follow(world, DAMAGED)
    # the last one read nothing that was lost: it is found by its fingerprint and not learnt again
    assert current(world) == VERSIONS[-1]
    for version_id in (f"{DAYS[3]}.2", f"{DAYS[4]}.2", VERSIONS[-1]):
        assert interests_of(world, version_id) == interests_of(learnt, f"{version_id[:-2]}.1")
    assert examine(world, deep=True) == []
    assert run_all(world) == []
