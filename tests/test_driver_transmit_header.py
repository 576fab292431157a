"""The header in front of a frame that is sent, byte by byte, under each set of negotiated features.

"Sheet" is the project's fact sheet on Linux's virtio_net.c.
"""

from __future__ import annotations

import ctypes
import struct

import pytest

from netemu.driver.transmit import start_xmit
from netemu.driver.transmit_header import EINVAL, virtio_net_hdr_from_skb
from netemu.skb import Skb, skb_add_rx_frag
from netemu.virtio import features as f
from netemu.virtio.features import FeatureSet
from tests.driver_kit import BASE, MERGEABLE, V4_19, V7_0, Rig, every_era, frame
from tests.wire import A4, A6, TCP, UDP, ethernet, ipv4, ipv6, tcp, udp

CHECKSUM_NONE, CHECKSUM_UNNECESSARY, CHECKSUM_PARTIAL = 0, 1, 3
TCPV4, TCPV6, UDP_L4, ECN = 1, 4, 5, 0x80
TUNNEL_IPV4, TUNNEL_IPV6, TUNNEL_CSUM = 0x20, 0x40, 0x100
TSO = FeatureSet.of(f.CSUM, f.HOST_TSO4, f.HOST_TSO6, f.HOST_ECN, f.HOST_USO)
TUNNEL = TSO | FeatureSet.of(f.HOST_UDP_TUNNEL_GSO, f.HOST_UDP_TUNNEL_GSO_CSUM)
HDRLEN = FeatureSet.of(f.GUEST_HDRLEN)


def header(rig: Rig, skb: Skb) -> bytes:
    """What `virtio_net_hdr_from_skb` writes over memory full of other things, and not a byte behind it."""
    ctypes.memset(skb.head, 0xEE, 64)
    assert virtio_net_hdr_from_skb(rig.vi, skb, skb.head) == 0
    written = ctypes.string_at(skb.head, 64)
    assert written[rig.vi.hdr_len :] == b"\xee" * (64 - rig.vi.hdr_len)
    return written[: rig.vi.hdr_len]


def large(rig: Rig, data: bytes, start: int, offset: int, kind: int, size: int) -> Skb:
    """An skb with a frame that is to be segmented."""
    skb = rig.outgoing(data)
    skb.ip_summed, skb.csum_start, skb.csum_offset = CHECKSUM_PARTIAL, start, offset
    skb.gso_type, skb.gso_size = kind, size
    return skb


def tunnelled(outer: int, inner: int) -> tuple[bytes, int, int, int]:
    """VXLAN: a TCP segment inside of a datagram; the frame, and where outer UDP, inner IP and inner TCP begin."""
    payload = tcp(bytes(60), addresses=A4 if inner == 4 else A6)
    packet = ipv4(payload, TCP) if inner == 4 else ipv6(payload, TCP)
    data = udp(struct.pack(">II", 0x08000000, 5 << 8) + packet, port=4789, addresses=A4 if outer == 4 else A6)
    whole = ipv4(data, UDP) if outer == 4 else ipv6(data, UDP)
    outer_th = 34 if outer == 4 else 54
    inner_nh = outer_th + 8 + 8 + 14
    return whole, outer_th, inner_nh, inner_nh + (20 if inner == 4 else 40)


HEADERS = [
    # skb fields, header bytes: flags gso_type hdr_len gso_size csum_start csum_offset num_buffers
    pytest.param({}, "00 00 0000 0000 0000 0000 0000", id="TX-V-02"),
    pytest.param({"ip_summed": CHECKSUM_UNNECESSARY}, "00 00 0000 0000 0000 0000 0000", id="TX-V-39"),
    pytest.param(
        {"ip_summed": CHECKSUM_PARTIAL, "csum_start": 34, "csum_offset": 6},
        "01 00 0000 0000 2200 0600 0000",
        id="TX-V-26",
    ),
    pytest.param(
        {"csum_start": 34, "csum_offset": 6, "gso_type": 1}, "00 00 0000 0000 0000 0000 0000", id="no-gso-size-no-gso"
    ),
]


@pytest.mark.parametrize("size", [12, 20, 24, 32])
@pytest.mark.parametrize(("fields", "wanted"), HEADERS)
def test_header_of_a_frame_that_is_not_segmented(fields: dict[str, int], wanted: str, size: int) -> None:
    """Sheet 6.2: zeroed first, to the negotiated length (TX-V-01, TX-V-02).

    DATA_VALID and RSC_INFO never appear (TX-V-39, TX-V-40), nor does outer_nh_offset, the last of 32 bytes (TX-V-05).
    """
    rig = Rig(V7_0, BASE | TSO)
    rig.vi.hdr_len = size
    skb = rig.outgoing(frame(102))
    for name, value in fields.items():
        setattr(skb, name, value)
    assert header(rig, skb) == bytes.fromhex(wanted).ljust(size, b"\0")


