import pytest

from imsr_core.errors import ConfigError
from pipelines.settings.names import WorkspaceError, check_name
from pipelines.workspace.layout import FOLDERS, Workspace


def test_create_makes_everything_and_open_finds_it(tmp_path):
    made = Workspace.create(tmp_path / "w", "[spans]\nunit = 'day'\n")
    opened = Workspace.open(tmp_path / "w")
    assert opened == made
    assert opened.settings.spans.unit == "day"
    assert {path.name for path in opened.root.iterdir()} == {*FOLDERS, "imsr.toml", "ledger.sqlite"}
    with opened.ledger.snapshot() as view:
        assert view.spans() == []


def test_create_without_text_writes_all_defaults(tmp_path):
    workspace = Workspace.create(tmp_path / "w")
    assert "[trimmer]" in workspace.settings_file.read_text()


def test_a_bad_setting_leaves_nothing_behind(tmp_path):
    with pytest.raises(ConfigError):
        Workspace.create(tmp_path / "w", "[nonsense]")
    assert not (tmp_path / "w").exists()


def test_opening_what_is_none_and_creating_what_is_one(tmp_path):
    with pytest.raises(WorkspaceError, match="imsr init"):
        Workspace.open(tmp_path)
    Workspace.create(tmp_path / "w")
    with pytest.raises(WorkspaceError, match="already"):
        Workspace.create(tmp_path / "w")


def test_paths(tmp_path):
    workspace = Workspace(tmp_path)
    assert workspace.relative(workspace.span_folder("2017-03", 2)) == "lake/span=2017-03/v=2"
    assert workspace.relative(workspace.sequences_folder("s001", "ab" * 32)) == "sequences/span=s001/" + "ab" * 8
    assert workspace.relative(workspace.quarantine_file("b000001")) == "quarantine/batch=b000001.parquet"
    assert workspace.relative(workspace.version_folder("v1")) == "versions/v1"
    assert workspace.resolve("lake/span=2017-03/v=2") == workspace.span_folder("2017-03", 2)


@pytest.mark.parametrize(
    "bad", ["../../x", "/abs", "a/b", "..", ".", "", "x" * 300, "a\\b", "nul\0", ".hidden", "a\n", "a."]
)
def test_names_that_cannot_be_file_names(bad):
    with pytest.raises(WorkspaceError):
        check_name(bad)


@pytest.mark.parametrize("bad", ["../x", "/etc/passwd", "lake/../../x"])
def test_stored_paths_that_lead_out(tmp_path, bad):
    with pytest.raises(WorkspaceError, match="leads out"):
        Workspace(tmp_path).resolve(bad)


def test_a_link_that_leads_out(tmp_path):
    workspace = Workspace.create(tmp_path / "w")
    (tmp_path / "elsewhere").mkdir()
    (workspace.root / "lake" / "span=2017-03").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(WorkspaceError, match="leads out"):
        workspace.resolve("lake/span=2017-03/v=1")
    with pytest.raises(WorkspaceError, match="not inside"):
        workspace.relative(tmp_path)
