"""Settings changed in a file that somebody wrote: what is meant changes, all else stays letter by letter."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imsr_core.errors import ConfigError
from pipelines.settings.edit_toml import with_keys, with_note
from pipelines.settings.imsr_toml import default_toml, load_settings

TEXT = """# mine
[training]   # how
window = 5  # far
# negatives = 3
[model]
dim = 8

# about the gate
[gate]
enabled = true
"""


def test_a_key_is_changed_where_it_stands_and_its_remark_stays():
    assert with_keys(TEXT, {"training.window": 1}) == TEXT.replace("window = 5  # far", "window = 1  # far")


def test_a_new_key_goes_to_the_end_of_its_section_and_a_new_section_to_the_end_of_the_file():
    changed = with_keys(TEXT, {"training.negatives": 0, "trend.enabled": False, "model.history": 9})
    assert changed == (
        TEXT.replace("window = 5  # far\n", "window = 5  # far\nnegatives = 0\n").replace(
            "dim = 8\n", "dim = 8\nhistory = 9\n"
        )
        + "\n[trend]\nenabled = false\n"
    )


def test_a_key_that_is_unset_in_the_file_of_init_is_set_in_its_place():
    changed = with_keys(default_toml(), {"model.prior_mass": 4.0, "training.window": 3})
    assert load_settings(text=changed).model.prior_mass == 4.0
    before, after = default_toml().splitlines(), changed.splitlines()
    assert len(before) == len(after)
    assert sum(one != other for one, other in zip(before, after, strict=True)) == 2


@given(st.sampled_from([TEXT, "", default_toml()]), st.integers(1, 9), st.booleans())
def test_the_file_reads_as_it_did_but_for_what_was_set(text, window, enabled):
    changed = tomllib.loads(with_keys(text, {"training.window": window, "retainer.enabled": enabled}))
    expected = tomllib.loads(text)
    expected.setdefault("training", {})["window"] = window
    expected.setdefault("retainer", {})["enabled"] = enabled
    assert changed == expected


@pytest.mark.parametrize(
    "text", ["training = {window = 5}\n", "training.window = 5\n", '[note]\ntext = """\n[training]\nwindow = 2\n"""\n']
)
def test_a_file_that_cannot_be_changed_line_by_line_is_left_alone(text):
    with pytest.raises(ConfigError) as caught:
        with_keys(text, {"training.window": 1})
    assert "training.window = 1" in caught.value.hint


def test_a_note_replaces_the_one_before_and_nothing_else():
    first = with_note(TEXT, "imsr tune", "one\n\ntwo")
    assert first == TEXT + "\n# --- imsr tune ---\n# one\n#\n# two\n# --- end of imsr tune ---\n"
    other = with_note(first, "another", "note")
    assert with_note(other, "imsr tune", "three").count("# --- imsr tune ---") == 1
    assert with_note(first, "imsr tune", "three") == with_note(TEXT, "imsr tune", "three")
    assert tomllib.loads(other) == tomllib.loads(TEXT)
