"""The index of neighbours: it finds nearly what the exact search finds, says how much, and misses the extra clearly."""

from __future__ import annotations

import json
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest

from imsr_core.errors import ConfigError
from pipelines.serving.ann import ASK_WIDTH, write_ann
from pipelines.serving.export import export


@pytest.fixture
def faiss():
    return pytest.importorskip("faiss")


def vectors(rows: int, seed: int) -> np.ndarray:
    """Rows around a few directions, as item vectors are, at length 1."""
    rng = np.random.default_rng(seed)
    found = rng.normal(size=(20, 16))[rng.integers(20, size=rows)] + 0.5 * rng.normal(size=(rows, 16))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def naive_recall(index, items, asked) -> float:
    found = index.search(asked, 20)[1]
    exact = [set(np.argsort(-(items @ row), kind="stable")[:20].tolist()) for row in asked]
    return float(np.mean([len(own & set(row.tolist())) / 20 for own, row in zip(exact, found, strict=True)]))


def test_its_recall_is_high_and_what_it_says(faiss, tmp_path):
    items, asked = vectors(4000, 1), 3 * vectors(200, 2)
    facts = write_ann(items, asked, tmp_path)
    index = faiss.read_index(str(tmp_path / "items.faiss"))
    assert index.hnsw.efSearch == ASK_WIDTH
    assert facts.recall_at_20 == pytest.approx(naive_recall(index, items, asked), abs=1e-4)
    assert 0.95 < facts.low <= facts.recall_at_20 <= facts.high <= 1
    assert json.loads((tmp_path / "ann.json").read_text())["recall_at_20"] == facts.recall_at_20


def test_a_poor_index_would_say_so(faiss, tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.serving.ann.LINKS", 2)
    monkeypatch.setattr("pipelines.serving.ann.BUILD_WIDTH", 2)
    monkeypatch.setattr("pipelines.serving.ann.ASK_WIDTH", 1)
    assert write_ann(vectors(4000, 1), vectors(200, 2), tmp_path).recall_at_20 < 0.8


def test_the_same_vectors_give_the_same_index(faiss, tmp_path):
    written = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_ann(vectors(500, 1), vectors(9, 2), tmp_path / name)
        written.append((tmp_path / name / "items.faiss").read_bytes())
    assert written[0] == written[1]


def test_an_export_has_it_beside_the_card(faiss, learnt, tmp_path):
    out = export(learnt, tmp_path / "out", ann=True)
    index, items = faiss.read_index(str(out / "items.faiss")), pq.read_table(out / "items.parquet")
    own = np.array(items["vector"].to_pylist(), np.float32)
    assert index.search(own, 1)[1].ravel().tolist() == (own @ own.T).argmax(1).tolist()
    assert "recall@20" in (out / "README.md").read_text()


def test_nobody_who_asks_is_no_recall(faiss, tmp_path):
    facts = write_ann(vectors(30, 1), vectors(0, 2), tmp_path)
    assert facts.recall_at_20 is None
    assert "not known" in str(facts)


def test_without_the_extra_it_says_what_to_install_and_writes_nothing(learnt, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ConfigError, match="faiss") as refused:
        export(learnt, tmp_path / "out", ann=True)
    assert "imsr[ann]" in refused.value.hint
    assert list(tmp_path.iterdir()) == []
