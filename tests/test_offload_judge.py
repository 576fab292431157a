"""Frames without a virtio-net header: what is left to do to them shows in themselves, or does not."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netemu.offload import Why
from tests.offload_kit import (
    FINISHED,
    NONE,
    PSEUDO,
    TIMESTAMPS,
    V6,
    Given,
    Made,
    PlainFinisher,
    ether,
    finished,
    finished_by_hand,
    geneve,
    ip4,
    ip6,
    jumbo6,
    marked,
    read,
    read_ip,
    tcp,
    through,
    udp,
    vxlan,
)
from tests.wire import ICMP, TCP, UDP, icmp, internet_checksum, pseudo, put

HOP_BY_HOP = bytes.fromhex("0600050200000100")  # router alert; TCP is next


def left(frame: bytes | Given) -> Why:
    """Why a frame goes on as it came."""
    given = Given(frame) if isinstance(frame, bytes) else frame
    (made,) = finished(given)
    assert made.data == given.data
    assert made.vnet == b""
    return Why(made.note)


UNFINISHED = {
    "TCP": ether(ip4(tcp(b"hello"))),
    "UDP": ether(ip4(udp(b"hello"), UDP)),
    "TCP over IPv6": ether(ip6(tcp(b"hello", addresses=V6))),
    "UDP over IPv6": ether(ip6(udp(b"hello!", addresses=V6), UDP)),
    "behind tags": ether(ip4(tcp(b"hello")), tags=[1, 2]),
    "behind IPv4 options": ether(ip4(tcp(b"hello"), options=bytes.fromhex("94040000"))),
    "behind extension headers": ether(ip6(tcp(b"", addresses=V6), 0, extensions=HOP_BY_HOP)),
}


@pytest.mark.parametrize("what", UNFINISHED)
def test_the_sum_of_the_pseudo_header_is_an_unfinished_checksum(what: str) -> None:
    frame = UNFINISHED[what]
    (made,) = finished(frame)
    assert made.data == finished_by_hand(frame)
    assert left(made.data) == Why.WHOLE


def test_padding_behind_a_packet_is_no_part_of_the_sum() -> None:
    frame = ether(ip4(tcp(b"")))
    (made,) = finished(frame + b"\xaa" * 6)
    assert made.data == finished_by_hand(frame) + b"\xaa" * 6


LEFT = {
    "right": (ether(ip4(tcp(b"hello", check=FINISHED))), Why.WHOLE),
    "ARP": (bytes(12) + b"\x08\x06" + bytes(28), Why.NOT_IP),
    "802.3": (bytes(12) + b"\x00\x26" + bytes(38), Why.NOT_IP),
    "nothing": (b"", Why.NOT_IP),
    "half a header": (bytes(13), Why.NOT_IP),
    "half a tag": (bytes(12) + b"\x81\x00\x00", Why.NOT_IP),
    "ICMP": (ether(ip4(icmp(8, b"ping"), ICMP)), Why.OTHER_PROTOCOL),
    "a first fragment": (ether(ip4(udp(b"hello", check=FINISHED), UDP, fragment=0x2000)), Why.FRAGMENT),
    "a later fragment": (ether(ip4(bytes(80), UDP, fragment=185)), Why.FRAGMENT),
    "a fragment header": (ether(ip6(bytes(24), 44)), Why.FRAGMENT),
    "no checksum": (ether(ip4(udp(b"hello", check=NONE), UDP)), Why.NO_CHECKSUM),
    "a wrong checksum": (ether(ip4(tcp(b"hello", check=NONE))), Why.WRONG_CHECKSUM),
    "a wrong header checksum": (put(ether(ip4(tcp(b"hello"))), 24, b"\0\1"), Why.WRONG_IP_CHECKSUM),
    "the same around ICMP": (put(ether(ip4(icmp(8, b"ping"), ICMP)), 24, b"\0\1"), Why.WRONG_IP_CHECKSUM),
    "a loose source route": (ether(ip4(tcp(b"x"), options=bytes.fromhex("018307040a000001"))), Why.ROUTED),
    "a routing header": (ether(ip6(tcp(b"x"), 43, extensions=bytes.fromhex("0600000100000000"))), Why.ROUTED),
    "IPv4 cut": (ether(ip4(tcp(b"hello")))[:33], Why.MALFORMED),
    "an IHL of 4": (put(ether(ip4(tcp(b"hello"))), 14, b"\x44"), Why.MALFORMED),
    "version 5": (put(ether(ip4(tcp(b"hello"))), 14, b"\x55"), Why.MALFORMED),
    "a total length over the frame": (ether(ip4(tcp(b"hello"), total=46)), Why.MALFORMED),
    "a total length under the header": (ether(ip4(tcp(b"hello"), total=19)), Why.MALFORMED),
    "half a TCP header": (ether(ip4(tcp(b"")[:19])), Why.MALFORMED),
    "a data offset of 4": (put(ether(ip4(tcp(b"hello"))), 46, b"\x40"), Why.MALFORMED),
    "a data offset over the packet": (put(ether(ip4(tcp(b"hello"))), 46, b"\x70"), Why.MALFORMED),
    "half a UDP header": (ether(ip4(udp(b"")[:7], UDP)), Why.MALFORMED),
    "a UDP length of its own": (put(ether(ip4(udp(b"hello"), UDP)), 38, b"\0\x0c"), Why.MALFORMED),
    "IPv6 cut": (ether(ip6(b"", 59))[:53], Why.MALFORMED),
    "a payload length over the frame": (ether(ip6(tcp(b"x"), length=22)), Why.MALFORMED),
    "an extension header cut": (ether(ip6(b"\x06", 0)), Why.MALFORMED),
    "an extension header over the packet": (ether(ip6(bytes([59, 1] + [0] * 14), 0, length=8)), Why.MALFORMED),
    "an extension header over the frame": (ether(ip6(b"\x06\xff" + bytes(30), 0)), Why.MALFORMED),
}


@pytest.mark.parametrize("what", LEFT)
def test_what_is_left_as_it_is_has_a_reason(what: str) -> None:
    frame, why = LEFT[what]
    assert left(frame) == why


def test_a_snapped_frame_cannot_be_judged() -> None:
    frame = ether(ip4(tcp(b"hello")))
    assert left(Given(frame, wire_len=len(frame) + 1)) == Why.SNAPPED


def test_ipv4_headers_left_to_hardware_are_finished_too() -> None:
    """A header checksum of zero, or a total length of zero, as hardware that segments takes it."""
    right = ether(ip4(tcp(b"hello", check=FINISHED)))
    for frame in (put(right, 24, b"\0\0"), put(right, 16, b"\0\0"), put(ether(ip4(tcp(b"hello"))), 24, b"\0\0")):
        (made,) = finished(frame)
        assert made.data == right
    ping = ether(ip4(icmp(8, b"ping"), ICMP))
    (made,) = finished(put(ping, 16, b"\0\0"))
    assert made.data == ping


def test_a_large_packet_may_leave_the_length_out_of_its_pseudo_header() -> None:
    """As some drivers prepare it for their hardware; in a small one that would be a wrong checksum."""
    for size, expected in ((3000, 3), (5, 1)):
        frame = ether(ip4(tcp(marked(size), check=NONE)))
        sum_without = internet_checksum(pseudo(frame[26:34], TCP, 0)) ^ 0xFFFF
        made = finished(put(frame, 50, sum_without.to_bytes(2, "big")))
        assert len(made) == expected
        if expected == 3:
            assert b"".join(read(it.data).payload for it in made) == marked(size)
        else:
            assert made[0].note == Why.WRONG_CHECKSUM


def sizes(made: list[Made]) -> list[int]:
    return [len(read(it.data).payload) for it in made]


@pytest.mark.parametrize("check", [PSEUDO, FINISHED])
def test_segments_fill_the_mtu_with_their_options(check: str) -> None:
    """1500 less 20 and 20, or 12 bytes of options more; IPv6 takes 20 more."""
    assert sizes(finished(ether(ip4(tcp(marked(3000), check=check))))) == [1460, 1460, 80]
    assert sizes(finished(ether(ip4(tcp(marked(3000), options=TIMESTAMPS, check=check))))) == [1448, 1448, 104]
    assert sizes(finished(ether(ip6(tcp(marked(3000), addresses=V6, check=check))))) == [1440, 1440, 120]
    assert sizes(finished(ether(ip4(tcp(marked(3000))), tags=[5]), mtu=1000)) == [960, 960, 960, 120]
    extended = ether(ip6(tcp(marked(3000), addresses=V6), 0, extensions=HOP_BY_HOP))
    assert sizes(finished(extended)) == [1432, 1432, 136]


def test_a_packet_of_just_the_mtu_is_not_cut() -> None:
    assert sizes(finished(ether(ip4(tcp(marked(1460)))))) == [1460]
    assert sizes(finished(ether(ip4(tcp(marked(1461)))))) == [1460, 1]


def test_a_routing_header_at_its_end_changes_nothing() -> None:
    frame = ether(ip6(tcp(b"hello", addresses=V6), 43, extensions=bytes.fromhex("0600000000000000")))
    (made,) = finished(frame)
    assert made.data == finished_by_hand(frame)


def jumbo_datagram(port: int, payload: bytes) -> bytes:
    """A UDP datagram without a length (RFC 2675), its checksum unfinished."""
    data = struct.pack(">HHHH", 40000, port, 0, 0) + payload
    total = internet_checksum(V6 + struct.pack(">II", len(data), UDP)) ^ 0xFFFF
    return put(data, 6, total.to_bytes(2, "big"))


OVER = {
    "ICMP": (ether(ip4(icmp(8, bytes(2000)), ICMP)), Why.TOO_LONG),
    "a fragment": (ether(ip4(bytes(2000), UDP, fragment=0x2000)), Why.TOO_LONG),
    "not IP": (bytes(12) + b"\x88\xb5" + bytes(2000), Why.TOO_LONG),
    "a UDP jumbogram": (ether(jumbo6(jumbo_datagram(4433, marked(70_000)), UDP)), Why.TOO_LONG),
    "a tunnel in a jumbogram": (
        ether(jumbo6(jumbo_datagram(4789, bytes.fromhex("0800000000002a00") + ether(ip4(tcp(marked(65_480))))), UDP)),
        Why.TOO_LONG,
    ),
    "a jumbogram with other options": (
        ether(ip6(struct.pack(">BBBBIQ", 6, 1, 0xC2, 4, 16 + 20, 0x0104) + tcp(b"", addresses=V6), 0, length=0)),
        Why.TOO_LONG,
    ),
    "wrong": (ether(ip4(tcp(bytes(2000), check=NONE))), Why.WRONG_CHECKSUM),
}


@pytest.mark.parametrize("what", OVER)
def test_what_is_too_long_and_cannot_be_cut_is_counted(what: str) -> None:
    frame, why = OVER[what]
    stage = PlainFinisher(mtu=1500)
    (made,) = finished(frame, stage=stage)
    assert made.data == frame
    assert made.note == why
    assert Why(made.note).doubtful
    assert stage.job.over_mtu == (1 if len(frame) > 1514 else 0)


def test_headers_that_leave_no_room_for_data() -> None:
    options = bytes(40)
    stage = PlainFinisher(mtu=100)
    frame = ether(ip4(tcp(bytes(200), options=options), options=options))
    (made,) = finished(frame, stage=stage)
    assert (made.data, made.note, stage.job.over_mtu) == (frame, Why.NO_ROOM, 1)


def test_eight_bytes_are_room_enough() -> None:
    """With 100 bytes of headers: an MTU of 107 is too small, one of 108 makes pieces of eight bytes."""
    frame = ether(ip4(tcp(bytes(200), options=bytes(20)), options=bytes(40)))
    for mtu, pieces in ((100, 1), (107, 1), (108, 25)):
        made = finished(frame, mtu=mtu)
        assert len(made) == pieces
        assert (made[0].note == Why.NO_ROOM) == (pieces == 1)


def test_headers_longer_than_a_plan_can_hold() -> None:
    padding = struct.pack(">BB", 6, 255) + bytes([1, 252]) + bytes(252) + bytes([1, 252] + [0] * 252) * 6 + bytes(268)
    extension = padding[:2048]
    frame = ether(ip6(tcp(marked(3000), addresses=V6), 0, extensions=extension))
    stage = PlainFinisher(mtu=9000)
    (made,) = finished(frame, stage=stage)
    assert read(made.data).payload == marked(3000)
    stage = PlainFinisher(mtu=4000)
    (made,) = finished(frame, stage=stage)
    assert (made.note, stage.job.over_mtu) == (Why.NO_ROOM, 1)


# Tunnels --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [vxlan, geneve])
@pytest.mark.parametrize("outer", [4, 6])
def test_a_small_packet_in_a_tunnel_is_finished_inside(wrap: Callable[..., bytes], outer: int) -> None:
    """The outer checksum, where there is one, was made for what comes out (Linux's local checksum offload)."""
    inside, right = ether(ip4(tcp(b"hello"))), ether(ip4(tcp(b"hello", check=FINISHED)))
    for check in (NONE, FINISHED):
        whole = wrap(right, version=outer, check=check)
        frame = whole[: -len(inside)] + inside
        (made,) = finished(frame)
        assert made.data == whole
    (made,) = finished(wrap(inside, version=outer, check=PSEUDO))
    assert made.data == wrap(right, version=outer, check=FINISHED)


def test_what_is_no_tunnel_after_all_is_a_datagram() -> None:
    """The port alone does not make one: the outer checksum is finished, or the datagram is cut into fragments."""
    nothing = vxlan(b"\0" * 60, check=PSEUDO)
    (made,) = finished(nothing)
    read(made.data)
    later = put(geneve(ether(ip4(tcp(b"hello"))), check=FINISHED), 42, b"\x40")  # version 1
    blank = put(later, 40, b"\0\0")
    right = internet_checksum(pseudo(blank[26:34], UDP, len(blank) - 34) + blank[34:])
    assert left(put(blank, 40, right.to_bytes(2, "big"))) == Why.WHOLE
    no_flag = put(vxlan(ether(ip4(tcp(marked(3000))))), 42, b"\0")
    made_of = finished(no_flag)
    assert [len(it.data) for it in made_of] == [1514, 1514, len(no_flag) - 2 * 1480]


def test_datagrams_in_a_tunnel_are_cut_outside_unless_their_size_is_known() -> None:
    """USO inside of a tunnel needs a size; without one the outer datagram becomes fragments."""
    frame = vxlan(ether(ip4(udp(marked(3000)), UDP)))
    assert [it.data[20:22] for it in finished(frame)] == [b"\x20\0", b"\x20\xb9", b"\x01\x72"]
    made = finished(frame, udp_size=1000)
    assert [read_ip(it.data, 64).payload for it in made] == [marked(3000)[n : n + 1000] for n in (0, 1000, 2000)]


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(
        [
            *UNFINISHED.values(),
            ether(jumbo6(tcp(marked(200), addresses=V6))),
            vxlan(ether(ip4(tcp(marked(200))))),
            geneve(ether(ip6(udp(marked(100), addresses=V6), UDP)), version=6),
            ether(ip4(udp(marked(400)), UDP)),
        ]
    ),
    st.lists(st.tuples(st.integers(12, 130), st.integers(0, 255)), max_size=3),
    st.integers(0, 500),
    st.integers(68, 300),
)
def test_damaged_frames_touch_no_memory_but_their_own(
    frame: bytes, changes: list[tuple[int, int]], kept: int, mtu: int
) -> None:
    """Plain Python checks every access; a frame that is no longer judged goes on as it came."""
    data = bytearray(frame[:kept] if kept > 40 else frame)
    for at, value in changes:
        if at < len(data):
            data[at] = value
    stage = PlainFinisher(mtu=mtu)
    made = through(stage, [bytes(data)])
    assert made
    if made[0].by_reference:
        assert [it.data for it in made] == [bytes(data)]
