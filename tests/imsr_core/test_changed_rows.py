"""A checkpoint as changes: what is read of a chain is, bit for bit, what was learnt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from imsr_core.changed_rows import MOST_LINKS, Chain
from imsr_core.checkpoint import Before, chain_at, load_state, save_state
from imsr_core.errors import CheckpointError
from imsr_core.members import joint
from imsr_core.ragged import SpanSequences
from imsr_core.score import factors
from imsr_core.state import ModelState
from imsr_core.strategies import strategy_named
from imsr_core.testing.planted_logs import EXTRACTORS, INCREMENTAL, assert_equal, random_span, tensors_of, tiny_config

ITEMS = 400
SCORED = {"score": {"enabled": True}}
FEW = {"training": {"negatives": 5}}


def at_day(span: SpanSequences, day: int) -> SpanSequences:
    return replace(span, timestamps=span.timestamps + day * 86_400_000_000 + 1)


def everything(state: ModelState) -> dict[str, torch.Tensor]:
    named = tensors_of(state)
    if state.score is not None:
        named |= {f"score.{name}": tensor for name, tensor in state.score.tensors().items()}
        named |= {"score.until": torch.tensor(state.score.trend.until)}
    return named


class Nights:
    """A chain of checkpoints on disk, each night learnt from what was read of the last one."""

    def __init__(self, root: Path, strategy: str = "imsr", extractor: str = "comirec-dr", **changes) -> None:
        self.root, self.learn, self.folders = root, strategy_named(strategy), []
        self.state = ModelState.initial(tiny_config(extractor, **(FEW | changes)))
        self.night(random_span(0, range(40), ITEMS, 30), ITEMS, None)

    def night(self, span: SpanSequences, n_items: int, before: ModelState | None) -> Chain:
        day = self.state.spans
        self.state = self.learn(self.state, at_day(span, day), n_items).state
        folder = self.root / str(day)
        folder.mkdir()
        known = None if before is None else Before(before, chain_at(self.folders[-1]))
        chain = save_state(self.state, folder, known)
        self.folders = [*self.folders, folder] if chain.links else [folder]
        return chain

    def next(self, users: range = range(3), n_items: int = ITEMS) -> Chain:
        before = self.read()
        self.state = before
        return self.night(random_span(self.state.spans, users, n_items, 4), n_items, before)

    def read(self) -> ModelState:
        state = load_state(self.folders, self.state.store)
        if self.state.score is not None:  # its tables of pairs are data, kept elsewhere
            own, near = self.state.score.personal.pairs, self.state.score.neighbours
            state.score = state.score.with_tables(own, near.tail, near.base, near.since, whole=near.whole)
        return replace(state, user_memory=self.state.user_memory)


@pytest.mark.parametrize("extractor", EXTRACTORS)
@pytest.mark.parametrize("more", [{}, SCORED], ids=["without score", "with score"])
def test_what_is_read_of_a_chain_is_what_was_learnt(tmp_path, extractor, more):
    nights = Nights(tmp_path, extractor=extractor, **more)
    for number in range(4):
        chain = nights.next(n_items=ITEMS + 3 * number)
        assert chain.links == number + 1
        assert_equal(everything(nights.read()), everything(nights.state))


def test_of_several_members_only_the_changed_rows_are_put_together(tmp_path, monkeypatch):
    nights, rows = Nights(tmp_path, model={"members": 2}), []

    def noted(tables):
        rows.append(len(tables[0]))
        return joint(tables)

    monkeypatch.setattr("imsr_core.checkpoint.joint", noted)
    chain = nights.next()
    assert rows == [chain.rows]
    assert 0 < chain.rows < ITEMS / 2
    assert_equal(everything(nights.read()), everything(nights.state))


@pytest.mark.parametrize("strategy", INCREMENTAL)
def test_of_every_strategy_too(tmp_path, strategy):
    nights = Nights(tmp_path, strategy)
    for _ in range(3):
        nights.next()
        assert_equal(everything(nights.read()), everything(nights.state))


def test_a_second_table_of_factors_begins_in_a_chain_that_had_one(tmp_path, monkeypatch):
    """Versions of before serve as they did; the next night makes the second table, and is read bit for bit."""
    with monkeypatch.context() as older:
        older.setattr(factors, "WEIGHTS", factors.WEIGHTS[:1])
        nights = Nights(tmp_path, **SCORED)
        nights.next()
        before = everything(nights.read())
    score = nights.read().score
    assert_equal(everything(nights.read()), before)
    assert score.factors.tables == 1
    assert score.weights.columns == score.columns
    assert "factors_often" not in score.columns
    for n_items in (ITEMS + 3, ITEMS + 5):
        nights.next(n_items=n_items)
        read = nights.read()
        assert_equal(everything(read), everything(nights.state))
        assert read.score.factors.tables == 2
        assert read.score.weights.columns == read.score.columns


def test_a_span_without_events_changes_no_row(tmp_path):
    nights = Nights(tmp_path, **SCORED)
    before = nights.read()
    nights.night(random_span(1, range(1), ITEMS, 1), ITEMS, before)
    chain = nights.folders
    before = nights.read()
    empty = SpanSequences(*(np.zeros(n, dtype=np.int64) for n in (0, 1, 0, 0)))
    nights.state = nights.learn(nights.state, empty, ITEMS).state
    folder = tmp_path / "empty"
    folder.mkdir()
    save_state(nights.state, folder, Before(before, chain_at(chain[-1])))
    tensors = load_file(folder / "model.safetensors")
    assert [len(tensors[f"changed.{group}"]) for group in ("items", "trend", "score", "factors")] == [0, 0, 0, 0]


def test_a_file_of_changes_holds_the_rows_that_the_span_touched(tmp_path):
    nights = Nights(tmp_path)
    whole = sum(path.stat().st_size for path in nights.folders[0].iterdir())
    nights.next()
    model = load_file(nights.folders[-1] / "model.safetensors")
    rows = len(model["changed.items"])
    assert 0 < rows < 40
    assert model["items.weight"].shape == (rows, 8)
    assert load_file(nights.folders[-1] / "optimizer.safetensors")["items.moment1"].shape == (rows, 8)
    assert sum(path.stat().st_size for path in nights.folders[-1].iterdir()) < whole / 3


def test_a_chain_that_grows_long_starts_over(tmp_path):
    nights = Nights(tmp_path)
    before = Before(nights.read(), Chain(MOST_LINKS, 0))
    (tmp_path / "long").mkdir()
    assert save_state(nights.state, tmp_path / "long", before).links == 0
    assert_equal(everything(load_state(tmp_path / "long", nights.state.store)), everything(nights.state))


def test_a_span_that_touches_most_items_is_written_whole(tmp_path):
    nights = Nights(tmp_path)
    before = nights.read()
    assert nights.night(random_span(1, range(60), ITEMS, 30), ITEMS, before).links == 0
    assert len(nights.folders) == 1


def test_a_model_that_started_over_is_written_whole(tmp_path):
    nights = Nights(tmp_path)
    other = Nights(tmp_path / "0", training={"seed": 9, "negatives": 5})
    (tmp_path / "over").mkdir()
    assert save_state(other.state, tmp_path / "over", Before(nights.read(), Chain())).links == 0


# ---- damage ----------------------------------------------------------------------------------------------------


@pytest.fixture
def chain(tmp_path) -> list[Path]:
    nights = Nights(tmp_path)
    nights.next()
    nights.next()
    return nights.folders


@pytest.mark.parametrize("places", [[0, 2, 1], [1, 2], [2], [0, 0]], ids=str)
def test_a_chain_with_a_link_too_few_or_out_of_place_is_refused(chain, places):
    folders = [chain[place] for place in places]
    with pytest.raises(CheckpointError, match="of a chain of changes"):
        load_state(folders)


CHANGES = {
    "a row beyond the table": lambda t: t | {"changed.items": t["changed.items"] + ITEMS},
    "rows out of order": lambda t: t | {"changed.items": t["changed.items"].flip(0)},
    "rows as floats": lambda t: t | {"changed.items": t["changed.items"].float()},
    "a row too few": lambda t: t | {"items.weight": t["items.weight"][1:].clone()},
    "a narrower row": lambda t: t | {"items.weight": t["items.weight"][:, 1:].clone()},
    "doubles": lambda t: t | {"items.weight": t["items.weight"].double()},
    "fewer items": lambda t: t | {"changed.size": torch.tensor([ITEMS - 1, 1, 0, 0, 1])},
    "no size": lambda t: t | {"changed.size": torch.tensor([ITEMS])},
    "NaN": lambda t: t | {"items.weight": t["items.weight"] * torch.nan},
    "a tensor of its own": lambda t: t | {"score.trend": torch.zeros(0, 6, dtype=torch.float64)},
}


@pytest.mark.parametrize("damage", CHANGES)
def test_changes_that_do_not_fit_are_refused_by_the_name_of_their_file(chain, damage):
    path = chain[1] / "model.safetensors"
    save_file({name: t.contiguous() for name, t in CHANGES[damage](load_file(path)).items()}, path)
    with pytest.raises(CheckpointError) as caught:
        load_state(chain[:2])
    assert caught.value.hint
    assert "model.safetensors" in str(caught.value)


def test_a_config_that_does_not_say_what_was_changed_is_refused(chain):
    path = chain[1] / "config.json"
    path.write_text(path.read_text().replace('"links"', '"lynx"'))
    with pytest.raises(CheckpointError, match="what was changed"):
        chain_at(chain[1])
