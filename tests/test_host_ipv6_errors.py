"""ICMPv6 (RFC 4443): what a host complains of, to whom and how often; echoes; what others complain of."""

from __future__ import annotations

import struct

import pytest

from netemu.jit import hook
from netemu.stack.addresses import from_halves
from netemu.stack.host import (
    ERROR_HOST_UNREACHABLE,
    ERROR_NET_UNREACHABLE,
    ERROR_PARAMETER,
    ERROR_PORT_UNREACHABLE,
    ERROR_PROHIBITED,
    ERROR_PROTOCOL_UNREACHABLE,
    ERROR_TIME_EXCEEDED,
    ERROR_TOO_BIG,
)
from netemu.stack.reasons import StackReason
from tests import wire
from tests.host_kit import PEER_MAC
from tests.ipv6_kit import ALL_NODES, HOST, HOST_LINK, PEER, PEER_LINK, SixBench, message, packed
from tests.wire import A6, DEST, FRAGMENT, ICMPV6, NONE, ROUTING, TCP, UDP

GOOD = StackReason.NOT_DROPPED_YET
HOP = 0
UNKNOWN = 200
ADDRESSES = packed(PEER) + packed(HOST)
ALL_NODES_MAC = bytes.fromhex("333300000001")
TO_ALL = packed(PEER) + packed(ALL_NODES)


def ready(*, forwarding: bool = False) -> SixBench:
    bench = SixBench(forwarding=forwarding)
    bench.know(PEER)
    bench.know(PEER_LINK)
    return bench


def options(kind: int, following: int = NONE) -> bytes:
    """An options header of 8 bytes with one option of two bytes and padding."""
    return bytes([following, 0, kind, 2, 0xAB, 0xCD, 1, 0])


def complaint(bench: SixBench) -> tuple[int, int, int, bytes]:
    """Type, code, pointer or MTU, and quotation of the one error that the host sent."""
    (one,) = bench.packets()
    assert one.checksum_right
    assert (one.target, one.dst) == (PEER, PEER_MAC)
    kind, code, _, info = struct.unpack(">BBHI", one.payload[:8])
    return kind, code, info, one.payload[8:]


