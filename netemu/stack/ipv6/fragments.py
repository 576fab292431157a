"""Fragments of IPv6 for this host (RFC 8200 section 4.5): the hook `Stack.ip6_fragment`. After Linux's ip6_frag_queue.

A packet that is not whole 60 seconds after its first fragment is given up, and its sender told if the fragment with the
headers came. One whose fragments overlap is forgotten (RFC 5722), as is a first fragment that does not have all headers
up to the transport's, of which the sender is told.
"""

from __future__ import annotations

from netemu.jit import call5, entry, i64, kernel, load8, load16be, load32be, memcpy, store8, store16be
from netemu.skb import Skb, skb_at, skb_copy_bits, skb_header_pointer
from netemu.stack.host import Host, host_at, load64be
from netemu.stack.icmpv6.error import CODE_REASSEMBLY, send_error6
from netemu.stack.icmpv6.output import TIME_EXCEEDED
from netemu.stack.ipv4.state import ip_state_at
from netemu.stack.ipv6.cut import FRAGMENT_HEADER
from netemu.stack.ipv6.header import HEADER6
from netemu.stack.ipv6.output import ETH_P_IPV6
from netemu.stack.ipv6.state import OUTGOING, SECOND, ip6_at
from netemu.stack.mib import ip6_mib_at
from netemu.stack.reasons import DUP_FRAG, FRAG_REFUSED, IPV6_BAD_EXTHDR
from netemu.stack.reassembly import (
    DUPLICATE,
    HEADER_ROOM,
    HELD,
    LONGEST,
    WHOLE,
    Slot,
    add_fragment,
    find_slot,
    free_slot,
    keep_header,
    payload_of,
    pool_at,
    slot_at,
    slot_skb,
    start_slot,
    take_slot,
)
from netemu.stack.state import stack_at

TIMEOUT = 60 * SECOND
"""ns from a packet's first fragment until it is given up (ip6frag_time)."""

_HEADERS_MAX = HEADER_ROOM - 32
"""Bytes of headers up to the fragment header, and of that, which a slot has room for."""
_ECN = 0x30
_PROBLEM_INCOMPLETE = 3
"""Code of a parameter problem (RFC 7112 section 5)."""
_TCP, _UDP, _ICMPV6 = 6, 17, 58
_HOP, _ROUTING, _DEST = 0, 43, 60
_EXTENSIONS_MAX = 8


@kernel
def _ends_in_headers(skb: Skb, protocol: i64, at: i64, end: i64, scratch: i64) -> i64:
    """1 if a first fragment does not have all headers up to the upper layer's own."""
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
def _congestion(seen: i64) -> i64:
    """The ECN codepoint of a packet whose fragments have these (RFC 3168 section 5.3); -1: they do not go together."""
    if seen & 1:
        return 0 if seen == 1 else -1
    if seen & 8:
        return 3
    return 2 if seen & 4 else 1


@kernel
def _finish(h: Host, slot: Slot) -> i64:
    """Take the fragment header out of a slot whose packet is whole; 0: too long, or its ECN contradicts itself."""
    front = slot.header_len - FRAGMENT_HEADER
    length = front - HEADER6 + slot.size
    ecn = _congestion(slot.ecn)
    if length > LONGEST or ecn < 0:
        return 0
    kept = ip6_at(h.ip6).scratch + OUTGOING
    memcpy(kept, payload_of(slot) - slot.header_len, slot.header_len)
    start = payload_of(slot) - front
    memcpy(start, kept, front)
    store8(start + slot.named, load8(kept + front))
    store16be(start + 4, length)
    store8(start + 1, load8(start + 1) & ~_ECN | ecn << 4)
    slot.header_len = front
    return 1


