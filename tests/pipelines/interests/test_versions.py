"""What a version says of itself, what determines it, and what happens when a file of it is damaged."""

import dataclasses
import json
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from small_world import DAYS, LATER, VERSIONS, learnt_content, version_rows

from imsr_core.config import InterestsConfig, TrainingConfig
from imsr_core.errors import CheckpointError, ImsrError
from pipelines.interests.version import Version, fingerprint_of
from pipelines.versions.lineage import PACKAGES, Lineage, VersionError, installed_packages
from pipelines.workspace.parquet_files import ParquetFileError
from pipelines.workspace.seal import verify_folder


def test_lineage_says_where_a_version_comes_from(learnt):
    with learnt.ledger.snapshot() as view:
        sequences = {row.span_id: row for row in view.sequences()}
    for number, version_id in enumerate(VERSIONS):
        version = Version.open(learnt, version_id)
        lineage, learnt_spans = version.lineage, DAYS[:2] if number == 0 else [DAYS[number + 1]]
        assert lineage.version_id == version_id
        assert lineage.parent == (VERSIONS[number - 1] if number else None)
        assert lineage.spans == tuple(DAYS[1 : number + 2])
        assert lineage.data == {day: sequences[day].fingerprint for day in learnt_spans}
        assert lineage.vocabulary == tuple(sequences[day].path for day in DAYS[: number + 2])
        assert lineage.fingerprint == version.row.fingerprint
        assert lineage.config["training"]["seed"] == 3
        assert set(lineage.packages) == {"python", *PACKAGES} == set(installed_packages())
        assert lineage.interests[-1] == f"versions/{version_id}/interests.parquet"
        assert version.load().spans == number + 1
    assert Version.open(learnt).row.version_id == VERSIONS[-1]


def test_lineage_survives_its_json(learnt, tmp_path):
    lineage = Version.open(learnt).lineage
    (tmp_path / "lineage.json").write_text(lineage.to_json())
    assert Lineage.read(tmp_path) == lineage


def test_the_summary_adds_up(learnt):
    users = interests = 0
    for version_id in VERSIONS:
        version = Version.open(learnt, version_id)
        summary, store = version.row.summary, version.load().store
        users += summary["new_users"]
        interests += summary["born"] - summary["forgotten"]
        assert (summary["users"], summary["interests"]) == (users, interests) == (len(store.users), len(store))
        assert summary["items"] == version.load().n_items == version.vocabulary.n_items
        changes = learnt_content(learnt, version_id)["changes.parquet"]["change"]
        for change in ("born", "trimmed", "forgotten"):
            assert summary[change] == changes.count(change)
    with learnt.ledger.snapshot() as view:
        last = view.sequences(LATER[-1])[-1]
    assert summary["active_users"] == last.users


INGREDIENTS = {
    "parent": "a",
    "data": {"d1": "x", "d2": "y"},
    "config": InterestsConfig(),
    "strategy": "imsr",
    "protocol": "prequential",
}


@pytest.mark.parametrize(
    "change",
    [
        {"parent": None},
        {"parent": "b"},
        {"data": {"d1": "x"}},
        {"data": {"d1": "x", "d2": "z"}},
        {"data": {"d1": "y", "d2": "x"}},
        {"strategy": "fine-tune"},
        {"protocol": "holdout"},
        {"holdout": 0.25},
        {"like": "a"},
        {"config": InterestsConfig(training=TrainingConfig(seed=1))},
    ],
    ids=str,
)
def test_each_ingredient_changes_the_fingerprint(change):
    assert fingerprint_of(**(INGREDIENTS | change)) != fingerprint_of(**INGREDIENTS)


def test_every_hyper_parameter_changes_the_fingerprint():
    base, known = InterestsConfig(), set()
    sections = [f for f in dataclasses.fields(base) if f.name != "own"]  # what strategies bring has tests of its own
    for section in sections:
        part = getattr(base, section.name)
        for key in dataclasses.fields(part):
            other = _another(getattr(part, key.name), key.name)
            config = replace(base, **{section.name: replace(part, **{key.name: other})})
            known.add(fingerprint_of(**(INGREDIENTS | {"config": config})))
    count = sum(len(dataclasses.fields(getattr(base, f.name))) for f in sections)
    assert len(known - {fingerprint_of(**INGREDIENTS)}) == count - 1  # all but the device: where is not what


