"""A router: what is sent on, how it changes, and what its sender hears when it is not (RFC 1812, RFC 791, RFC 1191)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netemu.skb import CHECKSUM_PARTIAL, CHECKSUM_UNNECESSARY
from netemu.stack.host import OFFLOAD_CSUM, OFFLOAD_TSO4, OFFLOAD_USO, Interface
from netemu.stack.reasons import StackReason
from tests import wire
from tests.host_kit import MAC, PEER_MAC, HostBench, Sent
from tests.skb_kit import layouts
from tests.wire import put

MAC1, FAR_MAC = bytes.fromhex("020000000011"), bytes.fromhex("020000000012")
THERE = wire.pack_addresses("10.9.0.2", "10.8.0.2")
DF = 0x4000


class Router(HostBench):
    """eth0 10.9.0.1/24 towards the peer, eth1 10.8.0.1/24 towards the far host."""

    def __init__(self, *, mtu: int = 1500, offloads: int = 0, forwarding: bool = True) -> None:
        super().__init__(forwarding=forwarding)
        self.eth1: Interface = self.interface(MAC1, "10.8.0.1/24", mtu=mtu, offloads=offloads)
        self.know("10.9.0.2", PEER_MAC)
        self.know("10.8.0.2", FAR_MAC, self.eth1)

    def error(self) -> bytes:
        """The ICMP message in the only frame that was sent, back to the peer."""
        (sent,) = self.taken()
        assert sent.interface == 1
        assert sent.data[:14] == PEER_MAC + MAC + b"\x08\x00"
        assert sent.data[26:34] == wire.pack_addresses("10.9.0.1", "10.9.0.2")
        assert sent.data[15] == 0xC0
        assert wire.internet_checksum(sent.data[14:34]) == wire.internet_checksum(sent.data[34:]) == 0
        return sent.data[34:]


def udp_frame(payload: bytes = b"hello", **how: Any) -> bytes:
    return wire.ipv4(wire.udp(payload, addresses=THERE), 17, addresses=THERE, **how)


def with_ttl(frame: bytes, ttl: int) -> bytes:
    frame = put(put(frame, 22, bytes([ttl])), 24, bytes(2))
    return put(frame, 24, wire.internet_checksum(frame[14:34]).to_bytes(2, "big"))


def number(frame: bytes, at: int, size: int = 2) -> int:
    return int.from_bytes(frame[at : at + size], "big")


def test_a_packet_goes_on_with_one_hop_less_and_nothing_else_changed() -> None:
    router = Router()
    assert router.receive(udp_frame()) == StackReason.FORWARDED
    (sent,) = router.taken()
    assert sent.interface == 2
    assert sent.data == FAR_MAC + MAC1 + with_ttl(udp_frame(), 63)[12:]
    moved = router.moved()
    assert moved["IpForwDatagrams"] == moved["IpOutTransmits"] == 1
    assert "IpOutRequests" not in moved
    assert "IpInDelivers" not in moved


@given(ttl=st.integers(2, 255), payload=st.binary(max_size=64), layout=layouts(), identification=st.integers(0, 0xFFFF))
@settings(max_examples=80, deadline=None)
def test_the_header_checksum_is_right_however_the_packet_lies(
    ttl: int, payload: bytes, layout: dict[str, Any], identification: int
) -> None:
    """RFC 1624: mended, not made anew."""
    router = Router()
    frame = with_ttl(put(udp_frame(payload), 18, identification.to_bytes(2, "big")), ttl)
    assert router.receive(frame, **layout) == StackReason.FORWARDED
    (sent,) = router.taken()
    assert sent.data[14:] == with_ttl(frame, ttl - 1)[14:]


def test_options_and_padding() -> None:
    """Options go on as they are; padding of the frame is not the packet's."""
    router = Router()
    frame = udp_frame(options=bytes.fromhex("94040000 01010101"))
    router.receive(frame + bytes(18))
    (sent,) = router.taken()
    assert len(sent.data) == len(frame)
    assert sent.data[34:] == frame[34:]
    assert wire.internet_checksum(sent.data[14:42]) == 0


def test_a_host_that_is_no_router_sends_nothing_on() -> None:
    router = Router(forwarding=False)
    assert router.receive(udp_frame()) == StackReason.IP_INADDRERRORS
    assert router.frames() == []
    assert router.moved()["IpInAddrErrors"] == 1