@kernel
def _slot_of(host: i64, hdr: i64, identification: i64) -> i64:
    """The slot of the packet with this header and identification, a new one if it has none; 0: all are taken."""
    source_hi, source_lo = load64be(hdr + 8), load64be(hdr + 16)
    target_hi, target_lo = load64be(hdr + 24), load64be(hdr + 32)
    address = find_slot(host, source_hi, source_lo, target_hi, target_lo, identification, 0)
    if address == 0:
        address = take_slot(host, source_hi, source_lo, target_hi, target_lo, identification, 0)
        if address != 0:
            start_slot(host, address, pool_at(ip_state_at(host_at(host).ip).reassembly).expire6, TIMEOUT)
    return address


@kernel
def _put(h: Host, slot: Slot, skb: Skb, hdr: i64, offset: i64, at: i64, end: i64, named: i64) -> i64:
    """Put a fragment, whose headers are a copy at ``hdr``, into its slot; what became of it (`add_fragment`)."""
    place = load16be(hdr + HEADER6 + 2)
    start = place & 0xFFF8
    payload = at + FRAGMENT_HEADER
    if start == 0 and slot.header_len == 0:
        keep_header(slot, skb, offset, payload - offset)
        slot.named = named - offset
        slot.first_len = end - payload
    became = add_fragment(slot, skb, payload, start, end - payload, place & 1)
    if became in (HELD, WHOLE):
        slot.interface = h.input
        slot.ecn |= 1 << ((load8(hdr + 1) >> 4) & 3)
    return became


@entry
def ip6_fragment(host: i64, offset: i64, at: i64, end: i64, named: i64) -> i64:
    """Take a fragment of the skb at hand, whose lengths have been checked.

    The address of the whole packet's skb, 0 while it waits for others, or a verdict, negative.
    """
    h = host_at(host)
    stack = stack_at(h.stack)
    mib = ip6_mib_at(stack.ip6)
    skb = skb_at(h.skb)
    hdr = ip6_at(h.ip6).scratch
    header = hdr + HEADER6
    if skb_copy_bits(skb, offset, hdr, HEADER6) < 0 or skb_copy_bits(skb, at, header, FRAGMENT_HEADER) < 0:
        return -FRAG_REFUSED
    payload = at + FRAGMENT_HEADER
    first = load16be(header + 2) & 0xFFF8 == 0
    if first and _ends_in_headers(skb, load8(header), payload, end, header + FRAGMENT_HEADER) != 0:
        mib.InHdrErrors += 1
        if stack.ip6_problem != 0:
            call5(stack.ip6_problem, host, offset, offset, 1, _PROBLEM_INCOMPLETE)
        return -IPV6_BAD_EXTHDR
    address = _slot_of(host, hdr, load32be(header + 4)) if payload - offset <= _HEADERS_MAX else 0
    if address == 0:
        mib.ReasmFails += 1
        return -FRAG_REFUSED
    slot = slot_at(address)
    became = _put(h, slot, skb, hdr, offset, at, end, named)
    if became == HELD:
        return 0
    if became == DUPLICATE:
        return -DUP_FRAG
    free_slot(host, address)
    if became == WHOLE and _finish(h, slot) != 0:
        mib.ReasmOKs += 1
        whole = ip_state_at(h.ip).whole
        slot_skb(host, slot, whole, slot.size, ETH_P_IPV6)
        skb_at(whole).pkt_type = skb.pkt_type
        return whole
    mib.ReasmFails += 1
    return -FRAG_REFUSED


@entry
def ip6_expire(host: i64, address: i64) -> i64:
    """Hook of a slot's timer: the packet is given up. After Linux's ip6frag_expire_frag_queue."""
    h = host_at(host)
    mib = ip6_mib_at(stack_at(h.stack).ip6)
    slot = slot_at(address)
    mib.ReasmTimeout += 1
    mib.ReasmFails += 1
    if slot.header_len != 0:
        h.input = slot.interface
        slot_skb(host, slot, ip_state_at(h.ip).inner, slot.first_len, ETH_P_IPV6)
        send_error6(host, TIME_EXCEEDED, CODE_REASSEMBLY, 0)
    free_slot(host, address)
    return 0
