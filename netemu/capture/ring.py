"""The prefix of a ring capture's records; docs/ring-capture-format.md describes it."""

from __future__ import annotations

import struct
from typing import NamedTuple

RING_PREFIX_VERSION = 1
RING_PREFIX_LEN = 32

# Byte offsets.
RING_VERSION = 0
RING_PREFIX_LENGTH = 1
RING_FLAGS = 2
RING_HDR_LEN = 3
RING_QUEUE = 4
RING_BUFFERS = 6
RING_FRAME_ID = 8
RING_FEATURES_LOW = 16
RING_FEATURES_HIGH = 24

# flags
RING_TRANSMIT = 1
RING_BIG_ENDIAN = 2
RING_FEATURES_VALID = 4

_LAYOUT = struct.Struct("<BBBBHHQQQ")


class RingPrefix(NamedTuple):
    """The fields of a prefix, in order."""

    version: int
    prefix_len: int
    flags: int
    hdr_len: int
    queue: int
    buffers: int
    frame_id: int
    features_low: int
    features_high: int

    @classmethod
    def unpack(cls, record: bytes) -> RingPrefix:
        """Read a record's prefix; raises ValueError for one that is cut short or of a version that is not known."""
        if len(record) < RING_PREFIX_LEN:
            raise ValueError("ring prefix cut short")
        prefix = cls(*_LAYOUT.unpack_from(record))
        if prefix.version != RING_PREFIX_VERSION or prefix.prefix_len < RING_PREFIX_LEN:
            raise ValueError(f"ring prefix of an unknown version ({prefix.version})")
        return prefix
