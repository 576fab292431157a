"""The buffers of a connection against bytearrays, and the set of ranges against a set."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netemu.jit import WildAccessError
from netemu.stack.tcp.ranges import NO_ROOM, add_range, in_ranges, range_above, range_mark, trim_ranges
from netemu.stack.tcp.receive_buffer import receive_consume, receive_piece, receive_piece_len, receive_readable
from netemu.stack.tcp.send_buffer import (
    send_buffer_acknowledge,
    send_buffer_commit,
    send_buffer_free,
    send_buffer_room,
    send_buffer_room_len,
)
from tests.tcp_parts_kit import RangeSet, Receiving, Sending, spans

# Ranges.


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.integers(0, 60), st.integers(1, 9)),
            st.tuples(st.just("trim"), st.integers(0, 60), st.just(0)),
        ),
        max_size=60,
    ),
    st.integers(1, 12),
)
@settings(max_examples=300, deadline=None)
def test_a_set_of_ranges_is_a_set(steps: list[tuple[str, int, int]], capacity: int) -> None:
    ranges, model, floor = RangeSet(capacity), set[int](), 0
    for number, (what, at, size) in enumerate(steps):
        if what == "trim":
            floor = max(floor, at)
            trim_ranges(ranges.struct, at)
            model = {position for position in model if position >= at}
        else:
            left = at + floor
            index = add_range(ranges.struct, left, left + size, number)
            more = model | set(range(left, left + size))
            if len(spans(more)) > capacity:
                assert index == NO_ROOM
                more = model
            else:
                pair = ranges.pairs()[index]
                assert pair[0] <= left
                assert left + size <= pair[1]
                assert range_mark(ranges.struct, index) == number
            model = more
        assert ranges.pairs() == spans(model)
        assert ranges.struct.total == len(model)
    for position in range(130):
        assert in_ranges(ranges.struct, position) == (position in model)
        above = [n for n, (_, right) in enumerate(spans(model)) if right > position]
        assert range_above(ranges.struct, position) == (above[0] if above else len(spans(model)))


def test_ranges_in_the_middle_come_and_go_at_both_ends_of_the_array() -> None:
    """The array is full, then trimmed below, so that a new range has to move those under it."""
    ranges = RangeSet(4)
    for left in (10, 20, 30, 40):
        add_range(ranges.struct, left, left + 2, left)
    trim_ranges(ranges.struct, 20)
    add_range(ranges.struct, 35, 36, 7)
    assert ranges.pairs() == [(20, 22), (30, 32), (35, 36), (40, 42)]
    assert [range_mark(ranges.struct, n) for n in range(4)] == [20, 30, 7, 40]
    assert add_range(ranges.struct, 50, 51, 0) == NO_ROOM
    add_range(ranges.struct, 22, 40, 9)
    assert ranges.pairs() == [(20, 42)]


# What is sent.


@given(
    st.integers(1, 40),
    st.integers(0, 1 << 40),
    st.lists(st.tuples(st.sampled_from(["append", "in place", "ack", "look"]), st.integers(0, 50)), max_size=50),
)
@settings(max_examples=200, deadline=None)
def test_a_send_buffer_is_a_bytearray(capacity: int, start: int, steps: list[tuple[str, int]]) -> None:
    sending, model, una = Sending(capacity, start), bytearray(), start
    counter = 0
    for what, size in steps:
        data = bytes((counter + n) & 0xFF for n in range(size))
        if what == "append":
            assert sending.append(data) == min(size, capacity - len(model))
            model += data[: capacity - len(model)]
            counter += size
        elif what == "in place":
            size = min(size, send_buffer_room_len(sending.struct))
            at = send_buffer_room(sending.struct) - sending.memory.address
            sending.memory.array[at : at + size] = bytearray(data[:size])
            send_buffer_commit(sending.struct, size)
            model += data[:size]
        elif what == "ack":
            acked = min(size, len(model))
            assert send_buffer_acknowledge(sending.struct, una + size) == acked
            del model[:acked]
            una += acked
        else:
            offset = min(size, len(model))
            assert sending.payload(una + offset, 17) == model[offset : offset + 17]
        assert send_buffer_free(sending.struct) == capacity - len(model)
        assert sending.payload(una, capacity) == model


def test_an_empty_send_buffer_begins_anew_at_its_first_byte() -> None:
    sending = Sending(16)
    sending.append(b"0123456789")
    send_buffer_acknowledge(sending.struct, 10)
    assert send_buffer_room(sending.struct) == sending.memory.address
    assert sending.append(b"x" * 20) == 16
    assert sending.payload(10, 20) == b"x" * 16


def test_a_position_that_is_not_in_the_send_buffer_has_no_payload() -> None:
    sending = Sending(16, 100)
    sending.append(b"0123456789")
    send_buffer_acknowledge(sending.struct, 104)
    assert sending.payload(103, 4) == b""
    assert sending.payload(110, 4) == b""
    assert sending.payload(109, 4) == b"9"
    assert send_buffer_acknowledge(sending.struct, 103) == 0


# What is received.


@given(
    st.integers(4, 48),
    st.integers(0, 1 << 40),
    st.lists(st.tuples(st.integers(-20, 60), st.integers(1, 25), st.integers(0, 30)), max_size=40),
    st.integers(1, 8),
)
@settings(max_examples=300, deadline=None)
def test_a_receive_buffer_gives_the_stream_whatever_order_it_comes_in(
    capacity: int, start: int, steps: list[tuple[int, int, int]], range_count: int
) -> None:
    """Segments anywhere around rcv_nxt, overlapping in any way; reads of any size between them."""
    receiving = Receiving(capacity, range_count, start)
    here = {start - 1}  # positions that came; what was before counts as come
    given_out = start
    for ahead, size, read in steps:
        left = receiving.struct.rcv_nxt + ahead
        data = bytes(position * 7 & 0xFF for position in range(left, left + size))
        before = receiving.struct.rcv_nxt
        moved = receiving.receive(left, data, pieces=(3, 5))
        fits = set(range(max(left, before), min(left + size, given_out + capacity)))
        held = {position for position in here if position >= before}
        if fits and min(fits) > before and len(spans(held | fits)) > range_count:
            fits = set()
        here |= fits
        nxt = before
        while nxt in here:
            nxt += 1
        assert moved == nxt - before
        assert receiving.struct.rcv_nxt == nxt
        assert receiving.ranges.pairs() == spans(position for position in here if position > nxt)
        assert receive_readable(receiving.struct) == nxt - given_out
        out = receiving.read(read)
        assert out == bytes(position * 7 & 0xFF for position in range(given_out, min(given_out + read, nxt)))
        given_out += len(out)


def test_bytes_are_read_in_place_in_two_pieces() -> None:
    receiving = Receiving(8)
    receiving.receive(0, b"abcdef")
    assert receiving.read(5) == b"abcde"
    receiving.receive(6, b"ghijk")
    at = receive_piece(receiving.struct) - receiving.memory.address
    assert receiving.memory.array[at : at + receive_piece_len(receiving.struct)].tobytes() == b"fgh"
    receive_consume(receiving.struct, 3)
    assert receive_piece(receiving.struct) == receiving.memory.address
    assert receive_piece_len(receiving.struct) == 3
    assert receiving.read(9) == b"ijk"


def test_an_empty_receive_buffer_begins_anew_at_its_first_byte() -> None:
    receiving = Receiving(8)
    receiving.receive(0, b"abcde")
    assert receiving.read(5) == b"abcde"
    receiving.receive(5, b"fghijklm")
    assert receive_piece_len(receiving.struct) == 8


def test_a_second_copy_does_not_change_what_the_first_one_brought() -> None:
    """RFC 9293 leaves it open; a copy that differs is an attack, or a bug."""
    receiving = Receiving(16)
    receiving.receive(4, b"EFGH")
    receiving.receive(0, b"abcdefghij")
    assert receiving.read(16) == b"abcdEFGHij"


def test_a_segment_beyond_the_ring_is_cut() -> None:
    receiving = Receiving(4)
    assert receiving.receive(0, b"abcdef") == 4
    assert receiving.struct.refused == 1
    assert receiving.receive(4, b"ef") == 0
    assert receiving.read(9) == b"abcd"
    assert receiving.receive(4, b"ef") == 2


def test_a_kernel_that_reads_beyond_the_ring_is_seen() -> None:
    """The tests above would notice: each ring is an allocation of exactly its size."""
    receiving = Receiving(4)
    receiving.struct.capacity = 64
    with pytest.raises(WildAccessError):
        receiving.receive(0, b"abcdefgh")
