"""The walk from a version to those that it was learnt from, by rows alone."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from pipelines.versions.ancestry import chain_of_versions, learnt_spans, lost_ancestor, newest_shadow
from pipelines.versions.line import Line
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import VersionRow
from pipelines.workspace.states import VersionState


def row(name: str, parent: str | None, **summary: object) -> VersionRow:
    state = VersionState.SHADOW if "beside" in summary else VersionState.PUBLISHED
    return VersionRow(name, Line.INTERESTS, name, parent, state, f"versions/{name}", name, "imsr", name, summary)


@pytest.fixture
def walked(tmp_path):
    """The names that a walk meets, in a ledger with these rows."""

    def walk(rows: Iterable[VersionRow], start: str | None, **options: bool) -> list[str]:
        workspace = Workspace.create(tmp_path / "w")
        with workspace.ledger.transaction() as tx:
            for each in rows:
                tx.add_version(each)
            return [each.version_id for each in chain_of_versions(tx, start, **options)]

    return walk


def test_a_chain_is_walked_newest_first(walked):
    assert walked([row("a", None), row("b", "a"), row("c", "b"), row("x", "a")], "c") == ["c", "b", "a"]


@pytest.mark.parametrize("start", [None, "nobody"])
def test_from_nowhere_nothing_is_met(walked, start):
    assert walked([row("a", None)], start) == []


def test_a_ledger_whose_rows_go_round_ends_the_walk(walked):
    assert walked([row("a", "c"), row("b", "a"), row("c", "b")], "c") == ["c", "b", "a"]


def test_a_version_that_started_over_is_the_first_unless_what_it_replaced_is_asked_for(walked):
    rows = [row("a", None), row("b", "a"), row("s", None, beside="b"), row("t", "s")]
    assert walked(rows, "t") == ["t", "s"]


def test_what_a_version_that_started_over_replaced_comes_before_it(walked):
    rows = [row("a", None), row("b", "a"), row("s", None, beside="b"), row("t", "s")]
    assert walked(rows, "t", replaced=True) == ["t", "s", "b", "a"]


def test_a_lost_ancestor_is_named(tmp_path):
    workspace = Workspace.create(tmp_path / "w")
    with workspace.ledger.transaction() as tx:
        for each in (row("b", "a"), row("c", "b"), row("x", None)):
            tx.add_version(each)
        assert lost_ancestor(tx, "c") == "a"
        assert lost_ancestor(tx, "gone") == "gone"
        assert lost_ancestor(tx, "x") is None
        assert lost_ancestor(tx, None) is None


def test_spans_of_a_chain_are_those_of_its_rows():
    rows = [row("d2", "d1"), row("d1", None, spans=["d0", "d1"])]
    assert rows[0].spans == ("d2",)
    assert learnt_spans(rows) == {"d0", "d1", "d2"}


def test_the_newest_shadow_of_the_chain_is_found_and_not_that_of_another(tmp_path):
    workspace = Workspace.create(tmp_path / "w")
    rows = [row("a", None), row("b", "a"), row("b1", None, beside="a"), row("b2", None, beside="b")]
    rows += [row("c", None), row("c1", None, beside="c")]
    with workspace.ledger.transaction() as tx:
        for each in rows:
            tx.add_version(each)
        head = tx.version("b")
        assert newest_shadow(tx, head).version_id == "b2"
        assert newest_shadow(tx, tx.version("a")).version_id == "b1"
