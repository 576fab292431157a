"""Merging as Linux's GRO does it: what joins, what ends a packet, what never waits, and in which order all goes up."""

from __future__ import annotations

from typing import Any

import pytest

from netemu.errors import ConfigError
from netemu.offload import Coalescer, Why
from tests.offload_kit import (
    ACK,
    CWR,
    DATA_VALID,
    ECE,
    ECN,
    FIN,
    FINISHED,
    NEEDS_CSUM,
    NONE,
    PSEUDO,
    PSH,
    RST,
    SYN,
    TCPV4,
    TCPV6,
    TIMESTAMPS,
    URG,
    USO,
    V6,
    Given,
    Made,
    PlainCoalescer,
    ether,
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
from tests.wire import UDP, internet_checksum, pseudo, put, vlan

SIZE = 100


def segment(n: int, size: int = SIZE, *, ip: dict[str, Any] | None = None, **more: Any) -> bytes:
    """Segment ``n`` of a flow, each with SIZE bytes in front of it."""
    fields: dict[str, Any] = {"seq": 1000 + SIZE * n, "check": FINISHED}
    return ether(ip4(tcp(marked(size, SIZE * n), **(fields | more)), **({"ident": 0x100 + n} | (ip or {}))))


def segment6(n: int, size: int = SIZE, *, ip: dict[str, Any] | None = None, **more: Any) -> bytes:
    fields: dict[str, Any] = {"seq": 1000 + SIZE * n, "check": FINISHED, "addresses": V6}
    return ether(ip6(tcp(marked(size, SIZE * n), **(fields | more)), **(ip or {})))


def datagram(n: int, size: int = SIZE, check: str = FINISHED) -> bytes:
    return ether(ip4(udp(marked(size, SIZE * n), check=check), UDP, ident=0x100 + n))


def lengths(made: list[Made]) -> list[int]:
    """Bytes of payload of each frame that went up."""
    return [len(read(it.data, finished=False).payload) for it in made]


def test_three_segments_by_hand() -> None:
    """Total length, header checksum, the pseudo-header's sum, the flags of the last, and the header that says so."""
    frames = [segment(0, flags=ACK), segment(1, flags=ACK), segment(2, 60, flags=ACK | PSH)]
    (made,) = merged(*(Given(frame, tstamp=50 + n, id=7 + n) for n, frame in enumerate(frames)))
    total = 20 + 20 + 260
    head = bytearray(frames[0][14:34])
    head[2:4] = total.to_bytes(2, "big")
    head[10:12] = bytes(2)
    head[10:12] = internet_checksum(bytes(head)).to_bytes(2, "big")
    tcp_head = bytearray(frames[0][34:54])
    tcp_head[13] = ACK | PSH
    tcp_head[16:18] = (internet_checksum(pseudo(frames[0][26:34], 6, total - 20)) ^ 0xFFFF).to_bytes(2, "big")
    assert made.data == frames[0][:14] + head + tcp_head + marked(200) + marked(60, 200)
    assert made.vnet == header(NEEDS_CSUM, TCPV4, size=SIZE, start=34, offset=16, hdr_len=54)
    assert (made.tstamp, made.id, made.wire_len) == (50, 7, len(made.data))


def test_over_ipv6() -> None:
    (made,) = merged(segment6(0), segment6(1))
    assert made.vnet == header(NEEDS_CSUM, TCPV6, size=SIZE, start=54, offset=16, hdr_len=74)
    assert made.data[18:20] == (20 + 200).to_bytes(2, "big")
    assert read(made.data, finished=False).payload == marked(200)


def test_a_frame_that_stays_alone_is_as_it_came() -> None:
    (made,) = merged(segment(0))
    assert (made.data, made.vnet) == (segment(0), b"")


OTHER_FLOWS = {
    "ports": segment(1, ports=(40001, 80)),
    "addresses": segment(1, addresses=b"\xc0\0\2\1\xc0\0\2\3", ip={"addresses": b"\xc0\0\2\1\xc0\0\2\3"}),
    "vlan": vlan(segment(1)),
    "mac": b"\2\0\0\0\0\x63" + segment(1)[6:],
    "protocol": datagram(1),
}


@pytest.mark.parametrize("what", OTHER_FLOWS)
def test_another_flow_leaves_what_waits_alone(what: str) -> None:
    """The first flow goes on behind it."""
    made = merged(segment(0), OTHER_FLOWS[what], segment(1), udp=True)
    assert sorted(lengths(made)) == [100, 200]


DIFFERENCES: dict[str, dict[str, Any]] = {
    "acknowledgement": {"ack": 2001},
    "window": {"window": 501},
    "ECE": {"flags": ACK | ECE},
    "options": {"options": TIMESTAMPS},
    "time to live": {"ip": {"ttl": 63}},
    "type of service": {"ip": {"tos": 2}},
    "DF": {"ip": {"fragment": 0}},
    "sequence": {"seq": 1101},
    "a gap in identifications": {"ip": {"ident": 0x102}},
    "CWR": {"flags": ACK | CWR},
    "more than the first": {"size": 101},
}


def test_reserved_bits_of_tcp_differ() -> None:
    second = finished_by_hand(put(segment(1), 46, b"\x51"))
    assert [it.data for it in merged(segment(0), second)] == [segment(0), second]


@pytest.mark.parametrize("what", DIFFERENCES)
def test_what_differs_is_not_merged_and_takes_the_place(what: str) -> None:
    """The first goes up; the other waits in its place, in order."""
    second = segment(1, **DIFFERENCES[what])
    made = merged(segment(0), second)
    assert [it.data for it in made] == [segment(0), second]


@pytest.mark.parametrize(
    "changed",
    [{"traffic_class": 1}, {"hop_limit": 63}, {"label": 5}, {"extensions": bytes.fromhex("0600050200000100")}],
)
def test_what_differs_in_ipv6(changed: dict[str, Any]) -> None:
    more: dict[str, Any] = {"ip": changed | ({"protocol": 0} if "extensions" in changed else {})}
    made = merged(segment6(0), segment6(1, **more))
    assert lengths(made) == [100, 100]


def test_the_same_extension_headers_are_merged() -> None:
    more: dict[str, Any] = {"ip": {"extensions": bytes.fromhex("0600050200000100"), "protocol": 0}}
    (made,) = merged(segment6(0, **more), segment6(1, **more))
    assert len(read(made.data, finished=False).payload) == 200


def test_timestamps_that_are_the_same_are_merged_and_others_not() -> None:
    later = TIMESTAMPS[:7] + b"\x02" + TIMESTAMPS[8:]
    made = merged(*(segment(n, options=TIMESTAMPS if n < 2 else later) for n in range(4)))
    assert lengths(made) == [200, 200]


@pytest.mark.parametrize(
    ("identifications", "fragment", "expected"),
    [
        ([5, 6, 7], 0x4000, [300]),
        ([5, 5, 5], 0x4000, [300]),
        ([0xFFFF, 0, 1], 0x4000, [300]),
        ([5, 5, 6], 0x4000, [200, 100]),  # the second has decided that they stay
        ([5, 6, 6], 0x4000, [200, 100]),
        ([5, 6, 5], 0x4000, [200, 100]),
        ([5, 6, 7], 0, [300]),
        ([5, 5, 5], 0, [100, 100, 100]),  # without DF they have to count up
    ],
)
def test_identifications_count_up_or_stay(identifications: list[int], fragment: int, expected: list[int]) -> None:
    frames = [segment(n, ip={"ident": ident, "fragment": fragment}) for n, ident in enumerate(identifications)]
    assert lengths(merged(*frames)) == expected


@pytest.mark.parametrize("flag", [PSH, FIN])
def test_psh_and_fin_join_and_end_it(flag: int) -> None:
    made = merged(segment(0), segment(1, flags=ACK | flag), segment(2))
    assert lengths(made) == [200, 100]
    assert read(made[0].data, finished=False).flags == ACK | flag


@pytest.mark.parametrize("flag", [PSH, FIN, RST, SYN, URG])
def test_what_neither_waits_nor_lets_wait(flag: int) -> None:
    """A segment with such a flag that nothing waits for goes up at once, past another flow's."""
    other = segment(0, ports=(1, 2))
    made = merged(other, segment(0, flags=ACK | flag))
    assert [it.data for it in made] == [segment(0, flags=ACK | flag), other]


@pytest.mark.parametrize("flag", [RST, SYN, URG])
def test_flags_that_end_a_flow_do_not_join(flag: int) -> None:
    made = merged(segment(0), segment(1, flags=ACK | flag))
    assert [it.data for it in made] == [segment(0), segment(1, flags=ACK | flag)]


def test_a_pure_acknowledgement_sends_up_what_waits_of_its_flow() -> None:
    ack = segment(1, 0)
    assert [it.data for it in merged(segment(0), ack)] == [segment(0), ack]


def test_cwr_may_start_a_packet_and_is_marked() -> None:
    (made,) = merged(segment(0, flags=ACK | CWR), segment(1))
    assert made.vnet[1] == TCPV4 | ECN
    assert read(made.data, finished=False).flags == ACK | CWR


def test_a_shorter_segment_is_the_last() -> None:
    made = merged(segment(0), segment(1, 40), ether(ip4(tcp(b"next", seq=1140, check=FINISHED), ident=0x102)))
    assert lengths(made) == [140, 4]


PASSING = {
    "fragments": (segment(1, ip={"fragment": 0x2000}), Why.FRAGMENT),
    "options of IPv4": (segment(1, ip={"options": bytes.fromhex("94040000")}), Why.NEVER_MERGED),
    "a wrong TCP checksum": (segment(1, check=NONE), Why.WRONG_CHECKSUM),
    "a wrong IPv4 checksum": (segment(1)[:24] + b"\0\1" + segment(1)[26:], Why.WRONG_IP_CHECKSUM),
    "ARP": (bytes(12) + b"\x08\x06" + bytes(28), Why.NOT_IP),
    "UDP": (datagram(1), Why.NEVER_MERGED),
}


@pytest.mark.parametrize("what", PASSING)
def test_what_can_never_be_merged_passes_by(what: str) -> None:
    """It overtakes what waits, as in Linux, and disturbs nothing."""
    frame, why = PASSING[what]
    stage = PlainCoalescer()
    made = merged(segment(0), frame, segment(1), stage=stage)
    assert made[0].data == frame
    assert made[0].note == why
    assert lengths(made[1:]) == [200]
    assert stage.reasons == {why: 1}


def test_the_reserved_flag_of_ipv4_keeps_a_packet_alone() -> None:
    frames = [segment(n, ip={"fragment": 0xC000}) for n in range(2)]
    assert [it.data for it in merged(*frames)] == frames


@pytest.mark.parametrize("how", ["padded", "unfinished", "large already"])
def test_what_is_merged_with_nothing_but_keeps_its_place(how: str) -> None:
    """Padding, a checksum that no wire carries, and frames that bring a segmentation along."""
    frame = Given(
        segment(1) + bytes(6) if how == "padded" else segment(1, check=PSEUDO if how == "unfinished" else FINISHED)
    )
    if how == "large already":
        frame.vnet = header(NEEDS_CSUM, TCPV4, size=50, start=34, offset=16)
    made = merged(segment(0), frame, segment(2))
    assert [it.data for it in made] == [segment(0), frame.data, segment(2)]
    assert made[1].vnet == frame.vnet


def test_a_checksum_that_its_header_calls_unfinished_is_no_obstacle() -> None:
    """As between two guests of a host."""
    vnet = header(NEEDS_CSUM, start=34, offset=16)
    (made,) = merged(*(Given(segment(n, check=PSEUDO), vnet) for n in range(3)))
    assert made.vnet == header(NEEDS_CSUM, TCPV4, size=SIZE, start=34, offset=16, hdr_len=54)


def test_a_frame_that_waited_alone_keeps_its_header() -> None:
    """Unfinished, or verified by somebody; and an unfinished one whose header does not say so joins nothing."""
    unfinished, valid = header(NEEDS_CSUM, start=34, offset=16, hdr_len=54), header(DATA_VALID)
    made = merged(Given(segment(0, check=PSEUDO), unfinished), Given(segment(0, ports=(1, 2)), valid), buckets=1)
    assert [it.vnet for it in made] == [unfinished, valid]
    frames = [Given(segment(n, check=PSEUDO), valid) for n in range(2)]
    assert [(it.data, it.vnet) for it in merged(*frames)] == [(it.data, valid) for it in frames]


def test_a_packet_ends_at_64_kb() -> None:
    """gro_max_size: 65,535 bytes of IP packet, and no segment is cut for it."""
    frames = [
        ether(ip4(tcp(bytes(1448), seq=1448 * n, options=TIMESTAMPS, check=FINISHED), ident=n)) for n in range(46)
    ]
    made = merged(*frames, stage=Coalescer(budget=100))
    assert lengths(made) == [45 * 1448, 1448]
    assert 20 + 32 + 45 * 1448 <= 65535 < 20 + 32 + 46 * 1448


def test_udp_is_merged_when_asked_for() -> None:
    (made,) = merged(datagram(0), datagram(1), datagram(2, 40), udp=True)
    assert made.vnet == header(NEEDS_CSUM, USO, size=SIZE, start=34, offset=6, hdr_len=42)
    packet = read(made.data, finished=False)
    assert packet.payload == marked(200) + marked(40, 200)
    assert made.data[40:42] == (internet_checksum(pseudo(made.data[26:34], 17, 248)) ^ 0xFFFF).to_bytes(2, "big")


def test_datagrams_end_a_train_by_their_size_and_number() -> None:
    longer = ether(ip4(udp(marked(101)), UDP, ident=0x102))
    longer = longer[:40] + datagram_checksum(longer) + longer[42:]
    assert lengths(merged(datagram(0), datagram(1), longer, udp=True)) == [200, 101]
    assert lengths(merged(datagram(0), datagram(1, 60), datagram(2, 60), udp=True)) == [160, 60]
    train = [datagram(n, 10) for n in range(70)]
    assert lengths(merged(*train, stage=PlainCoalescer(udp=True, budget=100))) == [640, 60]
    assert lengths(merged(datagram(0, check=NONE), datagram(1, check=NONE), udp=True)) == [100, 100]


def datagram_checksum(frame: bytes) -> bytes:
    blank = frame[34:40] + b"\0\0" + frame[42:]
    return internet_checksum(pseudo(frame[26:34], 17, len(blank)) + blank).to_bytes(2, "big")


# Cycles, flows and order ----------------------------------------------------------------------------------------------


def test_a_cycle_ends_after_its_budget() -> None:
    made = merged(*(segment(n) for n in range(10)), budget=4)
    assert lengths(made) == [400, 400, 200]


def test_a_cycle_ends_after_its_time() -> None:
    """With the first frame that comes more than ``flush_ns`` after the cycle's first."""
    times = [0, 40, 100, 101, 150, 300]
    made = merged(*(Given(segment(n), tstamp=at) for n, at in enumerate(times)), flush_ns=100)
    assert lengths(made) == [300, 200, 100]


def test_flows_interleave() -> None:
    """Eight flows by turns; at the end they go up in the order in which they began."""
    frames = [segment(n, ports=(flow, 80)) for n in range(3) for flow in range(8)]
    made = merged(*frames, buckets=1)
    assert lengths(made) == [300] * 8
    assert [int.from_bytes(it.data[34:36], "big") for it in made] == list(range(8))


def test_the_ninth_flow_of_a_bucket_sends_up_the_oldest() -> None:
    """gro_flush_oldest: with one bucket, which is what a card without a hash gets."""
    frames = [segment(0, ports=(flow, 80)) for flow in range(9)] + [segment(1, ports=(0, 80))]
    made = merged(*frames, buckets=1)
    assert made[0].data == frames[0]
    assert made[1].data == frames[1]  # flow 0 came back, and now 1 was the oldest
    assert lengths(made) == [100] * 10
    assert sorted(lengths(merged(*frames, buckets=64))) == [100] * 8 + [200]


def test_order_within_a_flow_holds_whatever_comes_between() -> None:
    frames = [segment(0), segment(1), segment(2, 0), segment(2, flags=ACK | PSH), segment(3), segment(5), segment(4)]
    made = merged(*frames)
    assert b"".join(read(it.data, finished=False).payload for it in made) == b"".join(
        read(frame).payload for frame in frames
    )


@pytest.mark.parametrize("room", [3, 4, 7])
def test_little_room_changes_nothing(room: int) -> None:
    frames = [segment(n, size, ports=(flow, 80)) for n in range(3) for flow in range(20) for size in (100, 0)]
    expected = [it.data for it in merged(*frames, stage=PlainCoalescer(budget=30))]
    assert [it.data for it in merged(*frames, stage=PlainCoalescer(budget=30, frames=room))] == expected


def test_what_waits_survives_its_input() -> None:
    """Frames of one batch wait for those of the next, whose memory is another."""
    stage = PlainCoalescer()
    assert through(stage, [segment(0), segment(1)]) == []
    made = through(stage, [segment(2)], last=True)
    assert lengths(made) == [300]


def test_what_cannot_be_configured() -> None:
    wrong: list[dict[str, Any]] = [{"budget": 0}, {"flush_ns": -1}, {"buckets": 0}]
    for options in wrong:
        with pytest.raises(ConfigError):
            Coalescer(**options)
