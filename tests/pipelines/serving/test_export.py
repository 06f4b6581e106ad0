"""A version as files: whole or not at all, readable by others, the same scores."""

from __future__ import annotations

import re

import numpy as np
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file
from small_world import NOW, VERSIONS

from pipelines.care.forget import forget
from pipelines.interests.recommend import Recommender
from pipelines.serving.export import ExportError, export


def test_vectors_and_interests_give_the_models_scores(learnt, tmp_path):
    out = export(learnt, tmp_path / "deep" / "out")
    assert sorted(path.name for path in out.iterdir()) == [
        "README.md", "config.json", "interests.parquet", "items.parquet", "model.safetensors",
    ]  # fmt: skip
    items, interests = pq.read_table(out / "items.parquet"), pq.read_table(out / "interests.parquet")
    state = Recommender.open(learnt).state
    assert np.array_equal(np.array(items["vector"].to_pylist(), np.float32), state.item_vectors().numpy())
    assert np.array_equal(np.array(interests["vector"].to_pylist(), np.float32), state.store.vectors.numpy())
    assert interests.num_rows == len(state.store)
    assert load_file(out / "model.safetensors")


@pytest.mark.parametrize("csv", [False, True])
def test_lists_are_the_recommenders(learnt, tmp_path, csv):
    out = export(learnt, tmp_path / "out", lists=3, csv=csv)
    table = pa_csv.read_csv(out / "recommendations.csv") if csv else pq.read_table(out / "recommendations.parquet")
    wanted = Recommender.open(learnt).top_n(["u1"], 3)["item_id"].to_pylist()
    own = [row["item_id"] for row in table.to_pylist() if row["user_id"] == "u1"]
    assert own == wanted


def test_the_card_says_what_it_is(learnt, tmp_path):
    text = (export(learnt, tmp_path / "out") / "README.md").read_text()
    assert text.startswith("---\nlibrary_name: imsr\n")
    for word in (VERSIONS[-1], VERSIONS[-2], "hr@10", "Limits", "Verdict", "95 % interval"):
        assert word in text
    assert f"spans since pre-training: {len(VERSIONS) - 1}." in text
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert headings[:3] == ["## What is in it", "## Scores", "## Verdict of the gate"]
    low, value, high = (float(n) for n in re.search(r"\| hr@10 \| (\S+) \| (\S+) \.\. (\S+) \|", text).group(2, 1, 3))
    assert 0 <= low <= value <= high <= 1


def test_what_is_there_is_not_overwritten_and_what_fails_leaves_nothing(learnt, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    with pytest.raises(ExportError, match="exists already"):
        export(learnt, tmp_path / "out")
    monkeypatch.setattr("pipelines.serving.export.model_card", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export(learnt, tmp_path / "other")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_forgotten_user_is_in_no_later_export(learnt, copy_of, tmp_path):
    workspace = copy_of(learnt)
    forget(workspace, "u1", now=NOW)
    out = export(workspace, tmp_path / "out", lists=2)
    for name in ("interests", "recommendations"):
        users = set(pq.read_table(out / f"{name}.parquet")["user_id"].to_pylist())
        assert "u1" not in users
        assert not any(user.endswith("\0") for user in users)
