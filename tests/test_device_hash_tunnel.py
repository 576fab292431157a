"""The hash of what is inside a tunnel (HTUN-D-01 to HTUN-D-04); the frames are built by scapy."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.contrib.geneve import GENEVE
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment
from scapy.layers.l2 import ARP, GRE, Dot1Q, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet, Raw

from netemu.device.rss import Rss
from netemu.errors import ConfigError
from netemu.virtio.features import FeatureSet
from tests.hashing import (
    ALL_FEATURES,
    CTRL_VQ,
    IPV4,
    IPV6,
    KEY,
    NONE,
    RSS,
    TCPV4,
    TCPV6,
    UDPV4,
    hash_of,
    hasher,
    net_config,
    packed,
    port_pair,
    toeplitz_by_bits,
)

GRE_2784, GRE_2890, GRE_7676, GRE_UDP, VXLAN_, VXLAN_GPE, GENEVE_, IPIP, NVGRE = (1 << n for n in range(9))
ALL_TYPES, ALL_TUNNELS = 0x1FF, 0x1FF

OUTER4 = IP(src="203.0.113.1", dst="203.0.113.2")
OUTER6 = IPv6(src="2001:db8:ffff::1", dst="2001:db8:ffff::2")
INNER4 = IP(src="10.1.0.1", dst="10.2.0.2") / TCP(sport=1111, dport=2222) / Raw(b"x" * 20)
INNER6 = IPv6(src="fd00::1", dst="fd00::2") / TCP(sport=1111, dport=2222) / Raw(b"x" * 20)
BRIDGED = Ether(src="02:00:00:00:00:aa", dst="02:00:00:00:00:bb")

HASH_INNER4 = (TCPV4, toeplitz_by_bits(KEY, packed("10.1.0.1", "10.2.0.2") + port_pair(1111, 2222)))
HASH_INNER6 = (TCPV6, toeplitz_by_bits(KEY, packed("fd00::1", "fd00::2") + port_pair(1111, 2222)))
HASH_OUTER4 = (IPV4, toeplitz_by_bits(KEY, packed("203.0.113.1", "203.0.113.2")))
HASH_OUTER6 = (IPV6, toeplitz_by_bits(KEY, packed("2001:db8:ffff::1", "2001:db8:ffff::2")))


def gpe(following: int) -> Raw:
    """A VXLAN-GPE header: VNI and next-protocol bits, then what follows."""
    return Raw(bytes([0x0C, 0, 0, following]) + bytes.fromhex("00000700"))


def udp(port: int) -> UDP:
    return UDP(sport=50000, dport=port)


TUNNELS = [
    # packet (behind its Ethernet header), the types it belongs to, the hash of the inner header
    pytest.param(OUTER4 / GRE() / INNER4, GRE_2784, HASH_INNER4, id="gre-2784"),
    pytest.param(OUTER4 / GRE(chksum_present=1) / INNER4, GRE_2784, HASH_INNER4, id="gre-2784-checksum"),
    pytest.param(OUTER4 / GRE(proto=0x6558) / BRIDGED / INNER4, GRE_2784, HASH_INNER4, id="gre-2784-bridged"),
    pytest.param(OUTER4 / GRE(key_present=1, key=7) / INNER4, GRE_2890, HASH_INNER4, id="gre-2890-key"),
    pytest.param(OUTER4 / GRE(seqnum_present=1) / INNER4, GRE_2890, HASH_INNER4, id="gre-2890-sequence"),
    pytest.param(OUTER4 / GRE() / INNER6, GRE_2784 | GRE_7676, HASH_INNER6, id="gre-7676-ipv6-inside"),
    pytest.param(OUTER6 / GRE() / INNER4, GRE_7676, HASH_INNER4, id="gre-7676-ipv6-outside"),
    pytest.param(OUTER6 / GRE(key_present=1, seqnum_present=1) / INNER6, GRE_7676, HASH_INNER6, id="gre-7676-key"),
    pytest.param(
        OUTER4 / GRE(proto=0x6558, key_present=1, key=0x1200) / BRIDGED / INNER4,
        NVGRE | GRE_2890,
        HASH_INNER4,
        id="nvgre",
    ),
    pytest.param(
        OUTER4 / GRE(proto=0x6558, key_present=1) / BRIDGED / Dot1Q(vlan=3) / INNER6,
        NVGRE | GRE_2890,
        HASH_INNER6,
        id="nvgre-tagged",
    ),
    pytest.param(OUTER4 / udp(4754) / GRE() / INNER4, GRE_UDP, HASH_INNER4, id="gre-udp"),
    pytest.param(OUTER6 / udp(4754) / GRE(key_present=1) / INNER6, GRE_UDP, HASH_INNER6, id="gre-udp-6"),
    pytest.param(OUTER4 / udp(4789) / VXLAN(vni=7) / BRIDGED / INNER4, VXLAN_, HASH_INNER4, id="vxlan"),
    pytest.param(OUTER6 / udp(4789) / VXLAN(vni=7) / BRIDGED / INNER6, VXLAN_, HASH_INNER6, id="vxlan-6"),
    pytest.param(OUTER4 / udp(4790) / gpe(1) / INNER4, VXLAN_GPE, HASH_INNER4, id="vxlan-gpe-ipv4"),
    pytest.param(OUTER4 / udp(4790) / gpe(2) / INNER6, VXLAN_GPE, HASH_INNER6, id="vxlan-gpe-ipv6"),
    pytest.param(OUTER4 / udp(4790) / gpe(3) / BRIDGED / INNER4, VXLAN_GPE, HASH_INNER4, id="vxlan-gpe-ethernet"),
    pytest.param(OUTER4 / udp(4790) / VXLAN() / BRIDGED / INNER4, VXLAN_GPE, HASH_INNER4, id="vxlan-gpe-no-next"),
    pytest.param(OUTER4 / udp(6081) / GENEVE(vni=7) / BRIDGED / INNER4, GENEVE_, HASH_INNER4, id="geneve"),
    pytest.param(OUTER4 / udp(6081) / GENEVE(proto=0x86DD) / INNER6, GENEVE_, HASH_INNER6, id="geneve-ipv6"),
    pytest.param(
        OUTER4 / udp(6081) / Raw(bytes.fromhex("0240080000000700 0102800112345678")) / INNER4,
        GENEVE_,
        HASH_INNER4,
        id="geneve-options",
    ),
    pytest.param(OUTER4 / INNER4, IPIP, HASH_INNER4, id="ipip"),
]


def framed(packet: Packet) -> bytes:
    """The packet in an Ethernet frame, computed by scapy."""
    return bytes(Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / packet)


def outer_hash(packet: Packet) -> tuple[int, int]:
    """The hash of a packet as if it were no tunnel: read from scapy's own fields."""
    if isinstance(packet.payload, UDP):
        ports = port_pair(50000, packet[UDP].dport)
        report = UDPV4 if packet.version == 4 else 6
        return report, toeplitz_by_bits(KEY, packed(packet.src, packet.dst) + ports)
    return HASH_OUTER4 if packet.version == 4 else HASH_OUTER6


