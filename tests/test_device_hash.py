"""Which fields of a frame are hashed, and as what that is reported (HASH-D-05 to HASH-D-10, HREP-D-01, HREP-D-02).

Expected hashes are of fields that a test put into the frame itself, by the definition of Toeplitz in tests/hashing.py.
"""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.hashing import (
    IPV4,
    IPV6,
    IPV6_EX,
    KEY,
    NONE,
    TCPV4,
    TCPV6,
    TCPV6_EX,
    UDPV4,
    UDPV6,
    UDPV6_EX,
    hash_of,
    hasher,
    packed,
    port_pair,
    toeplitz_by_bits,
    types,
)
from tests.wire import DEST, FRAGMENT, ICMP, ROUTING, TCP, UDP, ethernet, ipv4, ipv6, vlan

A4 = packed("192.0.2.7", "198.51.100.9")
A6 = packed("2001:db8::7", "2001:db8:1::9")
PORTS = port_pair(40000, 443)
BODY = PORTS + bytes(16)
HOME, CARE_OF = packed("2001:db8:aaaa::1"), packed("2001:db8:bbbb::2")
EVERYTHING = 0x1FF
AH, MOBILITY = 51, 135


def digest(data: bytes) -> int:
    return toeplitz_by_bits(KEY, data)


