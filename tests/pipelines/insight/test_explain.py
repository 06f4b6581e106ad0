"""Explaining a learnt workspace: for one user, and for everybody through SQL."""

from __future__ import annotations

import json
from datetime import timedelta

import numpy as np
import pytest
from small_world import NASTY_USER, NOW, TOML, VERSIONS, item_name, log, make, run_all

from pipelines.care.forget import forget
from pipelines.care.prune import prune
from pipelines.insight.explain import Explainer
from pipelines.interests.recommend import UnknownUserError
from pipelines.lake.item_metadata import item_table
from pipelines.warehouse.catalog import connect, publish_catalog
from pipelines.workspace.editions import is_stored
from pipelines.workspace.layout import Workspace
from pipelines.workspace.parquet_files import read_table
from pipelines.workspace.writer import writing


def test_each_interest_of_a_user_is_explained(learnt):
    explainer = Explainer.open(learnt)
    meanings = explainer.user("u1", items=3, of=10)
    recommender = explainer.recommender
    table = recommender.interests("u1")
    assert [each.interest_id for each in meanings] == table["interest_id"].to_pylist()
    lists = recommender.top_n(["u1"], 10)["interest_id"].drop_null().to_pylist()
    assert [each.brings for each in meanings] == [lists.count(each.interest_id) for each in meanings]
    items = recommender.state.item_vectors().numpy()
    vector = np.array(table["vector"][0].as_py())
    best = np.argsort(-(items @ vector), kind="stable")[:3]
    names = recommender.version.vocabulary.item_ids(best).to_pylist()
    assert [item for item, _ in meanings[0].items] == names
    assert meanings[0].overlap is None
    assert all(-1.001 <= each.overlap <= 1.001 for each in meanings[1:])


def test_what_is_read_for_one_user_says_the_same(learnt):
    alone = Explainer.open(learnt, users=[NASTY_USER])
    assert alone.user(NASTY_USER) == Explainer.open(learnt).user(NASTY_USER)
    assert len(alone.recommender.state.store.users) == 1


def test_names_and_categories_come_from_the_table(tmp_path):
    settings = '[items]\nmetadata = "items.csv"\nitem_id = "id"\nname = "title"\ncategories = ["group"]\n'
    workspace = make(tmp_path / "w", log([0, 1, 2]), TOML + settings)
    rows = [f'"{item_name(n)}",Item {n},group {n // 12}' for n in range(60) if n != 7]
    (workspace.root / "items.csv").write_text("\n".join(["id,title,group", *rows]) + "\n")
    run_all(workspace)
    with writing(workspace, "test", now=NOW) as writer:
        kept = item_table(writer.workspace.settings).keep(writer)
    assert kept.rows == 59
    explainer = Explainer.open(workspace)
    assert explainer.catalogue.described == explainer.recommender.state.n_items - 1  # all but the nasty one
    for each in explainer.user("u1", items=2):
        for item, name in each.items:
            assert name == (f"Item {item[1:]}" if item[0] == "i" else item)


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_an_item_may_have_several_categories(learnt, copy_of, ending):
    """As ``Comedy|Drama`` in a text, or as a list: each of them groups items, and stands there once."""
    workspace = copy_of(learnt)
    workspace.settings_file.write_text(f'{TOML}[items]\nmetadata = "items.{ending}"\nitem_id = "id"\n')
    several = {"i1": ["Comedy", "Drama"], "i2": [" Drama", "Drama", ""], "i3": [], "i4": ["Comedy"]}
    if ending == "csv":
        text = "id,genres\n" + "".join(f"{item},{'|'.join(own)}\n" for item, own in several.items())
    else:
        text = "".join(json.dumps({"id": item, "genres": own}) + "\n" for item, own in several.items())
    (workspace.root / f"items.{ending}").write_text(text)
    opened = Workspace.open(workspace.root)
    with writing(opened, "test", now=NOW) as writer:
        item_table(writer.workspace.settings).keep(writer)
    catalogue = Explainer.open(opened).catalogue
    (genres,) = catalogue.categories
    assert set(genres.values) == {"Comedy", "Drama"}
    ids = catalogue.ids.to_pylist()
    found = {item: sorted(genres.of(ids.index(item))) for item in several if item in ids}
    assert found == {"i1": ["Comedy", "Drama"], "i2": ["Drama"], "i3": [], "i4": ["Comedy"]}


def test_everybodys_nearest_items_are_a_view(learnt, copy_of):
    workspace = copy_of(learnt)
    explainer = Explainer.open(workspace)
    explainer.write_all(items=2)
    publish_catalog(workspace)
    wanted = [(each.interest_id, item) for each in explainer.user(NASTY_USER, items=2) for item, _ in each.items]
    with connect(workspace) as connection:
        query = "SELECT interest_id, item_id FROM interest_items WHERE user_id = ? ORDER BY interest_id, rank"
        assert connection.execute(query, [NASTY_USER]).fetchall() == wanted
        count, interests = connection.execute(
            "SELECT (SELECT count(*) FROM interest_items), (SELECT count(*) FROM interests)"
        ).fetchone()
    assert count == 2 * interests


def test_the_view_of_overlaps_says_what_the_model_says(learnt):
    publish_catalog(learnt)
    meanings = Explainer.open(learnt).user("u1")
    with connect(learnt) as connection:
        query = "SELECT interest_id, overlap FROM interest_overlap WHERE user_id = 'u1' ORDER BY 1"
        seen = dict(connection.sql(query).fetchall())
    assert seen.keys() == {each.interest_id for each in meanings}
    for each in meanings:
        assert (seen[each.interest_id] is None) == (each.overlap is None)
        assert each.overlap is None or abs(seen[each.interest_id] - each.overlap) < 1e-5


def test_a_stranger_is_refused(learnt):
    with pytest.raises(UnknownUserError, match="nobody"):
        Explainer.open(learnt).user("nobody")


def test_everybodys_nearest_items_are_forgotten_and_pruned(learnt, copy_of):
    workspace = copy_of(learnt)
    kept, pruned = Explainer.open(workspace).write_all(), Explainer.open(workspace, VERSIONS[0]).write_all()
    forget(workspace, "u1", now=NOW)
    for path in (kept, pruned):
        assert "u1" not in read_table(path, ["user_id"])["user_id"].to_pylist()
    settings = TOML.replace("lookback_spans = 10", "lookback_spans = 1")
    (workspace.root / "imsr.toml").write_text(settings + "[retention]\nkeep_versions = 1\nkeep_days = 0\n")
    prune(type(workspace).open(workspace.root), now=NOW + timedelta(days=1000))
    assert is_stored(kept)
    assert not is_stored(pruned)