@every_era
def test_tx_v_01_both_directions_have_headers_of_one_length(kernel: str) -> None:
    """TX-V-01, TX-V-02: 12 bytes with VERSION_1 or MRG_RXBUF, whether or not a frame may span buffers."""
    for features in (BASE, MERGEABLE, BASE | TSO):
        rig = Rig(kernel, features)
        start_xmit(rig.sq, rig.outgoing(frame(60)).address, 0)
        head = rig.tx.take()
        assert rig.tx.read_buffer(head) == bytes(12) + frame(60)
    legacy = Rig(kernel, FeatureSet.of(f.MAC))
    start_xmit(legacy.sq, legacy.outgoing(frame(60)).address, 0)
    assert legacy.tx.read_buffer(legacy.tx.take()) == bytes(10) + frame(60)


SEGMENTED = [
    # frame, csum_start, csum_offset, type, size, header bytes up to csum_offset (hdr_len in the middle)
    pytest.param(ipv4(tcp(bytes(100)), TCP), 34, 16, TCPV4, 50, "01 01 {} 3200 2200 1000", 54, id="TX-V-06"),
    pytest.param(
        ipv6(tcp(bytes(90), addresses=A6), TCP), 54, 16, TCPV6, 50, "01 04 {} 3200 3600 1000", 74, id="TX-V-08"
    ),
    pytest.param(ipv4(udp(bytes(100)), UDP), 34, 6, UDP_L4, 40, "01 05 {} 2800 2200 0600", 42, id="TX-V-12"),
    pytest.param(ipv4(tcp(bytes(100)), TCP), 34, 16, TCPV4 | ECN, 50, "01 81 {} 3200 2200 1000", 54, id="TX-V-15"),
    pytest.param(
        ipv4(tcp(bytes(12 + 80), data_offset=8), TCP), 34, 16, TCPV4, 40, "01 01 {} 2800 2200 1000", 66, id="options"
    ),
]


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize(("data", "start", "offset", "kind", "size", "wanted", "headers"), SEGMENTED)
def test_header_of_a_frame_to_be_segmented(
    data: bytes, start: int, offset: int, kind: int, size: int, wanted: str, headers: int, *, exact: bool
) -> None:
    """NEEDS_CSUM with every GSO type (TX-V-31), the MSS (TX-V-32), and the length of all headers.

    With GUEST_HDRLEN that is exact (TX-V-33), else at least as much: Linux says the linear part, 128 bytes of 64 left
    here (TX-V-34).
    """
    rig = Rig(V7_0, BASE | TSO | (HDRLEN if exact else FeatureSet()))
    skb = large(rig, data, start, offset, kind, size)
    hdr_len = headers if exact else skb.len - skb.data_len
    assert hdr_len >= headers
    assert header(rig, skb) == bytes.fromhex(wanted.format(struct.pack("<H", hdr_len).hex())) + bytes(2)


def test_tx_v_34_a_short_linear_part_does_not_make_hdr_len_short() -> None:
    """As of a frame that is sent on: 14 bytes are linear, 54 are headers."""
    rig = Rig(V7_0, BASE | TSO)
    data = ipv4(tcp(bytes(100)), TCP)
    skb = large(rig, data[:14], 34, 16, TCPV4, 50)
    page = rig.driver.vqs.receive_queues[0].pool_pages
    ctypes.memmove(rig.rq.pool_host, data[14:], len(data) - 14)
    skb_add_rx_frag(skb, page, rig.rq.pool_host, len(data) - 14, 0)
    assert header(rig, skb)[2:4] == (54).to_bytes(2, "little")


TUNNELS = [
    pytest.param(4, 4, 0x21, id="TX-V-18-in-IPv4"),
    pytest.param(6, 4, 0x21, id="TX-V-18-in-IPv6"),
    pytest.param(4, 6, 0x44, id="TX-V-19-in-IPv4"),
    pytest.param(6, 6, 0x44, id="TX-V-19-in-IPv6"),
]


