"""The split ring: where its parts lie in memory and how either side is told about progress (VIRTIO 1.4, section 2.7).

Only layout and arithmetic are here, which both sides share; what a driver or a device does with a ring is theirs.
"""

from __future__ import annotations

from dataclasses import dataclass

from netemu.errors import ConfigError
from netemu.jit import i64, kernel

# Descriptor: addr le64, len le32, flags le16, next le16 (SPLIT-B-03).
DESC_SIZE = 16
DESC_LEN = 8
DESC_FLAGS = 12
DESC_NEXT = 14
NEXT = 1
WRITE = 2
INDIRECT = 4

# Available ring: flags, idx, ring of le16, used_event (SPLIT-B-05).
AVAIL_FLAGS = 0
AVAIL_IDX = 2
AVAIL_RING = 4
NO_INTERRUPT = 1

# Used ring: flags, idx, ring of {id le32, len le32}, avail_event (SPLIT-B-06).
USED_FLAGS = 0
USED_IDX = 2
USED_RING = 4
USED_ELEM_SIZE = 8
USED_ELEM_LEN = 4
NO_NOTIFY = 1

QUEUE_SIZE_MAX = 32768

DESC_ALIGN = 16
AVAIL_ALIGN = 2
USED_ALIGN = 4


def check_queue_size(num: int) -> None:
    """Raise `ConfigError` unless ``num`` is a size a split ring can have (SPLIT-B-02)."""
    if not 1 <= num <= QUEUE_SIZE_MAX or num & (num - 1):
        raise ConfigError(f"a split ring's size is a power of two from 1 to {QUEUE_SIZE_MAX}, not {num}")


def desc_bytes(num: int) -> int:
    """Size of the descriptor table (SPLIT-B-01)."""
    return DESC_SIZE * num


def avail_bytes(num: int) -> int:
    """Size of the available ring with its event index (SPLIT-B-01)."""
    return 6 + 2 * num


def used_bytes(num: int) -> int:
    """Size of the used ring with its event index (SPLIT-B-01)."""
    return 6 + USED_ELEM_SIZE * num


@dataclass(frozen=True, slots=True)
class RingAddresses:
    """Guest-physical addresses of the three parts of a ring of ``num`` entries.

    Of a packed ring ``desc`` is the descriptor ring, ``avail`` the driver's and ``used`` the device's event suppression
    structure: the driver area and the device area in the words of the transports, which know one set of registers.
    """

    num: int
    desc: int
    avail: int
    used: int


@kernel
def used_event_at(avail: i64, num: i64) -> i64:
    """Address of used_event, which the driver writes, in the available ring at ``avail``."""
    return avail + AVAIL_RING + 2 * num


@kernel
def avail_event_at(used: i64, num: i64) -> i64:
    """Address of avail_event, which the device writes, in the used ring at ``used``."""
    return used + USED_RING + USED_ELEM_SIZE * num


@kernel
def vring_need_event(event: i64, new: i64, old: i64) -> i64:
    """1 if moving an index from ``old`` to ``new`` passed the one the other side waits for (SPLIT-D-12, SPLIT-V-24)."""
    return 1 if ((new - event - 1) & 0xFFFF) < ((new - old) & 0xFFFF) else 0
