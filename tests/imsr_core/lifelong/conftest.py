"""The planted world and versions trained on it once; no test writes to a version."""

from __future__ import annotations

import pytest

from imsr_core.ragged import SpanSequences
from imsr_core.testing.lifelong_contract import some_users, versions_of
from imsr_core.testing.planted_users import planted_sequences


@pytest.fixture(scope="session")
def sequences() -> SpanSequences:
    return planted_sequences()


@pytest.fixture(scope="session")
def probe() -> SpanSequences:
    """Other users, to compare predictions on."""
    return some_users()


@pytest.fixture(scope="session")
def versions():  # type: ignore[no-untyped-def]
    """``versions_of``: method, tasks, encoder -> the versions on the way; trained once and shared by all tests."""
    return versions_of
