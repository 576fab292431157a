"""Fragments that come in (RFC 8200 section 4.5, RFC 5722, RFC 6946): put together, refused, given up."""

from __future__ import annotations

import itertools
import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netemu.stack.reasons import StackReason
from netemu.stack.reassembly import SLOT_COUNT
from tests import wire
from tests.host_kit import PEER_MAC
from tests.ipv6_kit import HOST, PEER, SixBench, packed
from tests.wire import A6, DEST, FRAGMENT, ICMPV6, TCP, UDP

HELD, REFUSED, DUPLICATE = StackReason.FRAGMENT, StackReason.FRAG_REFUSED, StackReason.DUP_FRAG
GOOD = StackReason.NOT_DROPPED_YET
BIG = bytes(n * 5 & 0xFF for n in range(3000))


def ready() -> SixBench:
    bench = SixBench()
    bench.know(PEER)
    return bench


def piece(
    data: bytes,
    start: int,
    more: int,
    *,
    protocol: int = ICMPV6,
    number: int = 7,
    front: bytes = b"",
    first: int = FRAGMENT,
    traffic_class: int = 0,
) -> bytes:
    """A frame with a fragment; ``front`` are extension headers in front of its own, the first of protocol ``first``."""
    header = struct.pack(">BBHI", protocol, 0, start | more, number)
    return wire.ipv6(front + header + data, first, traffic_class=traffic_class)


def pieces(data: bytes, *cuts: int, number: int = 7, protocol: int = ICMPV6) -> list[bytes]:
    """Data cut at ``cuts``, multiples of 8."""
    edges = [0, *cuts, len(data)]
    return [
        piece(data[start:end], start, int(end < len(data)), number=number, protocol=protocol)
        for start, end in itertools.pairwise(edges)
    ]


def echo(payload: bytes = BIG) -> bytes:
    return wire.icmpv6(128, b"\0\1\0\2" + payload)


def answered(bench: SixBench) -> bytes:
    """The payload of the echo reply, put together."""
    return b"".join(one.payload[8:] if one.next_header == FRAGMENT else one.payload for one in bench.packets())[8:]


