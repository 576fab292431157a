"""The header's length and words, and the configuration's layout (sections C and D of the catalogue)."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netemu.virtio import net
from netemu.virtio.features import FeatureSet
from netemu.virtio.net import NetConfig, header_length

VERSION_1, MRG_RXBUF, HASH_REPORT = 32, 15, 57
GUEST_UDP_TUNNEL_GSO, HOST_UDP_TUNNEL_GSO, OUT_NET_HEADER, IPSEC = 65, 67, 69, 70


def length_by_the_table(bits: set[int]) -> int:
    """Section D: "first row that matches"."""
    if bits & {OUT_NET_HEADER, IPSEC}:
        return 32
    if bits & {GUEST_UDP_TUNNEL_GSO, HOST_UDP_TUNNEL_GSO}:
        return 24
    if HASH_REPORT in bits:
        return 20
    if VERSION_1 in bits or MRG_RXBUF in bits:
        return 12
    return 10


MODERN = [
    {VERSION_1, *extra}
    for count in range(7)
    for extra in itertools.combinations(
        (MRG_RXBUF, HASH_REPORT, GUEST_UDP_TUNNEL_GSO, HOST_UDP_TUNNEL_GSO, OUT_NET_HEADER, IPSEC), count
    )
]


@pytest.mark.parametrize("bits", [set(), {MRG_RXBUF}, *MODERN], ids=str)
def test_rxb_v_04_header_length_over_the_whole_table(bits: set[int]) -> None:
    """Traps T1 and E6: 12 bytes in every modern device, 10 in legacy alone, either direction's tunnel bit for 24."""
    assert header_length(FeatureSet.of(*bits)) == length_by_the_table(bits)


def test_features_that_say_nothing_of_the_header_do_not_change_it() -> None:
    others = set(range(71)) - {MRG_RXBUF, HASH_REPORT, GUEST_UDP_TUNNEL_GSO, HOST_UDP_TUNNEL_GSO, OUT_NET_HEADER, IPSEC}
    assert header_length(FeatureSet.of(*others)) == 12
    assert header_length(FeatureSet.of(*others - {VERSION_1})) == 10


def test_the_header_s_fields_lie_where_section_d_has_them() -> None:
    assert {
        net.HDR_FLAGS: 0,
        net.HDR_GSO_TYPE: 1,
        net.HDR_HDR_LEN: 2,
        net.HDR_GSO_SIZE: 4,
        net.HDR_CSUM_START: 6,
        net.HDR_CSUM_OFFSET: 8,
        net.HDR_NUM_BUFFERS: 10,
        net.HDR_HASH_VALUE: 12,
        net.HDR_HASH_REPORT: 16,
        net.HDR_OUTER_TH_OFFSET: 20,
        net.HDR_INNER_NH_OFFSET: 22,
        net.HDR_OUTER_NH_OFFSET: 24,
    } == {n: n for n in (0, 1, 2, 4, 6, 8, 10, 12, 16, 20, 22, 24)}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (0, "none"),
        (1, "NEEDS_CSUM"),
        (2, "DATA_VALID"),
        (4, "RSC_INFO"),
        (8, "UDP_TUNNEL_CSUM"),
        (9, "NEEDS_CSUM+UDP_TUNNEL_CSUM"),
        (0xF1, "NEEDS_CSUM+0xf0"),
        (0x80, "0x80"),
    ],
)
def test_flags_in_words(flags: int, words: str) -> None:
    assert net.flags_in_words(flags) == words


@pytest.mark.parametrize(
    ("gso_type", "words"),
    [
        (0, "NONE"),
        (1, "TCPV4"),
        (3, "UDP"),
        (4, "TCPV6"),
        (5, "UDP_L4"),
        (0x81, "TCPV4+ECN"),
        (0x21, "TCPV4+UDP_TUNNEL_IPV4"),
        (0x44, "TCPV6+UDP_TUNNEL_IPV6"),
        (0xE1, "TCPV4+UDP_TUNNEL_IPV4+UDP_TUNNEL_IPV6+ECN"),
        (2, "0x2"),
        (0x9F, "0x1f+ECN"),
    ],
)
def test_gso_types_in_words(gso_type: int, words: str) -> None:
    """There is no value 2 (section D)."""
    assert net.gso_in_words(gso_type) == words


# (field, offset, size) of struct virtio_net_config.
LAYOUT = [
    ("status", 6, 2),
    ("max_virtqueue_pairs", 8, 2),
    ("mtu", 10, 2),
    ("speed", 12, 4),
    ("duplex", 16, 1),
    ("rss_max_key_size", 17, 1),
    ("rss_max_indirection_table_length", 18, 2),
    ("supported_hash_types", 20, 4),
    ("supported_tunnel_types", 24, 4),
]


@pytest.mark.parametrize(("field", "offset", "size"), LAYOUT, ids=[row[0] for row in LAYOUT])
def test_each_configuration_field_lies_where_section_c_has_it(field: str, offset: int, size: int) -> None:
    """CFG-D-03: little-endian. The fields before and behind are not touched."""
    blank = {name: 0 for name, _, _ in LAYOUT}
    value = int.from_bytes(bytes(range(0xA1, 0xA1 + size)), "little")
    data = NetConfig(mac=bytes(6), **{**blank, field: value}).pack()
    assert data == bytes(offset) + bytes(range(0xA1, 0xA1 + size)) + bytes(28 - offset - size)


def test_the_mac_address_is_the_first_six_bytes() -> None:
    data = NetConfig(mac=b"\x02\x11\x22\x33\x44\x55").pack()
    assert data[:6] == b"\x02\x11\x22\x33\x44\x55"
    assert len(data) == 28


@given(st.binary(min_size=28, max_size=28))
def test_any_28_bytes_read_and_write_back(data: bytes) -> None:
    assert NetConfig.unpack(data).pack() == data


@pytest.mark.parametrize("size", [0, 6, 7, 8, 10, 12, 24, 28, 100])
def test_cfg_v_05_06_a_space_of_any_size_is_read_as_far_as_it_goes(size: int) -> None:
    """CFG-V-05, CFG-V-06: Linux's devices end after 24 bytes, old ones after 6 or 8; later ones may be longer."""
    whole = bytes(range(1, 29)) + bytes(72)
    config = NetConfig.unpack(whole[:size])
    expected = whole[:size].ljust(28, b"\0")[:28]
    assert config.mac == expected[:6]
    for field, offset, length in LAYOUT:
        assert getattr(config, field) == int.from_bytes(expected[offset : offset + length], "little")
