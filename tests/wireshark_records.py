"""Ring capture records built by hand, and what Wireshark has to show of each.

Records and expected values are worked out here with struct, from docs/ring-capture-format.md and the clauses of VIRTIO
1.4 that each case names; nothing of netemu computes them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

# Copied by hand from the feature tables of VIRTIO 1.4 ("Feature Bits", 5.1.3).
FEATURE_NAMES = {
    0: "CSUM",
    1: "GUEST_CSUM",
    2: "CTRL_GUEST_OFFLOADS",
    3: "MTU",
    5: "MAC",
    6: "GSO",
    7: "GUEST_TSO4",
    8: "GUEST_TSO6",
    9: "GUEST_ECN",
    10: "GUEST_UFO",
    11: "HOST_TSO4",
    12: "HOST_TSO6",
    13: "HOST_ECN",
    14: "HOST_UFO",
    15: "MRG_RXBUF",
    16: "STATUS",
    17: "CTRL_VQ",
    18: "CTRL_RX",
    19: "CTRL_VLAN",
    20: "CTRL_RX_EXTRA",
    21: "GUEST_ANNOUNCE",
    22: "MQ",
    23: "CTRL_MAC_ADDR",
    24: "NOTIFY_ON_EMPTY",
    27: "ANY_LAYOUT",
    28: "INDIRECT_DESC",
    29: "EVENT_IDX",
    30: "UNUSED",
    32: "VERSION_1",
    33: "ACCESS_PLATFORM",
    34: "RING_PACKED",
    35: "IN_ORDER",
    36: "ORDER_PLATFORM",
    37: "SR_IOV",
    38: "NOTIFICATION_DATA",
    39: "NOTIF_CONFIG_DATA",
    40: "RING_RESET",
    41: "ADMIN_VQ",
    43: "SUSPEND",
    50: "DEVICE_STATS",
    51: "HASH_TUNNEL",
    52: "VQ_NOTF_COAL",
    53: "NOTF_COAL",
    54: "GUEST_USO4",
    55: "GUEST_USO6",
    56: "HOST_USO",
    57: "HASH_REPORT",
    59: "GUEST_HDRLEN",
    60: "RSS",
    61: "RSC_EXT",
    62: "STANDBY",
    63: "SPEED_DUPLEX",
    64: "RSS_CONTEXT",
    65: "GUEST_UDP_TUNNEL_GSO",
    66: "GUEST_UDP_TUNNEL_GSO_CSUM",
    67: "HOST_UDP_TUNNEL_GSO",
    68: "HOST_UDP_TUNNEL_GSO_CSUM",
    69: "OUT_NET_HEADER",
    70: "IPSEC",
}
BIT = {name: bit for bit, name in FEATURE_NAMES.items()}

TX, BIG_ENDIAN, FEATURES_VALID = 1, 2, 4
NEEDS_CSUM, DATA_VALID, RSC_INFO, UDP_TUNNEL_CSUM, SECURITY, SECURITY_ERR, SECURITY_SOFT = 1, 2, 4, 8, 16, 32, 64
TCPV4, UFO, TCPV6, USO, TUNNEL4, TUNNEL6, ECN = 1, 3, 4, 5, 0x20, 0x40, 0x80

MODERN = ("VERSION_1", "CSUM", "GUEST_CSUM", "MRG_RXBUF")
RX_GSO = (*MODERN, "GUEST_TSO4", "GUEST_TSO6", "GUEST_ECN", "GUEST_UFO", "GUEST_USO4", "GUEST_USO6")
TX_GSO = (*MODERN, "HOST_TSO4", "HOST_TSO6", "HOST_ECN", "HOST_UFO", "HOST_USO")
RX_TUNNEL = (*RX_GSO, "GUEST_UDP_TUNNEL_GSO", "GUEST_UDP_TUNNEL_GSO_CSUM")
TX_TUNNEL = (*TX_GSO, "HOST_UDP_TUNNEL_GSO", "HOST_UDP_TUNNEL_GSO_CSUM")


# Frames ---------------------------------------------------------------------------------------------------------------


def folded(data: bytes) -> int:
    """The one's complement sum (RFC 1071) of big-endian 16-bit words, not complemented."""
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


V4 = (bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2]))
V6 = (bytes.fromhex("fd00000000000000000000000000000a"), bytes.fromhex("fd00000000000000000000000000000b"))


