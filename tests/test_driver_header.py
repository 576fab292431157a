"""From the virtio header to the skb: checksum state, GSO, hash, type and addressee of a frame.

"Sheet" is the project's fact sheet on Linux's virtio_net.h and virtio_net.c. A frame here is all linear unless a test
says otherwise.
"""

from __future__ import annotations

import ctypes

import pytest

from netemu.driver.eras import era
from netemu.driver.header import eth_type_trans, set_hash, virtio_net_hdr_to_skb
from netemu.driver.virtnet import VirtnetInfo
from netemu.jit import allocate
from netemu.memory import GuestMemory
from netemu.skb import Skb, Skbs, alloc_skb, skb_add_rx_frag
from netemu.virtio import features as f
from netemu.virtio.features import FeatureSet
from tests.driver_kit import MAC, MERGEABLE, V4_19, V6_1, V7_0, Rig, every_era, frame, free, vnet_hdr

NEEDS_CSUM = 1
DATA_VALID = 2
RSC_INFO = 4
UDP_TUNNEL_CSUM = 8
TCPV4, UDP, TCPV6, UDP_L4, ECN = 1, 3, 4, 5, 0x80

CHECKSUM_NONE, CHECKSUM_UNNECESSARY, CHECKSUM_PARTIAL = 0, 1, 3

newer_eras = pytest.mark.parametrize("kernel", [V6_1, V7_0])
Fields = dict[str, int]


class Bench:
    """One skb of a given length, of which ``linear`` bytes are linear, and a header."""

    def __init__(self, length: int, linear: int | None = None) -> None:
        self.memory = GuestMemory(1 << 16)
        self.skbs = Skbs(self.memory, 1)
        assert alloc_skb(self.skbs.pool)
        self.skb = self.skbs.skbs[0]
        self.data = allocate(length)
        self.skb.data = self.data.address
        self.skb.len = length if linear is None else linear
        if linear is not None:
            skb_add_rx_frag(self.skb, 0, self.data.address + linear, length - linear, 0)
        self.header = allocate(32)

    def convert(self, kernel: str, fields: Fields) -> int:
        """virtio_net_hdr_to_skb; its result."""
        ctypes.memmove(self.header.address, vnet_hdr(**fields), 12)
        return int(
            virtio_net_hdr_to_skb(self.skb, self.header.address, era(kernel).struct(), fields.get("gso_type", 0))
        )


def _convert(kernel: str, length: int, fields: Fields, linear: int | None = None) -> tuple[int, Skb, Bench]:
    bench = Bench(length, linear)
    return bench.convert(kernel, fields), bench.skb, bench


# Types


@pytest.mark.parametrize("raw", [2, 6, 7, 0x21, 0x41, 0x61, 0x7F, 0x80, 0x82, 0xFF])
@every_era
def test_unknown_types(kernel: str, raw: int) -> None:
    """Sheet 4.7: only 0, 1, 3, 4 (and 5); 0x80 alone is no type; tunnel bits need a feature (RX-V-08 to RX-V-12)."""
    fields = {"flags": NEEDS_CSUM, "gso_type": raw, "gso_size": 100, "csum_start": 34, "csum_offset": 16}
    assert _convert(kernel, 1000, fields)[0] == -1


@pytest.mark.parametrize("raw", [TCPV4, UDP, TCPV6, TCPV4 | ECN, TCPV6 | ECN])
@every_era
def test_known_types(kernel: str, raw: int) -> None:
    """Sheet 4.7: TCPv4, UFO and TCPv6, with or without ECN."""
    offset = 6 if raw == UDP else 16
    fields = {"flags": NEEDS_CSUM, "gso_type": raw, "gso_size": 100, "csum_start": 54, "csum_offset": offset}
    result, skb, _ = _convert(kernel, 1000, fields)
    assert result == 0
    assert (skb.gso_type, skb.gso_size) == (raw, 100)
    assert (skb.ip_summed, skb.csum_start, skb.csum_offset) == (CHECKSUM_PARTIAL, 54, offset)


