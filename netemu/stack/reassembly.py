"""Fragments put together again, for both IP versions (RFC 791 section 3.2, RFC 815, RFC 8200 section 4.5, RFC 5722).

Theory of operation
-------------------
A *slot* has room for one packet: its headers, as the first fragment has them, and 64 KiB of payload behind them, where
each fragment is copied to its place. A map has a byte for each eight of payload, 1 where it came. Fragments that lie
wholly in what came are duplicates and dropped; any other overlap ends the packet, as Linux does since 4.20 (RFC 5722).

There are few slots, which bounds the memory; a packet that finds none is refused. A slot's timer is started by its
first fragment. What a version counts and says is its own business: `netemu.stack.ipv4.fragments` for IPv4.
"""

from __future__ import annotations

from netemu.jit import Buffer, Struct, StructArray, allocate, array_of, i64, kernel, load8, memset, pointer, struct
from netemu.skb import CHECKSUM_NONE, Skb, skb_at, skb_copy_bits
from netemu.stack.host import host_at
from netemu.stack.ipv4.state import ip_state_at
from netemu.stack.loopback import own_skb
from netemu.stack.packet import ETH_HLEN
from netemu.timers import STOPPED, TIMER_SIZE, Timer, timer_at, timer_start, timer_stop, timers_at

SLOT_COUNT = 32
HEADER_ROOM = 512
"""Bytes for the headers in front of what was cut; with that of the link."""
_PAYLOAD_ROOM = 65536 + 64
_UNIT = 8
_MAP_SIZE = 8192
LONGEST = 65535

# What becomes of a fragment.
HELD = 0
WHOLE = 1
DUPLICATE = 2
DAMAGED = 3
"""It contradicts the others: they are forgotten with it."""
OVERLAPS = 4
"""The same for one that overlaps others."""


@struct
class Slot(Struct):
    """A packet of which some fragments came."""

    used: i64
    source_hi: i64
    source_lo: i64
    target_hi: i64
    target_lo: i64
    identification: i64
    protocol: i64
    """The protocol that is part of the key; 0 for IPv6."""
    interface: i64
    """Address of the `Interface` that the last fragment came in on."""
    buffer: i64
    """HEADER_ROOM bytes for headers, then the payload."""
    map: i64
    header_len: i64
    """Bytes of the IP header, right in front of the payload; 0 until the first fragment came."""
    received: i64
    """Payload bytes that came."""
    size: i64
    """Payload bytes altogether, as far as known."""
    last_in: i64
    longest: i64
    """Bytes of the longest fragment, header included, and of the longest with DF: Linux's max_size, max_df_size."""
    longest_df: i64
    named: i64
    """Offset in the headers of the byte that names the fragment header; IPv6 alone has that."""
    first_len: i64
    """Payload bytes of the fragment that the headers came with; IPv6's."""
    ecn: i64
    """Mask of 1 << codepoint of the fragments' ECN fields (RFC 3168 section 5.3)."""
    timer: i64


@struct
class ReassemblyPool(Struct):
    """The slots of a host."""

    slots: i64
    in_use: i64
    expire4: i64
    expire6: i64
    """Hooks ``(host, slot)`` for one whose time is over."""


slot_at = pointer(Slot)
pool_at = pointer(ReassemblyPool)
SLOT_SIZE = Slot.dtype.itemsize


@kernel
def payload_of(slot: Slot) -> i64:
    """Host address of the payload."""
    return slot.buffer + HEADER_ROOM


@kernel
def find_slot(
    host: i64, source_hi: i64, source_lo: i64, target_hi: i64, target_lo: i64, identification: i64, protocol: i64
) -> i64:
    """Address of the packet's `Slot`, or 0."""
    pool = pool_at(ip_state_at(host_at(host).ip).reassembly)
    if pool.in_use == 0:
        return 0
    at = pool.slots
    for _ in range(SLOT_COUNT):
        slot = slot_at(at)
        if (
            slot.used != 0
            and slot.identification == identification
            and slot.source_lo == source_lo
            and slot.target_lo == target_lo
            and slot.source_hi == source_hi
            and slot.target_hi == target_hi
            and slot.protocol == protocol
        ):
            return at
        at += SLOT_SIZE
    return 0


