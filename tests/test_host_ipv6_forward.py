"""A router of IPv6 (RFC 8200, RFC 4443): what it sends on, and what it says of what it does not."""

from __future__ import annotations

import struct

import pytest

from netemu.skb import CHECKSUM_PARTIAL, Skb
from netemu.stack.host import OFFLOAD_CSUM, OFFLOAD_TSO6, Interface
from netemu.stack.reasons import StackReason
from tests import wire
from tests.host_kit import PEER_MAC
from tests.ipv6_kit import PEER, SixBench, packed, seen
from tests.wire import DEST, ICMPV6, TCP, UDP, internet_checksum, pseudo, put

FAR, FAR_ROUTER = "2001:db8:a::2", "2001:db8:a::1"
FAR_MAC = bytes.fromhex("020000000022")
THERE = packed(PEER) + packed(FAR)
SENT_ON = StackReason.FORWARDED


def router(*, mtu: int = 1500, offloads: int = 0) -> tuple[SixBench, Interface]:
    """A router between HOST's link and 2001:db8:a::/64, where FAR is."""
    bench = SixBench(forwarding=True)
    other = bench.interface(bytes.fromhex("020000000021"), f"{FAR_ROUTER}/64", mtu=mtu, offloads=offloads)
    bench.run(5)
    bench.know(PEER)
    bench.know(FAR, FAR_MAC, other)
    bench.frames()
    return bench, other


def datagram(size: int = 100, *, hop_limit: int = 64) -> bytes:
    return wire.ipv6(
        wire.udp(bytes(n & 0xFF for n in range(size)), addresses=THERE), UDP, addresses=THERE, hop_limit=hop_limit
    )


def unfinished(bench: SixBench, payload: bytes, *, gso_size: int = 0) -> tuple[Skb, bytes]:
    """A TCP packet as a device with offloads hands it up."""
    segment = wire.tcp(payload, addresses=THERE)
    total = internet_checksum(pseudo(THERE, TCP, len(segment))) ^ 0xFFFF
    frame = wire.ipv6(put(segment, 16, struct.pack(">H", total)), TCP, addresses=THERE)
    skb = bench.skb(frame, linear=60, pieces=(50, 400))
    skb.ip_summed, skb.csum_start, skb.csum_offset = CHECKSUM_PARTIAL, 54, 16
    skb.gso_size, skb.gso_type = gso_size, 4 if gso_size else 0
    return skb, frame


@pytest.mark.parametrize("layout", [{}, {"linear": 40, "pieces": (30, 9)}, {"linear": 14, "pieces": (40,)}])
def test_a_packet_goes_on_with_one_hop_less(layout: dict[str, object]) -> None:
    bench, _ = router()
    frame = datagram()
    assert bench.receive(frame, **layout) == SENT_ON  # type: ignore[arg-type]
    (sent,) = bench.taken()
    assert sent.interface == 2
    assert sent.data == FAR_MAC + bytes.fromhex("020000000021 86dd") + put(frame[14:], 7, b"\x3f")
    moved = bench.moved()
    assert moved["Ip6OutForwDatagrams"] == 1
    assert "Ip6InDelivers" not in moved


def test_extension_headers_and_flow_label_go_on_as_they_came() -> None:
    bench, _ = router()
    options = bytes([UDP, 0, 0xC1, 4, 1, 2, 3, 4])  # an option that the router does not know is not its business
    frame = wire.ipv6(options + wire.udp(addresses=THERE), DEST, addresses=THERE, traffic_class=0xB8)
    frame = put(frame, 15, bytes([frame[15] | 0x0A, 0xBC, 0xDE]))
    assert bench.receive(frame) == SENT_ON
    assert bench.frames()[0][14:] == put(frame[14:], 7, b"\x3f")


@pytest.mark.parametrize("hop_limit", [0, 1])
def test_the_last_hop(hop_limit: int) -> None:
    """RFC 4443 section 3.3."""
    bench, _ = router()
    frame = datagram(hop_limit=hop_limit)
    assert bench.receive(frame) == StackReason.IP_TTL
    (one,) = bench.packets()
    assert (one.target, one.payload[:2], one.payload[8:]) == (PEER, b"\x03\x00", frame[14:])
    assert one.checksum_right
    assert bench.moved()["Ip6InHdrErrors"] == 1


def test_no_route() -> None:
    """RFC 4443 section 3.1, code 0."""
    bench, _ = router()
    addresses = packed(PEER) + packed("2001:db8:ffff::1")
    frame = wire.ipv6(wire.udp(addresses=addresses), UDP, addresses=addresses)
    assert bench.receive(frame) == StackReason.IP_INNOROUTES
    assert bench.packets()[0].payload[:2] == b"\x01\x00"
    assert bench.moved()["Ip6InNoRoutes"] == 1


