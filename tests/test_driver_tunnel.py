"""Segmented UDP tunnels on receive: the header of 24 bytes, and what a driver must not accept in it.

Sheet 4.6 step 3 and 4.7, last paragraphs; the frames are VXLAN: Ethernet 14, outer IP, UDP 8, VXLAN 8, inner Ethernet
14, inner IP, TCP 20 or UDP 8.
"""

from __future__ import annotations

import ctypes
import struct

import pytest

from netemu.driver.header import virtio_net_hdr_tnl_to_skb
from netemu.jit import hook
from netemu.skb import Skb
from netemu.virtio import features as f
from netemu.virtio.features import FeatureSet
from tests.driver_kit import MERGEABLE, V4_19, V6_1, V7_0, Rig, frame, free, plain, vnet_hdr

NEEDS_CSUM, DATA_VALID, RSC_INFO, TUNNEL_CSUM = 1, 2, 4, 8
TCPV4, UFO, TCPV6, USO, ECN = 1, 3, 4, 5, 0x80
OUTER_V4, OUTER_V6 = 0x20, 0x40
CHECKSUM_NONE, CHECKSUM_UNNECESSARY, CHECKSUM_PARTIAL = 0, 1, 3
ETH_P_IP, ETH_P_IPV6 = 0x0800, 0x86DD
GOOD = {"flags": NEEDS_CSUM, "gso_type": TCPV4 | OUTER_V4, "gso_size": 1000, "csum_start": 84, "csum_offset": 16}
"""TCP over IPv4 in VXLAN over IPv4: 14 + 20 = 34, 34 + 8 + 8 + 14 = 64, 64 + 20 = 84."""
PLACES = (34, 64)

Fields = dict[str, int]


def tunnel_hdr(fields: Fields, outer_th: int, inner_nh: int) -> bytes:
    """Layout 11.1: 12 bytes, 8 of hash report, two offsets."""
    return vnet_hdr(**fields) + bytes(8) + struct.pack("<HH", outer_th, inner_nh)


class Tunnels(Rig):
    """A driver that took GUEST_UDP_TUNNEL_GSO, with or without _CSUM; frames come in buffers of their own size."""

    def __init__(self, kernel: str = V7_0, *, csum: bool = False) -> None:
        super().__init__(kernel, MERGEABLE, 64, hdr_len=24)
        self.vi.rx_tnl = hook(plain(virtio_net_hdr_tnl_to_skb))
        self.vi.rx_tnl_csum = int(csum)
        self.fill()

    def offer(
        self, fields: Fields, places: tuple[int, int] = PLACES, size: int = 1200, first_inner: int = 0x45
    ) -> Skb | None:
        """The skb of one frame, None if it was refused; the caller frees it."""
        data = bytearray(frame(size))
        if len(data) > places[1]:
            data[places[1]] = first_inner
        errors = self.rq.rx_frame_errors
        self.arrive(tunnel_hdr(fields, *places) + bytes(data))
        skbs = self.receive()
        assert self.rq.rx_frame_errors - errors == 1 - len(skbs)
        assert self.rq.drops == 0  # sheet 4.6: rx_frame_errors alone
        return skbs[0] if skbs else None

    def accepts(self, fields: Fields, places: tuple[int, int] = PLACES, **what: int) -> bool:
        skb = self.offer(fields, places, **what)
        if skb is None:
            return False
        free(skb)
        return True


def test_a_tunnel_packet_as_the_stack_needs_it() -> None:
    """RX-V-09, the other way round: with a tunnel bit the offsets are used."""
    rig = Tunnels()
    skb = rig.offer(GOOD)
    assert skb is not None
    assert (skb.ip_summed, skb.csum_start, skb.csum_offset) == (CHECKSUM_PARTIAL, 84, 16)
    assert (skb.gso_type, skb.gso_size) == (TCPV4 | OUTER_V4, 1000)
    assert (skb.encapsulation, skb.inner_protocol) == (1, ETH_P_IP)
    assert (skb.transport_header, skb.inner_network_header, skb.inner_transport_header) == (34, 64, 84)
    free(skb)
    rig.assert_nothing_lost()


