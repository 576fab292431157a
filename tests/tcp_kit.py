"""TCP held by hand, in packetdrill's manner: one host on a bench, and a peer that is this file.

Sequence numbers are relative: the host's count from its SYN, which is 0, the peer's from the peer's. Segments are put
together and taken apart here, with `struct` alone.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from netemu.skb import CHECKSUM_UNNECESSARY
from netemu.stack.host import mapped
from netemu.stack.reasons import StackReason
from netemu.stack.tcp.settings import tcp_settings
from netemu.stack.tcp.sockets import TcpSocket, TcpSockets
from tests.host_kit import MAC, PEER_MAC, SECOND, HostBench

OWN, PEER = "10.9.0.1", "10.9.0.2"
PEER_ISN = 0xFFFFF000
"""Near the end of the sequence numbers, so that every test has them wrap."""
FLAGS = "FSRP.U"
MS = SECOND // 1000
PORT = 80


def number(address: str) -> int:
    return int.from_bytes(bytes(int(part) for part in address.split(".")), "big")


def pair(address: str) -> tuple[int, int]:
    """An IPv4 address as hi and lo."""
    return 0, mapped(number(address))


@dataclass
class Seg:
    """One segment; ``opts`` are (kind, value bytes) in order, no-operations left out."""

    flags: str
    seq: int
    ack: int = 0
    win: int = 0
    data: bytes = b""
    opts: list[tuple[int, bytes]] = field(default_factory=list)
    sport: int = 0
    dport: int = 0
    gso_size: int = 0

    @property
    def sacks(self) -> list[tuple[int, int]]:
        """SACK blocks, as on the wire."""
        for kind, value in self.opts:
            if kind == 5:
                return [struct.unpack_from("!II", value, at) for at in range(0, len(value), 8)]
        return []

    @property
    def timestamps(self) -> tuple[int, int] | None:
        for kind, value in self.opts:
            if kind == 8:
                return struct.unpack("!II", value)
        return None

    def __str__(self) -> str:
        return f"{self.flags} seq {self.seq} len {len(self.data)} ack {self.ack} win {self.win} {self.opts}"


def option_bytes(opts: Sequence[tuple[int, bytes]]) -> bytes:
    out = b"".join(bytes([kind, len(value) + 2]) + value for kind, value in opts)
    return out + b"\1" * (-len(out) % 4)


def mss(value: int) -> tuple[int, bytes]:
    return 2, struct.pack("!H", value)


def wscale(shift: int) -> tuple[int, bytes]:
    return 3, bytes([shift])


SACK_OK = (4, b"")


def stamp(value: int, echo: int) -> tuple[int, bytes]:
    return 8, struct.pack("!II", value & 0xFFFFFFFF, echo & 0xFFFFFFFF)


def sack(*blocks: tuple[int, int]) -> tuple[int, bytes]:
    return 5, b"".join(struct.pack("!II", left & 0xFFFFFFFF, right & 0xFFFFFFFF) for left, right in blocks)


def build(seg: Seg) -> bytes:
    """The Ethernet frame of a segment from the peer; its checksum is left 0."""
    opts = option_bytes(seg.opts)
    bits = sum(1 << FLAGS.index(flag) for flag in seg.flags)
    tcp = struct.pack(
        "!HHIIBBHHH", seg.sport, seg.dport, seg.seq & 0xFFFFFFFF, seg.ack & 0xFFFFFFFF, (5 + len(opts) // 4) << 4, bits,
        seg.win, 0, 0,
    )  # fmt: skip
    tcp += opts + seg.data
    ip = struct.pack("!BBHHHBBHII", 0x45, 0, 20 + len(tcp), 1, 0x4000, 64, 6, 0, number(PEER), number(OWN))
    total = sum(struct.unpack("!10H", ip))
    total = (total & 0xFFFF) + (total >> 16)
    ip = ip[:10] + struct.pack("!H", ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF) + ip[12:]
    return MAC + PEER_MAC + b"\x08\x00" + ip + tcp


def parse(frame: bytes) -> Seg | None:
    """A frame of the host's, if it is TCP."""
    if frame[12:14] != b"\x08\x00" or frame[23] != 6:
        return None
    length = int.from_bytes(frame[16:18], "big")
    tcp = frame[34 : 14 + length] if length else frame[34:]
    sport, dport, seq, ack, offset, bits, win, _check, _urgent = struct.unpack_from("!HHIIBBHHH", tcp)
    header = (offset >> 4) * 4
    opts, at = [], 20
    while at < header and tcp[at] != 0:
        if tcp[at] == 1:
            at += 1
            continue
        opts.append((tcp[at], tcp[at + 2 : at + tcp[at + 1]]))
        at += tcp[at + 1]
    flags = "".join(flag for place, flag in enumerate(FLAGS) if bits >> place & 1)
    return Seg(flags, seq, ack, win, tcp[header:], opts, sport, dport)


