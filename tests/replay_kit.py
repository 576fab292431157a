"""What the end-to-end tests share: a capture reader of their own, and the command line run from outside."""

from __future__ import annotations

import gzip
import os
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from netemu.replay import Replay, ReplayOptions
from tests.capture_bytes import LITTLE
from tests.support import REPO

ETHERNET = 1
USER0 = 147


# A reader that owes nothing to netemu.capture -----------------------------------------------------------------------


@dataclass
class Seen:
    """A packet as a capture file holds it. ``options`` are those of pcapng, by code; of several, the first."""

    data: bytes
    tstamp: int
    wire_len: int
    link_type: int
    options: dict[int, bytes] = field(default_factory=dict)

    def number(self, code: int) -> int | None:
        """A numeric option of a file that netemu wrote, so little-endian; None if it is not there."""
        return int.from_bytes(self.options[code], "little") if code in self.options else None

    @property
    def comment(self) -> str:
        return self.options.get(1, b"").decode()


COMMENT, FLAGS, DROPS, PACKET_ID, QUEUE = 1, 2, 4, 5, 6
"""Codes of the options of an enhanced packet block."""


def read_capture_by_hand(data: bytes) -> Iterator[Seen]:
    """The packets of a pcap or pcapng file, or gzip of one, read with struct; raises anything for a damaged one."""
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    if data[:4] == b"\x0a\x0d\x0d\x0a":
        yield from _pcapng(data)
    else:
        yield from _pcap(data)


def _pcap(data: bytes) -> Iterator[Seen]:
    order = "<" if data[:4] in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1") else ">"
    (magic,) = struct.unpack_from(order + "I", data)
    unit = {0xA1B2C3D4: 1000, 0xA1B23C4D: 1}[magic]
    link_type = struct.unpack_from(order + "I", data, 20)[0] & 0xFFFF
    at = 24
    while at < len(data):
        second, fraction, caplen, wire_len = struct.unpack_from(order + "IIII", data, at)
        at += 16
        if at + caplen > len(data) or caplen > wire_len or caplen > 262144:
            raise ValueError("damaged")
        yield Seen(data[at : at + caplen], second * 10**9 + fraction * unit, wire_len, link_type)
        at += caplen


def _options(data: bytes, order: str) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at = 0
    while at + 4 <= len(data):
        code, size = struct.unpack_from(order + "HH", data, at)
        if code == 0:
            break
        found.setdefault(code, data[at + 4 : at + 4 + size])
        at += 4 + (size + 3) // 4 * 4
    return found


