"""Checkpoints: what is loaded equals what was saved, and damage is refused by the name of its file."""

import json
import math
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from imsr_core.checkpoint import config_from_dict, config_to_dict, load_state, save_state, write_tensors
from imsr_core.config import SmlConfig
from imsr_core.errors import CheckpointError
from imsr_core.older_checkpoints import FIRST_SECTIONS, LATER_KEYS, LATER_SECTIONS
from imsr_core.state import ModelState
from imsr_core.strategies import strategy_named
from imsr_core.testing.planted_logs import EXTRACTORS, assert_equal, copy_of, random_span, tensors_of, tiny_config


def learnt(extractor: str = "comirec-dr", spans: int = 2) -> ModelState:
    state = ModelState.initial(tiny_config(extractor, trimmer={"c2": 0.05}))
    for number in range(spans):
        state = strategy_named("imsr")(state, random_span(number, range(8), 20), 20).state
    return state


@pytest.mark.parametrize("extractor", EXTRACTORS)
def test_stopping_between_two_spans_changes_nothing(extractor, tmp_path):
    state, span = learnt(extractor), random_span(9, range(10), 24)
    save_state(state, tmp_path)
    loaded = load_state(tmp_path, state.store)
    assert loaded.config == state.config
    assert_equal(tensors_of(loaded), tensors_of(state))
    imsr = strategy_named("imsr")
    assert_equal(tensors_of(imsr(loaded, span, 24).state), tensors_of(imsr(state, span, 24).state))


def test_without_the_optimiser_the_scores_are_there(tmp_path):
    state = learnt()
    save_state(state, tmp_path)
    (tmp_path / "optimizer.safetensors").unlink()
    loaded = load_state(tmp_path, optimizer=False)
    assert torch.equal(loaded.item_vectors(), state.item_vectors())
    assert not loaded.items.moment1.any()
    assert len(loaded.store) == 0


def test_a_model_that_has_seen_nothing_is_saved_too(tmp_path):
    state = ModelState.initial(tiny_config())
    save_state(state, tmp_path)
    assert_equal(tensors_of(load_state(tmp_path)), copy_of(state))


@pytest.mark.parametrize("value", [math.inf, None])
def test_a_config_comes_back_through_json(value):
    changes = {"trimmer": {"c2": value}} if value else {"model": {"prior_mass": None}}
    config = tiny_config(**changes)
    assert config_from_dict(json.loads(json.dumps(config_to_dict(config)))) == config


# ---- damage ----------------------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_state(learnt("mind"), tmp_path)
    return tmp_path