def extension(following: int, body: bytes = b"") -> bytes:
    """An extension header of the usual form around ``body``, padded with zeros to 8 bytes."""
    size = max(8, -(-(2 + len(body)) // 8) * 8)
    return (bytes([following, size // 8 - 1]) + body).ljust(size, b"\0")


def home_option(following: int, address: bytes = HOME) -> bytes:
    """Destination options with a home address, behind the padding that aligns it."""
    return extension(following, b"\x01\x02\0\0" + b"\xc9\x10" + address)


def routing_2(following: int, address: bytes = CARE_OF, *, kind: int = 2, left: int = 1) -> bytes:
    return bytes([following, 2, kind, left]) + bytes(4) + address


def fragment_header(following: int, field: int) -> bytes:
    return struct.pack(">BBHI", following, 0, field, 7)


# IPv4 ---------------------------------------------------------------------------------------------------------------

ANY_V4 = [
    pytest.param(TCP, types(IPV4, TCPV4, UDPV4), TCPV4, True, id="HASH-D-05-tcp"),
    pytest.param(UDP, types(IPV4, TCPV4, UDPV4), UDPV4, True, id="HASH-D-06-udp"),
    pytest.param(UDP, types(TCPV4, UDPV4), UDPV4, True, id="HASH-D-06-udp-without-ip"),
    pytest.param(TCP, types(IPV4, UDPV4), IPV4, False, id="HASH-D-07-tcp-not-enabled"),
    pytest.param(UDP, types(IPV4, TCPV4), IPV4, False, id="HASH-D-07-udp-not-enabled"),
    pytest.param(ICMP, types(IPV4, TCPV4, UDPV4), IPV4, False, id="HASH-D-07-other-protocol"),
    pytest.param(TCP, types(UDPV4), NONE, False, id="HASH-D-07-no-type-for-tcp"),
    pytest.param(ICMP, types(TCPV4, UDPV4), NONE, False, id="HASH-D-07-no-type-for-icmp"),
    pytest.param(TCP, types(IPV6, TCPV6, UDPV6, IPV6_EX, TCPV6_EX, UDPV6_EX), NONE, False, id="HASH-D-07-only-ipv6"),
]


@pytest.mark.parametrize(("protocol", "enabled", "report", "with_ports"), ANY_V4)
def test_ipv4_by_the_first_enabled_type_that_fits(protocol: int, enabled: int, report: int, with_ports: bool) -> None:
    """HASH-D-05, HASH-D-06, HASH-D-07, HREP-D-01, HREP-D-02."""
    frame = ipv4(BODY, protocol, addresses=A4)
    expected = digest(A4 + PORTS if with_ports else A4) if report else 0
    assert hash_of(hasher(enabled), frame) == (report, expected)


def test_hash_d_05_ip_options_and_vlan_tags_are_stepped_over() -> None:
    """HASH-D-05: ports come behind options; any number of tags of either kind may come before."""
    plain = ipv4(BODY, TCP, addresses=A4, options=bytes(12))
    for frame in (plain, vlan(plain), vlan(vlan(plain), kind=0x88A8)):
        assert hash_of(hasher(EVERYTHING), frame) == (TCPV4, digest(A4 + PORTS))


@pytest.mark.parametrize("field", [0x2000, 0x2000 | 100, 100, 1])
def test_hash_d_07_no_fragment_has_ports(field: int) -> None:
    """HASH-D-07: not even the first, so that all of a datagram meet on one queue."""
    frame = ipv4(BODY, UDP, addresses=A4, fragment=field)
    assert hash_of(hasher(EVERYTHING), frame) == (IPV4, digest(A4))
    assert hash_of(hasher(types(UDPV4)), frame) == (NONE, 0)


def test_do_not_fragment_is_no_fragment() -> None:
    assert hash_of(hasher(EVERYTHING), ipv4(BODY, UDP, addresses=A4, fragment=0x4000))[0] == UDPV4


def test_ports_in_the_padding_behind_a_datagram_are_none() -> None:
    """A minimal frame is padded by Ethernet; what lies there is not TCP."""
    frame = ipv4(b"", TCP, addresses=A4) + bytes(26)
    assert hash_of(hasher(EVERYTHING), frame) == (IPV4, digest(A4))


def test_a_length_of_0_leaves_it_to_the_frame() -> None:
    """As Linux sends frames over 64 KiB, and frames that are still to be segmented."""
    assert hash_of(hasher(EVERYTHING), ipv4(BODY, TCP, addresses=A4, length=0)) == (TCPV4, digest(A4 + PORTS))
    assert hash_of(hasher(EVERYTHING), ipv6(BODY, TCP, addresses=A6, length=0)) == (TCPV6, digest(A6 + PORTS))


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        bytes(13),
        ethernet(bytes(28), 0x0806),
        ethernet(bytes(100), 0x88B5),
        ipv4(BODY, TCP, first=0x44),
        ipv4(BODY, TCP, first=0x65),
        ipv4(BODY, TCP, first=0x4F)[:60],
        ipv6(BODY, TCP, version=4),
        ipv4(BODY, TCP)[:33],
        ipv6(BODY, TCP)[:53],
        ethernet(b"", 0x8100),
    ],
    ids=range(11),
)
def test_hrep_d_02_no_ip_header_no_hash(frame: bytes) -> None:
    """HREP-D-02: not computed for whatever reason is NONE, and value 0."""
    assert hash_of(hasher(EVERYTHING), frame) == (NONE, 0)


# IPv6 ---------------------------------------------------------------------------------------------------------------

ANY_V6 = [
    pytest.param(TCP, types(IPV6, TCPV6, UDPV6), TCPV6, True, id="HASH-D-08-tcp"),
    pytest.param(UDP, types(IPV6, TCPV6, UDPV6), UDPV6, True, id="HASH-D-08-udp"),
    pytest.param(58, types(IPV6, TCPV6, UDPV6), IPV6, False, id="HASH-D-08-other-protocol"),
    pytest.param(TCP, types(IPV6, UDPV6), IPV6, False, id="HASH-D-08-tcp-not-enabled"),
    pytest.param(UDP, types(IPV6, TCPV6), IPV6, False, id="HASH-D-08-udp-not-enabled"),
    pytest.param(UDP, types(TCPV6), NONE, False, id="HASH-D-08-no-type"),
    pytest.param(TCP, types(IPV4, TCPV4, UDPV4), NONE, False, id="HASH-D-08-only-ipv4"),
    pytest.param(TCP, types(IPV6_EX, TCPV6_EX, UDPV6_EX), NONE, False, id="HASH-D-08-ex-types-want-extensions"),
]


@pytest.mark.parametrize(("protocol", "enabled", "report", "with_ports"), ANY_V6)
def test_ipv6_by_the_first_enabled_type_that_fits(protocol: int, enabled: int, report: int, with_ports: bool) -> None:
    """HASH-D-08, HREP-D-01."""
    frame = ipv6(BODY, protocol, addresses=A6)
    expected = digest(A6 + PORTS if with_ports else A6) if report else 0
    assert hash_of(hasher(enabled), frame) == (report, expected)


MOBILE = [
    pytest.param(home_option(TCP), DEST, HOME + A6[16:], id="home-address"),
    pytest.param(routing_2(TCP), ROUTING, A6[:16] + CARE_OF, id="routing-2"),
    pytest.param(routing_2(DEST) + home_option(TCP), ROUTING, HOME + CARE_OF, id="both"),
    pytest.param(extension(TCP), 0, A6, id="hop-by-hop-alone"),
    pytest.param(routing_2(TCP, kind=0), ROUTING, A6, id="another-routing-type"),
    pytest.param(routing_2(TCP, left=0), ROUTING, A6, id="no-segment-left"),
    pytest.param(extension(TCP, b"\xc9\x08" + bytes(8)), DEST, A6, id="home-address-of-the-wrong-length"),
    pytest.param(extension(TCP, b"\0" * 4 + b"\xc9\x10" + HOME), DEST, HOME + A6[16:], id="behind-single-padding"),
    pytest.param(fragment_header(DEST, 0) + home_option(TCP), FRAGMENT, HOME + A6[16:], id="atomic-fragment"),
    pytest.param(bytes([TCP, 4]) + bytes(22), AH, A6, id="authentication-header"),
    pytest.param(extension(AH) + bytes([DEST, 4]) + bytes(22) + home_option(TCP), 0, HOME + A6[16:], id="three"),
]


@pytest.mark.parametrize(("extensions", "first", "addresses"), MOBILE)
def test_hash_d_09_with_extension_headers_the_ex_types_take_mobile_addresses(
    extensions: bytes, first: int, addresses: bytes
) -> None:
    """HASH-D-09: TCP_EX, else IP_EX; the home address for the source, type-2 routing for the destination."""
    frame = ipv6(extensions + BODY, first, addresses=A6)
    assert hash_of(hasher(EVERYTHING), frame) == (TCPV6_EX, digest(addresses + PORTS))
    assert hash_of(hasher(types(IPV6_EX, UDPV6_EX, TCPV6)), frame) == (IPV6_EX, digest(addresses))


@pytest.mark.parametrize(("extensions", "first", "addresses"), MOBILE)
def test_hash_d_10_without_ex_types_extension_headers_are_skipped(
    extensions: bytes, first: int, addresses: bytes
) -> None:
    """HASH-D-10: ports are found behind them, addresses are those of the IP header."""
    assert addresses  # what the _EX types would have taken is of no interest here
    frame = ipv6(extensions + BODY, first, addresses=A6)
    assert hash_of(hasher(types(IPV6, TCPV6, UDPV6)), frame) == (TCPV6, digest(A6 + PORTS))
    assert hash_of(hasher(types(IPV6)), frame) == (IPV6, digest(A6))


def test_hash_d_09_udp_ex_comes_second() -> None:
    """HASH-D-09."""
    frame = ipv6(home_option(UDP) + BODY, DEST, addresses=A6)
    assert hash_of(hasher(EVERYTHING), frame) == (UDPV6_EX, digest(HOME + A6[16:] + PORTS))


def test_hash_d_10_an_ex_type_that_does_not_fit_leaves_the_plain_rules() -> None:
    """HASH-D-10: TCP_EX is on, the packet has UDP: it is hashed as one without extension headers."""
    frame = ipv6(home_option(UDP) + BODY, DEST, addresses=A6)
    assert hash_of(hasher(types(TCPV6_EX, UDPV6)), frame) == (UDPV6, digest(A6 + PORTS))
    assert hash_of(hasher(types(TCPV6_EX)), frame) == (NONE, 0)


@pytest.mark.parametrize("field", [1, 8, 9, 0xFFF8])
def test_hash_d_09_an_ipv6_fragment_has_no_ports(field: int) -> None:
    """HASH-D-09: but the home address before its fragment header."""
    frame = ipv6(home_option(FRAGMENT) + fragment_header(TCP, field) + BODY, DEST, addresses=A6)
    assert hash_of(hasher(EVERYTHING), frame) == (IPV6_EX, digest(HOME + A6[16:]))
    assert hash_of(hasher(types(IPV6, TCPV6)), frame) == (IPV6, digest(A6))


def test_a_chain_of_extension_headers_without_end_is_given_up() -> None:
    frame = ipv6(extension(0) * 8000 + extension(TCP) + BODY, 0, addresses=A6, length=0)
    assert hash_of(hasher(EVERYTHING), frame) == (IPV6_EX, digest(A6))


# Hostile frames -----------------------------------------------------------------------------------------------------

WHOLE = [
    vlan(ipv4(BODY, TCP, addresses=A4, options=bytes(8))),
    ipv6(BODY, UDP, addresses=A6),
    ipv6(extension(AH) + bytes([DEST, 4]) + bytes(22) + home_option(ROUTING) + routing_2(TCP) + BODY, 0, addresses=A6),
    ipv6(home_option(FRAGMENT) + fragment_header(TCP, 0) + BODY, DEST, addresses=A6),
]


@pytest.mark.parametrize("frame", WHOLE, ids=range(len(WHOLE)))
def test_a_frame_cut_short_anywhere_is_never_read_beyond_its_end(frame: bytes) -> None:
    rss = hasher(EVERYTHING)
    for size in range(len(frame) + 1):
        report, value = hash_of(rss, frame[:size])
        assert 0 <= value < 1 << 32
        assert 0 <= report <= 9


KINDS = st.sampled_from([b"\x08\0E", b"\x08\0F", b"\x86\xdd\x60", b"\x81\0", b"\x88\xa8", b"\x08\x06"])


@given(st.binary(max_size=120) | st.builds(lambda kind, data: bytes(12) + kind + data, KINDS, st.binary(max_size=150)))
@settings(max_examples=400, deadline=None)
def test_any_bytes_are_hashed_or_not_and_never_read_beyond_their_end(data: bytes) -> None:
    report, value = hash_of(hasher(EVERYTHING, tunnels=0x1FF), data)
    assert (report == NONE) <= (value == 0)


@given(st.sampled_from(WHOLE), st.lists(st.tuples(st.integers(12, 150), st.integers(0, 255)), max_size=4))
@settings(max_examples=300, deadline=None)
def test_a_damaged_frame_is_never_read_beyond_its_end(frame: bytes, changes: list[tuple[int, int]]) -> None:
    damaged = bytearray(frame)
    for at, value in changes:
        damaged[at % len(damaged)] = value
    assert 0 <= hash_of(hasher(EVERYTHING, tunnels=0x1FF), bytes(damaged))[1] < 1 << 32
