"""Rows about ``to-wire``: large TCP segments, as a sender's stack makes them, cut into what goes on a wire."""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path

from bench.errors import BenchError
from bench.inputs import FILE_HEADER, FIRST_SECOND, RECORD_HEADER
from bench.measure import in_turn, run
from bench.results import Limit, Line
from bench.session import Session, check_size

REPOSITORY = Path(__file__).resolve().parent.parent
MSS = 1448
SEGMENTS = 45
"""Of a large packet: the most that 64 kB hold."""
HEADERS = 14 + 20 + 32
SCAPY_PACKETS = 100
"""As many as the rival in Python gets through in seconds."""


def large_packet(number: int) -> bytes:
    """A TCP packet of 65,226 bytes in Ethernet, with a timestamp option; its checksum is the pseudo-header's sum."""
    payload = MSS * SEGMENTS
    ethernet = bytes.fromhex("02 00 00 00 00 02  02 00 00 00 00 01  08 00")
    addresses = bytes([10, 0, 0, 1, 10, 0, 1, 1])
    total = 20 + 32 + payload
    ip = struct.pack(">BBHHHBBH8s", 0x45, 0, total, number * SEGMENTS & 0xFFFF, 0x4000, 64, 6, 0, addresses)
    ip = ip[:10] + struct.pack(">H", _fold(ip) ^ 0xFFFF) + ip[12:]
    pseudo = _fold(addresses + struct.pack(">HH", 6, 32 + payload))
    sequence = number * payload & 0xFFFFFFFF
    tcp = struct.pack(">HHIIBBHHH", 1024, 9, sequence, 1, 8 << 4, 0x18, 512, pseudo, 0)
    options = struct.pack(">BBBBII", 1, 1, 8, 10, number, 1)
    body = bytes(at % 251 for at in range(251)) * (payload // 251 + 1)
    return ethernet + ip + tcp + options + body[:payload]


def write_large(path: Path, packets: int) -> int:
    """Write a pcap file of so many large packets, 50 microseconds apart; its size in bytes."""
    with path.open("wb") as file:
        size = file.write(FILE_HEADER)
        for number in range(packets):
            data = large_packet(number)
            second, micro = divmod(50 * number, 1_000_000)
            size += file.write(struct.pack("<IIII", FIRST_SECOND + second, micro, len(data), len(data)) + data)
    return size


def to_wire(session: Session) -> list[Line]:
    """Cut 64 kB segments, against a script that does so with scapy, and against editcap copying the result."""
    packets = max(SCAPY_PACKETS, session.frames // 1250)
    large, few = session.folder / "large.pcap", session.folder / "few.pcap"
    size = packets * (RECORD_HEADER + HEADERS + MSS * SEGMENTS)
    session.need_space(4 * size)
    write_large(large, packets)
    write_large(few, SCAPY_PACKETS)
    wire = session.folder / "wire.pcap"
    expected = len(FILE_HEADER) + packets * SEGMENTS * (RECORD_HEADER + HEADERS + MSS)

    def netemu() -> float:
        wire.unlink(missing_ok=True)
        done = run([*session.netemu, "to-wire", str(large), "-o", str(wire), "--json"])
        if json.loads(done.output)["segments"] != packets * SEGMENTS:
            raise BenchError("netemu did not make as many segments as there are")
        check_size(wire, expected)
        return done.seconds

    def scapy() -> float:
        output = session.output()
        script = REPOSITORY / "bench" / "scapy_split.py"
        seconds = run([sys.executable, script, few, output]).seconds
        check_size(output, len(FILE_HEADER) + SCAPY_PACKETS * SEGMENTS * (RECORD_HEADER + HEADERS + MSS))
        return seconds

    def editcap() -> float:
        output = session.output()
        seconds = run(["editcap", "-F", "pcap", wire, output]).seconds
        check_size(output, expected)
        return seconds

    seconds = in_turn(session.turns, {"netemu": netemu, "editcap": editcap, "scapy": scapy})
    work = f"{packets:,} x 64 kB"
    return [
        Line(
            "to-wire",
            f"{work}, segments",
            "Mpps",
            ours=[packets * SEGMENTS / each / 1e6 for each in seconds["netemu"]],
            rival="scapy",
            theirs=[SCAPY_PACKETS * SEGMENTS / each / 1e6 for each in seconds["scapy"]],
            limit=Limit("at least", 10, "x"),
            judged=session.full,
        ),
        Line(
            "to-wire",
            f"{work}, whole process",
            "s",
            ours=seconds["netemu"],
            rival="editcap of the result",
            theirs=seconds["editcap"],
            limit=Limit("at most", 3, "x"),
            judged=session.full,
        ),
    ]


def _fold(data: bytes) -> int:
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total