@pytest.mark.parametrize(("kernel", "result"), [(V4_19, -1), (V6_1, -1), (V7_0, 0)])
def test_uso_is_new(kernel: str, result: int) -> None:
    """Sheet 4.7: type 5 is known in new kernels only."""
    fields = {"flags": NEEDS_CSUM, "gso_type": UDP_L4, "gso_size": 100, "csum_start": 34, "csum_offset": 6}
    assert _convert(kernel, 1000, fields)[0] == result


@pytest.mark.parametrize("gso_type", [TCPV4, UDP, TCPV6])
@every_era
def test_gso_size_0(kernel: str, gso_type: int) -> None:
    """Sheet 4.7."""
    fields = {"flags": NEEDS_CSUM, "gso_type": gso_type, "gso_size": 0, "csum_start": 54, "csum_offset": 16}
    assert _convert(kernel, 1000, fields)[0] == -1
    assert _convert(kernel, 1000, fields | {"gso_size": 1})[0] == 0


@every_era
def test_gso_size_without_type_is_ignored(kernel: str) -> None:
    """Sheet 4.7: NONE is NONE, whatever gso_size and hdr_len say (RX-V-06)."""
    result, skb, _ = _convert(kernel, 100, {"gso_size": 1448, "hdr_len": 0xFFFF, "csum_start": 0xFFFF})
    assert (result, skb.gso_type, skb.gso_size, skb.ip_summed) == (0, 0, 0, CHECKSUM_NONE)


# NEEDS_CSUM, newer kernels: both directions of every bound

STRICT_BOUNDS = [
    # length, fields, accepted
    # No GSO: need start + offset + 2.
    (100, {"csum_start": 34, "csum_offset": 64}, True),
    (100, {"csum_start": 34, "csum_offset": 65}, False),
    (100, {"csum_start": 98, "csum_offset": 0}, True),
    (100, {"csum_start": 99, "csum_offset": 0}, False),
    # TCP: need start + 20 even though offset + 2 is 18.
    (54, {"csum_start": 34, "csum_offset": 16, "gso_type": TCPV4, "gso_size": 1}, True),
    (53, {"csum_start": 34, "csum_offset": 16, "gso_type": TCPV4, "gso_size": 1}, False),
    (74, {"csum_start": 54, "csum_offset": 16, "gso_type": TCPV6, "gso_size": 1}, True),
    (73, {"csum_start": 54, "csum_offset": 16, "gso_type": TCPV6, "gso_size": 1}, False),
    # UFO: need start + 8.
    (42, {"csum_start": 34, "csum_offset": 6, "gso_type": UDP, "gso_size": 1}, True),
    (41, {"csum_start": 34, "csum_offset": 6, "gso_type": UDP, "gso_size": 1}, False),
    # start at least the least L3 header.
    (100, {"csum_start": 20, "csum_offset": 16}, True),
    (100, {"csum_start": 19, "csum_offset": 16}, False),
    (100, {"csum_start": 20, "csum_offset": 16, "gso_type": TCPV4, "gso_size": 1}, True),
    (100, {"csum_start": 19, "csum_offset": 16, "gso_type": TCPV4, "gso_size": 1}, False),
    (100, {"csum_start": 40, "csum_offset": 16, "gso_type": TCPV6, "gso_size": 1}, True),
    (100, {"csum_start": 39, "csum_offset": 16, "gso_type": TCPV6, "gso_size": 1}, False),
    # TCP's checksum lies at 16.
    (100, {"csum_start": 34, "csum_offset": 15, "gso_type": TCPV4, "gso_size": 1}, False),
    (100, {"csum_start": 34, "csum_offset": 17, "gso_type": TCPV4, "gso_size": 1}, False),
    (100, {"csum_start": 54, "csum_offset": 6, "gso_type": TCPV6, "gso_size": 1}, False),
    # UFO's may lie anywhere in the frame.
    (100, {"csum_start": 34, "csum_offset": 16, "gso_type": UDP, "gso_size": 1}, True),
    # 64 bytes of headroom and start have to fit 16 bits.
    (70000, {"csum_start": 65471, "csum_offset": 16}, True),
    (70000, {"csum_start": 65472, "csum_offset": 16}, False),
    # GSO_BY_FRAGS.
    (70000, {"csum_start": 34, "csum_offset": 16, "gso_type": TCPV4, "gso_size": 0xFFFE}, True),
    (70000, {"csum_start": 34, "csum_offset": 16, "gso_type": TCPV4, "gso_size": 0xFFFF}, False),
]