def refused(folder: Path, *words: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        load_state(folder)
    assert caught.value.hint
    for word in (str(folder), *words):
        assert word in str(caught.value)


TENSOR_FILES = {"model.safetensors": "items.weight", "optimizer.safetensors": "items.moment2"}
BOTH = pytest.mark.parametrize("name", TENSOR_FILES)


def rewrite(path: Path, change) -> None:
    tensors = load_file(path)
    change(tensors, TENSOR_FILES[path.name])
    save_file(tensors, path)


@pytest.mark.parametrize("name", [*TENSOR_FILES, "config.json"])
def test_a_missing_file(saved, name):
    (saved / name).unlink()
    refused(saved, name)


@pytest.mark.parametrize("name", [*TENSOR_FILES, "config.json"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_file(saved, name, share):
    content = (saved / name).read_bytes()
    (saved / name).write_bytes(content[: int(share * len(content)) - (share == 0.999)])
    refused(saved, name)


@BOTH
def test_a_missing_tensor(saved, name):
    rewrite(saved / name, lambda tensors, key: tensors.pop(key))
    refused(saved, name, TENSOR_FILES[name], "missing")


@BOTH
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_value_that_is_not_finite(saved, name, value):
    rewrite(saved / name, lambda tensors, key: tensors[key].view(-1)[3:4].fill_(value))
    refused(saved, name, TENSOR_FILES[name], "NaN")


@BOTH
@pytest.mark.parametrize("damage", [lambda t: t[:, :-1].contiguous(), lambda t: t.flatten(), lambda t: t.double()])
def test_a_tensor_of_another_shape_or_type(saved, name, damage):
    rewrite(saved / name, lambda tensors, key: tensors.update({key: damage(tensors[key])}))
    refused(saved, name, TENSOR_FILES[name], "expected")


@BOTH
def test_an_extra_tensor(saved, name):
    rewrite(saved / name, lambda tensors, key: tensors.update(stray=torch.zeros(1)))
    refused(saved, name, "stray")


@pytest.mark.parametrize("part", ["moment1", "moment2", "step"])
def test_half_of_an_optimiser(saved, part):
    path = saved / "optimizer.safetensors"
    rewrite(path, lambda tensors, key: tensors.pop(f"extractor.map.weight.{part}"))
    refused(saved, "optimizer.safetensors", f"extractor.map.weight.{part}")


@BOTH
@pytest.mark.parametrize("length", [0, 7, 10**6, 2**63 - 1, 2**64 - 1])
def test_a_header_that_lies_about_its_length(saved, name, length):
    content = (saved / name).read_bytes()
    (saved / name).write_bytes(length.to_bytes(8, "little") + content[8:])
    refused(saved, name)


@BOTH
def test_a_header_that_lies_about_its_offsets(saved, name):
    content = (saved / name).read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    begin, end = header[TENSOR_FILES[name]]["data_offsets"]
    header[TENSOR_FILES[name]]["data_offsets"] = [begin, end + 10**9]
    text = json.dumps(header).encode()
    (saved / name).write_bytes(len(text).to_bytes(8, "little") + text + content[8 + size :])
    refused(saved, name)


class Trap:
    """Unpickling it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@BOTH
def test_a_pickle_under_another_name_is_never_executed(saved, name):
    sprung = saved / "sprung"
    (saved / name).write_bytes(pickle.dumps(Trap(sprung)))
    refused(saved, name)
    torch.save({"weight": Trap(sprung)}, saved / name)
    refused(saved, name)
    assert not sprung.exists()


def set_value(config: dict, path: str, value: object) -> None:
    *parents, last = path.split(".")
    for parent in parents:
        config = config[parent]
    config[last] = value


@pytest.mark.parametrize(
    ("path", "value", "word"),
    [
        ("format", 2, "format"),
        ("spans", "three", "spans"),
        ("spans", -1, "spans"),
        ("spans", None, "spans"),
        ("config", [], "section"),
        ("config", None, "config.json"),
        ("config.model", 5, "config.json"),
        ("config.nonsense", {}, "nonsense"),
        ("config.model.depth", 3, "depth"),
        ("config.model.dim", 64.5, "dim"),
        ("config.model.dim", "8", "config.json"),
        ("config.model.dim", 1, "dim"),
        ("config.model.dim", True, "dim"),
        ("config.model.extractor", "rnn", "extractor"),
        ("config.model.extractor", "comirec-dr", "tensor"),
        ("config.training.seed", 1.5, "seed"),
        ("config.trimmer.enabled", 1, "enabled"),
    ],
)
def test_a_config_that_describes_no_model(saved, path, value, word):
    config = json.loads((saved / "config.json").read_text())
    set_value(config, path, value)
    (saved / "config.json").write_text(json.dumps(config))
    refused(saved, word)


@pytest.mark.parametrize("path", ["config", "spans", "format", "config.model", "config.model.dim", "config.trimmer.c2"])
def test_a_missing_key_is_not_guessed(saved, path):
    config = json.loads((saved / "config.json").read_text())
    *parents, last = path.split(".")
    inner = config
    for parent in parents:
        inner = inner[parent]
    del inner[last]
    (saved / "config.json").write_text(json.dumps(config))
    refused(saved, "config.json")


def test_a_checkpoint_from_before_a_key_goes_on_as_it_was(saved):
    config = json.loads((saved / "config.json").read_text())
    for section, keys in LATER_KEYS.items():
        for key in keys:
            del config["config"][section][key]
    (saved / "config.json").write_text(json.dumps(config))
    without_keys = load_state(saved).config
    assert all(getattr(getattr(without_keys, s), k) == v for s, keys in LATER_KEYS.items() for k, v in keys.items())
    later = set(config["config"]) - FIRST_SECTIONS
    assert {"trend", "sml"} <= later
    for section in later:
        del config["config"][section]
    (saved / "config.json").write_text(json.dumps(config))
    loaded = load_state(saved).config
    kept = {section: keys for section, keys in LATER_KEYS.items() if section in FIRST_SECTIONS}
    for section, keys in {**kept, **LATER_SECTIONS}.items():
        assert {key: getattr(getattr(loaded, section), key) for key in keys} == keys
    assert loaded.sml == SmlConfig()


@pytest.mark.parametrize("text", ["[]", "7", '"config"', "[" * 100_000, "\udcff"])
def test_json_that_is_no_object(saved, text):
    (saved / "config.json").write_bytes(text.encode(errors="surrogateescape"))
    refused(saved, "config.json")


def test_whoever_may_read_the_folder_may_read_its_tensors(tmp_path, monkeypatch):
    for mode in (0o750, 0o755):
        tmp_path.chmod(mode)
        write_tensors({"a": torch.zeros(2)}, tmp_path / "model.safetensors")
        assert (tmp_path / "model.safetensors").stat().st_mode & 0o777 == mode & 0o666
    folder = tmp_path / "version"
    folder.mkdir()
    save_state(ModelState.initial(tiny_config()), folder)
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(CheckpointError, match="this user may not read it"):
        load_state(folder)
