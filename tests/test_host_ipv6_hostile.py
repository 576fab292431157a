"""Anything at all as IPv6 into a host and a router: nothing raised, every access checked, every frame counted once."""

from __future__ import annotations

import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from netemu.skb import CHECKSUM_NONE, CHECKSUM_PARTIAL, CHECKSUM_UNNECESSARY
from netemu.stack.neighbours import NEIGHBOUR_COUNT
from tests import wire
from tests.host_kit import PEER_MAC
from tests.ipv6_kit import (
    ALL_NODES,
    HOST,
    HOST_LINK,
    PEER,
    PEER_LINK,
    SixBench,
    advertisement,
    link_option,
    message,
    packed,
    prefix_option,
    router_advertisement,
    solicitation,
    solicited_node,
)
from tests.skb_kit import layouts
from tests.wire import DEST, FRAGMENT, ICMPV6, NONE, ROUTING, TCP, UDP

HOP = 0
SOURCES = [PEER, PEER, PEER, PEER_LINK, PEER_LINK, "::", "::1", "2001:db8:77::1", "ff02::1", HOST]
TARGETS = [
    *[HOST] * 6,
    HOST_LINK,
    ALL_NODES,
    solicited_node(HOST),
    "ff02::2",
    "ff02::fb",
    "2001:db8:9::9",
    "::1",
    "2001:db8::1",
]
ADDRESSES = st.builds(
    lambda source, target: packed(source) + packed(target), st.sampled_from(SOURCES), st.sampled_from(TARGETS)
)

OPTIONS = st.lists(
    st.one_of(
        st.just(b"\0"),
        st.builds(
            lambda kind, data: bytes([kind, len(data)]) + data,
            st.sampled_from([1, 5, 0x1E, 0x5E, 0x9E, 0xDE, 0xC2]),
            st.binary(max_size=12),
        ),
    ),
    max_size=6,
).map(b"".join)