def test_a_link_that_takes_less() -> None:
    """RFC 4443 section 3.2: the MTU of the next link is told, and no router cuts."""
    bench, _ = router(mtu=1400)
    assert bench.receive(datagram(1352)) == SENT_ON
    bench.frames()
    frame = datagram(1353)
    assert bench.receive(frame) == StackReason.PKT_TOO_BIG
    (one,) = bench.packets()
    assert one.payload[:2] == b"\x02\x00"
    assert one.payload[4:8] == struct.pack(">I", 1400)
    assert one.payload[8:] == frame[14:][:1232]
    assert bench.moved()["Ip6InTooBigErrors"] == bench.moved()["Ip6FragFails"] == 1


def test_too_big_is_said_as_often_as_it_happens() -> None:
    """Linux's ratemask leaves it out: a path MTU that nobody learns of is a black hole."""
    bench, _ = router(mtu=1280)
    for _ in range(20):
        bench.receive(datagram(1400))
    assert len(bench.frames()) == 20


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        pytest.param("fe80::9", FAR, b"\x01\x02", id="from a link-local address"),
        pytest.param(PEER, "fe80::99", b"\x01\x02", id="to one that is not ours"),
        pytest.param("::", FAR, None, id="from nobody"),
    ],
)
def test_what_stays_on_its_link(source: str, target: str, expected: bytes | None) -> None:
    """RFC 4291 section 2.5.2 and 2.5.6; beyond scope of source address is code 2 (RFC 4443 section 3.1)."""
    bench, _ = router()
    bench.know("fe80::9")
    addresses = packed(source) + packed(target)
    assert bench.receive(wire.ipv6(b"", 59, addresses=addresses)) == StackReason.IP_INADDRERRORS
    assert [one.payload[:2] for one in bench.packets()] == ([expected] if expected else [])
    assert bench.moved()["Ip6InAddrErrors"] == 1


def test_a_host_sends_nothing_on() -> None:
    bench, _ = router()
    bench.host.forwarding = 0
    assert bench.receive(datagram()) == StackReason.IP_INADDRERRORS
    assert bench.frames() == []
    assert bench.moved()["Ip6InAddrErrors"] == 1


def test_a_router_answers_on_all_its_addresses() -> None:
    bench, _ = router()
    addresses = packed(PEER) + packed(FAR_ROUTER)
    bench.receive(wire.ipv6(wire.icmpv6(128, bytes(4), addresses=addresses), ICMPV6, addresses=addresses))
    (one,) = bench.packets()
    assert (one.source, one.dst) == (FAR_ROUTER, PEER_MAC)


class TestUndone:
    """What a sender left to hardware."""

    def test_a_checksum_stays_undone_for_a_device_that_does_it(self) -> None:
        bench, other = router(offloads=OFFLOAD_CSUM)
        skb, frame = unfinished(bench, b"hello")
        assert bench.take(skb) == SENT_ON
        (sent,) = bench.taken()
        assert (sent.partial, sent.start, sent.offset) == (1, 54, 16)
        assert sent.data[14:] == put(frame[14:], 7, b"\x3f")
        assert sent.interface == other.index

    def test_or_is_done(self) -> None:
        bench, _ = router()
        bench.take(unfinished(bench, b"hello")[0])
        (sent,) = bench.taken()
        assert sent.partial == 0
        assert seen(sent.data).checksum_right

    def test_segments_stay_one_packet(self) -> None:
        bench, _ = router(offloads=OFFLOAD_CSUM | OFFLOAD_TSO6)
        skb, frame = unfinished(bench, bytes(5000), gso_size=1400)
        assert bench.take(skb) == SENT_ON
        (sent,) = bench.taken()
        assert (sent.gso_size, sent.gso_type, sent.partial) == (1400, 4, 1)
        assert sent.data[14:] == put(frame[14:], 7, b"\x3f")

    def test_or_are_cut(self) -> None:
        bench, _ = router()
        bench.take(unfinished(bench, bytes(5000), gso_size=1400)[0])
        packets = bench.packets()
        assert [len(one.payload) - 20 for one in packets] == [1400, 1400, 1400, 800]
        assert all(one.checksum_right and one.hop_limit == 63 for one in packets)

    def test_segments_over_the_next_mtu(self) -> None:
        bench, _ = router(mtu=1400, offloads=OFFLOAD_CSUM | OFFLOAD_TSO6)
        assert bench.take(unfinished(bench, bytes(5000), gso_size=1340)[0]) == SENT_ON
        bench.frames()
        assert bench.take(unfinished(bench, bytes(5000), gso_size=1341)[0]) == StackReason.PKT_TOO_BIG

    @pytest.mark.parametrize(
        ("start", "offset"), [(54, 60), (30, 16), (54, 5000), (9999, 16), (54, 2), (-3, 16), (54, -1)]
    )
    def test_a_header_that_says_nonsense(self, start: int, offset: int) -> None:
        """A guest's virtio header comes this far: no byte outside the packet is touched."""
        bench, _ = router()
        skb, _ = unfinished(bench, b"hello")
        skb.csum_start, skb.csum_offset = start, offset
        assert bench.take(skb) == StackReason.IP_OUTDISCARDS
        assert bench.frames() == []
