"""IPv4 on its way out of a host: header, checksums done or left, segmentation, fragments; RFC 791 by hand."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netemu.stack.host import (
    OFFLOAD_CSUM,
    OFFLOAD_TSO4,
    SEND_DROPPED,
    SEND_TOO_BIG,
    SEND_UNREACHABLE,
    SENT,
)
from tests import wire
from tests.host_kit import MAC, PEER_MAC, HostBench

ADDRESSES = wire.pack_addresses("10.9.0.1", "10.9.0.2")
DF, MF = 0x4000, 0x2000


def bench_with(**how: int) -> HostBench:
    bench = HostBench(**how)  # type: ignore[arg-type]
    bench.know()
    return bench


def udp_header(payload: bytes) -> bytes:
    return bytes.fromhex("0fa0 0009") + (8 + len(payload)).to_bytes(2, "big") + bytes(2)


def number(frame: bytes, at: int, size: int = 2) -> int:
    return int.from_bytes(frame[at : at + size], "big")


def test_a_header_byte_by_byte() -> None:
    bench = bench_with()
    bench.host.ip_identification = 0x1234
    assert bench.send("10.9.0.2", b"abc", protocol=99) == SENT
    (frame,) = bench.frames()
    # 45 00, length 23, identification, no flags, TTL 64, protocol 99. The words add up to 0x4500 + 0x17 + 0x1234 +
    # 0x4063 + 0x0a09 + 1 + 0x0a09 + 2 = 0xabc3, whose complement is 0x543c.
    header = bytes.fromhex("4500 0017 1234 0000 4063 543c 0a090001 0a090002")
    assert frame == PEER_MAC + MAC + b"\x08\x00" + header + b"abc"


def test_what_the_protocol_asks_for_stands_in_the_header() -> None:
    bench = bench_with()
    bench.send("10.9.0.2", traffic_class=0xB9, hop_limit=1, dont_fragment=1)
    (frame,) = bench.frames()
    assert frame[15] == 0xB9
    assert frame[22] == 1
    assert number(frame, 20) == DF
    assert wire.internet_checksum(frame[14:34]) == 0


def test_every_packet_has_an_identification_of_its_own() -> None:
    bench = bench_with()
    bench.host.ip_identification = 0xFFFE
    for _ in range(4):
        bench.send("10.9.0.2")
    assert [number(frame, 18) for frame in bench.frames()] == [0xFFFE, 0xFFFF, 0, 1]


@given(payload=st.binary(max_size=100), split=st.integers(0, 100))
@settings(max_examples=50, deadline=None)
def test_without_offload_the_checksum_is_finished(payload: bytes, split: int) -> None:
    bench = bench_with()
    bench.send("10.9.0.2", payload, header=udp_header(payload), check=6, split=split)
    (sent,) = bench.taken()
    assert sent.data[34:] == wire.udp(payload, addresses=ADDRESSES)
    assert sent.partial == 0


def test_a_udp_checksum_of_zero_goes_out_as_all_ones() -> None:
    """RFC 768: zero says that there is none."""
    bench = bench_with()
    # Pseudo-header 0x0a09 + 1 + 0x0a09 + 2 + 17 + 10, header 0x0fa0 + 9 + 10: together 0x23e3; the payload makes it
    # 0xffff, of which the complement is 0.
    payload = (0xFFFF - 0x23E3).to_bytes(2, "big")
    bench.send("10.9.0.2", payload, header=udp_header(payload), check=6)
    (frame,) = bench.frames()
    assert frame[40:42] == b"\xff\xff"


def test_with_offload_the_field_holds_the_sum_of_the_pseudo_header() -> None:
    bench = bench_with(offloads=OFFLOAD_CSUM)
    bench.send("10.9.0.2", b"hello", header=udp_header(b"hello"), check=6)
    (sent,) = bench.taken()
    assert (sent.partial, sent.start, sent.offset) == (1, 34, 6)
    # 0x0a09 + 0x0001 + 0x0a09 + 0x0002 + 17 + 13
    assert number(sent.data, 40) == 0x1433


def tcp_header(flags: int, sequence: int = 0x01020304) -> bytes:
    head = bytes.fromhex("0fa0 0009") + sequence.to_bytes(4, "big") + bytes(4)
    return head + bytes([0x80, flags]) + bytes.fromhex("1000 0000 0000") + bytes.fromhex("0101080a0000000100000002")


def test_a_long_segment_goes_on_whole_to_an_interface_that_cuts() -> None:
    bench = bench_with(offloads=OFFLOAD_CSUM | OFFLOAD_TSO4)
    bench.host.ip_identification = 7
    bench.send("10.9.0.2", bytes(5000), protocol=6, header=tcp_header(0x18), check=16, gso_size=1448, dont_fragment=1)
    bench.send("10.9.0.2", bytes(1448), protocol=6, header=tcp_header(0x98), check=16, gso_size=1448, dont_fragment=1)
    first, second = bench.taken()
    assert (first.gso_size, first.gso_type, first.partial) == (1448, 1, 1)
    assert number(first.data, 16) == 5052
    assert (second.gso_size, second.gso_type) == (0, 0)
    assert [number(one.data, 18) for one in (first, second)] == [7, 11]  # the first becomes four


def test_congestion_window_reduced_goes_with_the_ecn_bit() -> None:
    bench = bench_with(offloads=OFFLOAD_CSUM | OFFLOAD_TSO4)
    bench.send("10.9.0.2", bytes(5000), protocol=6, header=tcp_header(0x98), check=16, gso_size=1448)
    assert bench.taken()[0].gso_type == 0x81


@pytest.mark.parametrize("offloads", [0, OFFLOAD_CSUM])
def test_an_interface_that_does_not_cut_gets_segments(offloads: int) -> None:
    """Each with its own sequence number; FIN and PSH on the last, CWR on the first."""
    bench = bench_with(offloads=offloads)
    bench.host.ip_identification = 0xFFFF
    payload = bytes(range(256)) * 12
    bench.send("10.9.0.2", payload, protocol=6, header=tcp_header(0x99), check=16, gso_size=1448, split=1500)
    sent = bench.taken()
    assert b"".join(one.data[66:] for one in sent) == payload
    assert [len(one.data) for one in sent] == [1514, 1514, 66 + 176]
    assert [number(one.data, 38, 4) for one in sent] == [0x01020304, 0x01020304 + 1448, 0x01020304 + 2896]
    assert [one.data[47] for one in sent] == [0x90, 0x10, 0x19]
    assert [number(one.data, 18) for one in sent] == [0xFFFF, 0, 1]
    for one in sent:
        size = len(one.data) - 34
        assert number(one.data, 16) == size + 20
        assert wire.internet_checksum(one.data[14:34]) == 0
        pseudo = wire.pseudo(ADDRESSES, 6, size)
        assert one.partial == (offloads != 0)
        if offloads:
            assert number(one.data, 50) == wire.internet_checksum(pseudo) ^ 0xFFFF
        else:
            assert wire.internet_checksum(pseudo + one.data[34:]) == 0


@given(
    size=st.integers(0, 6000),
    split=st.integers(0, 6000),
    mtu=st.sampled_from([68, 69, 75, 76, 296, 576, 1500]),
    offloads=st.sampled_from([0, OFFLOAD_CSUM]),
)
@settings(max_examples=60, deadline=None)
def test_fragments_are_the_packet_cut(size: int, split: int, mtu: int, offloads: int) -> None:
    """RFC 791: offsets in units of 8 bytes, all but the last with MF; the checksum is finished before the cut."""
    bench = bench_with(mtu=mtu, offloads=offloads)
    payload = bytes(n * 7 & 0xFF for n in range(size))
    assert bench.send("10.9.0.2", payload, header=udp_header(payload), check=6, split=split) == SENT
    sent = bench.taken()
    whole = bytearray()
    for n, one in enumerate(sent):
        head, field = one.data[14:34], number(one.data, 20)
        assert number(head, 2) == len(one.data) - 14 <= mtu
        assert wire.internet_checksum(head) == 0
        assert number(head, 4) == number(sent[0].data, 18)
        assert (field & 0x1FFF) * 8 == len(whole)
        assert bool(field & MF) == (n < len(sent) - 1)
        whole += one.data[34:]
    if len(sent) > 1:
        assert all(one.partial == 0 for one in sent)
        assert bench.moved()["IpFragCreates"] == len(sent)
        assert bench.moved()["IpFragOKs"] == 1
    if len(sent) > 1 or offloads == 0:
        assert bytes(whole) == wire.udp(payload, addresses=ADDRESSES)
    assert bench.moved()["IpOutRequests"] == 1


def test_a_packet_that_must_not_be_cut_is_refused() -> None:
    bench = bench_with(mtu=576)
    assert bench.send("10.9.0.2", bytes(600), dont_fragment=1) == SEND_TOO_BIG
    assert bench.frames() == []
    assert bench.moved() == {"IpFragFails": 1}


def test_no_packet_is_longer_than_its_length_field_can_say() -> None:
    bench = bench_with()
    assert bench.send("10.9.0.2", bytes(65516)) == SEND_DROPPED
    assert bench.send("10.9.0.2", bytes(65515)) == SENT
    assert bench.moved()["IpOutDiscards"] == 1


def test_without_a_route_nothing_goes() -> None:
    bench = bench_with()
    assert bench.send("192.0.2.1") == SEND_UNREACHABLE
    assert bench.send("2001:db8::1") == SEND_UNREACHABLE
    assert bench.moved() == {"IpOutNoRoutes": 1}


def test_an_interface_without_room_drops() -> None:
    bench = bench_with()
    bench.full = True
    assert bench.send("10.9.0.2") == SEND_DROPPED
    bench.full = False
    bench.eth0.up = 0
    assert bench.send("10.9.0.2") == SEND_DROPPED
    assert bench.moved()["IpOutDiscards"] == 2
    assert bench.frames() == []


@pytest.mark.parametrize(
    ("target", "mac", "counter"),
    [
        ("255.255.255.255", "ffffffffffff", "IpExtOutBcastPkts"),
        ("10.9.0.255", "ffffffffffff", "IpExtOutBcastPkts"),
        ("224.0.0.1", "01005e000001", "IpExtOutMcastPkts"),
        ("239.129.2.3", "01005e010203", "IpExtOutMcastPkts"),
    ],
)
def test_packets_to_many_need_no_neighbour(target: str, mac: str, counter: str) -> None:
    """RFC 1112 section 6.4: the low 23 bits of the group go into the station address."""
    bench = HostBench()
    assert bench.send(target) == SENT
    (frame,) = bench.frames()
    assert frame[:6].hex() == mac
    assert bench.moved()[counter] == 1


def test_a_gateway_is_the_next_hop_and_not_the_target() -> None:
    bench = bench_with()
    bench.stack.add_route("default", via="10.9.0.2")
    bench.send("192.0.2.1")
    (frame,) = bench.frames()
    assert frame[:6] == PEER_MAC
    assert frame[26:34] == wire.pack_addresses("10.9.0.1", "192.0.2.1")


def test_the_source_is_that_of_the_route() -> None:
    bench = HostBench()
    bench.stack.add_address(bench.eth0, "10.8.0.1/24")
    bench.know("10.8.0.2")
    bench.know("10.9.0.2")
    bench.stack.add_route("192.0.2.0/24", via="10.9.0.2", source="10.8.0.1")
    for target in ("10.8.0.2", "10.9.0.2", "192.0.2.9"):
        bench.send(target)
    assert [frame[26:30] for frame in bench.frames()] == [
        bytes(address) for address in ([10, 8, 0, 1], [10, 9, 0, 1], [10, 8, 0, 1])
    ]


def test_a_host_reaches_its_own_addresses_by_lo() -> None:
    """An event of the same moment: the protocols are not entered while one of them sends."""
    bench = bench_with()
    echo = wire.icmp(8, b"\x00\x01\x00\x01" + bytes(3000))
    for target in ("10.9.0.1", "127.0.0.1", "127.1.2.3"):
        assert bench.send(target, echo[8:], protocol=1, header=echo[:8]) == SENT
    assert bench.moved().get("IpInReceives", 0) == 0
    bench.run(0)
    assert bench.frames() == []
    moved = bench.moved()
    assert moved["IcmpInEchos"] == moved["IcmpOutEchoReps"] == moved["IcmpInEchoReps"] == 3
    assert moved["IpInReceives"] == moved["IpInDelivers"] == 6
    assert bench.now == 0
