"""Cutting and merging undo each other, and whatever is done to a frame, its bytes and checksums are right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from netemu.offload import Finisher
from tests.offload_kit import (
    ACK,
    CWR,
    FIN,
    FINISHED,
    NEEDS_CSUM,
    PSEUDO,
    PSH,
    TCPV4,
    TCPV6,
    TIMESTAMPS,
    USO,
    V6,
    Given,
    PlainCoalescer,
    PlainFinisher,
    ether,
    finished,
    finished_by_hand,
    header,
    ip4,
    ip6,
    marked,
    merged,
    read,
    tcp,
    through,
    udp,
)
from tests.wire import UDP


@dataclass
class Large:
    """A large packet and its header, as a sender's stack makes them."""

    frame: bytes
    vnet: bytes
    size: int
    payload: bytes


@st.composite
def large_packets(draw: st.DrawFn) -> Large:
    version = draw(st.sampled_from([4, 6]))
    tags = draw(st.lists(st.integers(0, 0xFFFF), max_size=2))
    size = draw(st.integers(1, 1400))
    payload = draw(st.binary(min_size=1, max_size=64)) * draw(st.integers(1, 60))
    if draw(st.booleans()):
        fields: dict[str, Any] = {
            "seq": draw(st.integers(0, 0xFFFFFFFF)),
            "flags": ACK | draw(st.sampled_from([0, PSH, FIN | PSH, CWR])),
            "options": draw(st.sampled_from([b"", TIMESTAMPS])),
        }
        kind, offset, base, l4_size = 6, 16, TCPV4 if version == 4 else TCPV6, 20 + len(fields["options"])
    else:
        fields = {}
        kind, offset, base, l4_size = UDP, 6, USO, 8
        size = max(size, -(-len(payload) // 60))  # no more than 64 datagrams
    if version == 6:
        fields["addresses"] = V6
    l4 = (tcp if kind == 6 else udp)(payload, **fields, check=PSEUDO)
    packet = ip4(l4, kind, ident=draw(st.integers(0, 0xFFFF))) if version == 4 else ip6(l4, kind)
    start = 14 + 4 * len(tags) + (20 if version == 4 else 40)
    hdr_len = start + l4_size
    return Large(
        ether(packet, tags=tags),
        header(NEEDS_CSUM, base, size=size, start=start, offset=offset, hdr_len=hdr_len),
        size,
        payload,
    )


@settings(max_examples=120, deadline=None)
@given(large_packets())
def test_pieces_are_right_and_carry_the_payload(large: Large) -> None:
    made = finished(Given(large.frame, large.vnet))
    packets = [read(it.data) for it in made]
    assert b"".join(packet.payload for packet in packets) == large.payload
    assert {len(packet.payload) for packet in packets[:-1]} <= {large.size}
    assert 0 < len(packets[-1].payload) <= large.size


@settings(max_examples=120, deadline=None)
@given(large_packets())
def test_merging_the_pieces_gives_the_packet_again(large: Large) -> None:
    """The frame, and the header that came with it: but one that was not cut comes back finished."""
    pieces = finished(Given(large.frame, large.vnet))
    made = merged(*(it.data for it in pieces), stage=PlainCoalescer(budget=5000, udp=True))
    if len(pieces) == 1:
        assert [it.data for it in made] == [finished_by_hand(large.frame)]
        return
    assert [it.data for it in made] == [large.frame]
    # ECN is a remark about CWR, which a sender may leave out
    assert made[0].vnet[:1] + bytes([made[0].vnet[1] & 0x7F]) + made[0].vnet[2:] == large.vnet


@settings(max_examples=60, deadline=None)
@given(large_packets(), st.integers(68, 9000))
def test_a_judged_packet_fits_the_mtu(large: Large, mtu: int) -> None:
    """Without its header the packet itself says what it is: pieces no longer than the MTU, or it is left alone."""
    stage = PlainFinisher(mtu=mtu)
    made = finished(large.frame, stage=stage)
    link = 14 + 4 * sum(large.frame[at : at + 2] == b"\x81\x00" for at in (12, 16) if large.frame[12] == 0x81)
    if stage.job.over_mtu == 0:
        assert max(len(it.data) for it in made) - link <= mtu
    else:
        assert [it.data for it in made] == [large.frame]


@st.composite
def traffic(draw: st.DrawFn) -> tuple[list[bytes], bool]:
    """Segments of a few flows, by turns; some out of order, short, with flags.

    And whether identifications count up, or stay.
    """
    frames = []
    sequence, idents = [0] * 3, [0] * 3
    counting = draw(st.booleans())
    for _ in range(draw(st.integers(1, 30))):
        flow = draw(st.integers(0, 2))
        size = draw(st.sampled_from([0, 20, 100, 100, 100, 100]))
        flags = ACK | draw(st.sampled_from([0, 0, 0, 0, PSH, FIN, CWR]))
        jump = draw(st.sampled_from([0, 0, 0, 0, 0, 100, -100]))
        seq = (0xFFFFFF00 + sequence[flow] + jump) & 0xFFFFFFFF
        data = tcp(marked(size, 50_000 + sequence[flow]), seq=seq, flags=flags, ports=(flow, 80), check=FINISHED)
        frames.append(ether(ip4(data, ident=idents[flow])))
        idents[flow] += int(counting)
        sequence[flow] += size + jump
    return frames, counting


def by_flow(frames: list[bytes]) -> dict[bytes, list[tuple[int, int]]]:
    """Sequence number and value of each byte, in the order in which a flow's come up."""
    found: dict[bytes, list[tuple[int, int]]] = {}
    for frame in frames:
        packet = read(frame, finished=False)
        bytes_of = found.setdefault(packet.l4[:4], [])
        bytes_of += [((packet.seq + n) & 0xFFFFFFFF, byte) for n, byte in enumerate(packet.payload)]
    return found


@settings(max_examples=120, deadline=None)
@given(traffic(), st.integers(1, 40), st.sampled_from([1, 8]))
def test_merging_loses_nothing_and_keeps_the_order_of_a_flow(
    some: tuple[list[bytes], bool], budget: int, buckets: int
) -> None:
    frames, _ = some
    made = merged(*frames, stage=PlainCoalescer(budget=budget, buckets=buckets))
    assert by_flow([it.data for it in made]) == by_flow(frames)
    for it in made:
        if not it.vnet:
            assert it.data in frames


@settings(max_examples=60, deadline=None)
@given(traffic(), st.integers(1, 40))
def test_what_was_merged_can_be_cut_again_into_the_same_segments(some: tuple[list[bytes], bool], budget: int) -> None:
    """For a device that hands merged frames to a guest which takes none (as a set: other flows may be overtaken).

    Only an identification that stays does not survive: no virtio-net header says so.
    """
    frames, counting = some
    large = merged(*frames, stage=PlainCoalescer(budget=budget))
    cut = finished(*(Given(it.data, it.vnet) for it in large))
    if counting:
        assert sorted(it.data for it in cut) == sorted(frames)
    assert sorted(len(it.data) for it in cut) == sorted(map(len, frames))


@settings(max_examples=40, deadline=None)
@given(st.lists(large_packets(), min_size=1, max_size=4), st.integers(1, 5))
def test_little_room_changes_nothing(packets: list[Large], room: int) -> None:
    """Machine code, and a result of a few frames at a time."""
    frames = [Given(large.frame, large.vnet) for large in packets]
    assert [it.data for it in through(Finisher(frames=room), frames)] == [it.data for it in finished(*frames)]