@pytest.mark.parametrize("ttl", [0, 1])
def test_a_packet_whose_time_is_over_is_reported(ttl: int) -> None:
    """RFC 792: time exceeded, code 0, with the packet as it came."""
    router = Router()
    frame = with_ttl(udp_frame(), ttl)
    assert router.receive(frame) == StackReason.IP_TTL
    assert router.error() == wire.icmp(11, bytes(4) + frame[14:])
    moved = router.moved()
    assert moved["IpInHdrErrors"] == moved["IcmpOutTimeExcds"] == 1
    assert "IpForwDatagrams" not in moved


def test_without_a_route_the_sender_is_told() -> None:
    router = Router()
    away = wire.pack_addresses("10.9.0.2", "192.0.2.1")
    frame = wire.ipv4(wire.udp(addresses=away), 17, addresses=away)
    assert router.receive(frame) == StackReason.IP_INNOROUTES
    assert router.error() == wire.icmp(3, bytes(4) + frame[14:])
    assert router.moved()["IpExtInNoRoutes"] == 1


def test_a_route_may_refuse_aloud_or_in_silence() -> None:
    router = Router()
    router.stack.add_route("192.0.2.0/25", kind="unreachable")
    router.stack.add_route("192.0.2.128/25", kind="blackhole")
    for last, code in ((1, 1), (129, None)):
        away = wire.pack_addresses("10.9.0.2", f"192.0.2.{last}")
        frame = wire.ipv4(wire.udp(addresses=away), 17, addresses=away)
        assert router.receive(frame) == StackReason.IP_INNOROUTES
        if code is None:
            assert router.frames() == []
        else:
            assert router.error() == wire.icmp(3, bytes(4) + frame[14:], code=code)


def test_a_packet_too_long_for_the_next_link_is_reported_with_its_mtu_or_cut() -> None:
    """RFC 1191 section 4: the MTU stands in the low 16 bits of the unused word; an error quotes up to 548 bytes."""
    router = Router(mtu=576)
    frame = udp_frame(bytes(range(256)) * 3, fragment=DF)
    assert router.receive(frame) == StackReason.PKT_TOO_BIG
    assert router.error() == wire.icmp(3, b"\x00\x00\x02\x40" + frame[14:][:548], code=4)
    assert router.moved()["IpFragFails"] == 1
    frame = udp_frame(bytes(range(256)) * 3)
    assert router.receive(frame) == StackReason.FORWARDED
    parts = router.frames()
    assert [number(part, 16) for part in parts] == [572, 244]
    assert [number(part, 20) for part in parts] == [0x2000, 69]
    assert b"".join(part[34:] for part in parts) == frame[34:]


def test_a_fragment_may_be_cut_again() -> None:
    """RFC 791: the pieces of one that others follow all say so."""
    router = Router(mtu=296)
    frame = wire.ipv4(bytes(800), 17, addresses=THERE, fragment=0x2000 | 100)
    router.receive(frame)
    assert [number(part, 20) for part in router.frames()] == [0x2000 | 100, 0x2000 | 134, 0x2000 | 168]


def test_only_copied_options_stand_in_later_fragments() -> None:
    """RFC 791 section 3.1: record route (7) has no copied flag, router alert (148) has."""
    router = Router(mtu=96)
    router.receive(udp_frame(bytes(100), options=bytes.fromhex("94040000 0707 04 00000000 01")))
    first, second, *_ = router.frames()
    assert first[34:46].hex() == "940400000707040000000001"
    assert second[34:46].hex() == "940400000101010101010101"
    assert wire.internet_checksum(second[14:46]) == 0


def test_a_packet_for_a_neighbour_that_nobody_is_is_reported() -> None:
    router = Router()
    away = wire.pack_addresses("10.9.0.2", "10.8.0.9")
    frame = wire.ipv4(wire.udp(addresses=away), 17, addresses=away)
    assert router.receive(frame) == StackReason.FORWARDED
    router.run(2.9)
    router.taken()
    router.run(0.2)
    assert router.error() == wire.icmp(3, bytes(4) + with_ttl(frame, 63)[14:], code=1)