@pytest.mark.parametrize("outer_csum", [False, True])
@pytest.mark.parametrize(("outer", "inner", "gso_type"), TUNNELS)
def test_header_of_segments_inside_a_tunnel(outer: int, inner: int, gso_type: int, *, outer_csum: bool) -> None:
    """TX-V-16: one bit, and never both (TX-V-24), with the offsets of outer UDP and inner IP (TX-V-35).

    UDP_TUNNEL_CSUM goes with it where the outer checksum is to be made (TX-V-21), and never alone (TX-V-25); DATA_VALID
    never does (TX-V-41). The checksum's place is the inner transport's.
    """
    rig = Rig(V7_0, BASE | TUNNEL | HDRLEN)
    data, outer_th, inner_nh, inner_th = tunnelled(outer, inner)
    bit = TUNNEL_IPV4 if outer == 4 else TUNNEL_IPV6
    kind = (TCPV4 if inner == 4 else TCPV6) | bit | (TUNNEL_CSUM if outer_csum else 0)
    skb = large(rig, data, inner_th, 16, kind, 40)
    skb.encapsulation, skb.inner_protocol = 1, 0x0800 if inner == 4 else 0x86DD
    skb.transport_header, skb.inner_network_header = outer_th, inner_nh
    flags = 9 if outer_csum else 1
    fields = struct.pack("<BBHHHHH", flags, gso_type, inner_th + 20, 40, inner_th, 16, 0)
    assert header(rig, skb) == fields + bytes(8) + struct.pack("<HH", outer_th, inner_nh)


def test_worked_example_of_the_specification() -> None:
    """TX-V-35, sheet of the specification, section D: Geneve over IPv4, inner TCP: 34 / 64 / 84, type 0x21."""
    rig = Rig(V7_0, BASE | TUNNEL | HDRLEN)
    inner = ipv4(tcp(bytes(60)), TCP)
    data = ipv4(udp(struct.pack(">BBHI", 0, 0, 0x6558, 5 << 8) + inner, port=6081), UDP)
    skb = large(rig, data, 84, 16, TCPV4 | TUNNEL_IPV4, 40)
    skb.inner_protocol, skb.transport_header, skb.inner_network_header = 0x0800, 34, 64
    assert struct.unpack_from("<BBHHHH", header(rig, skb)) == (1, 0x21, 104, 40, 84, 16)
    assert header(rig, skb)[20:] == struct.pack("<HH", 34, 64)


@pytest.mark.parametrize(
    ("kind", "features"),
    [
        pytest.param(3, BASE | TSO | FeatureSet.of(f.HOST_UFO), id="TX-V-11-UFO-is-never-asked-for"),
        pytest.param(2, BASE | TSO, id="no-such-type"),
        pytest.param(3 | TUNNEL_IPV4, BASE | TUNNEL, id="TX-V-23"),
        pytest.param(TCPV4 | TUNNEL_IPV4, BASE | TSO, id="TX-V-17"),
        pytest.param(TCPV4 | TUNNEL_IPV4 | TUNNEL_CSUM, BASE | TSO, id="TX-V-22"),
    ],
)
@every_era
def test_what_no_header_can_say_is_not_sent(kernel: str, kind: int, features: FeatureSet) -> None:
    """Sheet 6.2, 6.1 step 3: an error like a full ring's: tx_fifo_errors, tx_dropped, and nothing on the ring."""
    rig = Rig(kernel, features)
    before = rig.skb_pool.free_count
    skb = large(rig, ipv4(tcp(bytes(100)), TCP), 34, 16, kind, 50)
    assert virtio_net_hdr_from_skb(rig.vi, skb, skb.head) == EINVAL
    start_xmit(rig.sq, skb.address, 0)
    assert (rig.sq.tx_fifo_errors, rig.sq.tx_dropped, rig.tx.pending()) == (1, 1, 0)
    assert rig.skb_pool.free_count == before


def test_a_gso_frame_that_ends_before_its_headers_is_not_sent() -> None:
    """TX-V-33: there is no length to state."""
    rig = Rig(V7_0, BASE | TSO)
    skb = large(rig, ethernet(bytes(20), 0x0800), 34, 16, TCPV4, 50)
    assert virtio_net_hdr_from_skb(rig.vi, skb, skb.head) == EINVAL


@pytest.mark.parametrize(("kernel", "accepted"), [(V4_19, False), (V7_0, True)])
def test_tx_v_38_guest_hdrlen_is_accepted_where_lengths_are_exact(kernel: str, *, accepted: bool) -> None:
    """TX-V-38: kernels that know it take it, and state exact lengths from then on (TX-V-33)."""
    rig = Rig(kernel, BASE | TSO | HDRLEN)
    assert (f.GUEST_HDRLEN in rig.transport.accepted) == accepted
    assert rig.vi.guest_hdrlen == int(accepted)