def test_nothing_else_changes_the_fingerprint(monkeypatch):
    first = fingerprint_of(**INGREDIENTS)
    monkeypatch.setattr("time.time", lambda: 0.0)
    assert fingerprint_of(**(INGREDIENTS | {"data": {"d2": "y", "d1": "x"}})) == first


def _another(value, name):
    choices = {
        "extractor": "mind",
        "label_attention": "hard",
        "form": "bce",
        "rule": "absolute",
        "moments": "reset",
        "strategy": "fine_tune",
        "kernel": "3x1",
        "selection": "random",
        "starts": "spread",
        "device": "auto",
        "precision": "bfloat16",
    }
    if name in choices:
        return choices[name]
    if isinstance(value, bool):
        return not value
    return 3 if value is None else value / 2 or 0.5 if isinstance(value, float) else value + 1


def test_no_version_yet_and_no_such_version_are_said(ingested, learnt):
    with pytest.raises(VersionError, match="no current version yet") as caught:
        Version.open(ingested)
    assert "imsr run" in caught.value.hint
    with pytest.raises(VersionError, match=r"no version '\.\./\.\./etc'") as caught:
        Version.open(learnt, "../../etc")
    assert "imsr versions" in caught.value.hint


def _inside_the_vectors(path):
    group = pq.read_metadata(path).row_group(0)
    columns = [group.column(n) for n in range(group.num_columns)]
    chunk = next(column for column in columns if column.path_in_schema.startswith("vector"))
    first = chunk.dictionary_page_offset if chunk.has_dictionary_page else chunk.data_page_offset
    return first + chunk.total_compressed_size - 12


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "lineage.json", "interests.parquet"])
@pytest.mark.parametrize("damage", ["missing", "cut", "flipped"])
def test_a_damaged_file_is_named(learnt, copy_of, name, damage):
    workspace = copy_of(learnt)
    path = workspace.version_folder(VERSIONS[-1]) / name
    data = bytearray(path.read_bytes())
    vector_place = _inside_the_vectors(path) if name.endswith("parquet") else 0
    path.unlink()
    if damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    if damage == "flipped":
        place = 20 if name.endswith("safetensors") else len(data) // 2
        if name.endswith("parquet"):  # inside the vectors: only the page's checksum can tell
            place = vector_place
        data[place : place + 4] = b"\xff\xff\xff\xff"
        path.write_bytes(data)
    with pytest.raises((CheckpointError, ParquetFileError)) as caught:
        Version.open(workspace, VERSIONS[-1]).load()
    assert name in caught.value.message
    assert caught.value.hint
    with pytest.raises(ImsrError, match=name.replace(".", r"\.")):
        verify_folder(workspace.version_folder(VERSIONS[-1]))


@pytest.mark.parametrize("text", ["[]", "null", "{}", '{"spans": 3}', '"text"'])
def test_a_lineage_that_is_something_else_is_refused(tmp_path, text):
    (tmp_path / "lineage.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"lineage\.json: not a readable lineage"):
        Lineage.read(tmp_path)


def test_a_version_holds_nothing_that_runs_code(learnt):
    """No pickle and no archive of one, whatever a file is called."""
    known = {".json", ".parquet", ".safetensors", ".sqlite", ".sql", ".duckdb", ".toml", ".csv", ""}
    for path in learnt.root.rglob("*"):
        if path.is_file():
            assert path.suffix in known
            start = path.read_bytes()[:4]
            assert start[:1] != b"\x80", f"{path} looks like a pickle"
            assert start != b"PK\x03\x04", f"{path} is an archive"
            assert path.suffix or path.name == "READY"


def test_ready_lists_every_file(learnt):
    for row in version_rows(learnt).values():
        folder = learnt.resolve(row.path)
        listed = json.loads((folder / "READY").read_text())["files"]
        assert set(listed) == {p.name for p in folder.iterdir()} - {"READY"}
        assert {"config.json", "model.safetensors", "interests.parquet", "changes.parquet", "lineage.json"} <= set(
            listed
        )
