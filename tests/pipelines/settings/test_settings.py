import tomllib
from dataclasses import is_dataclass
from typing import get_type_hints

import pytest

from imsr_core.errors import ConfigError
from pipelines.settings.imsr_toml import Settings, default_toml, load_settings
from pipelines.settings.tasks import TaskSettings


def sections(kind=Settings, prefix=""):
    """Every section by its name, those inside others too, with its dataclass; tasks have no defaults."""
    for name, hint in get_type_hints(kind).items():
        if is_dataclass(hint):
            yield f"{prefix}{name}", hint
            yield from sections(hint, f"{prefix}{name}.")


def test_the_default_file_holds_every_key_and_reads_back_as_the_defaults():
    text = default_toml()
    assert load_settings(text=text) == Settings() == load_settings(text="")
    document = tomllib.loads(text)
    assert [*document, "tasks"] == list(Settings.__dataclass_fields__)
    for name, kind in sections():
        table = document
        for part in name.split("."):
            table = table[part]
        assert set(table) <= set(kind.__dataclass_fields__)
        assert all(
            f"\n{key} = " in text or f"\n# {key} = (unset)" in text or f"[{name}.{key}]" in text
            for key in kind.__dataclass_fields__
        )
    assert all(f"\n# {key} = " in text for key in TaskSettings.__dataclass_fields__)


def test_every_key_is_documented():
    for name, kind in [*sections(), ("tasks", TaskSettings)]:
        for key, entry in kind.__dataclass_fields__.items():
            if not is_dataclass(get_type_hints(kind)[key]):
                assert entry.metadata.get("doc"), f"[{name}] {key}"


def test_tasks_and_sections_inside_a_section():
    settings = load_settings(
        text="""
        [users]
        method = "teracon"
        [users.encoder]
        dilations = [1, 2]
        [users.task]
        learning_rate = 1
        [tasks.age]
        labels = "labels/age.csv"
        [tasks."t.2"]
        labels = "view:buyers"
        kind = "items"
        """
    )
    assert settings.users.lifelong.encoder.dilations == (1, 2)
    assert settings.users.lifelong.task.learning_rate == 1.0
    assert [(name, task.kind) for name, task in settings.tasks.items()] == [("age", "class"), ("t.2", "items")]


def test_a_value_reaches_its_section():
    settings = load_settings(text='[source]\nuser_id = "who"\n[model]\nprior_mass = 3\n[trimmer]\nc2 = inf')
    assert settings.source.user_id == "who"
    assert settings.model.prior_mass == 3.0
    assert isinstance(settings.model.prior_mass, float)
    assert settings.interests.trimmer.c2 == float("inf")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[sauce]", ["unknown section [sauce]", "did you mean 'source'?"]),
        ("[source]\nuserid = 'u'", ["[source] has no key 'userid'", "did you mean 'user_id'?"]),
        ("[source]\ntime_unit = 'sec'", ["time_unit = 'sec'", "auto, s, ms, us, ns, iso8601"]),
        ("[spans]\nunit = 'weak'", ["[spans] unit = 'weak'", "did you mean 'week'?"]),
        ("[ingest]\nbuckets = '16'", ["[ingest] buckets = '16'", "must be int", "str"]),
        ("[ingest]\nbuckets = true", ["[ingest] buckets = True", "must be int"]),
        ("[ingest]\nbuckets = 16.0", ["[ingest] buckets = 16.0", "must be int"]),
        ("[ingest]\nbuckets = 0", ["[ingest] buckets = 0", "1 .. 1024"]),
        ("[ingest]\nmax_clock_skew = '1 hour'", ["max_clock_skew = '1 hour'", "duration"]),
        ("[spans]\nalpha = 1.5", ["alpha = 1.5", "between 0 and 1"]),
        ("[spans]\nunit = ['day']", ["unit = ['day']", "must be text"]),
        ("[source]\nitem_id = ''", ["item_id = ''", "name of a column"]),
        ("[detector]\nenabled = 1", ["[detector] enabled = 1", "must be bool"]),
        ("[model]\nprior_mass = 'none'", ["prior_mass = 'none'", "must be float"]),
        ("[model]\nextractor = 'comirec'", ["extractor = 'comirec'", "did you mean 'comirec-"]),
        ("[training]\nepochs = -1", ["epochs = -1"]),
        ("[users]\nmethod = 'conrue'", ["[users] method = 'conrue'", "did you mean 'conure'?"]),
        ("[users.encodr]", ["[users] has no key 'encodr'", "did you mean 'encoder'?"]),
        ("[users.encoder]\ndims = 3", ["[users.encoder] has no key 'dims'", "did you mean 'dim'?"]),
        ("[users.encoder]\ndilations = 4", ["[users.encoder] dilations = 4", "must be tuple"]),
        ("[users.encoder]\ndilations = [1, 'two']", ["[users.encoder] dilations = 'two'", "must be int"]),
        ("[users]\nencoder = 3", ["[users] encoder = 3", "write [users.encoder]"]),
        ("[users]\nmax_forgetting = 2", ["max_forgetting = 2", "0 .. 1"]),
        ("[tasks.age]\nlabel = 'x'", ["[tasks.age] has no labels"]),
        ("[tasks.age]\nlabels = 'a.csv'\nkin = 'class'", ["[tasks.age] has no key 'kin'", "did you mean 'kind'?"]),
        ("[tasks.age]\nlabels = 'a.csv'\nkind = 'clas'", ["[tasks.age] kind = 'clas'", "did you mean 'class'?"]),
        ("[tasks.age]\nlabels = 'a.csv'\nlabel = ''", ["label is empty"]),
        ("[tasks.'../x']\nlabels = 'a.csv'", ["[tasks.../x]", "file name"]),
        ("[tasks.T1]\nlabels = 'a.csv'", ["pre-training's name"]),
        ("[tasks]\nage = 3", ["age = 3", "write [tasks.age]"]),
        ("tasks = 3", ["tasks is a section"]),
        ("source = 3", ["source is a section"]),
        ("[source", ["no valid TOML"]),
    ],
)
def test_what_cannot_be_is_refused_by_name(text, says):
    with pytest.raises(ConfigError) as caught:
        load_settings(text=text)
    for words in says:
        assert words in str(caught.value)


def test_a_file_that_is_not_there_or_not_text(tmp_path):
    with pytest.raises(ConfigError, match="imsr init"):
        load_settings(tmp_path / "imsr.toml")
    (tmp_path / "imsr.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="no valid TOML"):
        load_settings(tmp_path / "imsr.toml")


def test_durations():
    for text, seconds in {"90s": 90, "15m": 900, "1h": 3600, "2d": 172_800, "1w": 604_800}.items():
        settings = load_settings(text=f"[ingest]\nmax_clock_skew = '{text}'")
        assert settings.ingest.max_clock_skew_seconds == seconds