class TestComplaints:
    def test_a_port_that_nobody_listens_at(self) -> None:
        bench = ready()
        frame = wire.ipv6(wire.udp(addresses=A6), UDP)
        bench.receive(frame)
        assert complaint(bench) == (1, 4, 0, frame[14:])
        moved = bench.moved()
        assert moved["Icmp6OutDestUnreachs"] == moved["Icmp6OutType1"] == 1

    def test_a_protocol_that_nobody_knows(self) -> None:
        """RFC 8200 section 4: the pointer says where it is named; here byte 6, the IPv6 header's own."""
        bench = ready()
        frame = wire.ipv6(b"whatever", UNKNOWN)
        assert bench.receive(frame) == StackReason.IP_NOPROTO
        assert complaint(bench) == (4, 1, 6, frame[14:])
        assert bench.moved()["Ip6InUnknownProtos"] == 1

    def test_a_protocol_that_an_extension_header_names(self) -> None:
        bench = ready()
        frame = wire.ipv6(options(0x1E, DEST) + options(0x1E, UNKNOWN) + bytes(8), DEST)
        bench.receive(frame)
        assert complaint(bench)[:3] == (4, 1, 48)

    @pytest.mark.parametrize("where", [HOP, DEST])
    @pytest.mark.parametrize(
        ("kind", "to_all", "answered"),
        [
            # The two highest bits of an unknown option (RFC 8200 section 4.2): 00 go on, 01 drop, 10 say so, 11 unless
            # it was for several.
            (0x1E, False, False),
            (0x5E, False, False),
            (0x9E, False, True),
            (0xDE, False, True),
            (0x5E, True, False),
            (0x9E, True, True),
            (0xDE, True, False),
        ],
    )
    def test_options_that_nobody_knows(self, where: int, kind: int, to_all: bool, answered: bool) -> None:
        bench = ready()
        addresses, dst = (TO_ALL, ALL_NODES_MAC) if to_all else (ADDRESSES, wire.HOST_MAC)
        frame = wire.ipv6(options(kind), where, addresses=addresses, dst=dst)
        verdict = bench.receive(frame)
        assert verdict == (GOOD if kind == 0x1E else StackReason.IPV6_BAD_EXTHDR)
        assert bench.moved().get("Ip6InHdrErrors", 0) == (kind != 0x1E)
        if answered:
            assert complaint(bench) == (4, 2, 42, frame[14:])
        else:
            assert bench.frames() == []

    def test_a_routing_header_with_segments_left(self) -> None:
        """RFC 8200 section 4.4 and RFC 5095: type 0 is not known any more; the pointer is at the type."""
        bench = ready()
        frame = wire.ipv6(bytes([NONE, 2, 0, 1]) + bytes(20), ROUTING)
        assert bench.receive(frame) == StackReason.IPV6_BAD_EXTHDR
        assert complaint(bench) == (4, 0, 42, frame[14:])

    def test_a_routing_header_that_is_done_is_passed_over(self) -> None:
        bench = ready()
        assert bench.receive(wire.ipv6(bytes([NONE, 2, 0, 0]) + bytes(20), ROUTING)) == GOOD
        assert bench.frames() == []

    def test_a_fragment_of_an_uneven_length(self) -> None:
        """RFC 8200 section 4.5: the pointer is at the payload length."""
        bench = ready()
        bench.receive(wire.ipv6(struct.pack(">BBHI", UDP, 0, 1, 7) + bytes(9), FRAGMENT))
        assert complaint(bench)[:3] == (4, 0, 4)

    def test_a_fragment_beyond_the_longest_packet(self) -> None:
        """RFC 8200 section 4.5: the pointer is at the fragment offset."""
        bench = ready()
        bench.receive(wire.ipv6(struct.pack(">BBHI", UDP, 0, 0xFFF8, 7) + bytes(16), FRAGMENT))
        assert complaint(bench)[:3] == (4, 0, 42)

    def test_a_quotation_leaves_the_message_at_1280_bytes(self) -> None:
        """RFC 4443 section 2.4 (c)."""
        bench = ready()
        frame = wire.ipv6(bytes(n & 0xFF for n in range(1400)), UNKNOWN)
        bench.receive(frame, linear=60, pieces=(100, 300, 7))
        quoted = complaint(bench)[3]
        assert len(quoted) == 1280 - 48
        assert quoted == frame[14:][:1232]

    @pytest.mark.parametrize("kind", [1, 2, 3, 4, 100, 127, 137])
    def test_nobody_complains_of_a_complaint(self, kind: int) -> None:
        """RFC 4443 section 2.4 (e.1, e.2): an error, or a redirect, whose port or protocol is not known."""
        bench = ready()
        data = wire.icmpv6(kind, bytes(60), addresses=ADDRESSES)
        bench.receive(wire.ipv6(bytes([ICMPV6, 0, 0x9E, 4]) + bytes(4) + data, DEST))
        assert bench.frames() == []
        bench.receive(wire.ipv6(bytes([ICMPV6, 0, 0x9E, 4]) + bytes(4) + wire.icmpv6(128, bytes(4)), DEST))
        assert complaint(bench)[:2] == (4, 2)

    @pytest.mark.parametrize(
        ("addresses", "dst"),
        [
            (packed("::") + packed(HOST), wire.HOST_MAC),
            (TO_ALL, ALL_NODES_MAC),
            (ADDRESSES, ALL_NODES_MAC),
        ],
    )
    def test_nobody_complains_to_or_of_many(self, addresses: bytes, dst: bytes) -> None:
        """RFC 4443 section 2.4 (e.3 to e.6)."""
        bench = ready()
        bench.receive(wire.ipv6(b"whatever", UNKNOWN, addresses=addresses, dst=dst))
        assert bench.frames() == []

    def test_how_often(self) -> None:
        """RFC 4443 section 2.4 (f), with Linux's numbers: six at once to one target, then one a second."""
        bench = ready()
        frame = wire.ipv6(b"whatever", UNKNOWN)
        for _ in range(20):
            bench.receive(frame)
        assert len(bench.frames()) == 6
        assert bench.moved()["Icmp6OutRateLimitHost"] == 14
        bench.run(2)
        for _ in range(20):
            bench.receive(frame)
        assert len(bench.frames()) == 2

    def test_to_a_neighbour_it_comes_from_the_link_local_address(self) -> None:
        bench = ready()
        addresses = packed(PEER_LINK) + packed(HOST_LINK)
        bench.receive(wire.ipv6(b"whatever", UNKNOWN, addresses=addresses))
        (one,) = bench.packets()
        assert (one.source, one.target) == (HOST_LINK, PEER_LINK)


class TestEcho:
    @pytest.mark.parametrize("size", [0, 1, 4, 1452, 4000])
    def test_comes_back_with_its_own_bytes(self, size: int) -> None:
        bench = ready()
        data = b"\x12\x34\x00\x07" + bytes(n * 3 & 0xFF for n in range(size))
        bench.receive(message(128, data, PEER, HOST, hop_limit=3), linear=70, pieces=(13, 50, 400))
        packets = bench.packets()
        if size < 1453:
            (one,) = packets
            assert (one.kind, one.source, one.target, one.hop_limit) == (129, HOST, PEER, 64)
            assert one.payload[4:] == data
            assert one.checksum_right
        else:
            assert {one.next_header for one in packets} == {FRAGMENT}
            assert b"".join(one.payload[8:] for one in packets)[4:] == data

    def test_to_a_group_is_answered_by_ones_own_address(self) -> None:
        bench = ready()
        bench.receive(message(128, bytes(4), PEER, ALL_NODES))
        (one,) = bench.packets()
        assert (one.source, one.target, one.kind) == (HOST, PEER, 129)

    def test_from_nobody_is_not_answered(self) -> None:
        bench = ready()
        bench.receive(message(128, bytes(4), "::", HOST))
        assert bench.frames() == []

    def test_the_traffic_class_is_kept(self) -> None:
        bench = ready()
        data = wire.icmpv6(128, bytes(4), addresses=ADDRESSES)
        bench.receive(wire.ipv6(data, ICMPV6, traffic_class=0xB8))
        assert bench.packets()[0].traffic_class == 0xB8


