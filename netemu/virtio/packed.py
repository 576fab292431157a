"""The packed ring: descriptors, their availability bits, and event suppression (VIRTIO 1.4, section 2.8).

Only layout and arithmetic are here, which both sides share; what a driver or a device does with a ring is theirs.

One ring of descriptors serves both directions. A side finds out whether the descriptor at its next position is for it
by comparing two bits of the flags with its own wrap counter, which starts at 1 and flips each time the position passes
the end of the ring (PACK-B-01, PACK-B-02).
"""

from __future__ import annotations

from netemu.errors import ConfigError
from netemu.jit import i64, kernel
from netemu.virtio.split import QUEUE_SIZE_MAX

# Descriptor: addr le64, len le32, id le16, flags le16 (PACK-B-11).
DESC_SIZE = 16
DESC_LEN = 8
DESC_ID = 12
DESC_FLAGS = 14
NEXT = 1
WRITE = 2
INDIRECT = 4
AVAIL = 1 << 7
USED = 1 << 15

# Event suppression structure: off_wrap le16, flags le16 (PACK-B-06, PACK-B-07).
EVENT_SIZE = 4
EVENT_OFF_WRAP = 0
EVENT_FLAGS = 2
EVENT_ENABLE = 0
EVENT_DISABLE = 1
EVENT_DESC = 2
EVENT_OFFSET_MASK = 0x7FFF
EVENT_WRAP_SHIFT = 15

DESC_ALIGN = 16
EVENT_ALIGN = 4


def check_queue_size(num: int) -> None:
    """Raise `ConfigError` unless ``num`` is a size a packed ring can have: any up to the limit (PACK-B-10)."""
    if not 1 <= num <= QUEUE_SIZE_MAX:
        raise ConfigError(f"a packed ring's size is from 1 to {QUEUE_SIZE_MAX}, not {num}")


def desc_bytes(num: int) -> int:
    """Size of the descriptor ring (PACK-B-10)."""
    return DESC_SIZE * num


@kernel
def flags_avail(wrap: i64) -> i64:
    """AVAIL and USED of a descriptor that is made available under the driver's wrap counter (PACK-V-01)."""
    return AVAIL if wrap != 0 else USED


@kernel
def flags_used(wrap: i64) -> i64:
    """AVAIL and USED of a descriptor that is marked used under the device's wrap counter (PACK-D-01)."""
    return AVAIL | USED if wrap != 0 else 0


@kernel
def is_avail(flags: i64, wrap: i64) -> i64:
    """1 if a descriptor with these flags is available to a device whose wrap counter is ``wrap``."""
    return 1 if (flags & (AVAIL | USED)) == flags_avail(wrap) else 0


@kernel
def is_used(flags: i64, wrap: i64) -> i64:
    """1 if a descriptor with these flags was used, as a driver sees it whose used wrap counter is ``wrap``."""
    return 1 if (flags & (AVAIL | USED)) == flags_used(wrap) else 0


@kernel
def packed_need_event(off_wrap: i64, new: i64, wrap: i64, count: i64, num: i64) -> i64:
    """1 if one of the last ``count`` descriptors, which end before position ``new``, is the one the other side named.

    ``wrap`` is the wrap counter at ``new``; the other side's ``off_wrap`` is a position with its wrap bit (PACK-B-08).
    """
    event = off_wrap & EVENT_OFFSET_MASK
    if (off_wrap >> EVENT_WRAP_SHIFT) & 1 != wrap:
        event -= num
    return 1 if ((new - event - 1) & 0xFFFF) < (count & 0xFFFF) else 0
