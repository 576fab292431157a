"""Fragments of IPv6 put together (RFC 8200 section 4.5), after Linux's ip6_frag_queue and ip6_frag_reasm.

Theory of operation
-------------------
A packet of which a fragment came has a *slot*: a buffer for all its bytes and a map of the 8-byte units that are there.
A fragment that brings nothing new is dropped; one that overlaps another partly spoils the packet (RFC 5722): the slot
stays, so that what is still to come is dropped too, until its time is over. Slots are few. When all are taken the one
that would end first makes room, so the memory for what never completes is bounded.

A packet that is whole becomes an skb of its own, which lives in its slot until the next fragment comes. What is still
incomplete after 60 seconds is given up, and its sender told, if the first fragment is there to tell it of.
"""

from __future__ import annotations

from netemu.jit import (
    Struct,
    call2,
    call5,
    entry,
    i64,
    kernel,
    load8,
    load16be,
    load32,
    load32be,
    memcpy,
    memset,
    pointer,
    store8,
    store16be,
    store32,
    struct,
)
from netemu.skb import CHECKSUM_NONE, Skb, skb_at, skb_copy_bits, skb_header_pointer
from netemu.stack.host import Host, host_at, load64be
from netemu.stack.ipv6_state import SECOND, ip6_at
from netemu.stack.mib import ip6_mib_at
from netemu.stack.reasons import FRAG_REFUSED, IPV6_BAD_EXTHDR
from netemu.stack.state import stack_at
from netemu.timers import timer_start, timer_stop, timers_at

SLOTS = 16
"""Packets of one host that are in the making at once."""
TIMEOUT = 60 * SECOND
"""ns from a packet's first fragment until it is given up (ip6frag_time)."""

_HEADER = 40
_FRAGMENT_HEADER = 8
HEADERS_ROOM = 1024
"""Bytes of headers in front of a fragment header, and that one, which a slot has room for."""
DATA_ROOM = 1 << 16
"""Bytes of fragments' data that it has room for, behind HEADERS_ROOM for the whole packet's headers."""
MAP_SIZE = DATA_ROOM >> 6
"""Bytes of a map with a bit per 8 bytes."""
_PAYLOAD_MAX = 65535
_UNKNOWN = -1

_EXTENSIONS_MAX = 8

_PROBLEM_INCOMPLETE = 3
_TCP, _UDP, _ICMPV6 = 6, 17, 58
_HOP, _ROUTING, _DEST = 0, 43, 60


@struct
class Slot(Struct):
    """A packet in the making."""

    used: i64
    spoilt: i64
    """1: it is only kept to drop what still comes."""
    source_hi: i64
    source_lo: i64
    target_hi: i64
    target_lo: i64
    identification: i64
    host: i64
    interface: i64
    """Address of the `Interface` that its last fragment came by."""
    until: i64
    """When it is given up, ns."""
    timer: i64
    """Address of its `Timer`."""
    headers: i64
    """Host address of the first fragment's bytes up to the end of its fragment header; they are ``headers_len``."""
    headers_len: i64
    """0: the first fragment is not there."""
    named: i64
    """Offset in them of the byte that names the fragment header."""
    first_len: i64
    """Bytes behind the first fragment's headers."""
    data: i64
    """Host address of the fragments' bytes, in front of which there is room for headers."""
    total: i64
    """How many there will be; -1 while nobody knows."""
    got: i64
    map: i64
    """Host address of the units' bits."""
    ecn: i64
    """Bits of the ECN codepoints seen, by number."""


@struct
class Reassembly(Struct):
    """All packets in the making of a host."""

    slots: i64
    count: i64
    skb: i64
    """Address of the `Skb` of the packet that was completed last."""
    give_up: i64
    """Hook ``(host, slot)``: the slot's time is over and its first fragment is there; tell the sender."""


slot_at = pointer(Slot)
reassembly_at = pointer(Reassembly)
SLOT_SIZE = Slot.dtype.itemsize


@kernel
def _release(slot: Slot) -> None:
    slot.used = 0
    timer_stop(slot.timer)


