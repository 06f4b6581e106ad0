"""Everybody's lists and the report, made by the night."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
from small_world import NOW, VERSIONS

from flows.after_learning import after_learning
from pipelines.care.orphans import version_of_list
from pipelines.interests.promotion import rollback
from pipelines.interests.recommend import Recommender
from pipelines.nights.lists import write_nightly_lists
from pipelines.report import page
from pipelines.warehouse.catalog import connect
from pipelines.workspace.layout import Workspace
from pipelines.workspace.writer import writing

NIGHTLY = '\n[recommend]\nnightly = true\nn = 3\nnew_only = true\nname = "home"\n[report]\nnightly = true\n'


@pytest.fixture
def workspace(learnt, tmp_path) -> Workspace:
    shutil.copytree(learnt.root, tmp_path / "w")
    settings = tmp_path / "w" / "imsr.toml"
    settings.write_text(settings.read_text() + NIGHTLY)
    return Workspace.open(tmp_path / "w")


def shown(workspace):
    query = "SELECT variant, version_id, current, count(*) FROM recommendations GROUP BY ALL ORDER BY ALL"
    with connect(workspace) as connection:
        return connection.execute(query).fetchall()


def test_the_night_writes_the_lists_of_the_live_version_once_and_keeps_those_before_it(workspace):
    with writing(workspace, "test", now=NOW) as writer:
        Recommender.open(workspace).write_all(2)
        for version in VERSIONS[:3]:
            Recommender.open(workspace, version).write_all(1, variant="home")
        path = write_nightly_lists(writer)
        assert path == workspace.list_file(VERSIONS[-1], "home")
        written = path.stat().st_mtime_ns
        assert write_nightly_lists(writer).stat().st_mtime_ns == written
        assert [(variant, version, current) for variant, version, current, _ in shown(workspace)] == [
            ("default", VERSIONS[-1], True),
            ("home", VERSIONS[-1], True),
        ]
        rollback(writer)
        write_nightly_lists(writer)
    home = [(version, current) for variant, version, current, _ in shown(workspace) if variant == "home"]
    assert home == [(VERSIONS[-2], True), (VERSIONS[-1], False)]  # it was live before the rollback
    with connect(workspace) as connection:
        lists = connection.execute("SELECT user_id, max(rank) FROM recommendations WHERE variant = 'home' GROUP BY 1")
        assert {most for _, most in lists.fetchall()} == {3}
    assert version_of_list(path) == VERSIONS[-1]


def test_a_damaged_list_is_written_anew(workspace):
    with writing(workspace, "test", now=NOW) as writer:
        path = write_nightly_lists(writer)
        whole = path.read_bytes()
        for damage in (b"", whole[: len(whole) // 2]):
            path.write_bytes(damage)
            assert write_nightly_lists(writer).read_bytes() == whole


def test_a_night_that_is_to_write_none_writes_none(learnt):
    with writing(learnt, "test", now=NOW) as writer:
        assert write_nightly_lists(writer) is None
        made = after_learning(writer)
    assert (made.lists, made.report, made.sentence) == (None, None, "")
    assert not (learnt.root / "recommendations").exists()


def test_lists_and_report_are_made_after_learning(workspace, monkeypatch):
    steps, gathered = [], []
    gather = page.gather
    monkeypatch.setattr(page, "gather", lambda *of: gathered.append(of) or gather(*of))

    def call(step, function, *arguments):
        steps.append(step)
        return function(*arguments)

    with writing(workspace, "test", now=NOW) as writer:
        made = after_learning(writer, call=call)
        assert steps == ["lists", "report"]
        assert made.report == workspace.report_file(VERSIONS[-1])
        assert made.sentence.startswith("Of the events of 2024-03-06")
        assert made.sentence in made.report.read_text()
        again = after_learning(writer, call=call)
    assert len(gathered) == 1  # for the page and for its sentence
    assert steps == ["lists", "report", "lists"]  # a report that is there stays
    assert again == replace(made, sentence="")  # and says nothing new
