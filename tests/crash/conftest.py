"""Worlds for crash tests."""

from __future__ import annotations

import pytest
from references import References
from tiny_world import Worlds


@pytest.fixture(scope="session")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Worlds:
    """Workspaces in each state, made once."""
    return Worlds(tmp_path_factory.mktemp("worlds"))


@pytest.fixture(scope="session")
def references(worlds: Worlds, tmp_path_factory: pytest.TempPathFactory) -> References:
    """What undisturbed commands leave, made once."""
    return References(worlds, tmp_path_factory.mktemp("references"))
