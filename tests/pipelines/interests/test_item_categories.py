"""Categories that a score learns from, on disk: as of any version what the table said when it was learnt."""

import csv
import re
from dataclasses import replace

import numpy as np
import pytest
from small_world import NOW, TOML, VERSIONS, item_name, log, make, run_all

from imsr_core.ragged import concatenate
from pipelines.bench.data import load_bench_data
from pipelines.bench.tuning import tuning_data
from pipelines.interests.category_files import PART, WHOLE, categories_in
from pipelines.interests.item_categories import CategoryTable
from pipelines.interests.recommend import Recommender
from pipelines.interests.version import Version
from pipelines.lake.item_metadata import item_table
from pipelines.nights.night import run_span
from pipelines.nights.plan import due
from pipelines.sequences.loader import load_sequences
from pipelines.workspace.layout import Workspace
from pipelines.workspace.writer import writing

SCORED = TOML.replace("[evaluation]", "window = 1\n[score]\nenabled = true\ncontent = true\n[evaluation]")
NAMED = SCORED + '[items]\nmetadata = "items.csv"\ncategories = ["kind", "shelf"]\n'
#: Of all items but two; the word Food is a kind and a shelf, and some have two kinds.
KINDS, SHELVES = ("Food", "Drink", "Other"), ("Food", "Back")
ROWS = [(item_name(n), "|".join(KINDS[n % 3 : n % 3 + 1 + n % 2]), SHELVES[n // 30]) for n in range(58)]


def describe(workspace, rows):
    with (workspace.root / "items.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("item_id", "kind", "shelf"), *rows])
    with writing(workspace, "test", now=NOW) as writer:
        item_table(workspace.settings).keep(writer)


def learn(root, rows, toml=NAMED, **options):
    workspace = make(root, log(), toml)
    describe(workspace, rows)
    run_all(workspace, **options)
    return workspace


def bench_data_of(workspace):
    return load_bench_data(workspace, replace(workspace.settings.bench, tuning_spans=1), now=NOW)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return learn(tmp_path_factory.mktemp("described"), ROWS)


def told(version):
    """(item id, category) of all that a version's score knows, by way of its files."""
    score = version.load().score
    ids = version.vocabulary.item_ids(score.categories.item).to_pylist()
    return sorted(zip(ids, (score.categories.names[c] for c in score.categories.category), strict=True))


def said(version, rows):
    """The same, by the rows of the table."""
    known = set(version.vocabulary.item_ids(np.arange(version.vocabulary.n_items)).to_pylist())
    return sorted((i, word) for i, kinds, shelf in rows if i in known for word in (*kinds.split("|"), shelf))


@pytest.mark.parametrize("version_id", VERSIONS)
def test_as_of_every_version_they_are_those_of_its_items(workspace, version_id):
    version = Version.open(workspace, version_id)
    assert told(version) == said(version, ROWS)
    assert {"content", "had_content"} <= set(version.load().score.columns)
    assert version.row.summary["described_items"] == len({item for item, _ in told(version)})


def test_a_span_stores_those_of_its_new_items_alone(workspace):
    sizes = {v: Version.open(workspace, v).row.summary["items"] for v in VERSIONS}
    for before, version_id in zip([None, *VERSIONS], VERSIONS, strict=False):
        version = Version.open(workspace, version_id)
        anew = len(version.lineage.interests) == 1  # the chain of files begins, or starts over
        assert (version.folder / WHOLE).exists() == anew
        assert (version.folder / PART).exists() == (not anew and sizes[version_id] > sizes[before])
    assert [*workspace.root.glob(f"versions/*/{PART}")]


def test_the_same_word_in_two_columns_is_two_categories(workspace):
    names = Version.open(workspace).load().score.categories.names
    assert sorted(names) == ["Back", "Drink", "Food", "Food", "Other"]


def test_a_few_users_are_asked_about_with_all_categories(workspace):
    version = Version.open(workspace)
    some, everybody = (version.load(users).score.categories for users in (np.array([2, 7]), None))
    np.testing.assert_array_equal(some.item, everybody.item)
    assert some.names == everybody.names


def test_their_weights_are_fitted_and_a_reason_names_a_category_that_the_user_had(workspace):
    recommender = Recommender.open(workspace)
    score = recommender.state.score
    assert float(score.weights.row("everything", ("content",)).abs()) > 0
    users = recommender.version.vocabulary.user_ids(recommender.state.store.users.numpy()).to_pylist()
    rows = recommender.top_n(users, 40).to_pylist()
    named = [row for row in rows if row["reason"].startswith("more of ")]
    assert named
    words = {i: {*kinds.split("|"), shelf} for i, kinds, shelf in ROWS}
    assert all(row["reason"].removeprefix("more of ") in words[row["item_id"]] for row in named)


def test_what_the_table_says_later_changes_no_version_but_the_next(tmp_path):
    workspace = make(tmp_path / "w", log(), NAMED)
    describe(workspace, ROWS)
    first, *rest = due(workspace, now=NOW)
    with writing(workspace, "test", now=NOW) as writer:
        run_span(writer, first)
    before = told(Version.open(workspace))
    other = [(i, "Renamed", shelf) for i, _, shelf in ROWS]
    describe(workspace, other)
    with writing(workspace, "test", now=NOW) as writer:
        run_span(writer, rest[0])
    old, new = Version.open(workspace, VERSIONS[0]), Version.open(workspace, VERSIONS[1])
    assert told(old) == before == said(old, ROWS)
    assert told(new) == said(new, other)
    assert (new.folder / WHOLE).exists()
    assert old.lineage.categories != new.lineage.categories


@pytest.mark.parametrize(
    "toml",
    [
        SCORED,
        NAMED.replace("content = true", "content = false"),
        NAMED.replace('categories = ["kind", "shelf"]\n', ""),
    ],
)
def test_nothing_is_learnt_from_what_nobody_named(tmp_path, toml):
    workspace = make(tmp_path / "w", log(), toml)
    if "[items]" in toml:
        describe(workspace, ROWS)
    run_all(workspace)
    version = Version.open(workspace)
    assert version.load().score.categories is None
    assert "content" not in version.load().score.columns
    assert not [*workspace.root.glob(f"versions/*/{WHOLE}"), *workspace.root.glob(f"versions/*/{PART}")]
    assert version.lineage.categories == ""


def test_a_table_that_matches_no_item_is_said_by_zeros(tmp_path):
    workspace = learn(tmp_path / "w", [("nobody's", "Food", "Back")])
    score = Version.open(workspace).load().score
    assert len(score.categories.item) == 0
    assert {"content", "had_content"} <= set(score.columns)
    assert not score.weights.row("everything", ("content", "had_content")).any()
    assert len(Recommender.open(workspace).top_n(["u1"], 5)) == 5


def test_a_category_that_the_settings_name_and_the_copy_lacks_is_left_out(workspace):
    text = (workspace.root / "imsr.toml").read_text()
    changed = re.sub(r"categories = \[.*\]", 'categories = ["shelf", "colour"]', text)
    (workspace.root / "imsr.toml").write_text(changed)
    try:
        opened = Workspace.open(workspace.root)
        table = CategoryTable.in_force(opened, opened.settings.interests)
        assert table.columns == ("shelf",)
        rows = table.rows(Version.open(opened).vocabulary.item_ids(np.arange(40)).combine_chunks(), 0)
        assert set(categories_in(rows).names) == {"Food", "Back"}
    finally:
        (workspace.root / "imsr.toml").write_text(text)


@pytest.mark.parametrize("load", [bench_data_of, lambda workspace: tuning_data(workspace, 0, now=NOW)])
def test_a_bench_and_a_tuning_know_the_same_of_their_own_items(workspace, load):
    """Their items are numbered anew: what each of them is shows by the events, which are at different times."""
    data, version = load(workspace), Version.open(workspace)
    named = concatenate([load_sequences(workspace.resolve(path)) for path in version.lineage.vocabulary])
    moments = dict(zip(zip(named.users[named.rows], named.timestamps, strict=True), named.items, strict=True))
    ids, words = (
        version.vocabulary.item_ids(np.arange(version.vocabulary.n_items)).to_pylist(),
        dict.fromkeys(range(60)),
    )
    for part in (span.sequences for span in data.spans):
        for user, time, item in zip(part.users[part.rows], part.timestamps, part.items, strict=True):
            words[item] = ids[moments[user, time]]
    known, names = data.categories, data.categories.names
    found = sorted((words[i], names[c]) for i, c in zip(known.item, known.category, strict=True))
    there = {word for word in words.values() if word}
    assert found == sorted((i, word) for i, kinds, shelf in ROWS if i in there for word in (*kinds.split("|"), shelf))
    assert data.described
