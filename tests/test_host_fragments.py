"""Fragments put together again by a host: any order, no overlaps, bounds of time and room (RFC 791, 815, 5722)."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netemu.stack.reasons import StackReason
from netemu.stack.reassembly import SLOT_COUNT
from tests import wire
from tests.host_kit import HostBench
from tests.skb_kit import layouts
from tests.wire import put

MF, DF = 0x2000, 0x4000
HELD, DELIVERED, REFUSED = StackReason.FRAGMENT, StackReason.NOT_DROPPED_YET, StackReason.FRAG_REFUSED
ECHO = wire.icmp(8, b"\x00\x01\x00\x02" + bytes(n * 5 & 0xFF for n in range(1596)))


def fragment(
    start: int, end: int, *, data: bytes = ECHO, more: bool | None = None, identification: int = 1, **how: Any
) -> bytes:
    """Bytes ``start`` to ``end`` of an echo request of 1604 bytes."""
    last = end >= len(data) if more is None else not more
    flags = how.pop("flags", 0)
    frame = wire.ipv4(data[start:end], 1, fragment=start // 8 | flags | (0 if last else MF), **how)
    frame = put(put(frame, 18, identification.to_bytes(2, "big")), 24, bytes(2))
    head = 14 + (frame[14] & 15) * 4
    return put(frame, 24, wire.internet_checksum(frame[14:head]).to_bytes(2, "big"))


def bench() -> HostBench:
    made = HostBench()
    made.know()
    return made


def answered(host: HostBench) -> bytes:
    """The ICMP message that was sent, put together by hand."""
    frames = host.frames()
    assert len({frame[18:20] for frame in frames}) <= 1
    return b"".join(frame[34:] for frame in frames)


REPLY = wire.icmp(0, ECHO[4:])


def test_two_fragments_make_a_packet() -> None:
    host = bench()
    assert host.receive(fragment(0, 800)) == HELD
    assert host.receive(fragment(800, 1604)) == DELIVERED
    assert answered(host) == REPLY
    moved = host.moved()
    assert (moved["IpReasmReqds"], moved["IpReasmOKs"], moved["IpInDelivers"], moved["IpInReceives"]) == (2, 1, 1, 2)
    assert "IpReasmFails" not in moved


@given(
    cuts=st.sets(st.integers(1, 200), max_size=12),
    seed=st.integers(0, 1000),
    layout=layouts(),
    twice=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_in_whatever_order_they_come(cuts: set[int], seed: int, layout: dict[str, Any], twice: bool) -> None:
    host = bench()
    places = [0, *sorted(cut * 8 for cut in cuts), 1604]
    parts = [fragment(start, end) for start, end in itertools.pairwise(places)]
    random.Random(seed).shuffle(parts)
    verdicts = []
    for number, part in enumerate(parts):
        verdicts.append(host.receive(part, **layout))
        if twice and number < len(parts) - 1:
            assert host.receive(part) == StackReason.DUP_FRAG
    assert verdicts == [HELD] * (len(parts) - 1) + [DELIVERED]
    assert answered(host) == REPLY
    assert host.stack.ip.reassembly.in_use == 0


def test_packets_are_told_apart_by_all_that_names_them() -> None:
    """RFC 791: source, destination, protocol and identification."""
    host = bench()
    host.know("10.9.0.3")
    other = wire.pack_addresses("10.9.0.3", "10.9.0.1")
    for how in ({}, {"identification": 2}, {"addresses": other}):
        assert host.receive(fragment(0, 800, **how)) == HELD
    data = bytes(1604)
    assert host.receive(put(fragment(800, 1604, data=data), 23, b"\x11")) == StackReason.IP_CSUM
    for how in ({"addresses": other}, {"identification": 2}, {}):
        assert host.receive(fragment(800, 1604, **how)) == DELIVERED
    assert host.moved()["IpReasmOKs"] == host.moved()["IcmpInEchos"] == 3


@pytest.mark.parametrize(
    ("start", "end", "more"),
    [
        pytest.param(0, 808, True, id="longer at the end"),
        pytest.param(392, 808, True, id="over the end"),
        pytest.param(792, 1604, False, id="over the end, last"),
    ],
)
def test_an_overlap_ends_the_packet(start: int, end: int, more: bool) -> None:
    """RFC 5722 for IPv6, Linux since 4.20 for both: teardrop and its kin."""
    host = bench()
    assert host.receive(fragment(0, 800)) == HELD
    assert host.receive(fragment(start, end, more=more)) == REFUSED
    moved = host.moved()
    assert (moved["IpReasmFails"], moved["IpExtReasmOverlaps"]) == (1, 1)
    assert host.receive(fragment(800, 1604)) == HELD  # of a new packet, which begins with it


@pytest.mark.parametrize(("start", "end"), [(0, 800), (0, 8), (400, 800), (792, 800)])
def test_what_is_there_already_is_dropped_alone(start: int, end: int) -> None:
    host = bench()
    host.receive(fragment(0, 800))
    assert host.receive(fragment(start, end, more=True)) == StackReason.DUP_FRAG
    assert host.receive(fragment(800, 1604)) == DELIVERED
    assert answered(host) == REPLY


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param((800, 1604, False), (1608, 1624, True), id="beyond the end"),
        pytest.param((800, 1604, False), (0, 1616, True), id="longer than the whole"),
        pytest.param((800, 1604, False), (800, 1200, False), id="another end"),
        pytest.param((1600, 1624, True), (800, 1604, False), id="an end before what came"),
    ],
)
def test_contradictions_end_the_packet(first: tuple[int, int, bool], second: tuple[int, int, bool]) -> None:
    host = bench()
    data = ECHO + bytes(100)
    assert host.receive(fragment(first[0], first[1], data=data, more=first[2])) == HELD
    assert host.receive(fragment(second[0], second[1], data=data, more=second[2])) == REFUSED
    assert host.moved()["IpReasmFails"] == 1
    assert host.stack.ip.reassembly.in_use == 0


def test_a_fragment_beyond_the_longest_packet_is_refused() -> None:
    """The ping of death: offset 65,528 and more than 7 bytes."""
    host = bench()
    frame = wire.ipv4(bytes(100), 1, fragment=0x1FFF)
    assert host.receive(frame) == REFUSED
    assert host.stack.ip.reassembly.in_use == 0


def test_the_longest_packet_is_delivered_and_answered() -> None:
    host = bench()
    data = wire.icmp(8, bytes(4) + bytes(n * 3 & 0xFF for n in range(65507)))
    for start in range(0, len(data), 1480):
        verdict = host.receive(fragment(start, min(start + 1480, len(data)), data=data))
    assert verdict == DELIVERED
    assert answered(host) == wire.icmp(0, data[4:])


def test_a_middle_fragment_that_ends_inside_a_unit_is_cut_there() -> None:
    """Linux's ip_frag_queue trims it to a multiple of 8."""
    host = bench()
    assert host.receive(fragment(0, 803, more=True)) == HELD
    assert host.receive(fragment(800, 1604)) == DELIVERED
    assert answered(host) == REPLY