def test_both_tunnel_bits() -> None:
    """RX-V-08."""
    rig = Tunnels()
    places = (54, 84)
    fields = GOOD | {"csum_start": 104}
    assert rig.accepts(fields | {"gso_type": TCPV4 | OUTER_V6}, places)
    assert not rig.accepts(fields | {"gso_type": TCPV4 | OUTER_V6 | OUTER_V4}, places)
    rig.assert_nothing_lost()


@pytest.mark.parametrize("gso_type", [0, TCPV4])
def test_without_a_tunnel_bit_the_offsets_are_not_looked_at(gso_type: int) -> None:
    """RX-V-09: they are what no tunnel could have."""
    rig = Tunnels()
    skb = rig.offer(GOOD | {"gso_type": gso_type}, (0xFFFF, 1))
    assert skb is not None
    assert (skb.encapsulation, skb.transport_header, skb.gso_type) == (0, 0, gso_type)
    free(skb)


def test_a_tunnel_needs_needs_csum() -> None:
    """RX-V-10."""
    rig = Tunnels()
    assert rig.accepts(GOOD | {"flags": NEEDS_CSUM})
    assert not rig.accepts(GOOD | {"flags": 0})
    assert not rig.accepts(GOOD | {"flags": RSC_INFO})
    rig.assert_nothing_lost()


def test_a_tunnel_excludes_data_valid() -> None:
    """RX-V-11."""
    rig = Tunnels()
    assert not rig.accepts(GOOD | {"flags": NEEDS_CSUM | DATA_VALID})
    assert not rig.accepts(GOOD | {"flags": DATA_VALID})
    rig.assert_nothing_lost()


@pytest.mark.parametrize("inner", [0, ECN, UFO, UFO | ECN, 2, 6])
def test_what_cannot_be_inside_a_tunnel(inner: int) -> None:
    """RX-V-12: NONE, with the ECN bit or without; sheet 4.7: nor UFO, nor a type nobody knows."""
    rig = Tunnels()
    assert not rig.accepts(GOOD | {"gso_type": inner | OUTER_V4})
    rig.assert_nothing_lost()


@pytest.mark.parametrize("gso_type", [0, TCPV4])
def test_tunnel_csum_and_needs_csum_without_a_tunnel(gso_type: int) -> None:
    """RX-V-13."""
    rig = Tunnels(csum=True)
    fields = GOOD | {"gso_type": gso_type}
    assert rig.accepts(fields)
    assert not rig.accepts(fields | {"flags": NEEDS_CSUM | TUNNEL_CSUM})
    assert not rig.accepts(fields | {"flags": NEEDS_CSUM | TUNNEL_CSUM | DATA_VALID})
    rig.assert_nothing_lost()


def test_tunnel_csum_in_a_tunnel_needs_its_feature() -> None:
    """Sheet 4.7; the outer checksum is then to be made per segment, which gso_type remembers."""
    fields = GOOD | {"flags": NEEDS_CSUM | TUNNEL_CSUM}
    assert not Tunnels(csum=False).accepts(fields)
    rig = Tunnels(csum=True)
    skb = rig.offer(fields)
    assert skb is not None
    assert skb.gso_type == TCPV4 | OUTER_V4 | 0x100
    free(skb)
    rig.assert_nothing_lost()


@pytest.mark.parametrize(("csum", "accepted", "level"), [(False, False, 0), (True, True, 1)])
def test_both_checksums_vouched_for(csum: bool, accepted: bool, level: int) -> None:
    """Sheet 4.6 step 3: DATA_VALID and UDP_TUNNEL_CSUM outside of GSO."""
    rig = Tunnels(csum=csum)
    skb = rig.offer({"flags": DATA_VALID | TUNNEL_CSUM})
    assert (skb is not None) == accepted
    if skb is not None:
        assert (skb.ip_summed, skb.csum_level) == (CHECKSUM_UNNECESSARY, level)
        free(skb)
    skb = rig.offer({"flags": DATA_VALID})
    assert skb is not None
    assert (skb.ip_summed, skb.csum_level) == (CHECKSUM_UNNECESSARY, 0)
    free(skb)
    rig.assert_nothing_lost()