def _pcapng(data: bytes) -> Iterator[Seen]:
    at = 0
    order = "<"
    interfaces: list[tuple[int, int, int]] = []  # link type, ticks a second, offset in seconds
    snaplen = 0  # of the first one, to which simple packets belong
    while at < len(data):
        if data[at : at + 4] == b"\x0a\x0d\x0d\x0a":
            order = "<" if data[at + 8 : at + 12] == b"\x4d\x3c\x2b\x1a" else ">"
            interfaces = []
        kind, size = struct.unpack_from(order + "II", data, at)
        block = data[at : at + size]
        if struct.unpack_from(order + "I", block, size - 4)[0] != size:
            raise ValueError("damaged")
        at += size
        if kind == 1:
            options = _options(block[16:-4], order)
            resolution = options.get(9, b"\x06")[0]
            ticks = 2 ** (resolution & 127) if resolution & 128 else 10**resolution
            (offset,) = struct.unpack(order + "q", options.get(14, bytes(8)))
            (link_type,) = struct.unpack_from(order + "H", block, 8)
            if not interfaces:
                (snaplen,) = struct.unpack_from(order + "I", block, 12)
            interfaces.append((link_type, ticks, offset))
        elif kind in (2, 6):
            index, high, low, caplen, wire_len = struct.unpack_from(order + "IIIII", block, 8)
            if kind == 2:
                (index,) = struct.unpack_from(order + "H", block, 8)
            link_type, ticks, offset = interfaces[index]
            tstamp = (high << 32 | low) * 10**9 // ticks + offset * 10**9
            packed = block[28 + (caplen + 3) // 4 * 4 : -4]
            yield Seen(block[28 : 28 + caplen], tstamp, wire_len, link_type, _options(packed, order))
        elif kind == 3:
            (wire_len,) = struct.unpack_from(order + "I", block, 8)
            caplen = min(wire_len, snaplen or wire_len)
            yield Seen(block[12 : 12 + caplen], 0, wire_len, interfaces[0][0])


def seen_in(path: Path) -> list[Seen]:
    """All packets of a file that has no fault, in their order."""
    return list(read_capture_by_hand(path.read_bytes()))


# Captures to replay -------------------------------------------------------------------------------------------------


def numbered(size: int, number: int) -> bytes:
    """A frame of ``size`` bytes, of an EtherType for experiments, that differs from others and at each place."""
    body = number.to_bytes(6, "big") + bytes.fromhex("02000000000a88b5")
    return (body + b"".join(at.to_bytes(4, "big") for at in range(0, size, 4)))[:size]


def write_pcap(path: Path, frames: list[bytes]) -> Path:
    """A pcap file with the frames, a microsecond apart."""
    records = [LITTLE.pcap_record(data, 1_700_000_000, number) for number, data in enumerate(frames)]
    path.write_bytes(LITTLE.pcap_header() + b"".join(records))
    return path


# The command line ---------------------------------------------------------------------------------------------------


def environment(**changes: str) -> dict[str, str]:
    """The environment of a run: this checkout's netemu, and ``changes``."""
    return os.environ | {"PYTHONPATH": str(REPO), "PYTHONWARNINGS": "default"} | changes


def netemu(
    *arguments: str | Path,
    stdin: bytes | int | None = b"",
    env: Mapping[str, str] | None = None,
    timeout: float = 120,
    **more: Any,
) -> subprocess.CompletedProcess[bytes]:
    """Run netemu as a user does; ``stdin`` is what it reads there, or a file descriptor."""
    source: dict[str, Any] = {"input": stdin} if isinstance(stdin, bytes) else {"stdin": stdin}
    command = [sys.executable, "-m", "netemu", *map(str, arguments)]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | more
    return subprocess.run(command, env=dict(env or environment()), timeout=timeout, check=False, **source, **streams)


def one_error_line(run: subprocess.CompletedProcess[bytes]) -> str:
    """The only line on standard error of a run that failed as it should."""
    lines = run.stderr.decode().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("netemu: ")
    assert run.returncode in (1, 2)
    return lines[0]


def played(path: Path, options: ReplayOptions | None = None, output: Path | None = None) -> dict[str, Any]:
    """Replay one file in this process; what was counted."""
    job = Replay(options or ReplayOptions(), None if output is None else str(output))
    job.play([str(path)])
    return job.summary()


def assert_consistent(figures: dict[str, Any]) -> None:
    """What must hold of the figures of every replay whose guest has had its turn."""
    dropped = sum(figures["dropped"].values())
    assert figures["frames_in"] == figures["frames_out"] + dropped + figures["merged"] + figures["sent_by_xdp"]
    assert 0 <= figures["bytes_out"] <= figures["bytes_in"]
    at_device = sum(figures["dropped"].get(key, 0) for key in ("no_buffer", "too_long", "queue_broken"))
    queues = figures["queues"]
    # Linux counts what a poll took off the ring, also what it then dropped.
    assert sum(queue["packets"] for queue in queues) == figures["frames_in"] - at_device
    for queue in queues:
        assert queue["packets"] <= queue["buffers"] <= queue["descriptors"]
        assert queue["completions"] <= queue["polls"]
    assert figures["netdev"]["rx_packets"] == sum(queue["packets"] for queue in queues)
    assert figures["netdev"]["rx_bytes"] == sum(queue["bytes"] for queue in queues)
    assert figures["broken"] == []
