"""Capture files made by hand with struct, in either byte order: what the tests of netemu.capture read."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

Option = tuple[int, bytes]


def pad4(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)


class Maker:
    """Builds the parts of both formats in one byte order, "<" or ">"."""

    def __init__(self, order: str) -> None:
        self.order = order

    def pack(self, form: str, *numbers: int) -> bytes:
        return struct.pack(self.order + form, *numbers)

    def pcap_header(self, magic: int = 0xA1B2C3D4, link_type: int = 1, version: tuple[int, int] = (2, 4)) -> bytes:
        return self.pack("IHHiIII", magic, *version, 0, 0, 262144, link_type)

    def pcap_record(self, data: bytes, seconds: int = 0, fraction: int = 0, wire_len: int | None = None) -> bytes:
        return self.pack("IIII", seconds, fraction, len(data), len(data) if wire_len is None else wire_len) + data

    def options(self, options: Iterable[Option]) -> bytes:
        packed = b"".join(self.pack("HH", code, len(value)) + pad4(value) for code, value in options)
        return packed + b"\0\0\0\0" if packed else b""

    def block(self, kind: int, body: bytes) -> bytes:
        size = self.pack("I", len(body) + 12)
        return self.pack("I", kind) + size + body + size

    def shb(self, options: Sequence[Option] = (), version: tuple[int, int] = (1, 0)) -> bytes:
        return self.block(0x0A0D0D0A, self.pack("IHHq", 0x1A2B3C4D, *version, -1) + self.options(options))

    def idb(self, link_type: int = 1, snaplen: int = 0, options: Sequence[Option] = ()) -> bytes:
        return self.block(1, self.pack("HHI", link_type, 0, snaplen) + self.options(options))

    def epb(
        self,
        data: bytes,
        ticks: int = 0,
        interface: int = 0,
        wire_len: int | None = None,
        options: Sequence[Option] = (),
        caplen: int | None = None,
    ) -> bytes:
        caplen = len(data) if caplen is None else caplen
        wire_len = caplen if wire_len is None else wire_len
        head = self.pack("IIIII", interface, ticks >> 32, ticks & 0xFFFFFFFF, caplen, wire_len)
        return self.block(6, head + pad4(data) + self.options(options))

    def pb(self, data: bytes, ticks: int = 0, interface: int = 0, drops: int = 0xFFFF, wire_len: int = 0) -> bytes:
        head = self.pack("HHIIII", interface, drops, ticks >> 32, ticks & 0xFFFFFFFF, len(data), wire_len or len(data))
        return self.block(2, head + pad4(data))

    def spb(self, data: bytes, wire_len: int | None = None) -> bytes:
        return self.block(3, self.pack("I", len(data) if wire_len is None else wire_len) + pad4(data))


LITTLE = Maker("<")
BIG = Maker(">")
MAKERS = (LITTLE, BIG)


def frame(size: int, seed: int = 0) -> bytes:
    """Bytes that differ with their place and with ``seed``."""
    return bytes((seed * 7 + at * 13 + (at >> 8)) & 0xFF for at in range(size))