HEARD: list[tuple[int, int, int, int]] = []


def _hear(_host: int, protocol: int, offset: int, error: int, info: int) -> int:
    HEARD.append((protocol, offset, error, info))
    return 1 if protocol != TCP else 0


def listener() -> SixBench:
    bench = ready()
    HEARD.clear()
    bench.host.transport_error = hook(_hear)
    return bench


def quoted(protocol: int = UDP, source: str = HOST, target: str = PEER, payload: bytes = b"") -> bytes:
    frame = wire.ipv6(
        payload or bytes.fromhex("0fa0 0009 0008 0000"), protocol, addresses=packed(source) + packed(target)
    )
    return frame[14:]


class TestHeard:
    """Errors about one's own packets (RFC 4443 section 2.4 (d))."""

    @pytest.mark.parametrize(
        ("kind", "code", "expected"),
        [
            (1, 0, ERROR_NET_UNREACHABLE),
            (1, 1, ERROR_PROHIBITED),
            (1, 2, ERROR_HOST_UNREACHABLE),
            (1, 3, ERROR_HOST_UNREACHABLE),
            (1, 4, ERROR_PORT_UNREACHABLE),
            (1, 5, ERROR_PROHIBITED),
            (1, 6, ERROR_PROHIBITED),
            (3, 0, ERROR_TIME_EXCEEDED),
            (3, 1, ERROR_TIME_EXCEEDED),
            (4, 0, ERROR_PARAMETER),
            (4, 1, ERROR_PROTOCOL_UNREACHABLE),
            (4, 2, ERROR_PARAMETER),
        ],
    )
    def test_kinds(self, kind: int, code: int, expected: int) -> None:
        bench = listener()
        assert bench.receive(message(kind, bytes(4) + quoted(), PEER, HOST, code=code)) == GOOD
        assert HEARD == [(UDP, 54 + 8 + 40, expected, 0)]
        host = bench.host
        assert str(from_halves(host.error_source_hi, host.error_source_lo)) == HOST
        assert str(from_halves(host.error_target_hi, host.error_target_lo)) == PEER

    def test_a_packet_too_big_limits_the_path(self) -> None:
        bench = listener()
        bench.receive(message(2, struct.pack(">I", 1400) + quoted(), PEER, HOST))
        assert HEARD == [(UDP, 102, ERROR_TOO_BIG, 1400)]
        bench.receive(message(128, bytes(1500 - 44), PEER, HOST))
        assert max(len(frame) for frame in bench.frames()) == 14 + 1400

    def test_a_path_is_never_narrower_than_1280(self) -> None:
        """RFC 8201 section 4."""
        bench = listener()
        bench.receive(message(2, struct.pack(">I", 68) + quoted(), PEER, HOST))
        assert HEARD[0][3] == 1280

    def test_extension_headers_in_a_quotation_are_passed_over(self) -> None:
        bench = listener()
        inside = quoted(DEST, payload=options(0x1E, FRAGMENT) + struct.pack(">BBHI", UDP, 0, 1, 7) + bytes(8))
        bench.receive(message(1, bytes(4) + inside, PEER, HOST, code=4))
        assert HEARD == [(UDP, 102 + 16, ERROR_PORT_UNREACHABLE, 0)]

    @pytest.mark.parametrize(
        "inside",
        [
            pytest.param(quoted(source="2001:db8::77"), id="somebody else's"),
            pytest.param(quoted()[:47], id="cut off"),
            pytest.param(
                quoted(FRAGMENT, payload=struct.pack(">BBHI", UDP, 0, 8, 7) + bytes(8)), id="a later fragment"
            ),
            pytest.param(quoted(TCP), id="no connection"),
        ],
    )
    def test_what_is_not_ones_own_is_an_error(self, inside: bytes) -> None:
        bench = listener()
        assert bench.receive(message(1, bytes(4) + inside, PEER, HOST, code=4)) == StackReason.ICMP_INVALID
        assert bench.moved()["Icmp6InErrors"] == 1

    def test_a_forged_too_big_about_somebody_elses_packet_changes_nothing(self) -> None:
        bench = listener()
        bench.receive(message(2, struct.pack(">I", 1280) + quoted(source="2001:db8::77"), PEER, HOST))
        bench.receive(message(128, bytes(1500 - 44), PEER, HOST))
        assert len(bench.frames()) == 1

    def test_a_neighbour_that_nobody_has(self) -> None:
        """What waited three seconds for an answer is reported as "address unreachable", to oneself."""
        bench = SixBench()
        HEARD.clear()
        bench.host.transport_error = hook(_hear)
        bench.receive(message(128, bytes(4), PEER, HOST))
        bench.run(10)
        assert [one[2] for one in HEARD] == [ERROR_HOST_UNREACHABLE]
        assert HEARD[0][0] == ICMPV6
