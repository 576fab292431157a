"""pcapng options: a list of code, length and value, each padded to four bytes, at the end of most blocks."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from netemu.capture.formats import OPT_END

MAX_VALUE = 0xFFFF
"""Most bytes of an option's value."""


def unpack_options(data: bytes, order: str) -> list[tuple[int, bytes]]:
    """Split ``data`` into options as (code, value); ``order`` is "<" or ">".

    Ends at the end-of-options mark or where ``data`` ends; raises ValueError where an option runs over that.
    """
    options = []
    at = 0
    while at + 4 <= len(data):
        code, size = struct.unpack_from(order + "HH", data, at)
        if code == OPT_END:
            break
        at += 4
        if at + size > len(data):
            raise ValueError(f"option {code} claims {size} bytes; {len(data) - at} are left in its block")
        options.append((code, data[at : at + size]))
        at += size + (-size & 3)
    return options


def pack_options(options: Iterable[tuple[int, bytes]]) -> bytes:
    """The bytes of ``options``, little-endian, with the mark behind; nothing at all for no option."""
    packed = b"".join(struct.pack("<HH", code, len(value)) + value + bytes(-len(value) & 3) for code, value in options)
    return packed + bytes(4) if packed else b""


def text(value: bytes) -> str:
    """The text of an option; what is not UTF-8 in it is shown as escapes."""
    return value.decode("utf-8", "backslashreplace")


def packed_text(value: str, limit: int = MAX_VALUE) -> bytes:
    """The bytes of a text option, cut between characters if there are more than ``limit``."""
    data = value.encode("utf-8", "replace")
    return data if len(data) <= limit else data[:limit].decode("utf-8", "ignore").encode()
