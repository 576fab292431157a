"""IPv4 fragments for this host (RFC 791 section 3.2): the hook `Stack.ip_defrag`. After Linux's ip_defrag.

A packet that is not whole 30 seconds after its first fragment is given up, and its sender told if the fragment with the
header came (RFC 792). A packet has the DF and the ECN that its fragments have (RFC 3168 section 5.3).
"""

from __future__ import annotations

from netemu.jit import call4, entry, i64, kernel, load8, load16be, store8, store16be
from netemu.skb import Skb, skb_at, skb_header_pointer
from netemu.stack.host import host_at
from netemu.stack.icmp.output import FRAGMENT_TIME, TIME_EXCEEDED
from netemu.stack.ipv4.cut import IP_MF, set_header_sum
from netemu.stack.ipv4.output import ETH_P_IP, IP_DF
from netemu.stack.ipv4.state import ip_state_at
from netemu.stack.link_output import ipv4_at
from netemu.stack.mib import ip_ext_mib_at, ip_mib_at
from netemu.stack.reasons import DUP_FRAG, FRAG_REFUSED
from netemu.stack.reassembly import (
    DUPLICATE,
    HELD,
    LONGEST,
    OVERLAPS,
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
from netemu.stack.state import IP_SCRATCH, stack_at

TIMEOUT = 30_000_000_000
"""ns; ipfrag_time."""
_OFFSET = 0x1FFF
_NOT_ECT = 1
_CE = 8
_CE_BITS = 3


@kernel
def _finish(slot: Slot) -> i64:
    """Make the header that of the whole packet; 0 if its fragments do not agree on ECN, or it is too long."""
    iph = payload_of(slot) - slot.header_len
    length = slot.header_len + slot.size
    if length > LONGEST or (slot.ecn & _NOT_ECT and slot.ecn != _NOT_ECT):
        return 0
    store16be(iph + 2, length)
    store16be(iph + 6, IP_DF if slot.longest_df == slot.longest else 0)
    if slot.ecn & _CE:
        store8(iph + 1, load8(iph + 1) | _CE_BITS)
    set_header_sum(iph, slot.header_len)
    return 1


@kernel
def _put(host: i64, address: i64, skb: Skb, offset: i64, iph: i64, size: i64) -> i64:
    """Put the fragment at ``offset`` into its slot; what became of it, as `add_fragment` says."""
    slot = slot_at(address)
    ihl = (load8(iph) & 15) * 4
    field = load16be(iph + 6)
    service = load8(iph + 1)
    start = (field & _OFFSET) * 8
    longest = size
    if start == 0 and slot.header_len == 0:
        keep_header(slot, skb, offset, ihl)
    became = add_fragment(slot, skb, offset + ihl, start, size - ihl, field & IP_MF)
    if became in (HELD, WHOLE):
        slot.interface = host_at(host).input
        slot.ecn |= 1 << (service & _CE_BITS)
        slot.longest = max(slot.longest, longest)
        if field & IP_DF:
            slot.longest_df = max(slot.longest_df, longest)
    return became


@entry
def ip_defrag(host: i64, offset: i64, size: i64) -> i64:
    """Take the fragment of ``size`` bytes, header included, at ``offset`` of the skb at hand.

    The address of the whole packet's skb, 0 while it waits, or a verdict, negative.
    """
    h = host_at(host)
    stack = stack_at(h.stack)
    mib = ip_mib_at(stack.ip)
    skb = skb_at(h.skb)
    scratch = stack.scratch + IP_SCRATCH
    iph = skb_header_pointer(skb, offset, (load8(skb_header_pointer(skb, offset, 1, scratch)) & 15) * 4, scratch)
    source = ipv4_at(iph + 12)
    target = ipv4_at(iph + 16)
    identification = load16be(iph + 4)
    protocol = load8(iph + 9)
    if (load16be(iph + 6) & _OFFSET) * 8 + size - (load8(iph) & 15) * 4 > LONGEST:
        mib.ReasmFails += 1
        return -FRAG_REFUSED
    address = find_slot(host, 0, source, 0, target, identification, protocol)
    if address == 0:
        address = take_slot(host, 0, source, 0, target, identification, protocol)
        if address == 0:
            mib.ReasmFails += 1
            return -FRAG_REFUSED
        start_slot(host, address, pool_at(ip_state_at(h.ip).reassembly).expire4, TIMEOUT)
    became = _put(host, address, skb, offset, iph, size)
    if became == HELD:
        return 0
    if became == DUPLICATE:
        return -DUP_FRAG
    slot = slot_at(address)
    free_slot(host, address)
    if became == WHOLE and _finish(slot) != 0:
        mib.ReasmOKs += 1
        whole = ip_state_at(h.ip).whole
        slot_skb(host, slot, whole, slot.size, ETH_P_IP)
        skb_at(whole).pkt_type = skb.pkt_type
        return whole
    if became == OVERLAPS:
        ip_ext_mib_at(stack.ip_ext).ReasmOverlaps += 1
    mib.ReasmFails += 1
    return -FRAG_REFUSED


@entry
def ip_expire(host: i64, address: i64) -> i64:
    """Hook of a slot's timer: the packet is given up. After Linux's ip_expire."""
    h = host_at(host)
    mib = ip_mib_at(stack_at(h.stack).ip)
    slot = slot_at(address)
    mib.ReasmTimeout += 1
    mib.ReasmFails += 1
    if slot.header_len != 0:
        h.input = slot.interface
        first = load16be(payload_of(slot) - slot.header_len + 2) - slot.header_len
        slot_skb(host, slot, ip_state_at(h.ip).inner, min(first, slot.size), ETH_P_IP)
        call4(stack_at(h.stack).icmp_send, host, TIME_EXCEEDED, FRAGMENT_TIME, 0)
    free_slot(host, address)
    return 0