@kernel
def take_slot(
    host: i64, source_hi: i64, source_lo: i64, target_hi: i64, target_lo: i64, identification: i64, protocol: i64
) -> i64:
    """Address of a new `Slot` for a packet, whose timer the caller starts (`start_slot`); 0: all are in use."""
    pool = pool_at(ip_state_at(host_at(host).ip).reassembly)
    at = pool.slots
    for _ in range(SLOT_COUNT):
        slot = slot_at(at)
        if slot.used == 0:
            slot.used = 1
            slot.source_hi = source_hi
            slot.source_lo = source_lo
            slot.target_hi = target_hi
            slot.target_lo = target_lo
            slot.identification = identification
            slot.protocol = protocol
            slot.header_len = 0
            slot.received = 0
            slot.size = 0
            slot.last_in = 0
            slot.longest = 0
            slot.longest_df = 0
            slot.ecn = 0
            pool.in_use += 1
            return at
        at += SLOT_SIZE
    return 0


@kernel
def start_slot(host: i64, address: i64, hook: i64, timeout: i64) -> None:
    """Have ``hook`` called with host and slot after ``timeout`` ns."""
    timers = timers_at(host_at(host).timers)
    slot = slot_at(address)
    timer = timer_at(slot.timer)
    timer.hook = hook
    timer.a = host
    timer.b = address
    timer_start(timers, slot.timer, timers.now + timeout)


@kernel
def free_slot(host: i64, address: i64) -> None:
    """The packet is whole, or given up. Its bytes stay until another one begins."""
    slot = slot_at(address)
    slot.used = 0
    memset(slot.map, 0, (slot.size + _UNIT - 1) // _UNIT)
    timer_stop(slot.timer)
    pool_at(ip_state_at(host_at(host).ip).reassembly).in_use -= 1


@kernel
def _came(slot: Slot, start: i64, size: i64) -> i64:
    """How many of the units that ``size`` bytes from ``start`` on touch came before."""
    at = slot.map + start // _UNIT
    end = slot.map + (start + size + _UNIT - 1) // _UNIT
    count = 0
    while at < end:
        count += load8(at)
        at += 1
    return count


@kernel
def add_fragment(slot: Slot, skb: Skb, at: i64, start: i64, size: i64, more: i64) -> i64:
    """Put the ``size`` bytes at offset ``at`` of an skb to place ``start``, a multiple of 8; what became of them.

    ``more``: others follow behind these. After DAMAGED and OVERLAPS the caller frees the slot. ``start + size`` is at
    most LONGEST.
    """
    end = start + size
    if more == 0:
        if end < slot.size or (slot.last_in != 0 and end != slot.size):
            return DAMAGED
    else:
        end &= ~(_UNIT - 1)
        size = end - start
        if end > slot.size and slot.last_in != 0:
            return DAMAGED
    if size <= 0:
        return DAMAGED
    units = (size + _UNIT - 1) // _UNIT
    came = _came(slot, start, size)
    if came == units:
        return DUPLICATE
    if came != 0:
        return OVERLAPS
    slot.size = max(slot.size, end)
    if more == 0:
        slot.last_in = 1
    memset(slot.map + start // _UNIT, 1, units)
    skb_copy_bits(skb, at, payload_of(slot) + start, size)
    slot.received += size
    return WHOLE if slot.last_in != 0 and slot.received == slot.size and slot.header_len != 0 else HELD


@kernel
def keep_header(slot: Slot, skb: Skb, at: i64, size: i64) -> None:
    """Keep the headers in front of the first fragment's payload: ``size`` bytes at offset ``at``."""
    skb_copy_bits(skb, at, payload_of(slot) - size, size)
    slot.header_len = size


@kernel
def slot_skb(host: i64, slot: Slot, skb: i64, size: i64, kind: i64) -> None:
    """Make ``skb`` a frame of the kept header and ``size`` bytes of payload, the skb at hand of the host."""
    own_skb(skb, payload_of(slot) - slot.header_len - ETH_HLEN, ETH_HLEN + slot.header_len + size, kind)
    # Nobody has looked at the checksum of the whole yet.
    skb_at(skb).ip_summed = CHECKSUM_NONE
    host_at(host).skb = skb


class Reassembly:
    """A `ReassemblyPool` with its memory: some 2.4 MB a host, which cost nothing until they are used."""

    def __init__(self) -> None:
        """Make all slots free."""
        self._slots: StructArray[Slot] = array_of(Slot, SLOT_COUNT)
        self._timers: StructArray[Timer] = array_of(Timer, SLOT_COUNT)
        stride = HEADER_ROOM + _PAYLOAD_ROOM
        self._bytes: Buffer = allocate(SLOT_COUNT * stride)
        self._maps: Buffer = allocate(SLOT_COUNT * _MAP_SIZE)
        for number, slot in enumerate(self._slots):
            slot.buffer = self._bytes.address + number * stride
            slot.map = self._maps.address + number * _MAP_SIZE
            slot.timer = self._timers.address + number * TIMER_SIZE
            self._timers[number].due = self._timers[number].queued = STOPPED
        self.struct = ReassemblyPool(slots=self._slots.address)