def pseudo(addresses: tuple[bytes, bytes], protocol: int, length: int) -> int:
    return folded(b"".join(addresses) + struct.pack(">HHI", 0, protocol, length))


def ethernet(ethertype: int, payload: bytes, tags: bytes = b"") -> bytes:
    return bytes.fromhex("020000000001020000000002") + tags + struct.pack(">H", ethertype) + payload


def ipv4(protocol: int, payload: bytes) -> bytes:
    header = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), 1, 0x4000, 64, protocol, 0) + b"".join(V4)
    return header[:10] + struct.pack(">H", ~folded(header) & 0xFFFF) + header[12:] + payload


def ipv6(next_header: int, payload: bytes) -> bytes:
    return struct.pack(">IHBB", 6 << 28, len(payload), next_header, 64) + b"".join(V6) + payload


def tcp(addresses: tuple[bytes, bytes], data_length: int, checksum: int | None = None) -> bytes:
    """TCP with 20 bytes of header; the checksum field holds the pseudo-header's sum unless it is given."""
    stored = pseudo(addresses, 6, 20 + data_length) if checksum is None else checksum
    return struct.pack(">HHIIBBHHH", 1000, 81, 1, 1, 5 << 4, 0x10, 1024, stored, 0) + bytes(data_length)


def udp(addresses: tuple[bytes, bytes], data: bytes, checksum: int | None = None, port: int = 5001) -> bytes:
    stored = pseudo(addresses, 17, 8 + len(data)) if checksum is None else checksum
    return struct.pack(">HHHH", 1000, port, 8 + len(data), stored) + data


def tcp4(data_length: int, checksum: int | None = None) -> bytes:
    """TCP at byte 34, its checksum at 50, payload from 54."""
    return ethernet(0x0800, ipv4(6, tcp(V4, data_length, checksum)))


def tcp6(data_length: int) -> bytes:
    """TCP at byte 54, payload from 74."""
    return ethernet(0x86DD, ipv6(6, tcp(V6, data_length)))


def udp4(data_length: int) -> bytes:
    """UDP at byte 34, payload from 42."""
    return ethernet(0x0800, ipv4(17, udp(V4, bytes(data_length))))


def geneve(data_length: int, outer_checksum: int = 0, *, inner6: bool = False, outer6: bool = False) -> bytes:
    """Geneve. Over IPv4: outer UDP at 34, inner IP at 64, inner TCP at 84 (IPv4) or 104 (IPv6); over IPv6: 20 later."""
    inner = tcp6(data_length) if inner6 else tcp4(data_length)
    tunnel = struct.pack(">HHI", 0, 0x6558, 0) + inner
    if outer6:
        return ethernet(0x86DD, ipv6(17, udp(V6, tunnel, outer_checksum, port=6081)))
    return ethernet(0x0800, ipv4(17, udp(V4, tunnel, outer_checksum, port=6081)))


PLAIN = tcp4(10)
SUPER4 = tcp4(4000)


# Records --------------------------------------------------------------------------------------------------------------


def prefix(hdr_len: int, features: tuple[str, ...] | None = None, flags: int = 0, *, version: int = 1, length: int = 32,
           queue: int = 0, buffers: int = 1, frame_id: int = 1) -> bytes:  # fmt: skip
    mask = sum(1 << BIT[name] for name in features or ())
    if features is not None:
        flags |= FEATURES_VALID
    low, high = mask & 0xFFFF_FFFF_FFFF_FFFF, mask >> 64
    return struct.pack("<BBBBHHQQQ", version, length, flags, hdr_len, queue, buffers, frame_id, low, high)


def header(flags: int = 0, gso_type: int = 0, hdr_len: int = 0, gso_size: int = 0,
           csum_start: int = 0, csum_offset: int = 0, num_buffers: int = 1, tail: bytes = b"", order: str = "<",
           ) -> bytes:  # fmt: skip
    fields = (flags, gso_type, hdr_len, gso_size, csum_start, csum_offset, num_buffers)
    return struct.pack(f"{order}BBHHHHH", *fields) + tail


def late(hash_value: int = 0, report: int = 0, outer_th: int | None = None, inner_nh: int = 0,
         outer_nh: int | None = None) -> bytes:  # fmt: skip
    """Bytes 12 and on of a header of 20, 24 or 32 bytes."""
    data = struct.pack("<IHH", hash_value, report, 0)
    if outer_th is not None:
        data += struct.pack("<HH", outer_th, inner_nh)
    if outer_nh is not None:
        data += struct.pack("<H", outer_nh) + bytes(6)
    return data


