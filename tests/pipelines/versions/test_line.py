"""The row of a version of a line, or why there is none; and finding one that was made before."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from pipelines.versions.candidates import find_version
from pipelines.versions.dependencies import needed_folders
from pipelines.versions.line import Line
from pipelines.versions.lineage import VersionError
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import VersionRow
from pipelines.workspace.seal import seal
from pipelines.workspace.states import VersionState


def row(name: str, line: Line, parent: str | None = None) -> VersionRow:
    return VersionRow(name, line, "s1", parent, VersionState.PUBLISHED, f"versions/{name}", "f" * 64, "imsr", name)


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    """A version of each line, only that of the interests being live."""
    workspace = Workspace.create(tmp_path / "w")
    with workspace.ledger.transaction() as tx:
        tx.add_version(row("a", Line.INTERESTS))
        tx.add_version(row("u", Line.USERS))
        tx.promote(Line.INTERESTS, "a", "first", at=datetime(2024, 3, 1, tzinfo=UTC))
    for name in "au":
        workspace.version_folder(name).mkdir()
        seal(workspace.version_folder(name))
    return workspace


def test_the_current_one_or_one_by_its_id(workspace):
    with workspace.ledger.snapshot() as view:
        assert Line.INTERESTS.row(view).version_id == Line.INTERESTS.row(view, "a").version_id == "a"
        assert Line.USERS.row(view, "u").version_id == "u"


@pytest.mark.parametrize(
    ("line", "version_id", "words", "hint"),
    [
        (Line.USERS, None, "the users line has no current version yet", "imsr task add"),
        (Line.USERS, "a", "the users line has no version 'a'", "imsr versions"),
        (Line.INTERESTS, "u", "the interests line has no version 'u'", "imsr versions"),
    ],
)
def test_why_there_is_none(workspace, line, version_id, words, hint):
    with workspace.ledger.snapshot() as view, pytest.raises(VersionError, match=words) as caught:
        line.row(view, version_id)
    assert hint in caught.value.hint


@pytest.mark.parametrize("state", [VersionState.PRUNED, VersionState.ARCHIVED])
def test_one_that_is_no_longer_kept_is_known_and_says_since_when(workspace, state):
    with workspace.ledger.transaction() as tx:
        tx.put_version(replace(tx.version("a"), state=state).noting(removed="pruned on 2024-03-01"))
    with workspace.ledger.snapshot() as view:
        assert Line.INTERESTS.known(view).state is state
        with pytest.raises(VersionError, match="no longer kept: pruned on 2024-03-01"):
            Line.INTERESTS.row(view)


def test_one_that_was_made_before_is_found_in_its_own_line(workspace):
    with workspace.ledger.snapshot() as view:
        assert find_version(view, workspace, Line.INTERESTS, "f" * 64).version_id == "a"
        assert find_version(view, workspace, Line.USERS, "f" * 64).version_id == "u"
        assert find_version(view, workspace, Line.INTERESTS, "0" * 64) is None


@pytest.mark.parametrize("why", ["set aside", "gone", "never sealed"])
def test_one_that_cannot_stand_for_a_new_one_is_not_found(workspace, why):
    with workspace.ledger.transaction() as tx:
        if why == "set aside":
            tx.put_version(tx.version("a").noting(restated_at="2024-03-01"))
        elif why == "gone":
            tx.put_version(replace(tx.version("a"), state=VersionState.PRUNED))
        else:
            (workspace.version_folder("a") / "READY").unlink()
    with workspace.ledger.snapshot() as view:
        assert find_version(view, workspace, Line.INTERESTS, "f" * 64) is None


def test_a_version_that_others_come_from_is_needed_though_the_ledger_lost_it(workspace):
    with workspace.ledger.transaction() as tx:
        tx.add_version(row("b", Line.INTERESTS, parent="lost"))
        assert needed_folders(workspace, tx) == {workspace.version_folder("lost")}
