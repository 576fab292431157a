"""What the tests of offloads share: frames of every kind made by hand, frames read by hand, and stages run on them.

Nothing here comes from netemu.offload but the stages themselves: checksums are those of tests/wire.py, offsets are
counted out.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from netemu.frame import Frame
from netemu.jit import Buffer, StructArray, allocate, array_of
from netemu.offload import Coalescer, Finisher, Stage, coalesce, finish
from tests.wire import HOST_MAC, PEER_MAC, UDP, internet_checksum, pack_addresses, pseudo

TCP = 6
FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = (1 << bit for bit in range(8))
NEEDS_CSUM, DATA_VALID, TUNNEL_CSUM = 1, 2, 8
TCPV4, UFO, TCPV6, USO, IN_IPV4, IN_IPV6, ECN = 1, 3, 4, 5, 0x20, 0x40, 0x80
DF, MF = 0x4000, 0x2000

V4 = pack_addresses("192.0.2.1", "192.0.2.2")
V6 = pack_addresses("2001:db8::1", "2001:db8::2")
OUTER_V4 = pack_addresses("198.51.100.1", "198.51.100.2")
OUTER_V6 = pack_addresses("2001:db8:9::1", "2001:db8:9::2")
TIMESTAMPS = bytes.fromhex("0101080a 00000101 00000202")
"""Two bytes of padding, and the timestamps option of ten bytes."""

FINISHED, PSEUDO, NONE = "finished", "pseudo", "none"
"""What stands in a TCP or UDP checksum field: the checksum, the sum of the pseudo-header, or nothing."""


def marked(size: int, first: int = 0) -> bytes:
    """Bytes each of which shows where it belongs: numbers of four bytes that count them."""
    return b"".join(at.to_bytes(4, "big") for at in range(first, first + size, 4))[:size]


def _checked(data: bytes, at: int, addresses: bytes, protocol: int, how: str) -> bytes:
    head = pseudo(addresses, protocol, len(data)) if len(data) <= 0xFFFF else _jumbo_pseudo(addresses, protocol, data)
    if how == NONE:
        value = 0
    elif how == PSEUDO:
        value = internet_checksum(head) ^ 0xFFFF
    else:
        value = internet_checksum(head + data) or 0xFFFF
    return data[:at] + value.to_bytes(2, "big") + data[at + 2 :]


def _jumbo_pseudo(addresses: bytes, protocol: int, data: bytes) -> bytes:
    return addresses + struct.pack(">II", len(data), protocol)


def tcp(
    payload: bytes,
    *,
    addresses: bytes = V4,
    seq: int = 1000,
    ack: int = 2000,
    flags: int = ACK,
    options: bytes = b"",
    window: int = 500,
    urgent: int = 0,
    ports: tuple[int, int] = (40000, 80),
    check: str = PSEUDO,
) -> bytes:
    """A TCP segment, header and all."""
    offset = (20 + len(options)) // 4 << 4
    head = struct.pack(">HHIIBBHHH", *ports, seq & 0xFFFFFFFF, ack, offset, flags, window, 0, urgent)
    return _checked(head + options + payload, 16, addresses, TCP, check)


def udp(payload: bytes, *, addresses: bytes = V4, ports: tuple[int, int] = (40000, 4433), check: str = PSEUDO) -> bytes:
    """A UDP datagram, header and all."""
    return _checked(struct.pack(">HHHH", *ports, 8 + len(payload), 0) + payload, 6, addresses, UDP, check)


def ip4(
    payload: bytes,
    protocol: int = TCP,
    *,
    addresses: bytes = V4,
    ident: int = 0x1111,
    fragment: int = DF,
    tos: int = 0,
    ttl: int = 64,
    options: bytes = b"",
    total: int | None = None,
) -> bytes:
    """An IPv4 packet with a right header checksum."""
    size = 20 + len(options)
    length = size + len(payload) if total is None else total
    head = struct.pack(">BBHHHBBH", 0x40 | size // 4, tos, length, ident, fragment, ttl, protocol, 0)
    head += addresses + options
    return head[:10] + internet_checksum(head).to_bytes(2, "big") + head[12:] + payload


def ip6(
    payload: bytes,
    protocol: int = TCP,
    *,
    addresses: bytes = V6,
    traffic_class: int = 0,
    label: int = 0x12345,
    hop_limit: int = 64,
    extensions: bytes = b"",
    length: int | None = None,
) -> bytes:
    """An IPv6 packet; ``protocol`` is its first next header."""
    word = 6 << 28 | traffic_class << 20 | label
    size = len(extensions) + len(payload) if length is None else length
    return struct.pack(">IHBB", word, size, protocol, hop_limit) + addresses + extensions + payload


def jumbo6(payload: bytes, protocol: int = TCP) -> bytes:
    """A jumbogram (RFC 2675): the length stands in a hop-by-hop option, which counts its own header of 8 bytes too."""
    option = struct.pack(">BBBBI", protocol, 0, 0xC2, 4, 8 + len(payload))
    return ip6(payload, 0, extensions=option, length=0)


def ether(packet: bytes, *, tags: Sequence[int] = (), macs: bytes = HOST_MAC + PEER_MAC) -> bytes:
    """A frame around an IP packet; ``tags`` are the TCIs of 802.1Q tags, outermost first."""
    kind = b"\x86\xdd" if packet[0] >> 4 == 6 else b"\x08\x00"
    return macs + b"".join(b"\x81\x00" + tag.to_bytes(2, "big") for tag in tags) + kind + packet


def vxlan(inner: bytes, *, version: int = 4, check: str = NONE, ident: int = 0x7777) -> bytes:
    """A frame with ``inner``, a frame, in VXLAN (RFC 7348) over IPv4 or IPv6."""
    payload = bytes.fromhex("08000000 00002a00") + inner
    return ether(_outer(payload, version, 4789, check, ident))


def geneve(inner: bytes, *, version: int = 4, check: str = NONE, options: bytes = b"", ident: int = 0x7777) -> bytes:
    """A frame with ``inner``, a frame, in Geneve (RFC 8926), with ``options`` of a multiple of four bytes."""
    payload = bytes([len(options) // 4, 0]) + b"\x65\x58" + bytes.fromhex("00002a00") + options + inner
    return ether(_outer(payload, version, 6081, check, ident))


def _outer(payload: bytes, version: int, port: int, check: str, ident: int) -> bytes:
    addresses = OUTER_V4 if version == 4 else OUTER_V6
    datagram = udp(payload, addresses=addresses, ports=(50000, port), check=check)
    if version == 4:
        return ip4(datagram, UDP, addresses=addresses, ident=ident)
    return ip6(datagram, UDP, addresses=addresses)


def header(
    flags: int = 0,
    gso_type: int = 0,
    *,
    size: int = 0,
    start: int = 0,
    offset: int = 0,
    hdr_len: int = 0,
    outer_th: int = 0,
    inner_nh: int = 0,
) -> bytes:
    """A virtio_net_hdr of 32 bytes, by the layout of section 5.1.6."""
    return struct.pack("<BBHHHHHIHHHH8x", flags, gso_type, hdr_len, size, start, offset, 0, 0, 0, 0, outer_th, inner_nh)


# Frames read by hand ------------------------------------------------------------------------------------------------


@dataclass
class Read:
    """The innermost IP packet of a frame, all checksums on the way verified."""

    version: int
    ip: bytes
    """The IP header, extension headers and options included."""
    l4: bytes
    """The transport header."""
    payload: bytes
    protocol: int
    at: int
    """Where the IP header starts in the frame."""

    @property
    def ident(self) -> int:
        return int.from_bytes(self.ip[4:6], "big")

    @property
    def seq(self) -> int:
        return int.from_bytes(self.l4[4:8], "big")

    @property
    def flags(self) -> int:
        return self.l4[13]


def read(frame: bytes, *, finished: bool = True) -> Read:
    """Read a TCP or UDP frame, and see that lengths and checksums are right; ``finished`` off spares the last one."""
    at = 12
    while frame[at : at + 2] in (b"\x81\x00", b"\x88\xa8"):
        at += 4
    return read_ip(frame, at + 2, finished=finished)


def read_ip(frame: bytes, at: int, *, finished: bool = True) -> Read:
    packet = frame[at:]
    version = packet[0] >> 4
    if version == 4:
        size = 4 * (packet[0] & 15)
        assert internet_checksum(packet[:size]) == 0, "IPv4 header checksum"
        assert int.from_bytes(packet[2:4], "big") == len(packet), "total length"
        protocol, addresses = packet[9], packet[12:20]
    else:
        assert int.from_bytes(packet[4:6], "big") == len(packet) - 40, "payload length"
        size, protocol, addresses = 40, packet[6], packet[8:40]
        while protocol in (0, 43, 60):
            protocol, size = packet[size], size + 8 * (packet[size + 1] + 1)
    rest = packet[size:]
    if finished:
        none = protocol == UDP and rest[6:8] == b"\0\0"
        assert none or internet_checksum(pseudo(addresses, protocol, len(rest)) + rest) == 0, "checksum"
    if protocol == UDP:
        assert int.from_bytes(rest[4:6], "big") == len(rest), "UDP length"
    length = 4 * (rest[12] >> 4) if protocol == TCP else 8
    return Read(version, packet[:size], rest[:length], rest[length:], protocol, at)


def finished_by_hand(frame: bytes) -> bytes:
    """An untunnelled frame with the TCP or UDP checksum that it should have."""
    found = read(frame, finished=False)
    l4 = len(frame) - len(found.l4) - len(found.payload)
    at = l4 + (16 if found.protocol == TCP else 6)
    blank = frame[:at] + b"\0\0" + frame[at + 2 :]
    addresses = found.ip[12:20] if found.version == 4 else found.ip[8:40]
    value = internet_checksum(pseudo(addresses, found.protocol, len(frame) - l4) + blank[l4:]) or 0xFFFF
    return frame[:at] + value.to_bytes(2, "big") + frame[at + 2 :]


# Stages run on frames -----------------------------------------------------------------------------------------------


@dataclass
class Given:
    """A frame for a stage."""

    data: bytes
    vnet: bytes = b""
    tstamp: int = 0
    wire_len: int = 0
    id: int = 0


@dataclass
class Made:
    """A frame that a stage made."""

    data: bytes
    vnet: bytes
    tstamp: int
    wire_len: int
    id: int
    note: int
    by_reference: bool = field(default=False)


class LaidOut:
    """Frames in memory of their own, each in an allocation that ends where it does."""

    def __init__(self, frames: Sequence[Given]) -> None:
        self.kept: list[Buffer] = []
        self.structs: StructArray[Frame] = array_of(Frame, max(1, len(frames)))
        for n, given in enumerate(frames):
            it = self.structs[n]
            it.address = self._put(given.data)
            it.len = len(given.data)
            it.wire_len = given.wire_len or len(given.data)
            it.tstamp, it.id = given.tstamp, given.id or n + 1
            it.vnet = self._put(given.vnet) if given.vnet else 0

    def _put(self, data: bytes) -> int:
        buffer = allocate(max(1, len(data)))
        buffer.array[: len(data)] = bytearray(data)
        self.kept.append(buffer)
        return buffer.address


def through(stage: Stage, frames: Sequence[Given | bytes], *, last: bool = False) -> list[Made]:
    """Run a stage over frames until it has nothing left; what it made."""
    laid = LaidOut([Given(frame) if isinstance(frame, bytes) else frame for frame in frames])
    sources = {it.address for it in laid.structs}
    stage.give(laid.structs.address, len(frames), last=last)
    made: list[Made] = []
    more = True
    while more:
        more = not stage.run()
        for n in range(stage.batch.made):
            it = stage.out[n]
            note = ctypes.c_int64.from_address(stage.batch.notes + 8 * n).value
            vnet = ctypes.string_at(it.vnet, 32) if it.vnet else b""
            data = ctypes.string_at(it.address, it.len)
            made.append(Made(data, vnet, it.tstamp, it.wire_len, it.id, note, it.address in sources))
    return made


class PlainFinisher(Finisher):
    """The stage as plain Python, with every access to memory checked."""

    def run(self) -> bool:
        self._buffers.empty()
        return bool(getattr(finish.finish, "py_func", finish.finish)(self.job.address) == 0)


def finished(*frames: Given | bytes, stage: Finisher | None = None, **options: Any) -> list[Made]:
    """What the first stage makes of frames."""
    return through(stage or PlainFinisher(**options), frames)


class PlainCoalescer(Coalescer):
    """The other stage as plain Python."""

    def run(self) -> bool:
        self._buffers.empty()
        function = getattr(coalesce.coalesce, "py_func", coalesce.coalesce)
        return bool(function(self.job.address, int(self._last)) == 0)


def merged(*frames: Given | bytes, stage: Coalescer | None = None, **options: Any) -> list[Made]:
    """What the other stage makes of frames, after which none waits."""
    return through(stage or PlainCoalescer(**options), frames, last=True)
