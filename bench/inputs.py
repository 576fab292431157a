"""Captures to measure with: UDP over IPv4 in Ethernet, of any number and size, the same bytes on every run.

Frames go round 64 flows, so that a device with several queues has something to spread. Every frame is a whole and right
one (lengths, header checksum, UDP checksum), and carries its number in the first four bytes of the payload. They are
written block by block: the memory of this process stays small, however large the file.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

FLOWS = 64
FILE_HEADER = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1)
"""A little-endian pcap file with microseconds, of link type Ethernet."""
RECORD_HEADER = 16
ETHERNET_HEADER = 14
IPV4_HEADER = 20
UDP_HEADER = 8
PAYLOAD_AT = ETHERNET_HEADER + IPV4_HEADER + UDP_HEADER
UDP_CHECKSUM_AT = PAYLOAD_AT - 2
NUMBER_BYTES = 4

FIRST_SECOND = 1_700_000_000
BLOCK_BYTES = 4_000_000


@dataclass(frozen=True)
class Capture:
    """A pcap file of ``frames`` frames of ``frame_bytes`` bytes each."""

    path: Path
    frames: int
    frame_bytes: int

    @property
    def file_bytes(self) -> int:
        """The size of the file, in bytes."""
        return pcap_bytes(self.frames, self.frame_bytes)


def pcap_bytes(frames: int, frame_bytes: int) -> int:
    """Return the size in bytes of a pcap file of ``frames`` frames of ``frame_bytes`` bytes."""
    return len(FILE_HEADER) + frames * (RECORD_HEADER + frame_bytes)


def write_pcap(path: Path, frames: int, frame_bytes: int) -> Capture:
    """Write ``frames`` frames of ``frame_bytes`` bytes (60 to 65535, no FCS) to ``path``, one a microsecond."""
    if not 60 <= frame_bytes <= 65535:
        raise ValueError(f"a frame of {frame_bytes} bytes: 60 to 65535 are possible")
    rounds = max(1, BLOCK_BYTES // (RECORD_HEADER + frame_bytes) // FLOWS)
    records, sums = _block(rounds, frame_bytes)
    with path.open("wb") as file:
        file.write(FILE_HEADER)
        for first in range(0, frames, len(records)):
            _number(records, sums, first)
            file.write(records[: frames - first].data)
        file.flush()
        os.fsync(file.fileno())  # or the kernel writes it to the disk while the first turns are timed
    return Capture(path, frames, frame_bytes)


def _block(rounds: int, frame_bytes: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Lay out ``rounds`` records of each flow: the bytes, a row a record, and the UDP sum of each before its number."""
    length = struct.pack("<II", frame_bytes, frame_bytes)
    flows = [frame_of_flow(flow, frame_bytes) for flow in range(FLOWS)]
    one_round = b"".join(bytes(8) + length + frame for frame in flows)
    records = np.frombuffer(bytearray(one_round * rounds), np.uint8).reshape(-1, RECORD_HEADER + frame_bytes)
    return records, np.tile(np.array([_udp_sum(frame) for frame in flows], np.int64), rounds)


def _number(records: npt.NDArray[np.uint8], sums: npt.NDArray[np.int64], first: int) -> None:
    """Give the records of a block their numbers from ``first`` on, with the time and the UDP checksum these make."""
    numbers = np.arange(first, first + len(records), dtype=np.int64)
    records[:, 0:4] = _columns(FIRST_SECOND + numbers // 1_000_000, "<u4")
    records[:, 4:8] = _columns(numbers % 1_000_000, "<u4")
    number_at = RECORD_HEADER + PAYLOAD_AT
    records[:, number_at : number_at + NUMBER_BYTES] = _columns(numbers & 0xFFFFFFFF, ">u4")
    total = sums + (numbers >> 16 & 0xFFFF) + (numbers & 0xFFFF)
    for _ in range(2):
        total = (total & 0xFFFF) + (total >> 16)
    checksum = total ^ 0xFFFF
    checksum[checksum == 0] = 0xFFFF  # zero would say "no checksum" (RFC 768)
    checksum_at = RECORD_HEADER + UDP_CHECKSUM_AT
    records[:, checksum_at : checksum_at + 2] = _columns(checksum, ">u2")


def frame_of_flow(flow: int, frame_bytes: int) -> bytes:
    """Build the frame that every frame of a flow is made from: number zero, and the UDP checksum still zero."""
    ethernet = bytes.fromhex("02 00 00 00 00 02  02 00 00 00 00 01  08 00")
    source, target = bytes([10, 0, 0, 1 + flow]), bytes([10, 0, 1, 1])
    ip_bytes = frame_bytes - ETHERNET_HEADER
    ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, ip_bytes, 0, 0x4000, 64, 17, 0, source, target)
    ip = ip[:10] + struct.pack(">H", _fold(_words(ip)) ^ 0xFFFF) + ip[12:]
    udp = struct.pack(">HHHH", 1024 + flow, 9, ip_bytes - IPV4_HEADER, 0)
    payload = bytes(NUMBER_BYTES) + bytes(at % 251 for at in range(frame_bytes - PAYLOAD_AT - NUMBER_BYTES))
    return ethernet + ip + udp + payload


def _udp_sum(frame: bytes) -> int:
    """Sum what the UDP checksum covers (RFC 768): addresses, protocol, length, and the datagram."""
    ip, datagram = frame[ETHERNET_HEADER : ETHERNET_HEADER + IPV4_HEADER], frame[ETHERNET_HEADER + IPV4_HEADER :]
    return _fold(_words(ip[12:20]) + 17 + len(datagram) + _words(datagram))


def _words(data: bytes) -> int:
    """Sum the big-endian 16-bit words of ``data``, an odd last byte filled up with zero (RFC 1071)."""
    data += bytes(len(data) % 2)
    return sum(struct.unpack(f">{len(data) // 2}H", data))


def _fold(total: int) -> int:
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def _columns(values: npt.NDArray[np.int64], form: str) -> npt.NDArray[np.uint8]:
    """Return numbers as their bytes in ``form``, a row a number."""
    return values.astype(form).view(np.uint8).reshape(len(values), -1)
