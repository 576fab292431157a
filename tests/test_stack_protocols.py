"""The protocol stack on frames worked out by hand, of any layout, from captures, and hostile."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from netemu.capture import read_capture
from netemu.jit import WildAccessError
from netemu.skb import CHECKSUM_PARTIAL, CHECKSUM_UNNECESSARY
from netemu.stack import REASON_COUNT, ProtocolStack, StackReason, reason_words
from tests import wire
from tests.skb_kit import SkbKit, layouts, receive, receive_checked
from tests.support import own_captures, shared_captures
from tests.wire import A6, DEST, FRAGMENT, ICMP, ICMPV6, NONE, TCP, UDP, put, vlan

GSO_TCPV4 = 1
PACKET_OTHERHOST = 3

# 10.0.0.1 to 10.0.0.2, UDP from port 1 to port 2, payload "hi". By hand, in 16-bit words:
# IP: 4500 + 001e + 0000 + 0000 + 4011 + 0a00 + 0001 + 0a00 + 0002 = 9932, complement 66cd
# UDP: 0a00 + 0001 + 0a00 + 0002 + 0011 + 000a + 0001 + 0002 + 000a + 6869 = 7c94, complement 836b
BY_HAND = bytes.fromhex("""
    020000000001 020000000002 0800
    4500 001e 0000 0000 4011 66cd 0a000001 0a000002
    0001 0002 000a 836b 6869