@pytest.mark.parametrize(("length", "fields", "accepted"), STRICT_BOUNDS)
@newer_eras
def test_needs_csum_bounds(kernel: str, length: int, fields: Fields, accepted: bool) -> None:
    """Sheet 4.7, 9 no. 18; the frame's length is the bound, since Linux pulls what it needs."""
    result, skb, _ = _convert(kernel, length, fields | {"flags": NEEDS_CSUM})
    assert result == (0 if accepted else -1)
    if accepted:
        assert (skb.ip_summed, skb.csum_start) == (CHECKSUM_PARTIAL, fields["csum_start"])


@newer_eras
def test_needs_csum_may_lie_in_the_frags(kernel: str) -> None:
    """Sheet 4.7: "pulled linear": only 14 bytes are linear here."""
    result, skb, _ = _convert(kernel, 1400, {"flags": NEEDS_CSUM, "csum_start": 34, "csum_offset": 16}, linear=14)
    assert (result, skb.csum_start) == (0, 34)


SEED_BOUNDS = [
    (100, {"csum_start": 34, "csum_offset": 64}, True),
    (100, {"csum_start": 34, "csum_offset": 65}, False),
    (100, {"csum_start": 98, "csum_offset": 0}, True),
    (100, {"csum_start": 99, "csum_offset": 0}, False),
    (100, {"csum_start": 101, "csum_offset": 0}, False),
    (100, {"csum_start": 0, "csum_offset": 0}, True),
    (100, {"csum_start": 80, "csum_offset": 16, "gso_type": TCPV4, "gso_size": 1}, True),
    (100, {"csum_start": 34, "csum_offset": 5, "gso_type": TCPV6, "gso_size": 1}, True),
    (100, {"csum_start": 34, "csum_offset": 16, "gso_type": TCPV4, "gso_size": 0xFFFF}, True),
]


@pytest.mark.parametrize(("length", "fields", "accepted"), SEED_BOUNDS)
def test_needs_csum_bounds_of_4_19(length: int, fields: Fields, accepted: bool) -> None:
    """Sheet 4.7 "seed version": start <= linear, start + offset <= linear - 2, and nothing else."""
    assert _convert(V4_19, length, fields | {"flags": NEEDS_CSUM})[0] == (0 if accepted else -1)


def test_4_19_measures_the_linear_part() -> None:
    """Sheet 4.7: of 1400 bytes 128 are linear: 128 - 2 is the end."""
    for offset, result in ((92, 0), (93, -1)):
        fields = {"flags": NEEDS_CSUM, "csum_start": 34, "csum_offset": offset}
        assert _convert(V4_19, 1400, fields, linear=128)[0] == result


# GSO without NEEDS_CSUM

PLAIN_GSO = [
    # gso_type, length, accepted: 20 or 40 bytes of L3, and L4
    (TCPV4, 40, True),
    (TCPV4, 39, False),
    (TCPV6, 60, True),
    (TCPV6, 59, False),
    (UDP, 28, True),
    (UDP, 27, False),
]