@kernel
def _take(host: Host, hdr: i64, identification: i64) -> i64:
    """The slot of the packet with this header and identification; a new one if it has none."""
    reassembly = reassembly_at(ip6_at(host.ip6).reassembly)
    source_hi, source_lo = load64be(hdr + 8), load64be(hdr + 16)
    target_hi, target_lo = load64be(hdr + 24), load64be(hdr + 32)
    best = 0
    for n in range(reassembly.count):
        at = reassembly.slots + n * SLOT_SIZE
        slot = slot_at(at)
        if slot.used == 0:
            if best == 0 or slot_at(best).used != 0:
                best = at
            continue
        if (
            slot.identification == identification
            and slot.source_lo == source_lo
            and slot.target_lo == target_lo
            and slot.source_hi == source_hi
            and slot.target_hi == target_hi
        ):
            return at
        if best == 0 or (slot_at(best).used != 0 and slot.until < slot_at(best).until):
            best = at
    slot = slot_at(best)
    if slot.used != 0:
        ip6_mib_at(stack_at(host.stack).ip6).ReasmFails += 1
    timers = timers_at(host.timers)
    slot.used = 1
    slot.spoilt = 0
    slot.source_hi, slot.source_lo = source_hi, source_lo
    slot.target_hi, slot.target_lo = target_hi, target_lo
    slot.identification = identification
    slot.until = timers.now + TIMEOUT
    slot.headers_len = 0
    slot.first_len = 0
    slot.total = _UNKNOWN
    slot.got = 0
    slot.ecn = 0
    memset(slot.map, 0, MAP_SIZE)
    timer_start(timers, slot.timer, slot.until)
    return best


@kernel
def _mark(bits: i64, first: i64, last: i64) -> i64:
    """Mark units ``first`` to ``last``, that excluded, in a map, and say how many of them were marked already."""
    before = 0
    word = first >> 5
    while word << 5 < last:
        low = max(first - (word << 5), 0)
        high = min(last - (word << 5), 32)
        mask = ((1 << (high - low)) - 1) << low
        held = load32(bits + word * 4)
        both = held & mask
        while both != 0:
            both &= both - 1
            before += 1
        store32(bits + word * 4, held | mask)
        word += 1
    return before


@kernel
def _ends_in_headers(skb: Skb, protocol: i64, at: i64, end: i64, scratch: i64) -> i64:
    """1 if a first fragment does not have all headers up to the upper layer's own (RFC 8200 section 4.5)."""
    for _ in range(_EXTENSIONS_MAX):
        if protocol not in (_HOP, _ROUTING, _DEST):
            break
        if at + 8 > end:
            return 1
        header = skb_header_pointer(skb, at, 2, scratch)
        protocol = load8(header)
        at += (load8(header + 1) + 1) * 8
    need = 1
    if protocol == _TCP:
        need = 20
    elif protocol in (_UDP, _ICMPV6):
        need = 8
    return 1 if at + need > end else 0


@kernel
def _fits(slot: Slot, start: i64, size: i64, more: i64) -> i64:
    """1 if a fragment agrees with what is known of the packet's length, which it may tell."""
    end = start + size
    if more == 0:
        if slot.total not in (_UNKNOWN, end):
            return 0
        slot.total = end
        return 1 if slot.got <= end else 0
    return 1 if slot.total == _UNKNOWN or end <= slot.total else 0


@kernel
def _congestion(seen: i64) -> i64:
    """The ECN codepoint of a packet whose fragments have these (RFC 3168 section 5.3); -1: they do not go together."""
    if seen & 1:
        return 0 if seen == 1 else -1
    if seen & 8:
        return 3
    return 2 if seen & 4 else 1