""")

kit = SkbKit(count=8)


def counters(stack: ProtocolStack) -> dict[str, int]:
    return {name: value for name, value in stack.snmp().items() if value}


def verdict(frame: bytes, stack: ProtocolStack | None = None) -> StackReason:
    return StackReason(receive(stack or ProtocolStack(), kit.build(frame)))


def test_a_frame_by_hand() -> None:
    stack = ProtocolStack()
    assert verdict(BY_HAND, stack) == StackReason.NOT_DROPPED_YET
    assert counters(stack) == {
        "IpInReceives": 1,
        "IpInDelivers": 1,
        "UdpInDatagrams": 1,
        "IpExtInOctets": 30,
        "IpExtInNoECTPkts": 1,
    }
    assert stack.reasons()["delivered"] == 1


def test_every_single_bit_of_a_frame_by_hand_counts() -> None:
    for at in range(14 * 8, len(BY_HAND) * 8):
        flipped = put(BY_HAND, at // 8, bytes([BY_HAND[at // 8] ^ 1 << at % 8]))
        assert verdict(flipped) != StackReason.NOT_DROPPED_YET, at


def test_reasons_have_words() -> None:
    words = [reason_words(number) for number in range(REASON_COUNT)]
    assert words[0] == "delivered"
    assert len(set(words)) == REASON_COUNT == len(StackReason)
    assert list(ProtocolStack().reasons()) == ["delivered", *(reason.name.lower() for reason in list(StackReason)[1:])]


class TestSettings:
    def test_a_frame_for_another_station(self) -> None:
        skb = kit.build(BY_HAND)
        skb.pkt_type = PACKET_OTHERHOST
        assert receive(ProtocolStack(), skb) == StackReason.NOT_DROPPED_YET
        alone = ProtocolStack(promiscuous=False)
        assert receive(alone, skb) == StackReason.OTHERHOST
        assert counters(alone) == {}

    def test_closed_ports(self) -> None:
        stack = ProtocolStack(any_port=False)
        assert verdict(BY_HAND, stack) == StackReason.NO_SOCKET
        assert stack.snmp()["UdpNoPorts"] == 1
        assert verdict(wire.ipv4(wire.tcp(), TCP), stack) == StackReason.NO_SOCKET


class TestVlan:
    @pytest.mark.parametrize("kind", [0x8100, 0x88A8])
    def test_one_tag(self, kind: int) -> None:
        stack = ProtocolStack()
        skb = kit.build(vlan(BY_HAND, kind=kind))
        assert receive(stack, skb) == StackReason.NOT_DROPPED_YET
        assert (skb.network_header, skb.transport_header) == (18, 38)
        assert stack.snmp()["IpExtInOctets"] == 30

    def test_two_tags(self) -> None:
        skb = kit.build(vlan(vlan(BY_HAND), kind=0x88A8))
        assert receive(ProtocolStack(), skb) == StackReason.NOT_DROPPED_YET
        assert skb.network_header == 22

    def test_eight_tags_are_taken_off_and_no_more(self) -> None:
        frame = BY_HAND
        for _ in range(8):
            frame = vlan(frame)
        assert verdict(frame) == StackReason.NOT_DROPPED_YET
        assert verdict(vlan(frame)) == StackReason.UNHANDLED_PROTO

    def test_cut_inside_a_tag(self) -> None:
        for size in range(14, 20):
            assert verdict(vlan(BY_HAND)[:size]) == StackReason.HDR_TRUNC

    def test_a_length_in_place_of_a_type(self) -> None:
        assert verdict(vlan(put(BY_HAND, 12, b"\x00\x1e"))) == StackReason.UNHANDLED_PROTO


class TestTrust:
    WRONG = put(BY_HAND, 40, b"\x12\x34")

    def test_what_a_device_vouched_for(self) -> None:
        skb = kit.build(self.WRONG)
        assert receive(ProtocolStack(), skb) == StackReason.UDP_CSUM
        skb.ip_summed = CHECKSUM_UNNECESSARY
        assert receive(ProtocolStack(), skb) == StackReason.NOT_DROPPED_YET

    def test_the_ipv4_header_is_always_summed(self) -> None:
        skb = kit.build(put(BY_HAND, 24, b"\x12\x34"))
        skb.ip_summed = CHECKSUM_UNNECESSARY
        assert receive(ProtocolStack(), skb) == StackReason.IP_CSUM

    def test_a_missing_checksum_over_ipv6_is_never_believed(self) -> None:
        skb = kit.build(wire.ipv6(wire.udp(addresses=A6, checksum=0), UDP))
        skb.ip_summed = CHECKSUM_UNNECESSARY
        assert receive(ProtocolStack(), skb) == StackReason.UDP_CSUM

    @pytest.mark.parametrize(
        ("start", "expected"), [(34, StackReason(0)), (60, StackReason(0)), (33, StackReason.UDP_CSUM)]
    )
    def test_an_unfinished_checksum_from_the_header_on(self, start: int, expected: StackReason) -> None:
        skb = kit.build(self.WRONG)
        skb.ip_summed, skb.csum_start = CHECKSUM_PARTIAL, start
        assert receive(ProtocolStack(), skb) == expected


class TestTotalLengthZero:
    FRAME = wire.ipv4(wire.tcp(b"xyz"), TCP, length=0)

    def test_is_an_error(self) -> None:
        assert verdict(self.FRAME) == StackReason.IP_INHDR

    def test_but_for_tcp_gso(self) -> None:
        skb = kit.build(self.FRAME)
        skb.gso_type = GSO_TCPV4 | 0x80
        assert receive(ProtocolStack(), skb) == StackReason.NOT_DROPPED_YET
        skb.gso_type = 3
        assert receive(ProtocolStack(), skb) == StackReason.IP_INHDR

    def test_big_tcp(self) -> None:
        skb = kit.build(wire.ipv4(wire.tcp(bytes(100_000)), TCP, length=0))
        skb.gso_type = GSO_TCPV4
        stack = ProtocolStack()
        skb.ip_summed, skb.csum_start = CHECKSUM_PARTIAL, 34
        assert receive(stack, skb) == StackReason.NOT_DROPPED_YET
        assert counters(stack)["IpExtInOctets"] == 100_040


class TestJumbograms:
    """RFC 2675: a hop-by-hop option gives the length that the field has no room for."""

    @staticmethod
    def frame(payload: bytes, *, length: int | None = None, field: int = 0, follows: int = UDP) -> bytes:
        length = 8 + len(payload) if length is None else length
        return wire.ipv6(bytes([follows, 0, 0xC2, 4]) + struct.pack(">I", length) + payload, 0, length=field)

    def test_udp(self) -> None:
        stack = ProtocolStack()
        frame = self.frame(wire.udp(bytes(70_000), addresses=A6, length=0))
        assert verdict(frame, stack) == StackReason.NOT_DROPPED_YET
        assert stack.snmp()["Udp6InDatagrams"] == 1
        assert verdict(put(frame, 1000, b"\x01"), stack) == StackReason.UDP_CSUM

    def test_tcp_with_padding(self) -> None:
        stack = ProtocolStack()
        frame = self.frame(wire.tcp(bytes(66_000), addresses=A6), follows=TCP)
        assert verdict(frame + b"padding", stack) == StackReason.NOT_DROPPED_YET
        assert stack.snmp()["Ip6InOctets"] == 40 + 8 + 66_020 + 7

    def test_faults(self) -> None:
        payload = wire.udp(bytes(70_000), addresses=A6, length=0)
        for frame, reason in (
            (self.frame(payload, length=65_535), StackReason.IPV6_BAD_EXTHDR),
            (self.frame(payload, field=100), StackReason.IPV6_BAD_EXTHDR),
            (self.frame(payload, length=70_017), StackReason.PKT_TOO_SMALL),
        ):
            stack = ProtocolStack()
            assert verdict(frame, stack) == reason
            assert stack.snmp()["Ip6InHdrErrors"] == 1

    def test_a_chain_of_the_most_headers_ends(self) -> None:
        headers = bytes([DEST, 0, 1, 4, 0, 0, 0, 0]) * 8190 + bytes([NONE, 0, 1, 4, 0, 0, 0, 0])
        assert verdict(wire.ipv6(headers, DEST)) == StackReason.NOT_DROPPED_YET


class TestVerdicts:
    @pytest.mark.parametrize(
        ("frame", "expected"),
        [
            (wire.ethernet(bytes(46), 0x9999), "UNHANDLED_PROTO"),
            (wire.ethernet(b"\x42\x42\x03" + bytes(40), 38), "UNHANDLED_PROTO"),
            (wire.ethernet(b"\xff\xff" + bytes(40), 42), "UNHANDLED_PROTO"),
            (wire.ethernet(bytes.fromhex("0001 0800 06 04 0001") + bytes(20), 0x0806), "NOT_DROPPED_YET"),
            (wire.ethernet(bytes.fromhex("0001 0800 06 04 0002") + bytes(19), 0x0806), "HDR_TRUNC"),
            (wire.ethernet(bytes.fromhex("0001 0800 06 04 0003") + bytes(20), 0x0806), "ARP_INHDR"),
            (wire.ethernet(bytes.fromhex("0002 0800 06 04 0001") + bytes(20), 0x0806), "ARP_INHDR"),
            (wire.ethernet(bytes.fromhex("0001 86dd 06 04 0001") + bytes(20), 0x0806), "ARP_INHDR"),
            (wire.ethernet(bytes.fromhex("0001 0800 06 10 0001") + bytes(20), 0x0806), "ARP_INHDR"),
            (wire.ipv4(wire.udp(), UDP, fragment=0x2000), "FRAGMENT"),
            (wire.ipv4(wire.udp(), UDP, fragment=0x4000), "NOT_DROPPED_YET"),
            (wire.ipv4(wire.udp(), UDP, length=100), "PKT_TOO_SMALL"),
            (wire.ipv4(bytes(8), 2), "NOT_DROPPED_YET"),
            (wire.ipv4(bytes(8), 47), "IP_NOPROTO"),
            (wire.ipv4(wire.udp(), UDP, options=bytes.fromhex("83070400")), "IP_INHDR"),
            (wire.ipv4(wire.udp(), UDP, options=bytes.fromhex("8307040000000000")), "IP_INADDRERRORS"),
            (wire.ipv4(wire.icmp(8, bytes(4)), ICMP, dst=wire.EVERYONE), "NOT_DROPPED_YET"),
            (wire.ipv4(wire.icmp(99, bytes(4)), ICMP), "ICMP_INVALID"),
            (wire.ipv4(wire.tcp(), TCP, dst=wire.EVERYONE), "TCP_NOT_UNICAST"),
            (wire.ipv4(wire.tcp(data_offset=4), TCP), "TCP_INHDR"),
            (wire.ipv6(wire.icmpv6(135, bytes(20)), ICMPV6, hop_limit=254), "IPV6_NDISC_HOP_LIMIT"),
            (wire.ipv6(wire.icmpv6(135, bytes(20)), ICMPV6, hop_limit=255), "NOT_DROPPED_YET"),
            (wire.ipv6(bytes.fromhex("1100000900000001") + bytes(8), FRAGMENT), "FRAGMENT"),
        ],
    )
    def test_verdict(self, frame: bytes, expected: str) -> None:
        assert verdict(frame) == StackReason[expected]


SOME = {
    "udp": BY_HAND,
    "tcp": wire.ipv4(wire.tcp(bytes(range(101))), TCP),
    "icmp": wire.ipv4(wire.icmp(3, bytes(4) + BY_HAND[14:]), ICMP),
    "options": wire.ipv4(wire.udp(), UDP, options=bytes.fromhex("94040000010107070400000000000000")),
    "tagged": vlan(vlan(wire.ipv6(wire.udp(bytes(33), addresses=A6), UDP))),
    "headers": wire.ipv6(
        bytes.fromhex("3c00010400000000 2b011e0c000000000000000000000000 2c00000000000000 11ff000000000001")
        + wire.udp(addresses=A6),
        0,
    ),
    "icmpv6": wire.ipv6(wire.icmpv6(135, bytes(20)), ICMPV6, hop_limit=255),
    "arp": wire.ethernet(bytes.fromhex("0001 0800 06 04 0001") + bytes(20), 0x0806),
}


@pytest.mark.parametrize("name", SOME)
def test_the_frames_to_cut_are_good(name: str) -> None:
    assert verdict(SOME[name]) == StackReason.NOT_DROPPED_YET


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """One of the frames above with bytes changed, or cut."""
    frame = bytearray(draw(st.sampled_from(list(SOME.values()))))
    values = st.one_of(st.sampled_from([0, 1, 0xFF]), st.integers(0, 255))
    for _ in range(draw(st.integers(0, 4))):
        frame[draw(st.integers(12, len(frame) - 1))] = draw(values)
    return bytes(frame[: draw(st.integers(14, len(frame)))])


@settings(max_examples=300, deadline=None)
@given(frame=damaged(), layout=layouts())
@example(frame=SOME["headers"], layout={"linear": 14, "pieces": (1,) * 24, "own": 0})
@example(frame=SOME["tcp"], layout={"linear": 15, "pieces": (7, 9, 31), "own": 2})
def test_cut_into_pieces_a_frame_is_still_the_same(frame: bytes, layout: dict[str, object]) -> None:
    whole, cut, machine = ProtocolStack(), ProtocolStack(), ProtocolStack()
    expected = receive_checked(whole, kit.build(frame))
    skb = kit.build(frame, **layout)  # type: ignore[arg-type]
    # As plain Python, where each access is checked: a piece's memory ends where the piece does.
    assert receive_checked(cut, skb) == expected
    assert receive(machine, skb) == expected
    assert cut.snmp() == whole.snmp() == machine.snmp()


@settings(max_examples=300, deadline=None)
@given(
    noise=st.binary(max_size=200),
    kind=st.sampled_from([0x0800, 0x86DD, 0x0806, 0x8100, 0x88A8, 0x0005]),
    first=st.sampled_from([0x45, 0x46, 0x4F, 0x60, 0x00]),
    layout=layouts(),
)
def test_noise_stays_inside_its_bytes(noise: bytes, kind: int, first: int, layout: dict[str, object]) -> None:
    frame = wire.ethernet(bytes([first]) + noise, kind)
    stack = ProtocolStack()
    skb = kit.build(frame, **layout)  # type: ignore[arg-type]
    skb.ip_summed = CHECKSUM_UNNECESSARY
    reason = receive_checked(stack, skb)
    assert stack.reasons()[StackReason(reason).key] == 1
    assert sum(stack.reasons().values()) == 1


def test_a_wild_access_would_be_seen() -> None:
    datagram = wire.ipv4(wire.udp(bytes(20)), UDP)
    skb = kit.build(datagram[:-8])
    skb.len += 8  # a lie: the memory ends before
    with pytest.raises(WildAccessError):
        receive_checked(ProtocolStack(), skb)


@pytest.mark.parametrize("size", [0, 1, 13, 14, 65_536, 262_144])
@pytest.mark.parametrize("filler", [b"\x00", b"\xff", b"\x45", b"\x60", b"\x81\x00", b"\x86\xdd", b"\x08\x00\x45\x00"])
def test_frames_of_one_pattern(size: int, filler: bytes) -> None:
    stack = ProtocolStack()
    receive(stack, kit.build((filler * size)[:size], linear=128, pieces=(4096,) * 60))
    assert sum(stack.reasons().values()) == 1


@pytest.mark.parametrize("path", own_captures() + shared_captures(), ids=lambda path: "/".join(path.parts[-2:]))
def test_captures(path: Path) -> None:
    stack = ProtocolStack()
    frames = [frame.data for frame in read_capture(path, None)]
    for frame in frames:
        if len(frame) < 14:
            assert verdict(frame, stack) == StackReason.HDR_TRUNC
            continue
        assert 0 <= receive(stack, kit.build(frame, linear=128, pieces=(4096,) * 60)) < REASON_COUNT
    assert sum(stack.reasons().values()) == len(frames)
