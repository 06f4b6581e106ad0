"""The gate: good passes, bad does not, and what cannot be told is said."""

from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file
from small_world import VERSIONS

from imsr_core.ragged import from_events
from pipelines.interests import gate
from pipelines.interests.evaluation import rank_events, ranks_among
from pipelines.interests.gate import Verdict, judge_version
from pipelines.interests.gate_events import (
    AMONG_KNOWN,
    COLUMNS,
    GATE_FILE,
    GateEvents,
    no_events,
    rank_hidden,
    salt_of,
)
from pipelines.interests.promotion import POINTER
from pipelines.interests.version import Version
from pipelines.settings.sections import GateSettings
from pipelines.versions.pointer import GateError
from pipelines.workspace.seal import READY, seal

TOP = 10
SETTINGS = GateSettings(min_events=30, resamples=300)


def events_of(current: list[int], candidate: list[int], **columns) -> GateEvents:
    n = len(current)
    never = np.zeros(n, dtype=bool)
    users = np.arange(n, dtype=np.int64)
    made = GateEvents(users, users, np.array(current), np.array(candidate), never, never, np.array(candidate), TOP)
    return replace(made, **{name: np.array(values) for name, values in columns.items()})


def fair_ranks(n: int, seed: int = 0) -> list[int]:
    """A decent model: 40 % of the events among its first ten."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random(n) < 0.4, rng.integers(0, TOP, n), TOP).tolist()


@pytest.fixture
def verdict_on(learnt, monkeypatch):
    """The verdict on a sound version that has these hidden events."""

    def give(events: GateEvents, settings: GateSettings = SETTINGS) -> Verdict:
        monkeypatch.setattr(gate.GateEvents, "read", classmethod(lambda cls, folder: events))
        return judge_version(Version.open(learnt, VERSIONS[-1]), settings)

    return give


class TestQuality:
    """The harness tells a good ranker from a bad one before it is trusted with any other."""

    @pytest.mark.parametrize("metric", ["ndcg", "hr"])
    def test_an_oracle_wins(self, verdict_on, metric):
        verdict = verdict_on(events_of(fair_ranks(200), [0] * 200), replace(SETTINGS, metric=metric))
        change = next(check for check in verdict.checks if check.name == "change")
        assert verdict.passed
        assert not verdict.reasons
        assert change.low > 0
        assert change.candidate == 1.0

    @pytest.mark.parametrize("metric", ["ndcg", "hr"])
    def test_a_model_that_finds_nothing_loses(self, verdict_on, metric):
        verdict = verdict_on(events_of(fair_ranks(200), [TOP] * 200), replace(SETTINGS, metric=metric))
        assert not verdict.passed
        assert f"{metric}@{TOP} of all fell" in verdict.reasons[0]

    def test_equal_models_pass_without_a_difference(self, verdict_on):
        verdict = verdict_on(events_of(fair_ranks(200), fair_ranks(200)))
        change = next(check for check in verdict.checks if check.name == "change")
        assert verdict.passed
        assert (change.difference, change.low, change.high) == (0.0, 0.0, 0.0)

    def test_equally_good_models_pass_and_a_shuffled_one_does_not_reach_them(self, verdict_on):
        assert verdict_on(events_of(fair_ranks(400, 1), fair_ranks(400, 2))).passed
        by_chance = np.random.default_rng(0).integers(0, 60, 400).clip(max=TOP).tolist()
        assert not verdict_on(events_of(fair_ranks(400, 1), by_chance)).passed

    def test_a_drop_that_is_allowed_passes(self, verdict_on):
        worse = events_of([0] * 200, [0] * 180 + [TOP] * 20)
        assert not verdict_on(worse).passed
        assert verdict_on(worse, replace(SETTINGS, max_drop=0.2, slice_max_drop=0.2)).passed

    def test_a_slice_that_is_ruined_is_enough(self, verdict_on):
        current, candidate = [0] * 60 + [TOP] * 240, [TOP] * 60 + [0] * 240
        verdict = verdict_on(events_of(current, candidate, new_user=[False] * 60 + [True] * 240))
        assert not verdict.passed
        assert [check.slice for check in verdict.checks if not check.passed] == ["old users"]
        assert "of old users fell" in verdict.reasons[0]
        few = verdict_on(events_of(current, candidate, new_user=[False] * 20 + [True] * 280))
        assert "old users" not in {check.slice for check in few.checks}

    def test_new_items_may_take_the_places_of_old_ones_but_old_ones_may_not_lose_their_order(self, verdict_on):
        """News: the current version ranks old items alone, the candidate has today's before them."""
        current, candidate = [2] * 60 + [TOP] * 240, [TOP] * 60 + [0] * 240
        columns = {"new_item": [False] * 60 + [True] * 240}
        served = verdict_on(events_of(current, candidate, **columns, rank_among_known=[1] * 60 + [TOP] * 240))
        assert served.passed
        assert not served.reasons
        forgot = verdict_on(events_of(current, candidate, **columns, rank_among_known=[TOP] * 300))
        assert not forgot.passed
        assert [check.slice for check in forgot.checks if not check.passed] == ["old items"]

    def test_a_rejection_gives_the_checks_that_failed_as_its_reasons(self, verdict_on):
        current = [TOP] * 199 + [0]
        verdict = verdict_on(events_of(current, [TOP] * 200), replace(SETTINGS, min_hr=0.5))
        assert not verdict.passed
        assert len(verdict.reasons) == 1
        assert "below the bar" in verdict.reasons[0]

    def test_the_bars_alone_decide_on_a_first_version(self, verdict_on):
        first = events_of([-1] * 100, fair_ranks(100))
        verdict = verdict_on(first)
        assert verdict.passed
        assert verdict.reasons == ("there is no current version to compare with",)
        assert {check.name for check in verdict.checks} == {"serves", "bar"}
        for name in ("min_hr", "min_ndcg"):
            rejected = verdict_on(first, replace(SETTINGS, **{name: 0.9}))
            assert not rejected.passed
            assert "below the bar of 0.9" in rejected.reasons[0]

    def test_too_few_events_are_not_judged_and_it_says_so(self, verdict_on):
        verdict = verdict_on(events_of([0] * 29, [TOP] * 29), replace(SETTINGS, min_hr=1.0))
        assert verdict.passed
        assert verdict.reasons == ("29 hidden events, fewer than 30: quality was not judged",)

    def test_a_current_model_that_finds_nothing_makes_the_gate_blind_and_it_says_so(self, verdict_on):
        verdict = verdict_on(events_of([TOP] * 99 + [0], [TOP] * 100))
        assert verdict.passed
        assert "too few to tell even a model that finds nothing" in verdict.reasons[0]

    def test_a_bar_that_is_just_reached_is_reached(self, verdict_on):
        """40 of 100 events are hits: a bar of 0.4 holds, the next number above it does not."""
        first = events_of([-1] * 100, [TOP - 1] * 40 + [TOP] * 60)  # the last place of the list is a hit
        assert verdict_on(first, replace(SETTINGS, min_hr=0.4)).passed
        assert not verdict_on(first, replace(SETTINGS, min_hr=float(np.nextafter(0.4, 1)))).passed

    def test_as_many_events_as_are_asked_for_are_judged(self, verdict_on):
        assert not verdict_on(events_of([0] * 30, [TOP] * 30)).passed

    def test_a_slice_of_as_many_events_as_are_asked_for_is_judged(self, verdict_on):
        for few, judged in ((29, False), (30, True)):
            events = events_of([0] * 100, [0] * 100, new_user=[True] * few + [False] * (100 - few))
            assert ("new users" in {check.slice for check in verdict_on(events).checks}) is judged

    def test_a_drop_of_just_what_is_allowed_passes(self, verdict_on):
        """Every event drops from a hit to none: the interval is exactly -1 .. -1."""
        worse = replace(SETTINGS, metric="hr")
        events = events_of([0] * 100, [TOP] * 100)
        assert verdict_on(events, replace(worse, max_drop=1.0, slice_max_drop=1.0)).passed
        below = float(np.nextafter(1.0, 0))
        for key in ("max_drop", "slice_max_drop"):
            verdict = verdict_on(events, replace(worse, **{"max_drop": 1.0, "slice_max_drop": 1.0, key: below}))
            assert not verdict.passed
            slices = {check.slice for check in verdict.checks if check.name == "change" and not check.passed}
            assert slices == ({"all"} if key == "max_drop" else {"old users", "old items"})

    def test_a_gate_that_is_off_looks_only_whether_the_version_answers(self, verdict_on):
        verdict = verdict_on(events_of([0] * 200, [TOP] * 200), replace(SETTINGS, enabled=False))
        assert verdict.passed
        assert [check.name for check in verdict.checks] == ["serves"]
        assert GateSettings(enabled=False).hidden_share == 0.0

    def test_a_verdict_is_a_function_of_its_arguments_and_survives_json(self, verdict_on):
        events = events_of(fair_ranks(200), fair_ranks(200, 3))
        verdict = verdict_on(events)
        assert verdict == verdict_on(events)
        assert Verdict.from_json(verdict.to_json()) == verdict