def _extension(kind: int, following: int, body: bytes, length: int | None) -> bytes:
    """An extension header; its length is right unless told otherwise."""
    if kind == FRAGMENT:
        return bytes([following]) + (body + bytes(7))[:7]
    body += bytes(-(len(body) + 2) % 8)
    return bytes([following, (len(body) + 2) // 8 - 1 if length is None else length]) + body


@st.composite
def nested(draw: st.DrawFn) -> bytes:
    """A packet with any extension headers one behind the other, some of them with a wrong length."""
    kinds = draw(st.lists(st.sampled_from([HOP, DEST, ROUTING, FRAGMENT]), max_size=6))
    upper = draw(st.sampled_from([UDP, TCP, ICMPV6, NONE, 200, FRAGMENT, HOP]))
    addresses = draw(ADDRESSES)
    payload = draw(st.binary(max_size=64))
    if upper == UDP and draw(st.booleans()):
        payload = wire.udp(payload, addresses=addresses)
    if upper == ICMPV6 and draw(st.booleans()):
        payload = wire.icmpv6(draw(st.integers(0, 255)), draw(st.binary(min_size=4, max_size=80)), addresses=addresses)
    data, following = payload, upper
    for kind in reversed(kinds):
        if kind == FRAGMENT:
            body = struct.pack(">BHI", 0, draw(st.sampled_from([0, 1, 8, 9, 16, 0xFFF8])), draw(st.integers(0, 2)))
        else:
            body = draw(st.one_of(OPTIONS, st.binary(max_size=30)))
        length = draw(st.sampled_from([None] * 9 + [0, 1, 7, 255]))
        data = _extension(kind, following, body, length) + data
        following = kind
    size = draw(st.sampled_from([None] * 9 + [0, 1, 8, 40, 200]))
    hop_limit = draw(st.sampled_from([0, 1, 64, 255]))
    return wire.ipv6(data, following, addresses=addresses, length=size, hop_limit=hop_limit)


@st.composite
def discovery(draw: st.DrawFn) -> bytes:
    """A message of neighbour discovery, whose checksum is right, with any options."""
    known = [link_option(1, PEER_MAC), link_option(2, PEER_MAC), prefix_option("2001:db8:cafe::/64"), bytes(8)]
    known += [struct.pack(">BBHI", 5, 1, 0, 1400), prefix_option("2001:db8:beef::/64", valid=0, preferred=0)]
    options = b"".join(draw(st.lists(st.one_of(st.sampled_from(known), st.binary(max_size=20)), max_size=4)))
    body = draw(st.one_of(st.binary(max_size=24), st.just(bytes(4) + packed(HOST)), st.just(bytes(4) + packed(PEER))))
    return message(
        draw(st.integers(130, 143)),
        body + options,
        draw(st.sampled_from(SOURCES[:7])),
        draw(st.sampled_from(TARGETS)),
        code=draw(st.sampled_from([0, 0, 0, 1])),
        dst=wire.HOST_MAC,
    )


OWN = wire.ipv6(bytes(20), UDP, addresses=packed(HOST) + packed(PEER))[14:]
GOOD = [
    solicitation(),
    advertisement(),
    router_advertisement(prefix_option("2001:db8:cafe::/64") + link_option(1, PEER_MAC)),
    message(128, bytes(20), PEER, HOST),
    message(2, struct.pack(">I", 1300) + OWN, PEER, HOST),
    wire.ipv6(struct.pack(">BBHI", ICMPV6, 0, 1, 9) + bytes(64), FRAGMENT),
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A good frame with some bytes changed, cut off or longer."""
    frame = bytearray(draw(st.sampled_from(GOOD)))
    for _ in range(draw(st.integers(1, 5))):
        frame[draw(st.integers(14, len(frame) - 1))] = draw(st.integers(0, 255))
    end = draw(st.integers(14, len(frame)))
    return bytes(frame[:end]) if draw(st.booleans()) else bytes(frame) + draw(st.binary(max_size=20))


FRAMES = st.lists(st.tuples(st.one_of(nested(), discovery(), mutated()), layouts()), min_size=1, max_size=8)


def accounted(bench: SixBench, count: int) -> None:
    """Every frame has one verdict, and Linux's books agree with each other."""
    reasons = bench.stack.reasons()
    loopback = bench.moved().get("Ip6InReceives", 0) - count
    assert sum(reasons.values()) == count + loopback
    moved = bench.moved()
    out = sum(value for name, value in moved.items() if name.startswith("Icmp6OutType"))
    assert moved.get("Icmp6OutMsgs", 0) == out
    assert moved.get("Ip6InDelivers", 0) <= moved.get("Ip6InReceives", 0)


@given(FRAMES, st.booleans(), st.booleans(), st.floats(0, 70))
@settings(max_examples=60, deadline=None)
def test_anything(frames: list[tuple[bytes, dict[str, object]]], forwarding: bool, vouched: bool, wait: float) -> None:
    bench = SixBench(forwarding=forwarding)
    bench.know(PEER_LINK)
    if forwarding:
        bench.stack.ip6.advertise(bench.eth0)
        bench.stack.add_route("2001:db8:77::/48", via=PEER)
    before = sum(bench.stack.reasons().values())
    assert before == 0
    for frame, layout in frames:
        skb = bench.skb(frame, **layout)
        skb.protocol = 0x86DD
        # A device that vouches for all checksums lets in what would stop at one.
        skb.ip_summed = CHECKSUM_UNNECESSARY if vouched else CHECKSUM_NONE
        bench.take(skb)
    bench.run(wait)
    accounted(bench, len(frames))
    for frame in bench.frames():
        assert len(frame) <= 1514
        assert frame[12:14] == b"\x86\xdd"


@given(
    st.integers(0, 200),
    st.integers(-20, 200),
    st.integers(-20, 200),
    st.sampled_from([0, 1, 4, 5, 3, 0x84]),
    st.integers(0, 80),
)
@settings(max_examples=60, deadline=None)
def test_anything_that_a_virtio_header_may_say_of_what_is_sent_on(
    size: int, start: int, offset: int, kind: int, gso_size: int
) -> None:
    bench = SixBench(forwarding=True)
    bench.stack.add_route("2001:db8:77::/48", via=PEER)
    bench.know(PEER)
    addresses = packed(PEER_LINK.replace("fe80", "2001:db8:5")) + packed("2001:db8:77::1")
    skb = bench.skb(
        wire.ipv6(bytes(n * 11 & 0xFF for n in range(size)), TCP, addresses=addresses), linear=60, pieces=(30,)
    )
    skb.ip_summed, skb.csum_start, skb.csum_offset = CHECKSUM_PARTIAL, start, offset
    skb.gso_type, skb.gso_size = kind, gso_size if kind else 0
    bench.take(skb)
    for frame in bench.frames():
        assert frame[14] >> 4 == 6


def test_a_flood_of_neighbours_takes_no_more_than_there_is_room_for() -> None:
    """Everybody says who he is: the oldest ones are forgotten, the host goes on."""
    bench = SixBench()
    for number in range(NEIGHBOUR_COUNT + 50):
        bench.receive(solicitation(HOST, f"2001:db8:9::{number + 16:x}"))
        bench.sent.clear()
    assert len(bench.stack.ip.neighbour_list()) <= NEIGHBOUR_COUNT
    bench.receive(solicitation())
    assert [one.target for one in bench.packets()] == [PEER]
