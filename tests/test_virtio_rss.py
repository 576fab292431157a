"""Hash types, reports and the data of RSS_CONFIG and HASH_CONFIG (sections E and F of the catalogue)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netemu.errors import ConfigError
from netemu.virtio import rss
from netemu.virtio.rss import HashConfig, RssConfig, hash_types_in_words, parse_hash_types

# types 0x3f, mask 3, unclassified 1, table 0 1 2 3, max_tx_vq 4, key of two bytes
RSS_BYTES = bytes.fromhex("3f000000 0300 0100 0000 0100 0200 0300 0400 02 a5 5a")
RSS = RssConfig(hash_types=0x3F, indirection_table=(0, 1, 2, 3), unclassified_queue=1, max_tx_vq=4, key=b"\xa5\x5a")
HASH_BYTES = bytes.fromhex("11000000 0000 0000 0000 0000 03 010203")
HASH = HashConfig(hash_types=0x11, key=b"\1\2\3")

# Section F: report, name, bit.
TABLE_F = [
    (1, "IPv4", 0x001),
    (2, "TCPv4", 0x002),
    (3, "UDPv4", 0x004),
    (4, "IPv6", 0x008),
    (5, "TCPv6", 0x010),
    (6, "UDPv6", 0x020),
    (7, "IPv6_EX", 0x040),
    (8, "TCPv6_EX", 0x080),
    (9, "UDPv6_EX", 0x100),
]


@pytest.mark.parametrize(("report", "name", "bit"), TABLE_F)
def test_hrep_d_03_a_type_s_bit_is_its_report_less_one(report: int, name: str, bit: int) -> None:
    """HREP-D-03, and every constant against section F."""
    kind = name.upper()
    type_name = kind.replace("V6_EX", "_EX")
    assert getattr(rss, f"HASH_REPORT_{kind}") == report
    assert getattr(rss, f"HASH_TYPE_{type_name}") == bit == 1 << (report - 1)
    assert rss.HASH_REPORT_NAMES[report] == name


def test_tunnel_types_are_numbered_as_in_section_f() -> None:
    names = ["GRE_2784", "GRE_2890", "GRE_7676", "GRE_UDP", "VXLAN", "VXLAN_GPE", "GENEVE", "IPIP", "NVGRE"]
    assert [getattr(rss, f"HASH_TUNNEL_{name}") for name in names] == [1 << n for n in range(9)]
    assert rss.HASH_TUNNELS_ALL == 0x1FF


def test_rss_b_01_the_layout_of_rss_config() -> None:
    """RSS-B-01: entries are queue numbers, two bytes each; the key comes last."""
    assert RSS.pack() == RSS_BYTES
    assert RssConfig.unpack(RSS_BYTES) == RSS


def test_hcfg_v_01_the_layout_of_hash_config_has_zeroes() -> None:
    """HCFG-V-01."""
    assert HASH.pack() == HASH_BYTES
    assert HashConfig.unpack(HASH_BYTES) == HASH


@pytest.mark.parametrize("at", range(4, 12))
def test_hcfg_v_01_a_reserved_byte_that_is_set_is_refused(at: int) -> None:
    """HCFG-V-01."""
    wrong = bytearray(HASH_BYTES)
    wrong[at] = 1
    with pytest.raises(ConfigError, match="HCFG-V-01"):
        HashConfig.unpack(bytes(wrong))


def test_hash_config_lies_where_rss_config_with_one_entry_does() -> None:
    """Section E: the offsets agree, so Linux fills one structure for both."""
    assert RssConfig(0x11, (0,), 0, 0, b"\1\2\3").pack() == HASH_BYTES


@pytest.mark.parametrize("size", range(len(RSS_BYTES)))
def test_rss_config_cut_short_anywhere_is_refused(size: int) -> None:
    with pytest.raises(ConfigError):
        RssConfig.unpack(RSS_BYTES[:size])


@pytest.mark.parametrize("size", range(len(HASH_BYTES)))
def test_hash_config_cut_short_anywhere_is_refused(size: int) -> None:
    with pytest.raises(ConfigError):
        HashConfig.unpack(HASH_BYTES[:size])


@pytest.mark.parametrize(("kind", "data"), [(RssConfig, RSS_BYTES), (HashConfig, HASH_BYTES)])
def test_bytes_behind_the_key_are_refused(kind: type[RssConfig | HashConfig], data: bytes) -> None:
    with pytest.raises(ConfigError):
        kind.unpack(data + b"\0")


@given(st.binary(max_size=64))
def test_any_bytes_are_a_configuration_or_an_error(data: bytes) -> None:
    for kind in (RssConfig, HashConfig):
        try:
            config = kind.unpack(data)
        except ConfigError:
            continue
        assert config.pack() == data


@pytest.mark.parametrize(
    "config",
    [
        RssConfig(1 << 32, (0,)),
        RssConfig(1, ()),
        RssConfig(1, (0x10000,)),
        RssConfig(1, (0,), unclassified_queue=-1),
        RssConfig(1, (0,), key=bytes(256)),
        HashConfig(-1),
        HashConfig(1, bytes(256)),
    ],
    ids=str,
)
def test_what_has_no_place_in_a_command_is_refused(config: RssConfig | HashConfig) -> None:
    with pytest.raises(ConfigError):
        config.pack()


def test_types_by_name_and_back() -> None:
    assert parse_hash_types("ipv4+TCPv4") == 3
    assert parse_hash_types("0x1ff") == 0x1FF
    assert hash_types_in_words(0x1FF) == "ipv4+tcpv4+udpv4+ipv6+tcpv6+udpv6+ipv6ex+tcpv6ex+udpv6ex"
    assert hash_types_in_words(0) == "none"
    assert hash_types_in_words(0x200) == "0x200"
    with pytest.raises(ConfigError, match="sctp"):
        parse_hash_types("ipv4+sctp")