class TestWhole:
    @given(st.sets(st.integers(1, 370), max_size=8), st.randoms(use_true_random=False), st.integers(0, 60))
    @settings(max_examples=40, deadline=None)
    def test_in_any_pieces_and_any_order(self, cuts: set[int], order: random.Random, linear: int) -> None:
        bench = ready()
        frames = pieces(echo(), *(8 * cut for cut in sorted(cuts)), 3000)
        order.shuffle(frames)
        for frame in frames[:-1]:
            assert bench.receive(frame, linear=14 + linear, pieces=(7, 100)) == HELD
            assert bench.frames() == []
        assert bench.receive(frames[-1], linear=14 + linear, pieces=(7, 100)) == GOOD
        assert answered(bench) == BIG
        moved = bench.moved()
        assert (moved["Ip6ReasmReqds"], moved["Ip6ReasmOKs"], moved["Ip6InDelivers"]) == (len(frames), 1, 1)

    def test_the_checksum_of_the_whole_is_looked_at(self) -> None:
        bench = ready()
        first, second = pieces(wire.put(echo(), 100, b"\xff\xfe"), 1000)
        bench.receive(first)
        assert bench.receive(second) == StackReason.ICMP_CSUM

    def test_an_atomic_fragment_is_whole_by_itself(self) -> None:
        """RFC 6946: whatever else waits under its number."""
        bench = ready()
        bench.receive(pieces(echo(), 1000)[0])
        assert bench.receive(piece(echo(b"atomic"), 0, 0)) == GOOD
        assert answered(bench) == b"atomic"
        bench.receive(pieces(echo(), 1000)[1])
        assert answered(bench) == BIG

    def test_headers_in_front_stay_in_front(self) -> None:
        """What is named in front of the fragment header comes of the first fragment, also where it comes last."""
        bench = ready()
        options = bytes([FRAGMENT, 0, 1, 4, 0, 0, 0, 0])
        data = echo()
        bench.receive(piece(data[2000:], 2000, 0, front=options, first=DEST))
        assert bench.receive(piece(data[:2000], 0, 1, front=options, first=DEST)) == GOOD
        assert answered(bench) == BIG

    def test_headers_behind_are_part_of_what_was_cut(self) -> None:
        bench = ready()
        data = bytes([ICMPV6, 0, 1, 4, 0, 0, 0, 0]) + echo()
        for frame in pieces(data, 1000, protocol=DEST):
            bench.receive(frame)
        assert answered(bench) == BIG

    def test_several_packets_at_once(self) -> None:
        bench = ready()
        two = [pieces(echo(bytes([n]) * 2000), 1000, number=n) for n in (1, 2)]
        for frame in (two[0][0], two[1][1], two[1][0]):
            bench.receive(frame)
        assert answered(bench) == b"\2" * 2000
        bench.receive(two[0][1])
        assert answered(bench) == b"\1" * 2000

    @pytest.mark.parametrize(
        ("one", "other", "expected"),
        [(0, 0, 0), (2, 2, 2), (1, 1, 1), (2, 3, 3), (3, 1, 3), (3, 3, 3), (0, 3, None), (0, 2, None)],
    )
    def test_congestion_is_not_lost(self, one: int, other: int, expected: int | None) -> None:
        """RFC 3168 section 5.3."""
        bench = ready()
        data = echo()
        bench.receive(piece(data[:1000], 0, 1, traffic_class=one))
        verdict = bench.receive(piece(data[1000:], 1000, 0, traffic_class=other))
        if expected is None:
            assert verdict == REFUSED
            assert bench.frames() == []
        else:
            assert {packet.traffic_class for packet in bench.packets()} == {expected}

    def test_up_to_the_longest_packet(self) -> None:
        bench = ready()
        data = echo(bytes(65535 - 8))
        for frame in pieces(data, 32768)[:1]:
            bench.receive(frame)
        assert bench.receive(pieces(data, 32768)[1]) == GOOD
        assert len(answered(bench)) == 65527
        options = bytes([FRAGMENT, 0, 1, 4, 0, 0, 0, 0])
        for start, end in ((0, 32768), (32768, 65535)):
            more = int(end < 65535)
            verdict = bench.receive(piece(data[start:end], start, more, front=options, first=DEST, number=8))
        assert verdict == REFUSED  # with the header in front it is 8 bytes too long


