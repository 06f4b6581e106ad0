import tomllib
from dataclasses import is_dataclass
from typing import get_type_hints

import pytest

from imsr_core.errors import ConfigError
from pipelines.settings.imsr_toml import Settings, as_new, default_toml, load_settings
from pipelines.settings.tasks import TaskSettings


def sections(kind=Settings, prefix=""):
    """Every section by its name, those inside others too, with its dataclass; tasks have no defaults."""
    for name, hint in get_type_hints(kind).items():
        if is_dataclass(hint):
            yield f"{prefix}{name}", hint
            yield from sections(hint, f"{prefix}{name}.")


def test_the_default_file_holds_every_key_and_reads_back_as_a_new_workspace_starts():
    text = default_toml()
    assert load_settings(text="") == Settings()
    written = load_settings(text=text)
    for name, kind in sections():
        for key, entry in kind.__dataclass_fields__.items():
            if not is_dataclass(get_type_hints(kind)[key]):
                value = written
                for part in (*name.split("."), key):
                    value = getattr(value, part)
                assert value == entry.metadata.get("fresh", entry.default), f"[{name}] {key}"
    document = tomllib.loads(text)
    assert [*document, "tasks", "own"] == list(Settings.__dataclass_fields__)
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


def test_a_mark_at_the_beginning_is_none_of_the_settings(tmp_path):
    path = tmp_path / "imsr.toml"
    path.write_bytes(b"\xef\xbb\xbf[model]\r\ndim = 8\r\n")
    assert load_settings(path).model.dim == 8


@pytest.mark.parametrize(
    "data",
    ["[model]\ndim = 8\n".encode("utf-16"), "[model]\n# caf\xe9\ndim = 8\n".encode("latin-1")],
)
def test_settings_in_another_encoding_are_said(tmp_path, data):
    path = tmp_path / "imsr.toml"
    path.write_bytes(data)
    with pytest.raises(ConfigError, match="no UTF-8 text, byte") as caught:
        load_settings(path)
    assert "save it as UTF-8" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[sauce]", ["unknown section [sauce]", "did you mean 'source'?"]),
        ("[source]\nuserid = 'u'", ["[source] has no key 'userid'", "did you mean 'user_id'?"]),
        ("[source]\ntime_unit = 'sec'", ["time_unit = 'sec'", "auto, s, ms, us, ns, ticks, excel, iso8601"]),
        ("[spans]\nunit = 'weak'", ["[spans] unit = 'weak'", "did you mean 'week'?"]),
        (
            "[ingest]\nbuckets = '16'",
            ["[ingest] buckets = '16'", "must be a whole number", "it is text now, and a number has no quotes"],
        ),
        ("[ingest]\nbuckets = true", ["[ingest] buckets = True", "must be a whole number", "it is true or false now"]),
        ("[ingest]\nbuckets = 16.0", ["[ingest] buckets = 16.0", "must be a whole number"]),
        ("[training]\nstrategy = 'IMSR'", ["strategy = 'IMSR' is no choice", "did you mean 'imsr'?"]),
        ("[ingest]\nbuckets = 0", ["[ingest] buckets = 0", "1 .. 1024"]),
        ("[ingest]\nmax_clock_skew = '1 hour'", ["max_clock_skew = '1 hour'", "duration"]),
        ("[spans]\nalpha = 1.5", ["alpha = 1.5", "between 0 and 1"]),
        ("[spans]\nunit = ['day']", ["unit = ['day']", "must be text"]),
        ("[source]\nitem_id = ''", ["item_id = ''", "name of a column"]),
        ("[source]\ntime_format = '%Q'", ["time_format = '%Q'", "%d/%m/%Y"]),
        ("[source]\ntime_format = ['%Y', '%']", ["time_format", "strptime"]),
        ("[source]\nitem_pattern = '(?=x)'", ["item_pattern", "regular expression"]),
        ("[source]\nvalue = 'v'\nmin_value = nan", ["min_value = nan", "finite"]),
        ("[source]\nvalue = 'v'\nmin_value = inf", ["min_value = inf", "finite"]),
        ("[source]\nevent_type = 'e'\nweight = { buy = nan }", ["weight", "finite"]),
        ("[detector]\nenabled = 1", ["[detector] enabled = 1", "must be true or false"]),
        ("[model]\nprior_mass = 'none'", ["prior_mass = 'none'", "must be a number"]),
        ("[model]\nextractor = 'comirec'", ["extractor = 'comirec'", "did you mean 'comirec-"]),
        ("[training]\nepochs = -1", ["epochs = -1"]),
        ("[users]\nmethod = 'conrue'", ["[users] method = 'conrue'", "did you mean 'conure'?"]),
        ("[users.encodr]", ["[users] has no key 'encodr'", "did you mean 'encoder'?"]),
        ("[users.encoder]\ndims = 3", ["[users.encoder] has no key 'dims'", "did you mean 'dim'?"]),
        ("[users.encoder]\ndilations = 4", ["[users.encoder] dilations = 4", "must be a list"]),
        ("[users.encoder]\ndilations = [1, 'two']", ["[users.encoder] dilations = 'two'", "must be a whole number"]),
        ("[users]\nencoder = 3", ["[users] encoder = 3", "write [users.encoder]"]),
        ("[users]\nmax_forgetting = 2", ["max_forgetting = 2", "0 .. 1"]),
        ("[tasks.age]\nlabel = 'x'", ["[tasks.age] has no labels"]),
        ("[tasks.age]\nlabels = ''", ["[tasks.age] labels = '': must be given"]),
        ("[tasks.age]\nlables = 'a.csv'", ["[tasks.age] has no labels", "no key 'lables'", "did you mean 'labels'?"]),
        ("[tasks.age]\nlabels = 'a.csv'\nkin = 'class'", ["[tasks.age] has no key 'kin'", "did you mean 'kind'?"]),
        ("[tasks.age]\nlabels = 'a.csv'\nkind = 'clas'", ["[tasks.age] kind = 'clas'", "did you mean 'class'?"]),
        ("[tasks.age]\nlabels = 'a.csv'\nlabel = ''", ["label = ''", "must be given"]),
        ("[tasks.'../x']\nlabels = 'a.csv'", ["[tasks.../x]", "file name"]),
        ("[tasks.T1]\nlabels = 'a.csv'", ["pre-training's name"]),
        ("[tasks]\nage = 3", ["age = 3", "write [tasks.age]"]),
        ("tasks = 3", ["tasks is a section"]),
        ("source = 3", ["source is a section"]),
        ("[source", ["no valid TOML", "text needs quotes"]),
        ("[model]\ndim = 8\ndim = 9", ["no valid TOML", "twice: keep one"]),
        ("[model]\ndim = 8\n[model]", ["no valid TOML", "twice: keep one"]),
        ("a = " + "[" * 50_000, ["nested too deeply"]),
        ("[model]\ndim = 99999999999", ["[model] dim = 99999999999", "2 .. 4096"]),
        ("[training]\nepochs = 99999999999999999999", ["[training] epochs", "64 bits"]),
        ("[training]\nlearning_rate = nan", ["learning_rate = nan", "above 0"]),
        ("[users.pretrain]\nepochs = 0", ["[users.pretrain] epochs = 0", "at least 1"]),
        ('[source]\nuser_id = "item_id"', ["[source] item_id", "another column than user_id"]),
    ],
)
def test_what_cannot_be_is_refused_by_name(text, says):
    with pytest.raises(ConfigError) as caught:
        load_settings(text=text)
    for words in says:
        assert words in str(caught.value)