BOUNDS = [
    # outer_th: 14 + 20, or 14 + 40
    (OUTER_V4 | TCPV4, (34, 64), 84, True),
    (OUTER_V4 | TCPV4, (33, 64), 84, False),
    (OUTER_V6 | TCPV4, (54, 84), 104, True),
    (OUTER_V6 | TCPV4, (53, 84), 104, False),
    # inner_nh: outer_th + 8
    (OUTER_V4 | TCPV4, (34, 42), 62, True),
    (OUTER_V4 | TCPV4, (34, 41), 61, False),
    # csum_start: inner_nh + 20, or + 40
    (OUTER_V4 | TCPV4, (34, 64), 83, False),
    (OUTER_V4 | TCPV6, (34, 64), 104, True),
    (OUTER_V4 | TCPV6, (34, 64), 103, False),
]


@pytest.mark.parametrize(("gso_type", "places", "start", "accepted"), BOUNDS)
def test_bounds_of_the_offsets(gso_type: int, places: tuple[int, int], start: int, accepted: bool) -> None:
    """Sheet 4.7, both sides of each bound."""
    rig = Tunnels()
    assert rig.accepts(GOOD | {"gso_type": gso_type, "csum_start": start}, places) == accepted
    rig.assert_nothing_lost()


USO_FIELDS = GOOD | {"gso_type": USO | OUTER_V4, "csum_offset": 6, "gso_size": 500}


@pytest.mark.parametrize(
    ("first", "start", "accepted", "protocol"),
    [
        (0x45, 84, True, ETH_P_IP),
        (0x45, 83, False, 0),
        (0x60, 104, True, ETH_P_IPV6),
        (0x60, 103, False, 0),
    ],
)
def test_the_packet_tells_what_its_datagrams_travel_in(first: int, start: int, accepted: bool, protocol: int) -> None:
    """USO has one type for both, so the version nibble of the inner header decides (v6.17)."""
    rig = Tunnels()
    skb = rig.offer(USO_FIELDS | {"csum_start": start}, first_inner=first)
    assert (skb is not None) == accepted
    if skb is not None:
        assert skb.inner_protocol == protocol
        free(skb)
    rig.assert_nothing_lost()


@pytest.mark.parametrize(
    "change",
    [{"gso_size": 0}, {"gso_size": 0xFFFF}, {"csum_offset": 6}, {"csum_start": 1181}, {"gso_type": OUTER_V4 | 2}],
)
def test_the_plain_rules_hold_inside_too(change: Fields) -> None:
    """Sheet 4.7: what is refused outside of a tunnel; csum_start 1181 leaves 19 bytes of 1200 for a TCP header."""
    rig = Tunnels()
    assert not rig.accepts(GOOD | change)
    assert rig.accepts(GOOD | {"csum_start": 1180})
    rig.assert_nothing_lost()


@pytest.mark.parametrize(("payload", "is_gso"), [(1000, False), (1001, True)])
def test_too_small_for_segments(payload: int, is_gso: bool) -> None:
    """Sheet 4.7: a payload of at most gso_size makes it an ordinary packet, still one in a tunnel."""
    rig = Tunnels()
    skb = rig.offer(GOOD, size=104 + payload)
    assert skb is not None
    assert (skb.encapsulation, skb.gso_size, skb.gso_type) == ((1, 1000, 0x21) if is_gso else (1, 0, 0))
    free(skb)


