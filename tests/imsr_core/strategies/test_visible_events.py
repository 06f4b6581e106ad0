"""Events that are hidden from learning: they leave no trace in the weights, and are in what is published."""

import numpy as np
import pytest
import torch

from imsr_core.holdout import hide_last
from imsr_core.ragged import SequenceError, SpanSequences, drop_empty, take_rows
from imsr_core.state import ModelState
from imsr_core.strategies import SpanUpdate, strategy_named
from imsr_core.testing.planted_logs import (
    EXTRACTORS,
    assert_equal,
    random_span,
    tensors_of,
    tensors_of_store,
    tiny_config,
)

ITEMS = 30
BASE, SPAN = random_span(1, range(14), ITEMS), random_span(2, range(2, 18), ITEMS)
NAMES = ["imsr", "fine_tune", "full_retrain", "ader", "sml"]


def learn(name: str, extractor: str, span: SpanSequences, visible: SpanSequences | None) -> SpanUpdate:
    config = tiny_config(extractor, detector={"c1": 0.7}, trimmer={"c2": 0.15})
    base = strategy_named("imsr")(ModelState.initial(config), BASE, ITEMS).state
    return strategy_named(name)(base, span, ITEMS, visible=visible, history=lambda: BASE)


def weights_of(update: SpanUpdate) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in tensors_of(update.state).items() if not name.startswith("store.")}


def with_other_hidden_items(span: SpanSequences, hidden: SpanSequences) -> SpanSequences:
    items = span.items.copy()
    items[span.offsets[1:][np.isin(span.users, hidden.users)] - 1] = (hidden.items + 7) % ITEMS
    return SpanSequences(span.users, span.offsets, items, span.timestamps)


@pytest.mark.parametrize(("salt", "users"), [(0, [0, 3, 5, 7, 9, 19]), (12345, [1, 3, 7, 21, 27, 28])])
def test_whose_event_is_hidden_is_what_it_was_in_every_earlier_version(salt, users):
    """A span that is learnt again must hide the same events."""
    events = np.arange(60)
    span = SpanSequences(np.arange(30), np.arange(0, 61, 2), np.zeros(60, dtype=np.int64), events)
    assert hide_last(span, 0.1, salt)[1].users.tolist() == users


@pytest.mark.parametrize("extractor", EXTRACTORS)
@pytest.mark.parametrize("name", NAMES)
class TestHiddenEvents:
    def test_other_hidden_items_give_the_same_weights_and_other_published_interests(self, name, extractor):
        visible, hidden = hide_last(SPAN, 0.1, salt=5)
        assert len(hidden)
        first = learn(name, extractor, SPAN, visible)
        second = learn(name, extractor, with_other_hidden_items(SPAN, hidden), visible)
        assert_equal(weights_of(first), weights_of(second))
        assert first.losses == second.losses
        assert_equal(tensors_of_store(first.blind), tensors_of_store(second.blind))
        touched = torch.isin(first.interests.user, torch.from_numpy(hidden.users))
        moved = (
            (first.interests.vectors - second.interests.vectors).norm(dim=1)
            if len(first.interests) == len(second.interests)
            else touched.float()
        )
        assert bool((moved[touched] > 0).any())

    def test_the_blind_model_is_the_one_of_a_run_that_never_had_the_events(self, name, extractor):
        visible, hidden = hide_last(SPAN, 0.1, salt=5)
        update = learn(name, extractor, SPAN, visible)
        alone = learn(name, extractor, visible, None)
        assert alone.blind is None
        assert_equal(tensors_of(update.unseen()), tensors_of(alone.state))
        others = ~torch.isin(update.interests.user, torch.from_numpy(hidden.users))
        same = ~torch.isin(alone.interests.user, torch.from_numpy(hidden.users))
        assert_equal(tensors_of_store(update.interests.take(others)), tensors_of_store(alone.interests.take(same)))

    def test_nothing_hidden_is_the_plain_run(self, name, extractor):
        plain, told = learn(name, extractor, SPAN, None), learn(name, extractor, SPAN, SPAN)
        assert_equal(tensors_of(plain.state), tensors_of(told.state))
        assert_equal(tensors_of_store(told.unseen().store), tensors_of_store(plain.state.store))
        assert plain.unseen() is plain.state