@pytest.mark.parametrize(("gso_type", "length", "accepted"), PLAIN_GSO)
@newer_eras
def test_gso_without_needs_csum(kernel: str, gso_type: int, length: int, accepted: bool) -> None:
    """Sheet 4.7: on the receive path only the least headers have to exist."""
    result = _convert(kernel, length, {"gso_type": gso_type, "gso_size": 1})[0]
    assert result == (0 if accepted else -1)


def test_gso_without_needs_csum_in_4_19() -> None:
    """Sheet 4.7: the seed asks for nothing."""
    result, skb, _ = _convert(V4_19, 14, {"gso_type": TCPV4, "gso_size": 1448})
    assert (result, skb.gso_type, skb.gso_size) == (0, TCPV4, 1448)


# When a frame is not really GSO

PAYLOADS = [
    # fields, bytes of header by which the payload is measured
    ({"flags": NEEDS_CSUM, "gso_type": TCPV4, "csum_start": 34, "csum_offset": 16}, 54),
    ({"flags": NEEDS_CSUM, "gso_type": TCPV6 | ECN, "csum_start": 54, "csum_offset": 16}, 74),
    ({"flags": NEEDS_CSUM, "gso_type": UDP, "csum_start": 34, "csum_offset": 6}, 34),
    ({"gso_type": TCPV4}, 40),
    ({"gso_type": TCPV6}, 60),
    ({"gso_type": UDP}, 20),
]


@pytest.mark.parametrize(("fields", "headers"), PAYLOADS)
@newer_eras
def test_too_small_for_gso(kernel: str, fields: Fields, headers: int) -> None:
    """Sheet 4.7: payload > gso_size makes it GSO, else it is accepted as an ordinary frame; UFO counts no L4 header."""
    for payload, is_gso in ((1000, False), (1001, True)):
        result, skb, _ = _convert(kernel, headers + payload, fields | {"gso_size": 1000})
        assert result == 0
        assert (skb.gso_type, skb.gso_size) == ((fields["gso_type"], 1000) if is_gso else (0, 0))


def test_4_19_takes_any_gso_size() -> None:
    """Sheet 4.7: unconditionally."""
    fields = {"flags": NEEDS_CSUM, "gso_type": TCPV4, "gso_size": 9000, "csum_start": 34, "csum_offset": 16}
    assert _convert(V4_19, 100, fields)[1].gso_size == 9000


# USO

USO = {"flags": NEEDS_CSUM, "gso_type": UDP_L4, "gso_size": 10, "csum_start": 34, "csum_offset": 6}


@pytest.mark.parametrize(
    ("length", "change", "accepted"),
    [
        (42 + 1280, {}, True),
        (42 + 1281, {}, False),
        (200, {"csum_offset": 7}, False),
        (200, {"csum_offset": 5}, False),
        (200, {"flags": 0}, False),
        (200, {"gso_type": UDP_L4 | ECN}, False),
        (42, {}, True),
        (41, {}, False),
    ],
)
def test_uso_rules(length: int, change: Fields, accepted: bool) -> None:
    """Sheet 4.7: NEEDS_CSUM, csum_offset 6, at most 128 segments of gso_size, no ECN."""
    assert _convert(V7_0, length, USO | change)[0] == (0 if accepted else -1)


# Checksum state, through the whole receive path


@pytest.mark.parametrize(
    ("flags", "state"),
    [
        (0, CHECKSUM_NONE),
        (DATA_VALID, CHECKSUM_UNNECESSARY),
        (NEEDS_CSUM, CHECKSUM_PARTIAL),
        (NEEDS_CSUM | DATA_VALID, CHECKSUM_PARTIAL),
        (RSC_INFO, CHECKSUM_NONE),
        (RSC_INFO | DATA_VALID, CHECKSUM_UNNECESSARY),
        (0xF0, CHECKSUM_NONE),
        (UDP_TUNNEL_CSUM, CHECKSUM_NONE),
    ],
)
@every_era
def test_checksum_state(kernel: str, flags: int, state: int) -> None:
    """Sheet 4.6: NEEDS_CSUM wins over DATA_VALID, RSC_INFO is ignored, as are flags nobody knows (RX-V-01)."""
    rig = Rig(kernel, MERGEABLE, 64)
    rig.fill()
    skb = rig.receive_frame(frame(100), flags=flags, csum_start=34, csum_offset=6)
    assert (skb.ip_summed, skb.csum_level) == (state, 0)
    free(skb)
    rig.assert_nothing_lost()