class TcpBench(HostBench):
    """A host with TCP, whose peer's segments the test makes."""

    def __init__(
        self,
        *,
        send_buffer: int = 1 << 16,
        receive_buffer: int = 1 << 16,
        connections: int = 8,
        congestion: str = "reno",
        offloads: int = 1,
        mtu: int = 1500,
        **settings: int,
    ) -> None:
        super().__init__(f"{OWN}/24", mtu=mtu, offloads=offloads)
        self.know(PEER)
        wanted = tcp_settings()
        # The simplest TCP; tests turn on what they are about.
        for name, value in {"timestamps": 0, "sack": 0, "window_scaling": 0, "quick_acks": 0, **settings}.items():
            setattr(wanted, name, value)
        self.sockets = TcpSockets(
            self.stack,
            congestion=congestion,
            send_buffer=send_buffer,
            receive_buffer=receive_buffer,
            connections=connections,
            settings=wanted,
        )
        self.sport, self.dport = 40000, PORT
        self.isn: int | None = None
        self.peer_isn = PEER_ISN
        self.segments: list[Seg] = []

    # What the peer sends, and gets.

    def inject(
        self,
        flags: str,
        seq: int,
        ack: int | None = None,
        *,
        win: int = 65535,
        data: bytes | int = b"",
        opts: Sequence[tuple[int, bytes]] = (),
    ) -> StackReason:
        """A segment from the peer arrives. ``data`` may be a number of bytes."""
        raw = bytes(data) if isinstance(data, int) else data
        wire_ack = 0 if ack is None else ack + (self.isn or 0)
        frame = build(Seg(flags, seq + self.peer_isn, wire_ack, win, raw, list(opts), self.sport, self.dport))
        skb = self.skb(frame)
        skb.ip_summed = CHECKSUM_UNNECESSARY
        return self.take(skb)

    def collect(self) -> list[Seg]:
        """What the host sent and nobody has looked at, with relative numbers."""
        for sent in self.taken():
            seg = parse(sent.data)
            if seg is None:
                continue
            if "S" in seg.flags and self.isn is None:
                self.isn = seg.seq
            seg.seq = (seg.seq - (self.isn or 0)) & 0xFFFFFFFF
            if "." in seg.flags:
                seg.ack = (seg.ack - self.peer_isn) & 0xFFFFFFFF
            seg.gso_size = sent.gso_size
            self.segments.append(seg)
        return self.segments

    def expect(
        self,
        flags: str,
        seq: int,
        ack: int | None = None,
        *,
        length: int = 0,
        win: int | None = None,
        data: bytes | None = None,
    ) -> Seg:
        """The next segment that the host sent is this one."""
        assert self.collect(), f"nothing was sent, where {flags} {seq} was expected"
        seg = self.segments.pop(0)
        assert (seg.flags, seg.seq) == (flags, seq), str(seg)
        if ack is not None:
            assert seg.ack == ack, str(seg)
        if win is not None:
            assert seg.win == win, str(seg)
        if data is not None:
            assert seg.data == data, str(seg)
        else:
            assert len(seg.data) == length, str(seg)
        return seg

    def quiet(self) -> None:
        """The host sent nothing more."""
        assert not self.collect(), [str(seg) for seg in self.segments]

    def after(self, ms: float) -> None:
        """Let so many milliseconds pass."""
        self.queue.run_until(self.now + round(ms * MS))

    # Connections.

    def listen(self, **how: int) -> TcpSocket:
        return self.sockets.listen(PORT, **how)  # type: ignore[arg-type]

    def accepted(self, opts: Sequence[tuple[int, bytes]] = (mss(1460),), *, win: int = 65535) -> TcpSocket:
        """A connection that the peer opened: the host's next byte is 1, and the peer's."""
        listener = self.listen()
        self.inject("S", 0, opts=opts, win=win)
        echo = self.expect("S.", 0, 1).timestamps
        more = [stamp(struct.unpack("!I", value[:4])[0], echo[0]) for kind, value in opts if kind == 8 and echo]
        self.inject(".", 1, 1, win=win, opts=more)
        self.quiet()
        sock = listener.accept()
        assert sock is not None
        assert sock.state == "ESTABLISHED"
        return sock

    def connecting(self) -> TcpSocket:
        """A connection that the host opens; its SYN is looked at."""
        sock = self.sockets.connect(pair(PEER), 8080, local_port=50000)
        self.sport, self.dport = 8080, 50000
        self.expect("S", 0)
        return sock

    def connected(self, opts: Sequence[tuple[int, bytes]] = (mss(1460),), *, win: int = 65535) -> TcpSocket:
        """A connection that the host opened."""
        sock = self.connecting()
        self.inject("S.", 0, 1, opts=opts, win=win)
        self.expect(".", 1, 1)
        assert sock.state == "ESTABLISHED"
        return sock