def test_a_sender_on_the_next_hops_link_is_redirected_to_it() -> None:
    """RFC 1812 section 5.2.7.2: type 5 code 1, and the packet goes on all the same."""
    router = Router()
    router.know("10.9.0.3", FAR_MAC)
    router.stack.add_route("192.0.2.0/24", via="10.9.0.3")
    away = wire.pack_addresses("10.9.0.2", "192.0.2.1")
    frame = wire.ipv4(wire.udp(addresses=away), 17, addresses=away)
    assert router.receive(frame) == StackReason.FORWARDED
    redirect, packet = router.frames()
    assert redirect[34:] == wire.icmp(5, bytes([10, 9, 0, 3]) + frame[14:], code=1)
    assert packet[:12] == FAR_MAC + MAC


def test_a_frame_to_all_stations_is_not_sent_on() -> None:
    router = Router()
    assert router.receive(udp_frame(dst=wire.EVERYONE)) == StackReason.OTHERHOST
    assert router.frames() == []


def test_an_interface_without_room_is_counted() -> None:
    router = Router()
    router.full = True
    assert router.receive(udp_frame()) == StackReason.IP_OUTDISCARDS
    assert router.moved()["IpOutDiscards"] == 1


# What the sender left undone.


def undone(frame: bytes, check: int) -> bytes:
    """The frame with the sum of its pseudo-header in place of the checksum."""
    addresses, protocol, size = frame[26:34], frame[23], len(frame) - 34
    total = wire.internet_checksum(wire.pseudo(addresses, protocol, size)) ^ 0xFFFF
    return put(frame, 34 + check, total.to_bytes(2, "big"))


def take_undone(router: Router, frame: bytes, check: int, size: int = 0, kind: int = 0, **layout: Any) -> list[Sent]:
    skb = router.skb(undone(frame, check), **layout)
    skb.ip_summed, skb.csum_start, skb.csum_offset = CHECKSUM_PARTIAL, 34, check
    skb.gso_size, skb.gso_type = size, kind
    assert router.take(skb) == StackReason.FORWARDED
    return router.taken()


@given(payload=st.binary(max_size=99), layout=layouts(), offloads=st.sampled_from([0, OFFLOAD_CSUM]))
@settings(max_examples=50, deadline=None)
def test_an_unfinished_checksum_is_left_to_the_next_interface_or_made(
    payload: bytes, layout: dict[str, Any], offloads: int
) -> None:
    router = Router(offloads=offloads)
    frame = udp_frame(payload)
    (sent,) = take_undone(router, frame, 6, **layout)
    expected = with_ttl(undone(frame, 6) if offloads else frame, 63)
    assert sent.data[14:] == expected[14:]
    assert (sent.partial, sent.start, sent.offset if sent.partial else 6) == (int(offloads != 0), 34, 6)


def test_one_of_a_header_further_in_is_made_here() -> None:
    """UDP in UDP: the inner checksum is unfinished, which the next interface could not be told."""
    router = Router(offloads=OFFLOAD_CSUM)
    inner = wire.udp(b"inside", addresses=THERE)
    frame = udp_frame(inner)
    total = wire.internet_checksum(wire.pseudo(THERE, 17, len(inner))) ^ 0xFFFF
    skb = router.skb(put(frame, 42 + 6, total.to_bytes(2, "big")))
    skb.ip_summed, skb.csum_start, skb.csum_offset = CHECKSUM_PARTIAL, 42, 6
    assert router.take(skb) == StackReason.FORWARDED
    (sent,) = router.taken()
    assert sent.partial == 0
    assert sent.data[42:] == inner


def tcp_frame(size: int) -> bytes:
    head = bytes.fromhex("0fa00009 00000064 00000000 5019 1000 0000 0000")
    payload = bytes(n & 0xFF for n in range(size))
    total = wire.internet_checksum(wire.pseudo(THERE, 6, 20 + size) + head + payload)
    return wire.ipv4(put(head, 16, total.to_bytes(2, "big")) + payload, 6, addresses=THERE)


def test_a_long_segment_goes_on_whole_where_the_next_interface_cuts() -> None:
    router = Router(offloads=OFFLOAD_CSUM | OFFLOAD_TSO4)
    (sent,) = take_undone(router, tcp_frame(5000), 16, 1460, 1, linear=100)
    assert (sent.gso_size, sent.gso_type, sent.partial, sent.start, sent.offset) == (1460, 1, 1, 34, 16)
    assert sent.data[14:] == with_ttl(undone(tcp_frame(5000), 16), 63)[14:]