def test_all_that_is_wrong_is_said_at_once():
    text = """
    [modle]
    [model]
    dim = 0
    extractor = "comirec"
    history = 0
    [gate]
    holdout = 2
    colour = "blue"
    [users.encoder]
    heads = 7
    [tasks.T1]
    labels = "a.csv"
    """
    with pytest.raises(ConfigError) as caught:
        load_settings(text=text)
    said = str(caught.value)
    for words in (
        "8 settings",
        "[modle]",
        "[model] dim",
        "extractor",
        "history",
        "[gate] holdout",
        "'colour'",
        "heads",
    ):
        assert words in said
    assert "pre-training's name" in said


def test_what_does_not_go_together_is_said_of_both():
    with pytest.raises(ConfigError, match=r"max_interests = 2: must be at least initial_interests = 4"):
        load_settings(text="[model]\nmax_interests = 2")
    with pytest.raises(ConfigError, match=r"\[model\] max_interests = 24: must be at least initial_interests = 30"):
        load_settings(text="[model]\ninitial_interests = 30")


def test_the_file_shows_what_a_key_may_be():
    text = default_toml()
    assert "# d, length of item and interest vectors (paper: 64) [2 .. 4096] (left out: 64)\ndim = 128" in text
    assert "[above 0 and at most 1]" in text
    assert "[post_activation | pre_activation | norm_conv_relu]" in text.replace("\n#   ", " ")


def test_every_range_holds_its_default_and_is_said():
    for name, kind in [*sections(), ("tasks", TaskSettings)]:
        for key, entry in kind.__dataclass_fields__.items():
            allowed = entry.metadata.get("range")
            if allowed is not None:
                values = entry.default if isinstance(entry.default, tuple) else (entry.default,)
                assert all(value is None or value in allowed for value in values), f"[{name}] {key}"
                assert str(allowed)
                assert float("nan") not in allowed
                assert "text" not in allowed


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


def test_somebodys_settings_start_as_a_new_workspace_does_and_keep_what_they_say():
    text = '[spans]\nunit = "day"  # ours\n[training]\nwindow = 3\n'
    started = load_settings(text=as_new(text))
    assert (started.spans.unit, started.training.window) == ("day", 3)
    assert started.score.enabled
    assert started.training.full_softmax == load_settings(text=default_toml()).training.full_softmax
    assert "# ours" in as_new(text)
    assert as_new(as_new(text)) == as_new(text)
    assert load_settings(text=as_new("")) == load_settings(text=default_toml())