class TestCounts:
    """Of what is hidden: the score that is served counts it, the one that the gate asks does not, nor does a trend."""

    @staticmethod
    def learnt(score: bool, span: SpanSequences, visible: SpanSequences | None) -> SpanUpdate:
        config = tiny_config("comirec-dr", score={"enabled": score, "factors": False})
        base = strategy_named("imsr")(ModelState.initial(config), BASE, ITEMS).state
        return strategy_named("imsr")(base, span, ITEMS, visible=visible)

    def test_the_score_counts_every_event_and_the_gates_only_what_was_seen(self):
        visible, hidden = hide_last(SPAN, 0.1, salt=5)
        update, whole, seen = (self.learnt(True, *each) for each in ((SPAN, visible), (SPAN, None), (visible, None)))
        assert len(hidden)
        for found, expected in ((update.state.score, whole.state.score), (update.blind_score, seen.state.score)):
            assert np.array_equal(found.trend.counts, expected.trend.counts)
            assert np.array_equal(found.personal.pairs.values, expected.personal.pairs.values)
        served, asked = update.state.score.trend.counts, update.blind_score.trend.counts
        assert (served - asked).sum() > 0.9 * len(hidden)  # some days have faded

    def test_a_trend_without_a_score_counts_what_was_trained_on(self):
        visible, _ = hide_last(SPAN, 0.1, salt=5)
        update, whole, seen = (self.learnt(False, *each) for each in ((SPAN, visible), (SPAN, None), (visible, None)))
        assert torch.equal(update.state.trend.counts, seen.state.trend.counts)
        assert update.state.trend.counts.sum() < whole.state.trend.counts.sum()


@pytest.mark.parametrize("name", NAMES)
def test_a_user_whose_every_event_is_hidden_is_refused(name):
    without_first = take_rows(SPAN, np.arange(1, len(SPAN)))
    with pytest.raises(SequenceError, match="visible events"):
        learn(name, "comirec-dr", SPAN, without_first)


class TestHideLast:
    @pytest.mark.parametrize("share", [0.0, 0.02, 0.1, 0.3, 1.0])
    def test_the_parts_are_the_span_and_the_share_is_kept(self, share):
        visible, hidden = hide_last(SPAN, share, salt=1)
        eligible = int((SPAN.counts > 1).sum())
        assert hidden.n_events == len(hidden) == min(int(share * SPAN.n_events), eligible)
        assert visible.users.tolist() == SPAN.users.tolist()
        assert len(drop_empty(visible)) == len(drop_empty(SPAN))
        visible.validate(), hidden.validate()
        for row, user in enumerate(SPAN.users.tolist()):
            whole = SPAN.items[SPAN.offsets[row] : SPAN.offsets[row + 1]].tolist()
            seen = visible.items[visible.offsets[row] : visible.offsets[row + 1]].tolist()
            last = hidden.items[np.flatnonzero(hidden.users == user)].tolist()
            assert seen + last == whole

    def test_the_choice_depends_on_the_salt_and_the_users_alone(self):
        first, again, other = (hide_last(SPAN, 0.1, salt)[1].users.tolist() for salt in (1, 1, 2**70 + 3))
        assert first == again
        assert first != other
        changed = SpanSequences(SPAN.users, SPAN.offsets, SPAN.items[::-1].copy(), SPAN.timestamps)
        assert hide_last(changed, 0.1, 1)[1].users.tolist() == first

    def test_an_empty_span_hides_nothing(self):
        empty = take_rows(SPAN, np.zeros(0, dtype=np.int64))
        visible, hidden = hide_last(empty, 0.5, 0)
        assert len(visible) == len(hidden) == 0
