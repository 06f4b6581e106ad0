"""A large pre-training with wide vectors is told of before it begins; a small or a light one is not."""

import pytest
from small_world import NOW, TOML, log, make

from pipelines.nights import large_base
from pipelines.nights.large_base import said_of_a_large_base
from pipelines.nights.plan import due

WIDE = TOML.replace("dim = 8", "dim = 128\nmembers = 2")


@pytest.mark.parametrize(("toml", "large", "said"), [(WIDE, 10, 1), (WIDE, 10**6, 0), (TOML, 10, 0)])
def test_who_is_told(tmp_path, monkeypatch, toml, large, said):
    monkeypatch.setattr(large_base, "LARGE", large)
    workspace = make(tmp_path / "workspace", log(), toml)
    runs = due(workspace, now=NOW)
    texts = said_of_a_large_base(workspace, runs)
    assert len(texts) == said
    assert all("4 times the room of members = 1 and dim = 64" in text for text in texts)
    assert said_of_a_large_base(workspace, runs[1:]) == []
    assert said_of_a_large_base(workspace, []) == []
