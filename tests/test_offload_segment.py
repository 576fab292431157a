"""Large packets cut into small ones: what differs between the pieces, and what must not."""

from __future__ import annotations

import struct

import pytest

from tests.offload_kit import (
    ACK,
    CWR,
    DF,
    ECN,
    FIN,
    IN_IPV4,
    IN_IPV6,
    MF,
    NEEDS_CSUM,
    NONE,
    PSEUDO,
    PSH,
    TCPV4,
    TCPV6,
    TIMESTAMPS,
    TUNNEL_CSUM,
    UFO,
    URG,
    USO,
    V6,
    Given,
    ether,
    finished,
    geneve,
    header,
    ip4,
    ip6,
    jumbo6,
    marked,
    read,
    read_ip,
    tcp,
    udp,
    vxlan,
)
from tests.wire import UDP, internet_checksum, pseudo

PAYLOAD = marked(3000)
TSO4 = header(NEEDS_CSUM, TCPV4, size=1000, start=34, offset=16)


def test_tso_by_hand() -> None:
    """One segment of each place, worked out byte by byte: six bytes of payload in pieces of four."""
    frame = ether(ip4(tcp(b"abcdef", flags=ACK | PSH)))
    first, second = finished(Given(frame, header(NEEDS_CSUM, TCPV4, size=4, start=34, offset=16)))
    # 4500 002c 1111 4000 4006 0000 c000 0201 c000 0202 add up to 25a46, folded 5a48, complement a5b7.
    assert first.data[14:34].hex() == "4500002c111140004006" + "a5b7" + "c0000201c0000202"
    assert second.data[14:34].hex() == "4500002a111240004006" + "a5b8" + "c0000201c0000202"
    assert first.data[34:50].hex() == "9c400050" + "000003e8" + "000007d0" + "5010" + "01f4"
    assert second.data[34:50].hex() == "9c400050" + "000003ec" + "000007d0" + "5018" + "01f4"
    # The pseudo-header adds up to 18421, the header to fa4c, "abcd" to c4c6: 34333, folded 4336, complement bcc9.
    assert first.data[50:54].hex() == "bcc90000"
    assert first.data[54:] + second.data[54:] == b"abcdef"


def test_tso_pieces_are_whole_packets() -> None:
    """Sequence numbers, IPv4 identifications, lengths and checksums; MAC addresses and options as they were."""
    frame = ether(ip4(tcp(PAYLOAD[:2500], flags=ACK, options=TIMESTAMPS, seq=0xFFFFFE00), ident=0xFFFF))
    made = finished(Given(frame, header(NEEDS_CSUM, TCPV4, size=1000, start=34, offset=16), tstamp=77, id=5))
    packets = [read(it.data) for it in made]
    assert [len(packet.payload) for packet in packets] == [1000, 1000, 500]
    assert b"".join(packet.payload for packet in packets) == PAYLOAD[:2500]
    assert [packet.seq for packet in packets] == [0xFFFFFE00, 0x1E8, 0x5D0]
    assert [packet.ident for packet in packets] == [0xFFFF, 0, 1]
    assert {packet.l4[20:] for packet in packets} == {TIMESTAMPS}
    assert {it.data[:14] for it in made} == {frame[:14]}
    assert {(it.tstamp, it.id, it.vnet) for it in made} == {(77, 5, b"")}
    assert [it.wire_len for it in made] == [14 + 20 + 32 + 1000] * 2 + [14 + 20 + 32 + 500]


def test_fin_and_psh_stand_on_the_last_segment_and_cwr_on_the_first() -> None:
    frame = ether(ip4(tcp(PAYLOAD, flags=ACK | PSH | FIN | CWR)))
    made = finished(Given(frame, header(NEEDS_CSUM, TCPV4 | ECN, size=1000, start=34, offset=16)))
    assert [read(it.data).flags for it in made] == [ACK | CWR, ACK, ACK | PSH | FIN]


