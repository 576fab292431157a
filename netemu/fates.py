"""What became of received frames that were not handed up: a log per queue.

The driver drops some, GRO merges some into others, an XDP program sends some back or elsewhere. Somebody who tells the
way of each frame (`netemu.ways`) wants to know which; nobody else pays: without a log its address is 0.
"""

from __future__ import annotations

from enum import IntEnum

from netemu.jit import Struct, StructArray, array_of, i64, kernel, pointer, struct
from netemu.outstanding import note_left


class Fate(IntEnum):
    """What became of a frame."""

    DROPPED = 1
    """By the driver; ``other`` is the `netemu.reasons.DropReason`."""
    MERGED = 2
    """Its payload is part of another frame's skb, whose number is ``other``."""
    XDP_TX = 3
    """An XDP program had it sent back."""
    XDP_REDIRECT = 4
    """An XDP program had it sent elsewhere."""


# The same numbers for kernels, which take no enums.
DROPPED = int(Fate.DROPPED)
MERGED = int(Fate.MERGED)


@struct
class FateEntry(Struct):
    """One frame's."""

    frame_id: i64
    fate: i64
    other: i64


@struct
class FateLog(Struct):
    """The entries since the log was last emptied; one too many is forgotten."""

    entries: i64
    count: i64
    size: i64
    outstanding: i64
    """Address of the `netemu.outstanding.OutstandingState` of frames that the ring may lose, or 0."""


fate_log_at = pointer(FateLog)
_entry_at = pointer(FateEntry)
_ENTRY_SIZE = FateEntry.dtype.itemsize


@kernel
def note_fate(address: i64, frame_id: i64, fate: i64, other: i64) -> None:
    """Note what became of a frame in the log at ``address``, if there is one."""
    if address == 0:
        return
    log = fate_log_at(address)
    if log.outstanding != 0:
        note_left(log.outstanding, frame_id)
    if log.count < log.size:
        entry = _entry_at(log.entries + log.count * _ENTRY_SIZE)
        entry.frame_id = frame_id
        entry.fate = fate
        entry.other = other
        log.count += 1


class Fates:
    """A `FateLog` with the memory of its entries."""

    def __init__(self, size: int, outstanding: int = 0) -> None:
        """Room for ``size`` entries; ``outstanding`` is the address of who is told as well, or 0."""
        self._entries: StructArray[FateEntry] = array_of(FateEntry, size)
        self.struct = FateLog(entries=self._entries.address, size=size, outstanding=outstanding)
        self.address = self.struct.address

    def take(self) -> list[tuple[int, Fate, int]]:
        """Empty the log: (frame id, fate, other) of each entry, in order."""
        taken = [(one.frame_id, Fate(one.fate), one.other) for one in self._entries[: self.struct.count]]
        self.struct.count = 0
        return taken