@kernel
def _finish(host: Host, slot: Slot, ecn: i64) -> i64:
    """Make an skb of a slot that is complete, which is free from now on; its address, or 0: too long for a packet."""
    reassembly = reassembly_at(ip6_at(host.ip6).reassembly)
    front = slot.headers_len - _FRAGMENT_HEADER
    length = front - _HEADER + slot.total
    _release(slot)
    if length > _PAYLOAD_MAX:
        return 0
    start = slot.data - front
    memcpy(start, slot.headers, front)
    store16be(start + 4, length)
    store8(start + slot.named, load8(slot.headers + front))
    store8(start + 1, load8(start + 1) & 0xCF | ecn << 4)
    skb = skb_at(reassembly.skb)
    came = skb_at(host.skb)
    skb.data = start
    skb.len = front + slot.total
    skb.data_len = 0
    skb.nr_frags = 0
    skb.frag_list = 0
    skb.ip_summed = CHECKSUM_NONE
    skb.gso_type = 0
    skb.gso_size = 0
    skb.pkt_type = came.pkt_type
    skb.protocol = came.protocol
    skb.network_header = 0
    skb.frame_id = came.frame_id
    host.skb = reassembly.skb
    return reassembly.skb


@entry
def ip6_fragment(host: i64, offset: i64, at: i64, end: i64, named: i64) -> i64:
    """Take a fragment (the hook `netemu.stack.state.Stack.ip6_fragment`), whose lengths have been checked."""
    h = host_at(host)
    stack = stack_at(h.stack)
    mib = ip6_mib_at(stack.ip6)
    skb = skb_at(h.skb)
    scratch = ip6_at(h.ip6).scratch
    if skb_copy_bits(skb, offset, scratch, _HEADER) < 0:
        return 0
    if skb_copy_bits(skb, at, scratch + _HEADER, _FRAGMENT_HEADER) < 0:
        return 0
    header = scratch + _HEADER
    place = load16be(header + 2)
    start, more = place & 0xFFF8, place & 1
    size = end - at - _FRAGMENT_HEADER
    if start == 0 and _ends_in_headers(skb, load8(header), at + _FRAGMENT_HEADER, end, header + _FRAGMENT_HEADER) != 0:
        mib.InHdrErrors += 1
        if stack.ip6_problem != 0:
            call5(stack.ip6_problem, host, offset, offset, 1, _PROBLEM_INCOMPLETE)
        return -IPV6_BAD_EXTHDR
    address = _take(h, scratch, load32be(header + 4))
    slot = slot_at(address)
    slot.interface = h.input
    if slot.spoilt != 0:
        return -FRAG_REFUSED
    headers = at + _FRAGMENT_HEADER - offset
    if size <= 0 or _fits(slot, start, size, more) == 0 or (start == 0 and headers > HEADERS_ROOM):
        slot.spoilt = 1
        mib.ReasmFails += 1
        return -FRAG_REFUSED
    first, last = start >> 3, (start + size + 7) >> 3
    before = _mark(slot.map, first, last)
    if before == last - first:
        return -FRAG_REFUSED  # a copy of what is there
    if before != 0:
        slot.spoilt = 1
        mib.ReasmFails += 1
        return -FRAG_REFUSED
    skb_copy_bits(skb, at + _FRAGMENT_HEADER, slot.data + start, size)
    slot.got += size
    slot.ecn |= 1 << ((load8(scratch + 1) >> 4) & 3)
    if start == 0:
        skb_copy_bits(skb, offset, slot.headers, headers)
        slot.headers_len = headers
        slot.named = named - offset
        slot.first_len = size
    if slot.total == _UNKNOWN or slot.got != slot.total or slot.headers_len == 0:
        return 0
    ecn = _congestion(slot.ecn)
    whole = _finish(h, slot, ecn) if ecn >= 0 else 0
    if whole == 0:
        _release(slot)
        mib.ReasmFails += 1
        return -FRAG_REFUSED
    mib.ReasmOKs += 1
    return whole


@entry
def reassembly_expired(slot_address: i64, _unused: i64) -> i64:
    """The hook of a slot's timer: its time is over, what is in it is given up."""
    slot = slot_at(slot_address)
    if slot.used == 0:
        return 0
    slot.used = 0
    if slot.spoilt != 0:
        return 0
    host = host_at(slot.host)
    mib = ip6_mib_at(stack_at(host.stack).ip6)
    mib.ReasmTimeout += 1
    mib.ReasmFails += 1
    hooked = reassembly_at(ip6_at(host.ip6).reassembly).give_up
    if slot.headers_len > 0 and hooked != 0:
        call2(hooked, slot.host, slot_address)
    return 0