class TestServing:
    @pytest.mark.parametrize("name", ["model.safetensors", "interests.parquet", "lineage.json"])
    @pytest.mark.parametrize("damage", ["cut", "gone", "changed"])
    def test_a_damaged_version_is_refused(self, learnt, copy_of, name, damage):
        version = Version.open(copy_of(learnt), VERSIONS[-1])
        path, content = version.folder / name, (version.folder / name).read_bytes()
        if damage == "gone":
            path.unlink()
        else:
            path.write_bytes(content[:-3] if damage == "cut" else content[:-3] + b"\0\1\2")
        verdict = judge_version(version, SETTINGS)
        assert not verdict.passed
        assert name in verdict.reasons[0]
        with pytest.raises(GateError, match=VERSIONS[-1]):
            POINTER.require_answering(version)

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_a_version_that_is_not_finite_is_refused(self, learnt, copy_of, value):
        version = Version.open(copy_of(learnt), VERSIONS[-1])
        tensors = load_file(version.folder / "model.safetensors")
        name = max(tensors, key=lambda key: tensors[key].numel())
        tensors[name].view(-1)[3] = value
        save_file(tensors, version.folder / "model.safetensors")
        (version.folder / READY).unlink()
        seal(version.folder)
        assert not judge_version(version, SETTINGS).passed