@pytest.mark.parametrize(("packet", "kinds", "inner"), TUNNELS)
@pytest.mark.parametrize("enabled", [1 << n for n in range(9)], ids=lambda bit: f"type-{bit.bit_length() - 1}")
def test_an_enabled_type_hashes_the_inner_header_and_no_other_does(
    packet: Packet, kinds: int, inner: tuple[int, int], enabled: int
) -> None:
    """HTUN-D-04 where the type is on, HTUN-D-01 where it is not."""
    expected = inner if enabled & kinds else outer_hash(packet)
    assert hash_of(hasher(ALL_TYPES, enabled), framed(packet)) == expected


@pytest.mark.parametrize(("packet", "kinds", "inner"), TUNNELS)
def test_htun_d_03_without_any_type_the_outer_header_is_hashed(
    packet: Packet, kinds: int, inner: tuple[int, int]
) -> None:
    """HTUN-D-03: a mask of 0, or a reset, ends inner hashing; HTUN-D-04: initially all are disabled."""
    rss = hasher(ALL_TYPES, ALL_TUNNELS)
    assert hash_of(rss, framed(packet)) == inner
    rss.configure_tunnels(0)
    assert hash_of(rss, framed(packet)) == outer_hash(packet) != inner
    rss.configure_tunnels(kinds)
    assert hash_of(rss, framed(packet)) == inner
    rss.reset()
    assert rss.state.tunnels == 0
    assert hash_of(hasher(ALL_TYPES), framed(packet)) == outer_hash(packet)


def test_htun_d_04_one_level_only() -> None:
    """HTUN-D-04: of a tunnel in a tunnel the first inner header is hashed."""
    middle = IP(src="172.16.0.1", dst="172.16.0.2")
    packet = OUTER4 / udp(4789) / VXLAN() / BRIDGED / middle / GRE() / INNER4
    expected = (IPV4, toeplitz_by_bits(KEY, packed("172.16.0.1", "172.16.0.2")))
    assert hash_of(hasher(ALL_TYPES, ALL_TUNNELS), framed(packet)) == expected


@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(OUTER4 / udp(4789) / VXLAN() / BRIDGED / ARP(), id="vxlan-arp"),
        pytest.param(OUTER4 / udp(4789) / VXLAN(), id="vxlan-nothing"),
        pytest.param(OUTER4 / udp(4790) / gpe(4) / Raw(bytes(40)), id="vxlan-gpe-nsh"),
        pytest.param(OUTER4 / GRE(proto=0x8847) / Raw(bytes(40)), id="gre-mpls"),
    ],
)
def test_hrep_d_02_a_tunnel_without_ip_inside_has_no_hash(packet: Packet) -> None:
    """HREP-D-02, HTUN-D-04: the outer header matched, so the inner one counts, and there is nothing to hash."""
    assert hash_of(hasher(ALL_TYPES, ALL_TUNNELS), framed(packet)) == (NONE, 0)


