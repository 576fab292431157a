"""What a device may do wrong on purpose, to see whether a driver survives it: the list, and what a queue keeps of it.

Theory of operation
-------------------
A receive queue with quirks has a `DeviceQuirks` behind ``DeviceQueue.quirks``. When a frame has been written into its
buffers, `netemu.device.quirk_header.spoil` asks the rules, once a frame, and changes the header in guest memory. When
the frame is to be published, `netemu.device.quirk_used.publish_badly` stands in for `netemu.device.receive.publish`: it
makes a list of the used entries that a device ought to write, changes the list, and writes it; what it keeps back stays
on the list for the next frame, or until `netemu.device.quirk_used.settle`.

Nothing outside of the ring and of the header in the buffers is ever written, as no driver could survive that.

What travels beside the ring (`netemu.engine`: frame numbers and times) is bytes in a table with an entry a slot. A used
entry that is published later than its turn takes them along, so that a frame that is late is still known by its number.
"""

from __future__ import annotations

from netemu.jit import Struct, i64, kernel, pointer, struct
from netemu.quirks import Quirk

NUM_BUFFERS_ZERO = 1
NUM_BUFFERS_MORE = 2
NUM_BUFFERS_FEWER = 3
CSUM_OFFSETS = 4
GSO_UNKNOWN = 5
GSO_UNASKED = 6
GSO_SIZE_ZERO = 7
HEADER_DIRTY = 8
LENGTH_OVER = 9
LENGTH_SHORT = 10
ID_OUT_OF_RANGE = 11
ID_NOT_HEAD = 12
ID_TWICE = 13
LATE = 14
OUT_OF_ORDER = 15
INDEX_TORN = 16
INDEX_BACK = 17
INTERRUPT_LOST = 18
INTERRUPT_SPURIOUS = 19
EVENT_IGNORED = 20

QUIRKS = tuple(
    Quirk(name, "device", clause, words, number)
    for name, clause, words, number in (
        ("num-buffers-zero", "RX-D-01, RX-D-02", "num_buffers is 0", NUM_BUFFERS_ZERO),
        ("num-buffers-more", "RX-D-02", "num_buffers is one more than there are", NUM_BUFFERS_MORE),
        ("num-buffers-fewer", "RX-D-02", "num_buffers is one less, of a frame over several", NUM_BUFFERS_FEWER),
        ("csum-offsets", "RX-D-20", "NEEDS_CSUM with offsets outside the frame", CSUM_OFFSETS),
        ("gso-unknown", "RX-D-26", "gso_type 2, which there is not", GSO_UNKNOWN),
        ("gso-unasked", "RX-D-07, RX-D-08, RX-D-09", "a gso_type that was not negotiated", GSO_UNASKED),
        ("gso-size-zero", "RX-D-28", "gso_type without a gso_size", GSO_SIZE_ZERO),
        ("header-dirty", "RX-D-05", "junk in header fields that say nothing", HEADER_DIRTY),
        ("used-length-over", "SPLIT-D-15, PACK-D-03", "a used length beyond the buffer", LENGTH_OVER),
        ("used-length-short", "RX-D-03", "a used length below header and Ethernet header", LENGTH_SHORT),
        ("used-id-out-of-range", "SPLIT-B-06, PACK-D-04", "a used id that no buffer can have", ID_OUT_OF_RANGE),
        ("used-id-not-head", "SPLIT-B-06, PACK-D-04", "a used id that heads no buffer", ID_NOT_HEAD),
        ("used-id-twice", "SPLIT-B-06, PACK-D-04", "a buffer becomes used twice", ID_TWICE),
        ("buffers-late", "RX-D-04", "a frame's last buffer is used with the next frame", LATE),
        ("out-of-order", "RFB-D-05", "a frame's buffers in reverse, or the next frame first", OUT_OF_ORDER),
        ("used-index-torn", "SPLIT-D-14, PACK-D-01", "half of the used index, or of the flags", INDEX_TORN),
        ("used-index-back", "SPLIT-B-06, PACK-D-14", "the used index, or position, steps back", INDEX_BACK),
        ("interrupt-lost", "SPLIT-D-10, SPLIT-D-12", "an interrupt that is due does not come", INTERRUPT_LOST),
        ("interrupt-spurious", "SPLIT-D-13", "an interrupt for nothing", INTERRUPT_SPURIOUS),
        ("event-ignored", "SPLIT-D-09, SPLIT-D-13, PACK-B-07", "interrupts nobody wants", EVENT_IGNORED),
    )
)
"""The device's quirks; `netemu quirks` lists them."""

TAG_MAX = 64
"""Bytes beside a slot that are taken along at most."""


@struct
class UsedEntry(Struct):
    """A used entry on its way into the ring."""

    head: i64
    written: i64
    slots: i64
    """Slots of a packed ring that it stands for; 1 of a split one."""
    tag: i64
    """Address of what travels with it beside the ring: kept while it is kept back."""


@struct
class DeviceQuirks(Struct):
    """The quirks of one receive queue."""

    spoil: i64
    publish: i64
    """Hooks: `netemu.device.quirk_header.spoil` and `netemu.device.quirk_used.publish_badly`."""
    queue: i64
    rules: i64
    hdr_len: i64
    unasked: i64
    """A gso_type that was not negotiated; 0 where all were."""
    mask: i64
    """Bit n: quirk n happens to the frame at hand."""
    decided: i64
    """Number of that frame; rules are asked once a frame, however often it is tried."""
    random: i64
    entries: i64
    """Address of ``2 * num + 1`` `UsedEntry` structs: a frame's, one that is double, and those kept back."""
    count: i64
    kept: i64
    """Address of ``num`` entries that are kept back, ``kept_count`` of them."""
    kept_count: i64
    kept_after: i64
    """They come behind the next frame's, not before."""
    previous: i64
    """Id of the last entry published."""
    repair: i64
    """Address of a packed descriptor's flags that are still to be put right, with ``repair_flags``; 0: none."""
    repair_flags: i64
    tags: i64
    tag_size: i64
    """See `netemu.device.quirk_header.spoil`."""


used_entry_at = pointer(UsedEntry)
device_quirks_at = pointer(DeviceQuirks)
ENTRY_SIZE = UsedEntry.dtype.itemsize


@kernel
def happens(q: DeviceQuirks, quirk: i64) -> i64:
    """1 if a quirk happens to the frame at hand."""
    return (q.mask >> quirk) & 1


@kernel
def is_to_misbehave(address: i64) -> i64:
    """1 if anything happens to the frame at hand, or was left over; ``address`` is that of a `DeviceQuirks`."""
    q = device_quirks_at(address)
    return 1 if q.mask != 0 or q.kept_count != 0 or q.repair != 0 else 0