def test_other_flags_and_the_urgent_pointer_stand_on_every_segment() -> None:
    frame = ether(ip4(tcp(PAYLOAD, flags=ACK | URG | 0x40, urgent=7)))
    packets = [read(it.data) for it in finished(Given(frame, TSO4))]
    assert {packet.flags for packet in packets} == {ACK | URG | 0x40}
    assert {packet.l4[18:20] for packet in packets} == {b"\0\x07"}


def test_tso_over_ipv6() -> None:
    frame = ether(ip6(tcp(PAYLOAD, addresses=V6)))
    made = finished(Given(frame, header(NEEDS_CSUM, TCPV6, size=1428, start=54, offset=16)))
    packets = [read(it.data) for it in made]
    assert [len(packet.payload) for packet in packets] == [1428, 1428, 144]
    assert {packet.ip[:4] for packet in packets} == {frame[14:18]}


def test_ipv4_options_stay() -> None:
    options = bytes.fromhex("94040000")  # router alert
    frame = ether(ip4(tcp(PAYLOAD), options=options))
    made = finished(Given(frame, header(NEEDS_CSUM, TCPV4, size=1000, start=38, offset=16)))
    assert [read(it.data).ip[20:] for it in made] == [options] * 3


@pytest.mark.parametrize("tags", [[7], [100, 10]])
def test_vlan_tags_stay(tags: list[int]) -> None:
    frame = ether(ip4(tcp(PAYLOAD)), tags=tags)
    start = 34 + 4 * len(tags)
    made = finished(Given(frame, header(NEEDS_CSUM, TCPV4, size=1000, start=start, offset=16)))
    assert {it.data[: start - 20] for it in made} == {frame[: start - 20]}
    assert b"".join(read(it.data).payload for it in made) == PAYLOAD


def test_the_hop_by_hop_header_of_big_tcp_goes() -> None:
    """A jumbogram's pieces are packets like others (ipv6_gso_segment takes the header off)."""
    payload = marked(70_000)
    frame = ether(jumbo6(tcp(payload, addresses=V6, options=TIMESTAMPS)))
    made = finished(frame, mtu=9000)
    packets = [read(it.data) for it in made]
    assert b"".join(packet.payload for packet in packets) == payload
    assert {len(packet.ip) for packet in packets} == {40}
    assert {packet.ip[6] for packet in packets} == {6}
    assert [len(it.data) for it in made][:-1] == [9014] * (len(made) - 1)


def test_big_tcp_over_ipv4_has_no_total_length() -> None:
    payload = marked(70_000)
    frame = ether(ip4(tcp(payload), total=0))
    made = finished(frame)
    assert b"".join(read(it.data).payload for it in made) == payload
    assert max(len(it.data) for it in made) == 1514


def test_uso_makes_datagrams() -> None:
    """Each has its own length and checksum; the last is short."""
    frame = ether(ip4(udp(PAYLOAD[:2500]), UDP, ident=9))
    made = finished(Given(frame, header(NEEDS_CSUM, USO, size=1200, start=34, offset=6)))
    packets = [read(it.data) for it in made]
    assert [packet.payload for packet in packets] == [PAYLOAD[:1200], PAYLOAD[1200:2400], PAYLOAD[2400:2500]]
    assert [packet.ident for packet in packets] == [9, 10, 11]
    frame = ether(ip6(udp(PAYLOAD, addresses=V6), UDP))
    made = finished(Given(frame, header(NEEDS_CSUM, USO, size=1000, start=54, offset=6)))
    assert [read(it.data).payload for it in made] == [PAYLOAD[n : n + 1000] for n in (0, 1000, 2000)]


def _datagram_of(fragments: list[bytes], at: int) -> bytes:
    """Put IPv4 fragments, whose payload starts at ``at``, together by their offsets."""
    datagram = bytearray()
    for n, frame in enumerate(fragments):
        word = int.from_bytes(frame[20:22], "big")
        assert 8 * (word & 0x1FFF) == len(datagram)
        assert bool(word & MF) == (n < len(fragments) - 1)
        assert not word & DF
        assert internet_checksum(frame[14:at]) == 0
        assert int.from_bytes(frame[16:18], "big") == len(frame) - 14
        datagram += frame[at:]
    return bytes(datagram)


