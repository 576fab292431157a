"""Frames made byte by byte, with the standard library alone: good ones, and each field wrong if a test says so."""

from __future__ import annotations

import ipaddress
import struct

HOST_MAC, PEER_MAC = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
EVERYONE = b"\xff" * 6

ICMP, TCP, UDP, ROUTING, FRAGMENT, ICMPV6, NONE, DEST = 1, 6, 17, 43, 44, 58, 59, 60


def internet_checksum(data: bytes) -> int:
    """RFC 1071, the slow way: 16-bit words in network order, carries added back, complemented."""
    words = struct.unpack(f">{(len(data) + 1) // 2}H", data + bytes(len(data) % 2))
    total = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return int(total) ^ 0xFFFF


def put(data: bytes, at: int, new: bytes) -> bytes:
    """``data`` with the bytes from ``at`` on replaced."""
    return data[:at] + new + data[at + len(new) :]


def pack_addresses(src: str, dst: str) -> bytes:
    return ipaddress.ip_address(src).packed + ipaddress.ip_address(dst).packed


A4 = pack_addresses("10.9.0.2", "10.9.0.1")
A6 = pack_addresses("2001:db8:9::2", "2001:db8:9::1")


def ethernet(payload: bytes, kind: int, dst: bytes = HOST_MAC) -> bytes:
    return dst + PEER_MAC + kind.to_bytes(2, "big") + payload


def ipv4(
    payload: bytes,
    protocol: int,
    *,
    addresses: bytes = A4,
    options: bytes = b"",
    tos: int = 0,
    length: int | None = None,
    fragment: int = 0,
    first: int | None = None,
    checksum: int | None = None,
    dst: bytes = HOST_MAC,
) -> bytes:
    """A frame with an IPv4 datagram; ``options`` as long as a multiple of 4, ``first`` the byte of version and IHL."""
    size = 20 + len(options)
    head = struct.pack(
        ">BBHHHBBH",
        0x40 | size // 4 if first is None else first,
        tos,
        (size + len(payload)) & 0xFFFF if length is None else length,
        0x1234,
        fragment,
        64,
        protocol,
        0,
    )
    head += addresses + options
    right = internet_checksum(head)
    return ethernet(put(head, 10, struct.pack(">H", right if checksum is None else checksum)) + payload, 0x0800, dst)


def ipv6(
    payload: bytes,
    protocol: int,
    *,
    addresses: bytes = A6,
    traffic_class: int = 0,
    length: int | None = None,
    hop_limit: int = 64,
    version: int = 6,
    dst: bytes = HOST_MAC,
) -> bytes:
    """A frame with an IPv6 packet; ``protocol`` is its first next header."""
    head = struct.pack(
        ">IHBB",
        version << 28 | traffic_class << 20,
        len(payload) & 0xFFFF if length is None else length,
        protocol,
        hop_limit,
    )
    return ethernet(head + addresses + payload, 0x86DD, dst)


def pseudo(addresses: bytes, protocol: int, size: int) -> bytes:
    if len(addresses) == 8:
        return addresses + struct.pack(">HH", protocol, size & 0xFFFF)
    return addresses + struct.pack(">II", size, protocol)


def udp(
    payload: bytes = b"hello",
    *,
    addresses: bytes = A4,
    port: int = 9,
    length: int | None = None,
    checksum: int | None = None,
) -> bytes:
    """A UDP datagram, header and all; its checksum is right for the true length."""
    size = 8 + len(payload)
    data = struct.pack(">HHHH", 4000, port, (size & 0xFFFF) if length is None else length, 0) + payload
    right = internet_checksum(pseudo(addresses, UDP, size) + data) or 0xFFFF
    return put(data, 6, struct.pack(">H", right if checksum is None else checksum))


def tcp(
    payload: bytes = b"",
    *,
    addresses: bytes = A4,
    data_offset: int = 5,
    checksum: int | None = None,
) -> bytes:
    """A TCP segment (SYN) to port 9."""
    data = struct.pack(">HHIIBBHHH", 4000, 9, 1, 0, data_offset << 4, 2, 1000, 0, 0) + payload
    right = internet_checksum(pseudo(addresses, TCP, len(data)) + data)
    return put(data, 16, struct.pack(">H", right if checksum is None else checksum))


def icmp(kind: int, body: bytes = b"", *, code: int = 0, checksum: int | None = None) -> bytes:
    """An ICMP message; ``body`` is what follows the first 4 bytes."""
    data = bytes([kind, code, 0, 0]) + body
    return put(data, 2, struct.pack(">H", internet_checksum(data) if checksum is None else checksum))


def icmpv6(kind: int, body: bytes = b"", *, addresses: bytes = A6, checksum: int | None = None) -> bytes:
    data = bytes([kind, 0, 0, 0]) + body
    right = internet_checksum(pseudo(addresses, ICMPV6, len(data)) + data)
    return put(data, 2, struct.pack(">H", right if checksum is None else checksum))


def vlan(frame: bytes, tag: int = 7, kind: int = 0x8100) -> bytes:
    """The frame with one more tag outside."""
    return frame[:12] + struct.pack(">HH", kind, tag) + frame[12:]