class TestEvents:
    def test_what_is_written_is_read(self, tmp_path):
        columns = {"new_user": [True, False, True], "new_item": [False, True, True], "rank_among_known": [0, 0, TOP]}
        events = events_of([-1, 3, TOP], [0, 1, 2], **columns)
        events.write(tmp_path)
        read = GateEvents.read(tmp_path)
        assert read.top_n == TOP
        for name in (*COLUMNS[:-1], AMONG_KNOWN):
            assert getattr(read, name).tolist() == getattr(events, name).tolist()

    def test_a_file_from_before_ranks_among_known_items_is_read(self, tmp_path):
        events_of([-1, 3, TOP], [0, 1, 2]).write(tmp_path)
        table = pq.read_table(tmp_path / GATE_FILE).select(COLUMNS)
        pq.write_table(table, tmp_path / GATE_FILE)
        assert GateEvents.read(tmp_path).rank_among_known.tolist() == [0, 1, 2]

    def test_no_events_and_no_file_are_none(self, tmp_path):
        assert len(GateEvents.read(tmp_path)) == 0
        no_events().write(tmp_path)
        assert len(GateEvents.read(tmp_path)) == 0

    def test_the_ranks_are_those_of_the_evaluation(self, learnt):
        before, after = (Version.open(learnt, version_id).load() for version_id in VERSIONS[-2:])
        users = after.store.users[::2].numpy().copy()
        items = np.arange(len(users)) % after.n_items
        hidden = from_events(users, items, np.zeros_like(users))
        events = rank_hidden(hidden, before, after, TOP)
        for state, ranks in ((before, events.rank_current), (after, events.rank_candidate)):
            assert ranks.tolist() == rank_events(state, hidden, TOP)[0].tolist()
        items_before = (events.item_index < before.n_items).nonzero()[0]
        assert (events.rank_among_known[items_before] <= events.rank_candidate[items_before]).all()
        fewer, _ = ranks_among(after, hidden, TOP, (5, None))
        scores = torch.cat([scores for _, scores in after.scorer().chunks(hidden.users)])[hidden.rows]
        inside = hidden.items < 5
        place = (scores[inside, :5] > scores[inside, hidden.items[inside]][:, None]).sum(1)
        assert fewer[0][inside].tolist() == place.tolist()
        assert set(fewer[0][~inside].tolist()) == {TOP}
        assert fewer[1].tolist() == events.rank_candidate.tolist()
        known = before.store.counts_of(torch.from_numpy(users)) > 0
        assert events.new_user.tolist() == (~known).tolist()
        assert events.new_user.any()
        assert set(events.rank_current[events.new_user].tolist()) == {TOP}
        first = rank_hidden(hidden, None, after, TOP)
        assert set(first.rank_current.tolist()) == {-1}

    def test_two_models_are_compared_on_the_events_that_both_were_kept_from(self):
        chain = events_of([5, 6, 7], [1, 2, 3], new_user=[True, False, False])
        shadow = replace(events_of([-1] * 3, [4, 4, 4]), user_index=np.array([0, 2, 9]), item_index=np.array([0, 8, 9]))
        assert shadow.compared_with(chain).rank_current.tolist() == [1, -1, -1]
        assert shadow.compared_with(no_events()).rank_current.tolist() == [-1, -1, -1]

    def test_each_span_and_seed_hides_its_own(self):
        assert len({salt_of(seed, span) for seed in range(3) for span in ("2024-01", "2024-02")}) == 6