@pytest.mark.parametrize(("mtu", "offloads"), [(1500, 0), (1500, OFFLOAD_CSUM), (1000, OFFLOAD_CSUM | OFFLOAD_TSO4)])
def test_a_long_segment_is_cut_where_it_does_not_or_its_mtu_is_less(mtu: int, offloads: int) -> None:
    router = Router(mtu=mtu, offloads=offloads)
    sent = take_undone(router, tcp_frame(3000), 16, 1460, 1)
    if mtu == 1500:
        assert [number(one.data, 16) for one in sent] == [1500, 1500, 120]
        assert [number(one.data, 38, 4) for one in sent] == [100, 1560, 3020]
        assert [one.data[47] for one in sent] == [0x10, 0x10, 0x19]
        assert b"".join(one.data[54:] for one in sent) == tcp_frame(3000)[54:]
        if not offloads:
            for one in sent:
                pseudo = wire.pseudo(THERE, 6, len(one.data) - 34)
                assert wire.internet_checksum(pseudo + one.data[34:]) == 0
    else:
        assert all(number(one.data, 16) <= mtu for one in sent)
        assert [number(one.data, 20) for one in sent] == [0x2000, 122, 0x2000, 122, 0]


def test_a_long_segment_whose_parts_are_too_long_and_must_not_be_cut_is_reported() -> None:
    router = Router(mtu=1000, offloads=OFFLOAD_CSUM | OFFLOAD_TSO4)
    frame = tcp_frame(3000)
    frame = put(put(frame, 20, b"\x40\x00"), 24, bytes(2))
    frame = put(frame, 24, wire.internet_checksum(frame[14:34]).to_bytes(2, "big"))
    skb = router.skb(undone(frame, 16))
    skb.ip_summed, skb.csum_start, skb.csum_offset, skb.gso_size, skb.gso_type = CHECKSUM_PARTIAL, 34, 16, 1460, 1
    assert router.take(skb) == StackReason.PKT_TOO_BIG
    assert router.error()[:8] == wire.icmp(3, b"\x00\x00\x03\xe8" + undone(frame, 16)[14:562], code=4)[:8]


@pytest.mark.parametrize("offloads", [0, OFFLOAD_CSUM | OFFLOAD_USO])
def test_datagrams_sent_as_one(offloads: int) -> None:
    """GSO_UDP_L4 (virtio's USO): each part is a datagram of its own."""
    router = Router(offloads=offloads)
    frame = udp_frame(bytes(2500))
    sent = take_undone(router, frame, 6, 1000, 5)
    if offloads:
        assert [(one.gso_size, one.gso_type) for one in sent] == [(1000, 5)]
        return
    assert [number(one.data, 38) for one in sent] == [1008, 1008, 508]
    for one in sent:
        assert one.data[34:] == wire.udp(bytes(len(one.data) - 42), addresses=THERE)


def test_one_datagram_that_was_to_be_fragmented_is() -> None:
    """GSO_UDP (virtio's UFO)."""
    router = Router(offloads=OFFLOAD_CSUM)
    frame = udp_frame(bytes(2500))
    sent = take_undone(router, frame, 6, 1480, 3)
    assert [number(one.data, 20) for one in sent] == [0x2000, 185]
    assert b"".join(one.data[34:] for one in sent) == frame[34:]


@given(
    noise=st.binary(max_size=120), size=st.integers(1, 70000), kind=st.integers(0, 255), start=st.integers(0, 200),
    offset=st.integers(0, 200), layout=layouts(),
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_what_is_said_of_a_packet_need_not_be_true(
    noise: bytes, size: int, kind: int, start: int, offset: int, layout: dict[str, Any]
) -> None:
    """A guest may write anything into its virtio header; every access is checked here."""
    router = Router()
    for protocol in (6, 17, 99):
        skb = router.skb(wire.ipv4(noise, protocol, addresses=THERE), **layout)
        skb.ip_summed = CHECKSUM_PARTIAL if start & 1 else CHECKSUM_UNNECESSARY
        skb.csum_start, skb.csum_offset, skb.gso_size, skb.gso_type = start, offset, size if kind & 1 else 0, kind >> 1
        assert router.take(skb) in (StackReason.FORWARDED, StackReason.IP_INHDR, StackReason.PKT_TOO_BIG)
    assert sum(router.stack.reasons().values()) == 3