@pytest.mark.parametrize(("kernel", "errors"), [(V4_19, 0), (V6_1, 0), (V7_0, 1)])
def test_tunnel_checksum_that_was_not_negotiated(kernel: str, errors: int) -> None:
    """Sheet 4.6 step 3: DATA_VALID with UDP_TUNNEL_CSUM is an error since tunnels are known (v6.17)."""
    rig = Rig(kernel, MERGEABLE, 64)
    rig.fill()
    rig.arrive_frame(frame(100), flags=DATA_VALID | UDP_TUNNEL_CSUM)
    free(*rig.receive())
    assert rig.rq.rx_frame_errors == errors
    assert rig.counters()["packets"] == 1
    rig.assert_nothing_lost()


@every_era
def test_gso_frame_through_the_receive_path(kernel: str) -> None:
    """A TCP frame of 60,000 bytes, of which v4.19 has 128 in the linear part, newer kernels 14 (RX-D-27, RX-D-28)."""
    rig = Rig(kernel, MERGEABLE, 64)
    rig.fill()
    skb = rig.receive_frame(
        frame(60000), flags=NEEDS_CSUM, gso_type=TCPV4, gso_size=1448, hdr_len=66, csum_start=34, csum_offset=16
    )
    assert (skb.gso_type, skb.gso_size, skb.ip_summed) == (TCPV4, 1448, CHECKSUM_PARTIAL)
    free(skb)
    rig.assert_nothing_lost()


# Hash report


@pytest.mark.parametrize(
    ("report", "taken", "l4"),
    [
        (0, False, 0),
        (1, True, 0),
        (2, True, 1),
        (3, True, 1),
        (4, True, 0),
        (5, True, 1),
        (6, True, 1),
        (7, True, 0),
        (8, True, 1),
        (9, True, 1),
        (10, False, 0),
        (0xFFFF, False, 0),
    ],
)
def test_hash_report(report: int, taken: bool, l4: int) -> None:
    """HREP-D-01 and HREP-D-02, as the driver reads them; layout 11.1: value at 12, report at 16, little-endian."""
    bench = Bench(100)
    header = vnet_hdr() + (0x89ABCDEF).to_bytes(4, "little") + report.to_bytes(2, "little") + b"\0\0"
    ctypes.memmove(bench.header.address, header, 20)
    set_hash(bench.skb, bench.header.address)
    assert (bench.skb.hash, bench.skb.l4_hash) == ((0x89ABCDEF if taken else 0), l4)


@every_era
def test_hash_through_the_receive_path(kernel: str) -> None:
    """Sheet 4.6: with a header of 20 bytes; without one there is no hash."""
    rig = Rig(kernel, MERGEABLE, 64, hdr_len=20)
    rig.vi.rxhash = 1
    rig.fill()
    header = vnet_hdr() + bytes.fromhex("78563412 0200 0000")
    skb = rig.receive_one(header + frame(60))
    assert (skb.hash, skb.l4_hash) == (0x12345678, 1)
    free(skb)
    rig.vi.rxhash = 0
    skb = rig.receive_one(header + frame(60))
    assert (skb.hash, skb.l4_hash) == (0, 0)
    free(skb)
    rig = Rig(kernel, MERGEABLE, 64)
    rig.fill()
    skb = rig.receive_frame(frame(60))
    assert (skb.hash, skb.l4_hash) == (0, 0)
    free(skb)