GSO4 = header(NEEDS_CSUM, TCPV4, 54, 1448, 34, 16)
GENEVE_TAIL = late(outer_th=34, inner_nh=64)


@dataclass
class Case:
    """A record, the clauses that its header breaks, and fields that tshark must show with these values."""

    name: str
    record: bytes
    breaks: list[str] = field(default_factory=list)
    note: str = ""
    shows: dict[str, str] = field(default_factory=dict)


def _case(name: str, features: tuple[str, ...] | None, hdr: bytes, frame: bytes, breaks: str, *, buffers: int,
          flags: int, note: str, shows: dict[str, str]) -> Case:  # fmt: skip
    record = prefix(len(hdr), features, flags, buffers=buffers) + hdr + frame
    return Case(name, record, breaks.split(), note, {key.replace("__", "."): value for key, value in shows.items()})


def rx(name: str, features: tuple[str, ...] | None, hdr: bytes, frame: bytes, breaks: str = "", *, buffers: int = 1,
       flags: int = 0, note: str = "", **shows: str) -> Case:  # fmt: skip
    """A received frame; ``shows`` are fields with ``__`` for each dot."""
    return _case(name, features, hdr, frame, breaks, buffers=buffers, flags=flags, note=note, shows=shows)


def tx(name: str, features: tuple[str, ...] | None, hdr: bytes, frame: bytes, breaks: str = "", **shows: str) -> Case:
    """A transmitted frame."""
    return _case(name, features, hdr, frame, breaks, buffers=1, flags=TX, note="", shows=shows)


UNFINISHED = "not finished: the receiver sums from byte 34 and stores at 50; whoever forwards to a wire must finish it"
UNVOUCHED = "nobody vouches: the guest's stack must verify"

