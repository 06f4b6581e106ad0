from hypothesis import given
from hypothesis import strategies as st
from stream_world import us

from pipelines.stream.source import Bounds
from pipelines.stream.watermark import Partition, StreamState, put_stream_state, stream_state
from pipelines.workspace.layout import Workspace

IDLE = 300_000_000
LATER = IDLE + 1


def state(**partitions):
    return StreamState("s", partitions)


def test_the_slowest_partition_holds_the_watermark():
    both = state(a=Partition(5, 5, 0, us(3)), b=Partition(5, 5, 0, us(1)))
    assert both.watermark_us(0, IDLE) == us(1)
    assert both.held_by(0, IDLE) == "b"


def test_a_partition_that_has_not_delivered_yet_holds_it_too():
    both = state(a=Partition(5, 5, 0, us(3)), b=Partition(0, 7, 0))
    assert both.watermark_us(0, IDLE) is None
    assert both.held_by(0, IDLE) == "b"


def test_an_idle_partition_does_not_hold_it_for_ever():
    both = state(a=Partition(5, 5, LATER, us(3)), b=Partition(5, 5, 0, us(1)))
    assert both.watermark_us(LATER, IDLE) == us(3)
    assert both.held_by(LATER, IDLE) == "a"


def test_a_partition_that_lags_is_not_idle_however_long_it_is_silent():
    both = state(a=Partition(5, 5, LATER, us(3)), b=Partition(5, 6, 0, us(1)))
    assert both.watermark_us(LATER, IDLE) == us(1)
    assert both.lag == 1


def test_with_all_idle_it_stays_where_the_furthest_brought_it_and_the_clock_moves_nothing():
    both = state(a=Partition(5, 5, 0, us(3)), b=Partition(5, 5, 0, us(1)), c=Partition(0, 0, 0))
    assert both.watermark_us(LATER, IDLE) == both.watermark_us(10**17, IDLE) == us(3)
    assert both.held_by(LATER, IDLE) is None


def test_messages_that_were_all_refused_move_the_position_and_not_the_time():
    after = Partition(5, 9, 7, us(1), "ms").took(9, None, "iso8601", 50)
    assert after == Partition(9, 9, 7, us(1), "ms")
    assert Partition(0, 9, 7).took(9, us(2), "s", 50) == Partition(9, 9, 50, us(2), "s")


def test_a_partition_begins_at_its_first_message_or_at_its_end():
    bounds = {"a": Bounds(3, 9)}
    assert state().seen(bounds, 1).positions == {"a": 3}
    assert state().seen(bounds, 1, latest=True).positions == {"a": 9}
    assert state(a=Partition(5, 6, 0)).seen(bounds, 1).partitions == {"a": Partition(5, 9, 0)}


def test_messages_that_are_gone_are_skipped_only_when_asked():
    before = state(a=Partition(2, 6, 0), b=Partition(50, 50, 0), c=Partition(4, 6, 0))
    bounds = {"a": Bounds(3, 9), "b": Bounds(0, 4), "c": Bounds(3, 9)}
    assert before.seen(bounds, 0).positions == {"a": 2, "b": 50, "c": 4}
    assert before.skipping(bounds).positions == {"a": 3, "b": 0, "c": 4}
    assert before.unread().positions == {"a": 0, "b": 0, "c": 0}


def test_streams_are_kept_apart_in_the_ledger(tmp_path):
    workspace = Workspace.create(tmp_path / "w", "")
    one, two = state(a=Partition(1, 2, 3, 4, "ms")), StreamState("t", {"x": Partition(9, 9, 9)})
    for each in (one, two):
        with workspace.ledger.transaction() as tx:
            put_stream_state(tx, each)
    with workspace.ledger.snapshot() as view:
        assert stream_state(view, "s") == one
        assert stream_state(view, "t") == two
        assert stream_state(view, "u") == StreamState("u")


times = st.integers(0, 10**6)
partitions = st.dictionaries(
    st.sampled_from("abcdef"),
    st.builds(Partition, st.integers(0, 9), st.integers(0, 9), times, st.none() | times),
    max_size=6,
)


@given(partitions, st.integers(0, 10**7), st.integers(0, 10**5))
def test_the_watermark_is_never_past_a_partition_that_counts(found, now, idle):
    watermark = state(**found).watermark_us(now, idle)
    counted = [each for each in found.values() if not each.is_idle(now, idle)]
    if watermark is not None and counted:
        assert all(each.watermark_us is not None and each.watermark_us >= watermark for each in counted)
    assert watermark is None or watermark in {each.watermark_us for each in found.values()}
