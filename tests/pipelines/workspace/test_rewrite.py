"""Files of a published folder are replaced under a seal; damage is refused, interruptions are finished."""

import pytest

from pipelines.workspace.failpoints import VARIABLE, InjectedFailure
from pipelines.workspace.rewrite import is_unfinished, rewrite_folder
from pipelines.workspace.seal import PublishError, seal, verify_folder


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("a", "b", "c"):
        (folder / name).write_text(f"old {name}")
    seal(folder)
    return folder


def new(tmp_path, name):
    path = tmp_path / f"new-{name}"
    path.write_text(f"new {name}")
    return path


def test_files_are_replaced_and_removed_and_the_folder_is_sealed_again(folder, tmp_path):
    rewrite_folder(folder, {"a": new(tmp_path, "a"), "c": None})
    verify_folder(folder)
    assert {p.name: p.read_text() for p in folder.iterdir() if p.name != "READY"} == {"a": "new a", "b": "old b"}


def test_a_reader_keeps_the_old_file(folder, tmp_path):
    with (folder / "a").open() as reader:
        rewrite_folder(folder, {"a": new(tmp_path, "a")})
        assert reader.read() == "old a"


@pytest.mark.parametrize("point", ["rewrite.started", "rewrite.replaced:1", "rewrite.replaced:2", "rewrite.replaced:3"])
@pytest.mark.parametrize("rest", [True, False])
def test_an_interrupted_rewrite_is_finished(folder, tmp_path, monkeypatch, point, rest):
    name, _, count = point.partition(":")
    monkeypatch.setenv(VARIABLE, f"{name}:{count or 1}:raise")
    with pytest.raises(InjectedFailure):
        rewrite_folder(folder, {"a": new(tmp_path, "a"), "b": new(tmp_path, "b"), "c": None})
    monkeypatch.delenv(VARIABLE)
    assert is_unfinished(folder)
    again = {"a": new(tmp_path, "a"), "b": new(tmp_path, "b"), "c": None} if rest else {}
    rewrite_folder(folder, again)
    verify_folder(folder)
    assert not is_unfinished(folder)
    if rest:
        assert {p.read_text() for p in folder.iterdir() if p.name != "READY"} == {"new a", "new b"}


def test_damage_is_never_sealed(folder, tmp_path):
    (folder / "a").write_text("odd a")
    with pytest.raises(PublishError, match="a is damaged"):
        rewrite_folder(folder, {"a": new(tmp_path, "a")})
    assert not is_unfinished(folder)


def test_damage_during_an_interruption_is_refused(folder, tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, "rewrite.started:1:raise")
    with pytest.raises(InjectedFailure):
        rewrite_folder(folder, {"a": new(tmp_path, "a")})
    monkeypatch.delenv(VARIABLE)
    (folder / "b").write_text("odd b")
    with pytest.raises(PublishError, match="b is damaged"):
        rewrite_folder(folder, {})


def test_a_folder_that_was_never_sealed_is_refused(tmp_path):
    (tmp_path / "a").write_text("a")
    with pytest.raises(PublishError, match="READY"):
        rewrite_folder(tmp_path, {"a": None})