# eth_type_trans

HOST, BROADCAST, MULTICAST, OTHERHOST = 0, 1, 2, 3


def _eth_type_trans(data: bytes, linear: int | None = None) -> Skb:
    bench = Bench(len(data), linear)
    ctypes.memmove(bench.data.address, data, len(data))
    vi = VirtnetInfo(mac=int.from_bytes(MAC, "big"))
    eth_type_trans(vi, bench.skb)
    return bench.skb


@pytest.mark.parametrize(
    ("destination", "kind"),
    [
        ("020000000001", HOST),
        ("020000000002", OTHERHOST),
        ("020000010001", OTHERHOST),
        ("120000000001", OTHERHOST),
        ("000000000000", OTHERHOST),
        ("ffffffffffff", BROADCAST),
        ("fffffffffffe", MULTICAST),
        ("feffffffffff", OTHERHOST),
        ("01005e000001", MULTICAST),
        ("333300000001", MULTICAST),
        ("030000000001", MULTICAST),
    ],
)
def test_pkt_type(destination: str, kind: int) -> None:
    """Sheet 4.6 step 6: by the destination MAC; the group bit is the lowest of the first byte."""
    skb = _eth_type_trans(frame(60, destination=bytes.fromhex(destination)))
    assert skb.pkt_type == kind
    assert skb.network_header == 14


@pytest.mark.parametrize(
    ("ethertype", "payload", "protocol"),
    [
        (0x0800, b"", 0x0800),
        (0x86DD, b"", 0x86DD),
        (0xFFFF, b"\xff\xff", 0xFFFF),
        (0x0600, b"\xff\xff", 0x0600),
        (0x05FF, b"\xaa\xaa", 4),
        (0x05FF, b"\xff\xff", 1),
        (0x0026, b"\x42\x42\x03", 4),
        (0x0026, b"\xff\xff\x00", 1),
        (0x0026, b"\xff\xfe\x00", 4),
        (0x0026, b"\xff", 4),
        (0x0000, b"", 4),
    ],
)
def test_protocol(ethertype: int, payload: bytes, protocol: int) -> None:
    """Sheet 4.6 step 6: from 0x600 on an EtherType; below, a length: 802.2 (4), or raw 802.3 (1) before an FFFF."""
    assert _eth_type_trans(frame(14, ethertype=ethertype) + payload).protocol == protocol


@pytest.mark.parametrize("linear", [14, 15, 16])
def test_raw_802_3_behind_a_short_linear_part(linear: int) -> None:
    """As Linux reads it, the FFFF may lie in a frag: 14 bytes are linear in newer kernels (sheet 4.5)."""
    data = frame(14, ethertype=200) + b"\xff\xff" + bytes(200)
    assert _eth_type_trans(data, linear).protocol == 1
    assert _eth_type_trans(data[:15] + b"\xfe" + data[16:], linear).protocol == 4


# Receive queue


@pytest.mark.parametrize(("kernel", "mapping"), [(V4_19, -1), (V6_1, 0), (V7_0, 0)])
def test_the_receive_queue_is_recorded_since_4_20(kernel: str, mapping: int) -> None:
    """Sheet 4.6 step 5."""
    rig = Rig(kernel, MERGEABLE, 64)
    rig.fill()
    skb = rig.receive_frame(frame(60))
    assert skb.queue_mapping == mapping
    free(skb)


@newer_eras
def test_the_second_queue_is_recorded_as_1(kernel: str) -> None:
    """Sheet 4.6 step 5: virtqueue index / 2."""
    rig = Rig(kernel, MERGEABLE | FeatureSet.of(f.MQ, f.CTRL_VQ), 16, pairs=2)
    rig.turn_to(1)
    rig.fill()
    skb = rig.receive_frame(frame(60))
    assert skb.queue_mapping == 1
    free(skb)
    rig.assert_nothing_lost()