NO_TUNNEL = [
    pytest.param(OUTER4 / GRE(version=1) / INNER4, id="gre-version-1"),
    pytest.param(OUTER4 / GRE(routing_present=1) / INNER4, id="gre-routing"),
    pytest.param(OUTER4 / udp(4789) / VXLAN(flags=0) / BRIDGED / INNER4, id="vxlan-without-vni"),
    pytest.param(OUTER4 / udp(4790) / Raw(b"\x0d\0\0\1" + bytes(4)) / INNER4, id="vxlan-gpe-oam"),
    pytest.param(OUTER4 / udp(4790) / Raw(b"\x1c\0\0\1" + bytes(4)) / INNER4, id="vxlan-gpe-version"),
    pytest.param(OUTER4 / udp(6081) / GENEVE(critical=0, oam=1) / INNER4, id="geneve-control"),
    pytest.param(OUTER4 / udp(6081) / GENEVE(version=1) / INNER4, id="geneve-version"),
    pytest.param(OUTER4 / udp(4755) / GRE() / INNER4, id="gre-udp-dtls"),
    pytest.param(OUTER4 / udp(9) / VXLAN() / BRIDGED / INNER4, id="another-port"),
    pytest.param(OUTER6 / INNER6, id="ipv6-in-ipv6"),
    pytest.param(OUTER4 / INNER6, id="ipv6-in-ipv4"),
]


@pytest.mark.parametrize("packet", NO_TUNNEL)
def test_htun_d_01_what_is_no_tunnel_of_these_is_hashed_outside(packet: Packet) -> None:
    """HTUN-D-01."""
    assert hash_of(hasher(ALL_TYPES, ALL_TUNNELS), framed(packet)) == outer_hash(packet)


def test_htun_d_01_fragments_of_a_tunnel_stay_together() -> None:
    """HTUN-D-01: the first has the inner header, the others do not; all are hashed by the outer addresses."""
    rss = hasher(ALL_TYPES, ALL_TUNNELS)
    first = IP(src="203.0.113.1", dst="203.0.113.2", flags="MF", proto=47) / GRE() / INNER4
    later = IP(src="203.0.113.1", dst="203.0.113.2", frag=10, proto=47) / Raw(bytes(30))
    assert hash_of(rss, framed(first)) == hash_of(rss, framed(later)) == HASH_OUTER4
    six = IPv6(src="2001:db8:ffff::1", dst="2001:db8:ffff::2") / IPv6ExtHdrFragment(nh=47, m=1) / GRE() / INNER4
    assert hash_of(rss, framed(six)) == (7, HASH_OUTER6[1])


def test_htun_d_02_a_type_the_device_does_not_support_is_refused() -> None:
    """HTUN-D-02: and what was enabled stays."""
    rss = Rss(net_config(supported_tunnel_types=VXLAN_ | GENEVE_))
    rss.start(ALL_FEATURES)
    rss.configure_tunnels(VXLAN_)
    for mask in (IPIP, VXLAN_ | IPIP, 0x1FF, 1 << 9, 1 << 31):
        with pytest.raises(ConfigError, match="HTUN-D-02"):
            rss.configure_tunnels(mask)
        assert rss.state.tunnels == VXLAN_


def test_htun_v_01_without_the_feature_there_is_no_such_command() -> None:
    """HTUN-V-01."""
    rss = Rss(net_config())
    rss.start(FeatureSet.of(CTRL_VQ, RSS))
    with pytest.raises(ConfigError, match="HTUN-V-01"):
        rss.configure_tunnels(VXLAN_)


@pytest.mark.parametrize(("packet", "kinds", "inner"), TUNNELS)
def test_a_tunnel_cut_short_anywhere_is_never_read_beyond_its_end(
    packet: Packet, kinds: int, inner: tuple[int, int]
) -> None:
    rss = hasher(ALL_TYPES, kinds)
    whole = framed(packet)
    for size in range(14, len(whole)):
        assert 0 <= hash_of(rss, whole[:size])[0] <= 9
    assert hash_of(rss, whole) == inner


@given(
    st.sampled_from([framed(row.values[0]) for row in TUNNELS]),  # type: ignore[arg-type]
    st.lists(st.tuples(st.integers(14, 120), st.integers(0, 255)), max_size=4),
)
@settings(max_examples=300, deadline=None)
def test_a_damaged_tunnel_is_never_read_beyond_its_end(frame: bytes, changes: list[tuple[int, int]]) -> None:
    damaged = bytearray(frame)
    for at, value in changes:
        damaged[at % len(damaged)] = value
    assert 0 <= hash_of(hasher(ALL_TYPES, ALL_TUNNELS), bytes(damaged))[1] < 1 << 32
