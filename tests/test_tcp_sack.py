"""What a receiver says of data out of order: RFC 2018 and RFC 2883, their own examples; and the window it offers."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from netemu.stack.tcp.receive_buffer import receive_duplicate, receive_window, window_update_due
from tests.tcp_parts_kit import Receiving

SEGMENT = bytes(500)


def receiver(expects: int, *arrived: int, size: int = 500) -> Receiving:
    """A receiver that expects ``expects``, and to which segments of ``size`` bytes came at these positions."""
    receiving = Receiving(1 << 16, 32, expects)
    for position in arrived:
        receiving.receive(position, bytes(size))
    return receiving


# RFC 2018 section 7: eight segments of 500 bytes from 5000 on.


def test_the_last_four_are_lost_and_nothing_is_sacked() -> None:
    """RFC 2018 section 7, case 1."""
    receiving = receiver(5000, 5000, 5500, 6000, 6500)
    assert (receiving.struct.rcv_nxt, receiving.sacks()) == (7000, [])


def test_the_first_is_lost_and_one_block_grows() -> None:
    """RFC 2018 section 7, case 2."""
    receiving = receiver(5000)
    rights = []
    for position in range(5500, 9000, 500):
        receiving.receive(position, SEGMENT)
        assert receiving.struct.rcv_nxt == 5000
        ((left, right),) = receiving.sacks()
        assert left == 5500
        rights.append(right)
    assert rights == [6000, 6500, 7000, 7500, 8000, 8500, 9000]


def test_every_other_one_is_lost_and_the_latest_block_comes_first() -> None:
    """RFC 2018 section 7, case 3, and the two arrivals behind it."""
    receiving = receiver(5000)
    seen = []
    for position in (5000, 6000, 7000, 8000):
        receiving.receive(position, SEGMENT)
        seen.append((receiving.struct.rcv_nxt, receiving.sacks(3)))
    assert seen == [
        (5500, []),
        (5500, [(6000, 6500)]),
        (5500, [(7000, 7500), (6000, 6500)]),
        (5500, [(8000, 8500), (7000, 7500), (6000, 6500)]),
    ]
    receiving.receive(6500, SEGMENT)  # the fourth segment
    assert receiving.sacks(3) == [(6000, 7500), (8000, 8500)]
    receiving.receive(5500, SEGMENT)  # the second one
    assert (receiving.struct.rcv_nxt, receiving.sacks(3)) == (7500, [(8000, 8500)])


def test_blocks_are_repeated_in_the_order_in_which_they_were_news() -> None:
    """RFC 2018 section 4: also those that fell out of an option come back when there is room again."""
    receiving = receiver(0, *range(1000, 6000, 1000), size=100)
    assert receiving.sacks(3) == [(5000, 5100), (4000, 4100), (3000, 3100)]
    receiving.receive(2100, bytes(100))
    assert receiving.sacks() == [(2000, 2200), (5000, 5100), (4000, 4100), (3000, 3100)]
    receiving.receive(0, bytes(3000))
    assert receiving.struct.rcv_nxt == 3100
    assert receiving.sacks() == [(1000, 1100), (5000, 5100), (4000, 4100)]  # the first one is a duplicate


# RFC 2883 section 4.


def test_a_duplicate_segment_is_reported_below_the_acknowledgement_once() -> None:
    """RFC 2883 section 4.1.1."""
    receiving = receiver(3000, 3000, 3500)
    receiving.receive(3000, SEGMENT)
    assert (receiving.struct.rcv_nxt, receiving.sacks()) == (4000, [(3000, 3500)])
    assert receiving.sacks() == []


def test_a_duplicate_comes_in_front_of_what_is_out_of_order() -> None:
    """RFC 2883 section 4.1.2."""
    receiving = receiver(3000, 3000, 3500, 4500)
    assert receiving.sacks() == [(4500, 5000)]
    receiving.receive(3000, SEGMENT)
    assert (receiving.struct.rcv_nxt, receiving.sacks()) == (4000, [(3000, 3500), (4500, 5000)])


def test_a_duplicate_out_of_order_comes_in_front_of_the_block_around_it() -> None:
    """RFC 2883 section 4.1.3."""
    receiving = receiver(3500, 3500, 4500, 5000, 5500, 7000)
    receiving.receive(5000, SEGMENT)
    assert (receiving.struct.rcv_nxt, receiving.sacks()) == (4000, [(5000, 5500), (4500, 6000), (7000, 7500)])


def test_the_part_of_a_segment_that_came_before_is_a_duplicate() -> None:
    """RFC 2883 section 4.2.1: bytes 500-1000 and 1000-1500 came as small segments, then 1000-2000 as one."""
    receiving = receiver(500, 500, 1000)
    receiving.receive(1000, bytes(1000))
    assert (receiving.struct.rcv_nxt, receiving.sacks()) == (2000, [(1000, 1500)])


def test_of_two_duplicates_in_a_segment_the_first_is_reported() -> None:
    """RFC 2883 section 4.2.3: 500-1000 is missing, 1000-1500 and 2000-2500 are there, 1000-2500 comes as one."""
    receiving = receiver(500, 1000, 2000)
    receiving.sacks()
    receiving.receive(1000, bytes(1500))
    assert (receiving.struct.rcv_nxt, receiving.sacks()) == (500, [(1000, 1500), (1000, 2500)])


def test_a_segment_below_the_window_is_noted_by_the_connection() -> None:
    receiving = receiver(4000)
    receive_duplicate(receiving.struct, 3000, 3500)
    assert receiving.sacks(1) == [(3000, 3500)]


# The window.


def offer(receiving: Receiving, mss: int = 100, scale: int = 0) -> int:
    """What is offered now, in bytes."""
    return int(receive_window(receiving.struct, mss, scale)) << scale


def test_a_window_is_what_there_is_room_for() -> None:
    receiving = Receiving(1000)
    assert offer(receiving) == 1000
    receiving.receive(0, bytes(400))
    assert offer(receiving) == 600
    receiving.receive(400, bytes(600))
    assert offer(receiving) == 0


def test_a_window_does_not_open_by_less_than_a_segment() -> None:
    """RFC 9293 MUST-39, section 3.8.6.2.2: the right edge waits for an MSS, or half of the ring if that is less."""
    receiving = Receiving(1000)
    receiving.receive(0, bytes(1000))
    assert offer(receiving) == 0
    receiving.read(99)
    assert offer(receiving) == 0
    receiving.read(1)
    assert offer(receiving) == 100
    small = Receiving(100)
    small.receive(0, bytes(100))
    small.read(49)
    assert offer(small, mss=1460) == 0
    small.read(1)
    assert offer(small, mss=1460) == 50


def test_the_field_has_sixteen_bits() -> None:
    """RFC 7323 section 2.2: the window of a SYN is not scaled; nor can a scaled one be larger than its field."""
    receiving = Receiving(1 << 20)
    assert offer(receiving) == 65535
    assert receive_window(receiving.struct, 1460, 2) == 65535
    assert receiving.struct.window_right == 65535 << 2


def test_an_update_is_due_when_the_window_doubles() -> None:
    receiving = Receiving(1000)
    receiving.receive(0, bytes(800))
    assert offer(receiving) == 200
    assert window_update_due(receiving.struct, 100, 0) == 0
    receiving.read(199)
    assert window_update_due(receiving.struct, 100, 0) == 0
    receiving.read(1)
    assert window_update_due(receiving.struct, 100, 0) == 1
    assert offer(receiving) == 400
    assert window_update_due(receiving.struct, 100, 0) == 0


def test_a_closed_window_opens_with_the_first_segment_of_room() -> None:
    receiving = Receiving(1000)
    receiving.receive(0, bytes(1000))
    offer(receiving)
    receiving.read(99)
    assert window_update_due(receiving.struct, 100, 0) == 0
    receiving.read(1)
    assert window_update_due(receiving.struct, 100, 0) == 1


@given(
    st.integers(64, 600),
    st.integers(0, 5),
    st.lists(st.tuples(st.integers(1, 120), st.integers(0, 120)), max_size=40),
)
@settings(max_examples=300, deadline=None)
def test_the_right_edge_moves_left_by_less_than_a_unit_and_promises_what_there_is(
    capacity: int, scale: int, steps: list[tuple[int, int]]
) -> None:
    """RFC 9293 SHLD-14 (do not shrink), with segments and reads of any size; what is promised fits into the ring."""
    receiving = Receiving(capacity)
    edge = offer(receiving, 50, scale)
    for size, read in steps:
        size = min(size, edge - receiving.struct.rcv_nxt)
        if size > 0:
            assert receiving.receive(receiving.struct.rcv_nxt, bytes(size)) == size
        receiving.read(read)
        now = receiving.struct.rcv_nxt + offer(receiving, 50, scale)
        assert now <= receiving.struct.read + capacity
        assert now > edge - (1 << scale)
        if scale == 0:
            assert now >= edge
        edge = max(edge, now)
    assert receiving.struct.refused == 0


def test_segments_of_full_size_never_shrink_a_scaled_window() -> None:
    """A ring of 64 KiB is filled by segments of 1460 bytes while nobody reads, in units of 128 bytes."""
    receiving = Receiving(1 << 16)
    edge = offer(receiving, 1460, 7)
    while edge - receiving.struct.rcv_nxt >= 1460:
        receiving.receive(receiving.struct.rcv_nxt, bytes(1460))
        now = receiving.struct.rcv_nxt + offer(receiving, 1460, 7)
        assert now >= edge
        edge = now
    assert receiving.struct.rcv_nxt > 60_000
