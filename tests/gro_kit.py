"""TCP segments made by hand, and a second GRO: over bytes, with dictionaries, as one would write it without a kernel.

`merged` is an independent account of Linux's rules (dev_gro_receive, inet_gro_receive, ipv6_gro_receive,
tcp_gro_receive), for one poll's frames without a hardware hash. Kernels differ in what they make of CWR (until v6.14 it
starts a packet, then it has to be the same in all segments), of an IPv4 identification that stays the same (until v6.17
only with DF) and of a hop limit that changes (until v5.16 that makes another flow). `tests/test_gro_linux.py` holds it,
and netemu, against the kernel that the tests run on.
"""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass, field, replace
from typing import Any

FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = (1 << bit for bit in range(8))
Version = tuple[int, int]
HOP_LIMIT_ENDS = (5, 17)
CWR_COMPARED = (6, 15)
FIXED_WITHOUT_DF = (6, 18)
MAC = bytes.fromhex("020000000001")
SOURCE = bytes.fromhex("0200000000fe")
TIMESTAMPS = bytes.fromhex("0101080a0000000100000002")


def fold(data: bytes) -> int:
    """The one's-complement sum of big-endian words (RFC 1071)."""
    total: int = sum(struct.unpack(f">{(len(data) + 1) // 2}H", data + bytes(len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


@dataclass(frozen=True)
class Segment:
    """One TCP segment; ``pack`` gives its frame."""

    seq: int = 1
    payload: bytes = b""
    flags: int = ACK
    ack: int = 7
    window: int = 500
    options: bytes = TIMESTAMPS
    ports: tuple[int, int] = (1000, 80)
    v6: bool = False
    ident: int = 0
    dont_fragment: bool = True
    ttl: int = 64
    tos: int = 0
    label: int = 0
    host: int = 1
    tags: tuple[int, ...] = ()
    padding: int = 0
    bad_tcp: bool = False
    bad_ip: bool = False
    ip_options: bytes = b""
    destination: bytes = MAC

    def pseudo(self, length: int) -> bytes:
        if self.v6:
            return self._v6_addresses() + struct.pack(">II", length, 6)
        return self._v4_addresses() + struct.pack(">HH", 6, length)

    def _v4_addresses(self) -> bytes:
        return bytes([10, 0, 0, self.host, 10, 0, 0, 2])

    def _v6_addresses(self) -> bytes:
        return bytes.fromhex("fd00") + bytes(13) + bytes([self.host]) + bytes.fromhex("fd00") + bytes(13) + b"\2"

    def tcp(self, payload: bytes) -> bytes:
        size = 20 + len(self.options)
        head = struct.pack(">HHIIBBHHH", *self.ports, self.seq, self.ack, size // 4 << 4, self.flags, self.window, 0, 0)
        return head + self.options + payload

    def link(self) -> bytes:
        kind = b"\x86\xdd" if self.v6 else b"\x08\x00"
        tags = b"".join(struct.pack(">HH", 0x8100, tag) for tag in self.tags)
        return self.destination + SOURCE + tags + kind

    def network(self, length: int) -> bytes:
        """The IP header in front of ``length`` bytes."""
        if self.v6:
            word = 6 << 28 | self.tos << 20 | self.label
            return struct.pack(">IHBB", word, length, 6, self.ttl) + self._v6_addresses()
        size = 20 + len(self.ip_options)
        flags = 0x4000 if self.dont_fragment else 0
        head = struct.pack(">BBHHHBBH", 0x40 | size // 4, self.tos, size + length, self.ident, flags, self.ttl, 6, 0)
        head += self._v4_addresses() + self.ip_options
        check = ~fold(head) & 0xFFFF ^ (0x0101 if self.bad_ip else 0)
        return head[:10] + struct.pack(">H", check) + head[12:]

    def pack(self) -> bytes:
        tcp = self.tcp(self.payload)
        check = ~fold(self.pseudo(len(tcp)) + tcp) & 0xFFFF ^ (0x0101 if self.bad_tcp else 0)
        tcp = tcp[:16] + struct.pack(">H", check) + tcp[18:]
        return self.link() + self.network(len(tcp)) + tcp + bytes(self.padding)

    def pack_merged(self, payload: bytes, flags: int) -> bytes:
        """This header over a longer payload, the checksum that of the pseudo-header."""
        whole = replace(self, flags=flags)
        tcp = whole.tcp(payload)
        tcp = tcp[:16] + struct.pack(">H", fold(self.pseudo(len(tcp)))) + tcp[18:]
        return whole.link() + whole.network(len(tcp)) + tcp

    def flow(self, version: Version) -> tuple[object, ...]:
        """What has to be equal for a flow to be the same at all."""
        hop_limit = self.ttl if self.v6 and version < HOP_LIMIT_ENDS else None
        label = self.label if self.v6 else None
        return self.destination, self.tags, self.v6, self.host, self.ports, hop_limit, label

    def constant(self, version: Version) -> tuple[object, ...]:
        """What has to be equal in all segments of a packet."""
        flags = self.flags & ~(FIN | PSH | (0 if version >= CWR_COMPARED else CWR))
        network = (self.tos, self.ttl, None if self.v6 else self.dont_fragment)
        return self.options, flags, self.window, self.ack, network


@dataclass
class Packet:
    """What goes up: a frame as it came, or a packet of several; ``first`` is the place of its first frame."""

    data: bytes
    segments: int
    first: int
    size: int = 0
    """gso_size."""


@dataclass
class _Held:
    head: Segment
    first: int
    parts: list[Segment] = field(default_factory=list)
    fixed: bool = False

    @property
    def payload(self) -> bytes:
        return b"".join(part.payload for part in self.parts)

    def packet(self) -> Packet:
        if len(self.parts) == 1:
            return Packet(self.head.pack(), 1, self.first)
        flags = self.head.flags
        for part in self.parts[1:]:
            flags |= part.flags & (FIN | PSH)
        data = self.head.pack_merged(self.payload, flags)
        return Packet(data, len(self.parts), self.first, len(self.head.payload))

    def takes(self, new: Segment, version: Version) -> bool:
        """Whether a segment of the flow continues it."""
        head = self.head
        if new.constant(version) != head.constant(version) or new.padding:
            return False
        if new.flags & CWR and version < CWR_COMPARED:
            return False
        if not new.v6:
            distance = (new.ident - head.ident) & 0xFFFF
            if len(self.parts) == 1:
                self.fixed = distance == 0 and (new.dont_fragment or version >= FIXED_WITHOUT_DF)
            if distance != (0 if self.fixed else len(self.parts)):
                return False
        if not 0 < len(new.payload) <= len(head.payload):
            return False
        if new.seq != (head.seq + len(self.payload)) & 0xFFFFFFFF:
            return False
        return len(head.pack()) - 14 + len(self.payload) - len(head.payload) + len(new.payload) < 65536


def merged(segments: list[Segment], version: Version = (7, 0)) -> list[Packet]:
    """What a poll that receives these segments hands up, in order."""
    held: list[_Held] = []
    up: list[Packet] = []
    for place, new in enumerate(segments):
        if new.bad_ip or new.ip_options or (new.bad_tcp and not new.padding):
            up.append(Packet(new.pack(), 1, place))
            continue
        ends = bool(new.flags & (FIN | SYN | RST | PSH | URG))
        mine = next((one for one in held if one.head.flow(version) == new.flow(version)), None)
        if mine is not None:
            if mine.takes(new, version):
                mine.parts.append(new)
                if ends or len(new.payload) < len(mine.head.payload):
                    held.remove(mine)
                    up.append(mine.packet())
                continue
            held.remove(mine)
            up.append(mine.packet())
        if ends or not new.payload or new.padding:
            up.append(Packet(new.pack(), 1, place))
            continue
        if len(held) == 8:
            up.append(held.pop(0).packet())
        held.append(_Held(new, place, [new]))
    return up + [one.packet() for one in held]


def stream(seed: int, count: int, *, flows: int = 2, trouble: float = 0.3, tagged: bool = True) -> list[Segment]:
    """``count`` segments of a few flows, some VLAN ``tagged``, in order but for accidents of all kinds."""
    rng = random.Random(seed)
    heads = [
        Segment(
            seq=rng.choice([1, 0xFFFFFF00, rng.randrange(1 << 32)]),
            ports=(1000 + number, 80),
            v6=rng.random() < 0.4,
            tags=rng.choice([(), (), (5,)]) if tagged else (),
            ident=rng.randrange(1 << 16),
            dont_fragment=rng.random() < 0.6,
        )
        for number in range(flows)
    ]
    step = [rng.choice([0, 1, 1]) for _ in heads]
    size = [rng.choice([1, 10, 100, 1000, 1400]) for _ in heads]
    segments = []
    for number in range(count):
        which = rng.randrange(flows)
        head = heads[which]
        length = size[which] if rng.random() > trouble / 4 else rng.choice([0, 1, size[which] // 2, size[which] + 1])
        body = bytes((number * 31 + at) & 0xFF for at in range(length))
        segment = replace(head, payload=body, flags=ACK | (PSH if rng.random() < trouble / 6 else 0))
        if rng.random() < trouble / 3:
            segment = replace(segment, **_accident(rng, segment, tagged=tagged))
        segments.append(segment)
        heads[which] = replace(head, seq=(head.seq + length) & 0xFFFFFFFF, ident=(head.ident + step[which]) & 0xFFFF)
    return segments


def _accident(rng: random.Random, segment: Segment, *, tagged: bool) -> dict[str, Any]:
    """Something that makes a segment different from its neighbours."""
    changes: list[dict[str, Any]] = [
        {"seq": (segment.seq + rng.choice([-1, 1, 5])) & 0xFFFFFFFF},
        {"ack": 8},
        {"window": 501},
        {"tos": 2},
        {"ttl": 63},
        {"label": 77} if segment.v6 else {"dont_fragment": not segment.dont_fragment},
        {"ident": (segment.ident + 1) & 0xFFFF},
        {"options": b""},
        {"options": TIMESTAMPS[:-1] + b"\7"},
        {"flags": rng.choice([0, ACK | FIN, ACK | PSH, ACK | URG, RST, SYN, ACK | ECE, ACK | CWR])},
        {"bad_tcp": True},
        {"padding": 3},
        {"host": 9},
        {"tags": (6,)} if tagged else {"ports": (9, 9)},
        {"destination": SOURCE},
    ]
    if not segment.v6:
        changes += [{"bad_ip": True}, {"ip_options": b"\1\1\1\1"}]
    return rng.choice(changes)
