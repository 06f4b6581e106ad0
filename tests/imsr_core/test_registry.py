"""Parts by name: ours, those of other packages, and names that nothing answers to."""

from importlib.metadata import EntryPoint

import pytest

from imsr_core import registry
from imsr_core.errors import ConfigError
from imsr_core.parts import ENCODERS, EXTRACTORS, FLOORS, METHODS, STARTING_OVER, STRATEGIES
from imsr_core.registry import Registry


@pytest.mark.parametrize(
    "parts", [EXTRACTORS, STRATEGIES, STARTING_OVER, FLOORS, ENCODERS, METHODS], ids=lambda r: r.group
)
def test_every_part_is_where_it_is_said_to_be(parts):
    assert len(parts) == len(list(parts)) > 0
    for name in parts:
        assert callable(parts[name])


def test_every_method_has_the_name_that_it_is_found_by():
    assert [METHODS[name].name for name in METHODS] == list(METHODS)


def test_a_part_of_another_package_is_found_and_cannot_take_a_name_of_ours(monkeypatch):
    points = [EntryPoint(name, "json:dumps", "g") for name in ("theirs", "ours")]
    monkeypatch.setattr(registry, "entry_points", lambda group: points if group == "g" else [])
    parts = Registry("part", "g", {"ours": "json:loads"})
    import json

    assert list(parts) == ["ours", "theirs"]
    assert parts["theirs"] is json.dumps
    assert parts["ours"] is json.loads


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(ConfigError) as caught:
        STRATEGIES.named("imrs")
    assert "did you mean 'imsr'" in caught.value.hint
    assert "imrs" not in STRATEGIES
    assert STRATEGIES.get("imrs") is None


def test_a_package_that_cannot_be_imported_is_named(monkeypatch):
    parts = Registry("part", "none", {"broken": "imsr_core.nothing_here:x", "moved": "json:no_such_function"})
    for name in parts:
        with pytest.raises(ConfigError, match=rf"part '{name}' cannot be loaded"):
            parts[name]