def test_ufo_makes_fragments_of_one_datagram() -> None:
    frame = ether(ip4(udp(PAYLOAD), UDP, ident=0x4321))
    made = [it.data for it in finished(Given(frame, header(NEEDS_CSUM, UFO, size=1484, start=34, offset=6)))]
    assert [len(data) - 34 for data in made] == [1480, 1480, 48]  # a multiple of eight
    datagram = _datagram_of(made, 34)
    assert datagram[8:] == PAYLOAD
    assert internet_checksum(pseudo(frame[26:34], UDP, len(datagram)) + datagram) == 0
    assert {data[18:20] for data in made} == {b"\x43\x21"}


def test_ufo_over_ipv6_puts_a_fragment_header_in() -> None:
    hop_by_hop = bytes.fromhex("1100 0502 0000 0100")  # router alert, and a padding option
    frame = ether(ip6(udp(PAYLOAD, addresses=V6), 0, extensions=hop_by_hop))
    made = finished(
        Given(frame, header(NEEDS_CSUM, UFO, size=1440, start=62, offset=6)),
        Given(frame, header(NEEDS_CSUM, UFO, size=1440, start=62, offset=6)),
    )
    assert len(made) == 6
    numbers = set()
    for datagrams in (made[:3], made[3:]):
        whole = b""
        for n, it in enumerate(datagrams):
            assert it.data[:18] == frame[:18]
            assert int.from_bytes(it.data[18:20], "big") == len(it.data) - 54
            assert it.data[54:62] == b"\x2c" + hop_by_hop[1:]  # next: a fragment header
            kind, zero, word, number = struct.unpack(">BBHI", it.data[62:70])
            assert (kind, zero, word & 7) == (17, 0, 1 if n < 2 else 0)
            assert word & ~7 == len(whole)
            numbers.add(number)
            whole += it.data[70:]
        assert whole[8:] == PAYLOAD
        assert internet_checksum(pseudo(V6, UDP, len(whole)) + whole) == 0
    assert len(numbers) == 2


@pytest.mark.parametrize("outer", [4, 6])
@pytest.mark.parametrize("inner", [4, 6])
@pytest.mark.parametrize("check", [NONE, PSEUDO])
@pytest.mark.parametrize("kind", ["vxlan", "geneve", "geneve with options"])
def test_tso_in_a_tunnel(outer: int, inner: int, check: str, kind: str) -> None:
    """Both IP headers, both lengths, and the outer UDP checksum if there was one."""
    packet = ip4(tcp(PAYLOAD), ident=50) if inner == 4 else ip6(tcp(PAYLOAD, addresses=V6))
    inside = ether(packet)
    options = bytes.fromhex("0102800100000000") if "options" in kind else b""
    wrap = (
        vxlan(inside, version=outer, check=check)
        if kind == "vxlan"
        else geneve(inside, version=outer, check=check, options=options)
    )
    outer_th = 34 if outer == 4 else 54
    inner_nh = outer_th + 8 + 8 + len(options) + 14
    start = inner_nh + (20 if inner == 4 else 40)
    flags = NEEDS_CSUM | (TUNNEL_CSUM if check == PSEUDO else 0)
    bit = IN_IPV4 if inner == 4 else IN_IPV6
    base = TCPV4 if inner == 4 else TCPV6
    vnet = header(flags, base | bit, size=1000, start=start, offset=16, outer_th=outer_th, inner_nh=inner_nh)
    made = finished(Given(wrap, vnet))
    assert len(made) == 3
    for n, it in enumerate(made):
        outside = read(it.data)
        assert (outside.l4[6:8] == b"\0\0") == (check == NONE)
        assert outside.payload[: inner_nh - outer_th - 8] == wrap[outer_th + 8 : inner_nh]
        segment = read_ip(it.data, inner_nh)
        assert segment.payload == PAYLOAD[1000 * n : 1000 * n + 1000]
        assert segment.seq == 1000 + 1000 * n
        if inner == 4:
            assert segment.ident == 50 + n
        if outer == 4:
            assert outside.ident == 0x7777 + n