@pytest.mark.parametrize("kernel", [V4_19, V6_1, V7_0])
def test_a_tunnel_that_was_not_negotiated(kernel: str) -> None:
    """Sheet 4.7; before v6.17 the bits make a gso_type that nobody knows."""
    rig = Rig(kernel, MERGEABLE, 64, hdr_len=24)
    rig.fill()
    rig.arrive(tunnel_hdr(GOOD, *PLACES) + frame(1200))
    assert rig.receive() == []
    assert rig.rq.rx_frame_errors == 1
    rig.assert_nothing_lost()


def test_a_skb_used_again_is_in_no_tunnel() -> None:
    """Skbs come from a pool: nothing of the last frame stays."""
    rig = Tunnels(csum=True)
    assert rig.accepts(GOOD)
    for _ in range(3):
        skb = rig.offer({})
        assert skb is not None
        assert (skb.encapsulation, skb.gso_type, skb.csum_level, skb.gso_segs) == (0, 0, 0, 0)
        free(skb)


def test_hash_bytes_of_a_tunnel_header_are_filler() -> None:
    """Sheet 1.5: the 24 bytes are there even without HASH_REPORT, and then mean nothing."""
    rig = Tunnels()
    rig.arrive(vnet_hdr() + bytes.fromhex("78563412 0200 0000") + bytes(4) + frame(60))
    [skb] = rig.receive()
    assert (skb.hash, skb.l4_hash) == (0, 0)
    free(skb)


def test_the_driver_does_not_take_out_net_header() -> None:
    """RX-V-03: it never negotiates the feature, and so never looks at outer_nh_offset."""
    rig = Rig(V7_0, MERGEABLE | FeatureSet.of(f.OUT_NET_HEADER, f.IPSEC), 16)
    assert f.OUT_NET_HEADER not in rig.driver.features
    assert f.IPSEC not in rig.driver.features
    assert rig.vi.hdr_len == 12


@pytest.mark.parametrize("flags", [0x10, 0x20, 0x40, 0x80, 0xF0, RSC_INFO | 0xF0])
def test_flags_nobody_knows(flags: int) -> None:
    """RX-V-01."""
    rig = Tunnels()
    skb = rig.offer({"flags": flags, "csum_start": 0xFFFF, "csum_offset": 0xFFFF})
    assert skb is not None
    assert (skb.ip_summed, skb.csum_start) == (CHECKSUM_NONE, 0)
    free(skb)


def test_rsc_info_makes_csum_start_a_count() -> None:
    """RX-V-04: without NEEDS_CSUM the two fields, here a number of segments and of ACKs, are no positions."""
    rig = Tunnels()
    for flags in (RSC_INFO, RSC_INFO | DATA_VALID, DATA_VALID, 0):
        skb = rig.offer({"flags": flags, "csum_start": 0xFFFF, "csum_offset": 0xFFFF})
        assert skb is not None
        assert (skb.csum_start, skb.csum_offset) == (0, 0)
        free(skb)


@pytest.mark.parametrize("hdr_len", [0, 1, 54, 0xFFFF])
def test_hdr_len_is_not_relied_on(hdr_len: int) -> None:
    """RX-V-06 (and RX-V-05, which allows to use it): the skb is the same whatever it says."""
    rig = Rig(V7_0, MERGEABLE, 64)
    rig.fill()
    fields = GOOD | {"gso_type": TCPV4, "csum_start": 34}
    skb = rig.receive_frame(frame(3000), hdr_len=hdr_len, **fields)
    assert (skb.gso_size, skb.csum_start, skb.len, skb.len - skb.data_len) == (1000, 34, 3000, 14)
    assert ctypes.string_at(skb.data, 14) == frame(14)
    free(skb)


def test_an_unfinished_checksum_is_not_taken_for_a_good_one() -> None:
    """RX-V-07: with neither flag the stack is told that nobody has looked."""
    rig = Rig(V7_0, MERGEABLE, 64)
    rig.fill()
    skb = rig.receive_frame(frame(100))
    assert skb.ip_summed == CHECKSUM_NONE
    free(skb)