CASES = [
    # Layouts, and words for the checksum.
    rx("legacy 10", (), header()[:10], PLAIN, virtio_net__checksum=UNVOUCHED, virtio_net__num_buffers=""),
    rx("legacy 10, features not known", None, header()[:10], PLAIN),
    rx("legacy 12", ("MRG_RXBUF",), header(num_buffers=3), PLAIN, buffers=3, virtio_net__num_buffers="3"),
    rx("legacy big-endian", ("MRG_RXBUF", "GUEST_CSUM"), header(1, 0, 54, 0, 34, 16, 2, order=">"), PLAIN, buffers=2,
       flags=BIG_ENDIAN, virtio_net__hdr_len="54", virtio_net__csum_start="34", virtio_net__num_buffers="2",
       virtio_net__checksum=UNFINISHED, netemu__flags__big_endian="1"),
    rx("modern 12", MODERN, header(NEEDS_CSUM, 0, 0, 0, 34, 16), PLAIN, virtio_net__checksum=UNFINISHED,
       virtio_net__flags="0x01", virtio_net__flags__needs_csum="1", virtio_net__flags__data_valid="0",
       virtio_net__csum_start="34", virtio_net__csum_offset="16", netemu__frame_len="64", netemu__direction="0"),
    rx("checked by the device", MODERN, header(DATA_VALID), PLAIN, virtio_net__checksum="checked by the device"),
    rx("hash 20", (*MODERN, "HASH_REPORT"), header(tail=late(0x51CCC178, 2)), PLAIN,
       virtio_net__hash_value="0x51ccc178", virtio_net__hash_report="2", virtio_net__padding_reserved="0x0000"),
    rx("tunnel 24", RX_TUNNEL, header(tail=late(outer_th=0, inner_nh=0)), PLAIN, virtio_net__outer_th_offset="0"),
    rx("outer header 32", (*MODERN, "OUT_NET_HEADER"), header(tail=late(outer_th=0, outer_nh=14)), PLAIN,
       virtio_net__outer_nh_offset="14", virtio_net__padding_reserved_2="000000000000"),
    rx("IPsec 32", (*MODERN, "IPSEC"), header(SECURITY, tail=late(outer_th=0) + struct.pack("<HIH", 0, 9, 0x203)),
       PLAIN, virtio_net__ipsec__resource_id="9", virtio_net__ipsec__resource_type="0x0203"),
    rx("VLAN", MODERN, header(NEEDS_CSUM, 0, 0, 0, 38, 16),
       ethernet(0x0800, ipv4(6, tcp(V4, 1)), bytes.fromhex("8100000a"))),
    rx("inner checksum of a tunnel without GSO", MODERN, header(NEEDS_CSUM, 0, 0, 0, 84, 16), geneve(10)),
    tx("transmit, complete", MODERN, header(num_buffers=0), PLAIN, netemu__direction="1",
       virtio_net__checksum="complete: the driver wrote it, the device leaves it alone"),
    tx("transmit, unfinished", MODERN, header(NEEDS_CSUM, 0, 0, 0, 34, 16, 0), PLAIN,
       virtio_net__checksum="not finished: the device sums from byte 34 and stores at 50"),
    # Segmentation: 4000 bytes are 3 times up to 1448.
    rx("TSO4", RX_GSO, header(NEEDS_CSUM, TCPV4, 54, 1448, 34, 16, 3), SUPER4, buffers=3, virtio_net__segments="3",
       virtio_net__gso="TCPv4 super-frame: would be 3 segments of up to 1448 bytes", virtio_net__gso_type__base="1"),
    rx("TSO4 with ECN", RX_GSO, header(NEEDS_CSUM, TCPV4 | ECN, 54, 1000, 34, 16), SUPER4, virtio_net__segments="4",
       virtio_net__gso="TCPv4 super-frame: would be 4 segments of up to 1000 bytes, with ECN"),
    rx("TSO6", RX_GSO, header(NEEDS_CSUM, TCPV6, 74, 1428, 54, 16), tcp6(1429), virtio_net__segments="2",
       virtio_net__gso="TCPv6 super-frame: would be 2 segments of up to 1428 bytes"),
    rx("USO", RX_GSO, header(NEEDS_CSUM, USO, 42, 1000, 34, 6), udp4(1000), virtio_net__segments="1",
       virtio_net__gso="UDP super-frame: would be 1 datagram of up to 1000 bytes"),
    rx("UFO", RX_GSO, header(NEEDS_CSUM, UFO, 42, 1483, 34, 6), udp4(2960), virtio_net__segments="3",
       virtio_net__gso="UDP datagram over the MTU: would be 3 fragments of up to 1480 bytes"),
    tx("TSO4 on transmit", TX_GSO, header(NEEDS_CSUM, TCPV4, 54, 1448, 34, 16, 0), SUPER4, virtio_net__segments="3"),
    rx("tunnel GSO", RX_TUNNEL, header(NEEDS_CSUM, TCPV4 | TUNNEL4, 104, 1400, 84, 16, tail=GENEVE_TAIL), geneve(2900),
       virtio_net__gso="TCPv4 super-frame in a UDP tunnel: would be 3 segments of up to 1400 bytes",
       virtio_net__gso_type__udp_tunnel_ipv4="1"),
    rx("tunnel GSO, bit by the outer header as Linux sets it", RX_TUNNEL,
       header(NEEDS_CSUM, TCPV6 | TUNNEL4, 124, 1400, 104, 16, tail=GENEVE_TAIL), geneve(2900, inner6=True)),
    rx("tunnel GSO, outer checksum unfinished", RX_TUNNEL,
       header(NEEDS_CSUM | UDP_TUNNEL_CSUM, TCPV4 | TUNNEL4, 104, 1400, 84, 16, tail=GENEVE_TAIL),
       geneve(2900, pseudo(V4, 17, 8 + 8 + 14 + 20 + 20 + 2900))),
    rx("coalesced", (*RX_GSO, "RSC_EXT"), header(NEEDS_CSUM | RSC_INFO, TCPV4, 54, 1448, 3, 1), SUPER4,
       virtio_net__rsc__segments="3", virtio_net__rsc__dup_acks="1", virtio_net__csum_start="",
       virtio_net__segments="3",
       virtio_net__checksum="not finished; where to sum is not said: RSC_INFO took its place"),
    # Header length.
    rx("10 bytes under VERSION_1", ("VERSION_1",), header()[:10], PLAIN, "LEG-V-11"),
    rx("12 bytes without VERSION_1 and MRG_RXBUF", (), header(), PLAIN, "LEG-V-11"),
    rx("12 bytes under HASH_REPORT", (*MODERN, "HASH_REPORT"), header(), PLAIN, "RXB-V-04"),
    rx("20 bytes under tunnel GSO", RX_TUNNEL, header(tail=late()), PLAIN, "RXB-V-04"),
    rx("24 bytes under IPSEC", (*MODERN, "IPSEC"), header(tail=late(outer_th=0)), PLAIN, "RXB-V-04"),
    rx("a length that nothing gives", None, header(tail=b"ab"), PLAIN, "RXB-V-04", virtio_net__rest="6162"),
    rx("a length over all", None, header(tail=bytes(24)), PLAIN, "RXB-V-04", virtio_net__rest="00000000"),
    rx("no header at all", None, b"", PLAIN, "RXB-V-04", netemu__frame_len="64"),
    rx("a header of 9 bytes", None, bytes(9), PLAIN, "RXB-V-04"),
    tx("transmit with another length", MODERN, header(num_buffers=0, tail=late()), PLAIN, "TX-V-01"),
    rx("big-endian under VERSION_1", MODERN, header(order=">"), PLAIN, "LEG-B-02", flags=BIG_ENDIAN),
    # num_buffers.
    rx("num_buffers 0, features not known", None, header(num_buffers=0), PLAIN, "RX-D-01 RX-D-02"),
    rx("num_buffers 0, mergeable", MODERN, header(num_buffers=0), PLAIN, "RX-D-02"),
    rx("num_buffers 0, not mergeable", ("VERSION_1",), header(num_buffers=0), PLAIN, "RX-D-01"),
    rx("num_buffers 2, not mergeable", ("VERSION_1",), header(num_buffers=2), PLAIN, "RX-D-01"),
    rx("num_buffers 2 of 3", MODERN, header(num_buffers=2), PLAIN, "RX-D-02", buffers=3),
    rx("num_buffers 2 of unknown", MODERN, header(num_buffers=2), PLAIN, buffers=0),
    rx("two buffers, not mergeable", ("VERSION_1",), header(num_buffers=1), PLAIN, "RXB-D-02", buffers=2),
    rx("two buffers under a legacy header", None, header()[:10], PLAIN, "RXB-D-02", buffers=2),
    tx("num_buffers on transmit", MODERN, header(num_buffers=1), PLAIN, "TX-V-02"),
    # flags.
    rx("flags without GUEST_CSUM", ("VERSION_1",), header(DATA_VALID), PLAIN, "RX-D-05"),
    rx("RSC_INFO without RSC_EXT", RX_GSO, header(NEEDS_CSUM | RSC_INFO, TCPV4, 54, 1448, 3, 1), SUPER4, "RX-D-32"),
    rx("GSO without RSC_INFO under RSC_EXT", (*RX_GSO, "RSC_EXT"), GSO4, SUPER4, "RX-D-29"),
    rx("UDP_TUNNEL_CSUM without its feature", MODERN, header(DATA_VALID | UDP_TUNNEL_CSUM), PLAIN, "RX-D-12"),
    rx("UDP_TUNNEL_CSUM and DATA_VALID", RX_TUNNEL, header(DATA_VALID | UDP_TUNNEL_CSUM, tail=late(outer_th=0)), PLAIN,
       virtio_net__checksum="checked by the device, outer and inner"),
    rx("security flags without IPSEC", MODERN, header(SECURITY | SECURITY_ERR | SECURITY_SOFT), PLAIN,
       "RX-D-40 RX-D-41 RX-D-42"),
    rx("unknown flag", MODERN, header(0x80), PLAIN, note="flag bit 0x80 is not known", virtio_net__flags__unknown="1"),
    tx("flags without CSUM", ("VERSION_1",), header(NEEDS_CSUM, 0, 0, 0, 34, 16, 0), PLAIN, "TX-V-03"),
    tx("DATA_VALID on transmit", MODERN, header(DATA_VALID, num_buffers=0), PLAIN, "TX-V-39"),
    tx("RSC_INFO on transmit", MODERN, header(RSC_INFO, num_buffers=0), PLAIN, "TX-V-40"),
    tx("SECURITY on transmit without IPSEC", MODERN, header(SECURITY, num_buffers=0), PLAIN, "TX-V-42"),
    # gso_type and gso_size.
    rx("TCPV4 without any GSO", MODERN, GSO4, SUPER4, "RX-D-07 RX-D-26"),
    rx("TCPV4 without GUEST_TSO4", (*MODERN, "GUEST_TSO6"), GSO4, SUPER4, "RX-D-07"),
    rx("UDP without GUEST_UFO", (*MODERN, "GUEST_TSO4"), header(1, UFO, 42, 1480, 34, 6), udp4(2960), "RX-D-08"),
    rx("TCPV6 without GUEST_TSO6", (*MODERN, "GUEST_TSO4"), header(1, TCPV6, 74, 1428, 54, 16), tcp6(2000), "RX-D-09"),
    rx("UDP_L4 without GUEST_USO4/6", (*MODERN, "GUEST_TSO4"), header(1, USO, 42, 900, 34, 6), udp4(1000), "RX-D-10"),
    rx("UDP_L4 with GUEST_USO6 alone", (*MODERN, "GUEST_USO6"), header(1, USO, 42, 900, 34, 6), udp4(1000)),
    rx("ECN without GUEST_ECN", (*MODERN, "GUEST_TSO4"), header(1, TCPV4 | ECN, 54, 1448, 34, 16), SUPER4, "RX-D-13"),
    rx("GSO without NEEDS_CSUM", RX_GSO, header(0, TCPV4, 54, 1448), SUPER4, "RX-D-27", virtio_net__segments="3"),
    rx("GSO with gso_size 0", RX_GSO, header(1, TCPV4, 54, 0, 34, 16), SUPER4, "RX-D-28",
       virtio_net__gso="TCPv4 super-frame: gso_size does not say how to cut it"),
    rx("unknown gso_type", RX_GSO, header(1, 2, 54, 1448, 34, 16), SUPER4, note="gso_type 2 is not known",
       virtio_net__gso="unknown type 2"),
    rx("unknown gso_type without any GSO", MODERN, header(1, 6, 54, 1448, 34, 16), SUPER4, "RX-D-26",
       note="gso_type 6 is not known"),
    rx("ECN without TCP", RX_GSO, header(0, ECN), PLAIN, note="the ECN bit has a meaning only"),
    tx("TCPV4 without any GSO on transmit", MODERN, header(1, TCPV4, 54, 1448, 34, 16, 0), SUPER4, "TX-V-07 TX-V-30"),
    tx("TCPV6 without HOST_TSO6", (*MODERN, "HOST_TSO4"), header(1, TCPV6, 74, 1428, 54, 16, 0), tcp6(2000), "TX-V-09"),
    tx("UDP without HOST_UFO", (*MODERN, "HOST_TSO4"), header(1, UFO, 42, 1480, 34, 6, 0), udp4(2960), "TX-V-11"),
    tx("UDP_L4 without HOST_USO", (*MODERN, "HOST_TSO4"), header(1, USO, 42, 900, 34, 6, 0), udp4(1000), "TX-V-13"),
    tx("ECN without HOST_ECN", (*MODERN, "HOST_TSO4"), header(1, TCPV4 | ECN, 54, 1448, 34, 16, 0), SUPER4, "TX-V-14"),
    tx("GSO without NEEDS_CSUM on transmit", TX_GSO, header(0, TCPV4, 54, 1448, num_buffers=0), SUPER4, "TX-V-31"),
    tx("gso_size 0 on transmit", TX_GSO, header(1, TCPV4, 54, 0, 34, 16, 0), SUPER4, "TX-V-32"),
    # hdr_len.
    rx("hdr_len too small", RX_GSO, header(1, TCPV4, 53, 1448, 34, 16), SUPER4, "RX-D-33"),
    rx("hdr_len larger is a hint", RX_GSO, header(1, TCPV4, 60, 1448, 34, 16), SUPER4),
    tx("hdr_len too small on transmit", TX_GSO, header(1, TCPV4, 20, 1448, 34, 16, 0), SUPER4, "TX-V-34"),
    tx("hdr_len not exact under GUEST_HDRLEN", (*TX_GSO, "GUEST_HDRLEN"), header(1, TCPV4, 60, 1448, 34, 16, 0), SUPER4,
       "TX-V-33"),
    # csum_start and csum_offset.
    rx("checksum beyond the frame", MODERN, header(1, 0, 0, 0, 63, 0), PLAIN, "RX-D-20"),
    rx("checksum in the frame's last bytes", MODERN, header(1, 0, 0, 0, 62, 0), PLAIN),
    rx("csum_start before the transport header", MODERN, header(1, 0, 0, 0, 20, 16), PLAIN, "RX-D-20"),
    rx("csum_start of a super-frame behind its header", RX_GSO, header(1, TCPV4, 54, 1448, 38, 16), SUPER4, "RX-D-20"),
    rx("csum_offset of UDP in TCP", MODERN, header(1, 0, 0, 0, 34, 6), PLAIN, "RX-D-20"),
    rx("a finished checksum called unfinished", MODERN, header(1, 0, 0, 0, 34, 16), tcp4(10, 0xBEEF), "RX-D-19"),
    tx("checksum beyond the frame on transmit", MODERN, header(1, 0, 0, 0, 65535, 65535, 0), PLAIN, "TX-V-29"),
    tx("no pseudo-header sum on transmit", MODERN, header(1, 0, 0, 0, 34, 16, 0), tcp4(10, 0), "TX-V-28"),
    # Tunnels.
    rx("tunnel bit without its feature", (*RX_GSO, "HOST_UDP_TUNNEL_GSO"),
       header(1, TCPV4 | TUNNEL4, 104, 1400, 84, 16, tail=GENEVE_TAIL), geneve(2900), "RX-D-11"),
    rx("both tunnel bits", RX_TUNNEL, header(1, TCPV4 | TUNNEL4 | TUNNEL6, 104, 1400, 84, 16, tail=GENEVE_TAIL),
       geneve(2900), "RX-V-08"),
    rx("tunnel bit without NEEDS_CSUM", RX_TUNNEL, header(0, TCPV4 | TUNNEL4, 104, 1400, 84, 16, tail=GENEVE_TAIL),
       geneve(2900), "RX-D-27 RX-V-10"),
    rx("tunnel bit with DATA_VALID", RX_TUNNEL, header(3, TCPV4 | TUNNEL4, 104, 1400, 84, 16, tail=GENEVE_TAIL),
       geneve(2900), "RX-D-36 RX-V-11"),
    rx("tunnel bit with NONE", RX_TUNNEL, header(1, TUNNEL4, 104, 0, 84, 16, tail=GENEVE_TAIL), geneve(10), "RX-V-12"),
    rx("UDP_TUNNEL_CSUM and NEEDS_CSUM without a tunnel bit", RX_TUNNEL,
       header(NEEDS_CSUM | UDP_TUNNEL_CSUM, 0, 0, 0, 34, 16, tail=late(outer_th=0)), PLAIN, "RX-V-13"),
    rx("tunnel bit in a short header", None, header(1, TCPV4 | TUNNEL4, 104, 1400, 84, 16), geneve(2900), "RX-D-23"),
    rx("outer_th_offset at the end of the outer UDP header", RX_TUNNEL,
       header(1, TCPV4 | TUNNEL4, 104, 1400, 84, 16, tail=late(outer_th=42, inner_nh=64)), geneve(2900), "RX-D-23"),
    rx("inner_nh_offset in front of the outer header", RX_TUNNEL,
       header(1, TCPV4 | TUNNEL4, 104, 1400, 84, 16, tail=late(outer_th=34, inner_nh=14)), geneve(2900),
       "RX-D-23 RX-D-20"),
    rx("tunnel bit of neither header", RX_TUNNEL, header(1, TCPV4 | TUNNEL6, 104, 1400, 84, 16, tail=GENEVE_TAIL),
       geneve(2900), "RX-D-22"),
    rx("outer checksum without the pseudo-header's sum", RX_TUNNEL,
       header(9, TCPV4 | TUNNEL4, 104, 1400, 84, 16, tail=GENEVE_TAIL), geneve(2900, 0x1234), "RX-D-38"),
    tx("tunnel GSO on transmit", TX_TUNNEL, header(1, TCPV4 | TUNNEL4, 104, 1400, 84, 16, 0, GENEVE_TAIL),
       geneve(2900)),
    tx("tunnel bit without its feature on transmit", (*TX_GSO, "GUEST_UDP_TUNNEL_GSO"),
       header(1, TCPV4 | TUNNEL4, 104, 1400, 84, 16, 0, GENEVE_TAIL), geneve(2900), "TX-V-17"),
    tx("UDP_TUNNEL_CSUM without its feature on transmit", (*TX_GSO, "HOST_UDP_TUNNEL_GSO"),
       header(9, TCPV4 | TUNNEL4, 104, 1400, 84, 16, 0, GENEVE_TAIL),
       geneve(2900, pseudo(V4, 17, 8 + 8 + 14 + 20 + 20 + 2900)), "TX-V-22"),
    tx("tunnel bit with UFO", TX_TUNNEL, header(1, UFO | TUNNEL4, 92, 1400, 84, 6, 0, GENEVE_TAIL),
       ethernet(0x0800, ipv4(17, udp(V4, struct.pack(">HHI", 0, 0x6558, 0) + udp4(2900), 0, 6081))), "TX-V-23"),
    tx("both tunnel bits on transmit", TX_TUNNEL, header(1, 0x61, 104, 1400, 84, 16, 0, GENEVE_TAIL), geneve(2900),
       "TX-V-24 TX-D-08"),
    tx("UDP_TUNNEL_CSUM without a tunnel bit", TX_TUNNEL, header(9, 0, 0, 0, 34, 16, 0, late(outer_th=0)), PLAIN,
       "TX-V-25 TX-D-13"),
    tx("tunnel bit without NEEDS_CSUM on transmit", TX_TUNNEL, header(0, 0x21, 104, 1400, 84, 16, 0, GENEVE_TAIL),
       geneve(2900), "TX-V-31 TX-D-10"),
    tx("tunnel bit with DATA_VALID on transmit", TX_TUNNEL, header(3, 0x21, 104, 1400, 84, 16, 0, GENEVE_TAIL),
       geneve(2900), "TX-V-39 TX-V-41 TX-D-11"),
    tx("tunnel bit with NONE on transmit", TX_TUNNEL, header(1, 0x20, 104, 0, 84, 16, 0, GENEVE_TAIL),
       geneve(10), "TX-D-12"),
    tx("outer_th_offset wrong on transmit", TX_TUNNEL,
       header(1, 0x21, 104, 1400, 84, 16, 0, late(outer_th=42, inner_nh=64)), geneve(2900), "TX-V-35"),
    tx("tunnel bit of neither header on transmit", TX_TUNNEL, header(1, 0x41, 104, 1400, 84, 16, 0, GENEVE_TAIL),
       geneve(2900), "TX-V-18"),
    tx("tunnel bit IPv4 of IPv6 headers on transmit", TX_TUNNEL,
       header(1, TCPV6 | TUNNEL4, 144, 1400, 124, 16, 0, late(outer_th=54, inner_nh=84)),
       geneve(2900, inner6=True, outer6=True), "TX-V-19"),
    tx("outer checksum without the sum on transmit", TX_TUNNEL, header(9, 0x21, 104, 1400, 84, 16, 0, GENEVE_TAIL),
       geneve(2900, 0x1234), "TX-V-36"),
    # Late fields.
    rx("hash_report unknown", (*MODERN, "HASH_REPORT"), header(tail=late(1, 10)), PLAIN, "HREP-D-01"),
    rx("hash_report as filler", RX_TUNNEL, header(tail=late(1, 10, outer_th=0)), PLAIN),
    rx("outer_nh_offset without OUT_NET_HEADER", (*MODERN, "IPSEC"), header(tail=late(outer_th=0, outer_nh=14)), PLAIN,
       "RX-D-16"),
    # Prefix.
    Case("longer prefix of a later revision", prefix(12, MODERN, 0x80, length=40) + b"whatever" + header() + PLAIN,
         note="reserved flag bits are set",
         shows={"netemu.extension": "7768617465766572", "virtio_net.num_buffers": "1"}),
    Case("every field of the prefix", prefix(12, MODERN, TX, queue=0x1234, buffers=3, frame_id=(1 << 64) - 1)
         + header(num_buffers=0) + PLAIN,
         shows={"netemu.version": "1", "netemu.prefix_len": "32", "netemu.flags": "0x05", "netemu.hdr_len": "12",
                "netemu.queue": "4660", "netemu.buffers": "3", "netemu.frame_id": "18446744073709551615",
                "netemu.features.low": "0x0000000100008003", "netemu.features.high": "0x0000000000000000",
                "netemu.feature": "CSUM|GUEST_CSUM|MRG_RXBUF|VERSION_1"}),
]  # fmt: skip

DAMAGED = [
    ("empty", b"", "a record of 0 bytes has no room for a prefix"),
    ("one byte", b"\x01", "a record of 1 bytes has no room for a prefix"),
    ("version 0", prefix(12, version=0) + header() + PLAIN, "version 0 of the prefix is not known"),
    ("version 2", prefix(12, version=2) + header() + PLAIN, "version 2 of the prefix is not known"),
    ("prefix too short", prefix(12, length=31) + header() + PLAIN, "prefix length 31; version 1 has at least 32 bytes"),
    ("prefix cut", prefix(12)[:31], "the prefix of 32 bytes is cut: 31 are there"),
    ("prefix over the record", prefix(12, length=255) + header(), "the prefix of 255 bytes is cut: 44 are there"),
    ("header cut", prefix(12) + header()[:11], "the virtio-net header of 12 bytes is cut: 11 are there"),
    ("frame absent", prefix(12) + header(), "no byte of the frame is there"),
]