def test_thirty_seconds_after_the_first_fragment_the_packet_is_given_up_and_the_sender_told() -> None:
    """RFC 792: time exceeded, code 1, quoting the fragment with the header."""
    host = bench()
    first = fragment(0, 800)
    host.receive(first)
    host.run(20)
    host.receive(fragment(1200, 1604))
    host.run(9.9)
    assert host.frames() == []
    host.run(0.2)
    (frame,) = host.frames()
    assert frame[34:] == wire.icmp(11, bytes(4) + first[14:][:548], code=1)
    moved = host.moved()
    assert (moved["IpReasmTimeout"], moved["IpReasmFails"]) == (1, 1)
    assert host.stack.ip.reassembly.in_use == 0
    host.receive(fragment(800, 1200))
    host.run(31)
    assert host.frames() == []  # RFC 1122 section 3.3.2: not without the first fragment


def test_room_is_bounded() -> None:
    host = bench()
    for number in range(SLOT_COUNT):
        assert host.receive(fragment(0, 800, identification=number)) == HELD
    assert host.receive(fragment(0, 800, identification=999)) == REFUSED
    assert host.receive(fragment(800, 1604, identification=3)) == DELIVERED
    assert host.receive(fragment(0, 800, identification=999)) == HELD
    assert host.moved()["IpReasmFails"] == 1
    host.run(31)
    assert host.stack.ip.reassembly.in_use == 0


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [(0, 0, 0), (2, 2, 2), (1, 1, 1), (2, 3, 3), (3, 1, 3), (0, 3, None), (0, 2, None), (1, 0, None)],
)
def test_congestion_experienced_by_one_fragment_is_that_of_the_packet(
    first: int, second: int, expected: int | None
) -> None:
    """RFC 3168 section 5.3; fragments that are partly not ECN-capable belong to no packet."""
    host = bench()
    host.receive(fragment(0, 800, tos=first))
    verdict = host.receive(fragment(800, 1604, tos=second))
    assert verdict == (REFUSED if expected is None else DELIVERED)
    if expected is not None:
        assert host.frames()[0][15] == expected  # an echo is answered in kind


def test_options_of_the_first_fragment_are_the_packets() -> None:
    host = bench()
    host.receive(fragment(800, 1604))
    assert host.receive(fragment(0, 800, options=bytes.fromhex("94040000"))) == DELIVERED
    assert answered(host) == REPLY


def test_a_datagram_with_a_checksum_over_all_fragments_reaches_udp() -> None:
    host = bench()
    data = wire.udp(bytes(range(200)) * 10)
    parts = [(0, 1000), (1000, 2008)]
    frames = [wire.ipv4(data[a:b], 17, fragment=a // 8 | (MF if b < 2008 else 0)) for a, b in parts]
    assert host.receive(frames[1]) == HELD
    assert host.receive(frames[0]) == StackReason.NO_SOCKET
    assert host.moved()["UdpNoPorts"] == 1
    bad = put(frames[0], 60, b"\xff")
    host.receive(frames[1])
    assert host.receive(bad) == StackReason.UDP_CSUM


@given(
    st.lists(
        st.tuples(st.integers(0, 40), st.integers(0, 60), st.booleans(), st.integers(0, 2), st.integers(0, 3)),
        max_size=40,
    )
)
@settings(max_examples=100, deadline=None)
def test_any_fragments_at_all_are_held_delivered_or_refused(
    steps: list[tuple[int, int, bool, int, int]],
) -> None:
    host = bench()
    for unit, size, more, identification, wait in steps:
        data = bytes(400)
        host.receive(fragment(unit * 8, unit * 8 + size, data=data, more=more, identification=identification))
        host.run(wait * 6)
    assert sum(host.stack.reasons().values()) == len(steps)
    host.run(31)
    assert host.stack.ip.reassembly.in_use == 0
    moved = host.moved()
    assert moved.get("IpReasmFails", 0) + moved.get("IpReasmOKs", 0) <= len(steps)