class TestRefused:
    @pytest.mark.parametrize(
        ("start", "end", "more"), [(992, 2000, 1), (496, 1000, 1), (0, 1008, 1), (504, 1008, 1), (1992, 3008, 1)]
    )
    def test_overlaps(self, start: int, end: int, more: int) -> None:
        """RFC 5722: the packet is forgotten, whichever fragment overlaps."""
        bench = ready()
        data = echo()
        assert bench.receive(piece(data[:504], 0, 1)) == HELD
        assert bench.receive(piece(data[1000:2000], 1000, 1)) == HELD
        assert bench.receive(piece(data[start:end], start, more)) == REFUSED
        assert bench.moved()["Ip6ReasmFails"] == 1
        bench.receive(piece(data[504:1000], 504, 1))
        bench.receive(piece(data[2000:], 2000, 0))
        assert bench.frames() == []

    def test_a_copy_does_no_harm(self) -> None:
        bench = ready()
        first, second = pieces(echo(), 1000)
        bench.receive(first)
        assert bench.receive(first) == DUPLICATE
        assert bench.receive(second) == GOOD
        assert answered(bench) == BIG

    @pytest.mark.parametrize(
        ("one", "two"),
        [
            pytest.param((1000, 2000, 0), (2000, 2008, 1), id="beyond the end"),
            pytest.param((1000, 2000, 0), (1000, 2008, 0), id="two ends"),
            pytest.param((2000, 2008, 1), (1000, 1500, 0), id="an end before what came"),
            pytest.param((0, 1000, 1), (1000, 1000, 0), id="nothing at all"),
        ],
    )
    def test_contradictions(self, one: tuple[int, int, int], two: tuple[int, int, int]) -> None:
        bench = ready()
        data = echo()
        assert bench.receive(piece(data[one[0] : one[1]], one[0], one[2])) == HELD
        assert bench.receive(piece(data[two[0] : two[1]], two[0], two[2])) == REFUSED

    @pytest.mark.parametrize(
        ("data", "protocol"),
        [
            pytest.param(wire.tcp(addresses=A6)[:16], TCP, id="half a TCP header"),
            pytest.param(bytes([UDP, 2, 1, 4, 0, 0, 0, 0]), DEST, id="half a header of options"),
            pytest.param(bytes([UDP, 0, 1, 4, 0, 0, 0, 0]), DEST, id="options and nothing else"),
        ],
    )
    def test_a_first_fragment_without_all_headers(self, data: bytes, protocol: int) -> None:
        """RFC 8200 section 4.5, RFC 7112 section 5: parameter problem, code 3."""
        bench = ready()
        frame = piece(data, 0, 1, protocol=protocol)
        assert bench.receive(frame) == StackReason.IPV6_BAD_EXTHDR
        (one,) = bench.packets()
        assert one.payload[:2] == b"\x04\x03"
        assert one.payload[4:] == bytes(4) + frame[14:]

    def test_a_fragment_in_a_fragment(self) -> None:
        bench = ready()
        inner = struct.pack(">BBHI", ICMPV6, 0, 0, 9) + echo(b"")
        assert bench.receive(piece(inner, 0, 0, protocol=FRAGMENT)) == StackReason.IPV6_BAD_EXTHDR

    def test_more_packets_than_there_is_room_for(self) -> None:
        bench = ready()
        for number in range(SLOT_COUNT):
            assert bench.receive(pieces(echo(), 1000, number=number)[0]) == HELD
        assert bench.receive(pieces(echo(), 1000, number=99)[0]) == REFUSED
        assert bench.receive(pieces(echo(), 1000, number=0)[1]) == GOOD
        assert bench.receive(pieces(echo(), 1000, number=99)[0]) == HELD


class TestGivenUp:
    def test_after_sixty_seconds_the_sender_is_told(self) -> None:
        """RFC 8200 section 4.5: time exceeded, code 1, if the first fragment came."""
        bench = ready()
        first = pieces(echo(), 1000)[0]
        bench.receive(first)
        bench.run(59)
        bench.receive(pieces(echo(), 1000, 2000)[1])
        bench.frames()
        bench.run(0.9)
        assert bench.frames() == []
        bench.run(0.2)
        (one,) = bench.packets()
        assert (one.source, one.target, one.dst) == (HOST, PEER, PEER_MAC)
        assert one.checksum_right
        assert one.payload[:8] == bytes([3, 1]) + one.payload[2:4] + bytes(4)
        assert one.payload[8:] == first[14:]
        moved = bench.moved()
        assert (moved["Ip6ReasmTimeout"], moved["Ip6ReasmFails"]) == (1, 1)
        bench.receive(pieces(echo(), 1000)[1])
        assert bench.frames() == []

    def test_without_the_first_fragment_nothing_is_said(self) -> None:
        bench = ready()
        bench.receive(pieces(echo(), 1000)[1])
        bench.run(61)
        assert bench.frames() == []
        assert bench.moved()["Ip6ReasmTimeout"] == 1

    def test_a_long_first_fragment_is_quoted_in_part(self) -> None:
        bench = ready()
        first = pieces(echo(), 1400)[0]
        bench.receive(first)
        bench.run(61)
        assert bench.packets()[0].payload[8:] == first[14:][:1232]


def test_addresses_are_part_of_the_key() -> None:
    bench = ready()
    first, second = pieces(echo(), 1000)
    bench.receive(first)
    other = second[:22] + packed("2001:db8:9::3") + second[38:]
    assert bench.receive(other) == HELD
    assert bench.receive(second) == GOOD
