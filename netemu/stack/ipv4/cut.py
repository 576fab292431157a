"""IPv4 packets cut into fragments (RFC 791 section 3.2), after Linux's ip_do_fragment."""

from __future__ import annotations

from netemu.checksum import csum_fold, csum_partial
from netemu.jit import i64, kernel, load8, load16be, memcpy, store8, store16, store16be
from netemu.stack.host import SEND_DROPPED, SENT, host_at
from netemu.stack.ipv4.state import ip_state_at
from netemu.stack.link_output import count_out, finish_checksum, link_output
from netemu.stack.mib import ip_mib_at
from netemu.stack.packet import Packet, packet_at, take_way
from netemu.stack.state import stack_at

IP_MF = 0x2000
_OFFSET = 0x1FFF
_HEADER = 20
_COPIED = 0x80
_END = 0
_NOP = 1


@kernel
def take_piece(part: Packet, whole: Packet, start: i64, size: i64) -> None:
    """Make ``size`` bytes of what follows the IP header, from ``start`` on, the payload of ``part``.

    What is of the transport header is copied in front, since there is room for two pieces only.
    """
    head = max(min(whole.transport_len - start, size), 0)
    memcpy(part.transport, whole.transport + start, head)
    part.transport_len = head
    size -= head
    start = max(start - whole.transport_len, 0)
    first = max(min(whole.payload_len - start, size), 0)
    part.payload = whole.payload + start
    part.payload_len = first
    part.more = whole.more + max(start - whole.payload_len, 0)
    part.more_len = size - first


@kernel
def _later_options(iph: i64, ihl: i64) -> None:
    """Blank the options that stand in the first fragment only (RFC 791: those without the copied flag)."""
    at = iph + _HEADER
    end = iph + ihl
    while at < end and load8(at) != _END:
        kind = load8(at)
        size = 1 if kind == _NOP else min(max(load8(at + 1), 1), end - at) if at + 1 < end else 1
        if kind & _COPIED == 0:
            for n in range(size):
                store8(at + n, _NOP)
        at += size


@kernel
def set_header_sum(iph: i64, ihl: i64) -> None:
    """Make an IPv4 header's checksum."""
    store16(iph + 10, 0)
    store16(iph + 10, csum_fold(csum_partial(iph, ihl, 0)) ^ 0xFFFF)


@kernel
def ip_fragment(host: i64, packet: i64, mtu: i64) -> i64:
    """Send a packet, complete from its IP header on, in fragments of up to ``mtu`` bytes; SENT or SEND_DROPPED.

    It may be a fragment itself. ``FragOKs`` and ``FragCreates``, or ``FragFails``.
    """
    h = host_at(host)
    whole = packet_at(packet)
    mib = ip_mib_at(stack_at(h.stack).ip)
    if whole.partial != 0:
        finish_checksum(whole)
    iph = whole.data
    ihl = (load8(iph) & 15) * 4
    flags = load16be(iph + 6)
    total = whole.transport + whole.transport_len - iph - ihl + whole.payload_len + whole.more_len
    room = (mtu - ihl) & ~7
    if room < 8:
        mib.FragFails += 1
        return SEND_DROPPED
    address = ip_state_at(h.ip).fragment
    part = packet_at(address)
    start = 0
    while start < total:
        size = total - start
        last = 1
        if size > mtu - ihl:
            size = room
            last = 0
        take_piece(part, whole, start, size)
        part.data = part.transport - ihl
        memcpy(part.data, iph, ihl)
        if start > 0:
            _later_options(part.data, ihl)
        offset = (flags & _OFFSET) + start // 8
        store16be(part.data + 2, ihl + size)
        store16be(part.data + 6, (flags & ~(_OFFSET | IP_MF)) | offset | (flags & IP_MF if last != 0 else IP_MF))
        set_header_sum(part.data, ihl)
        part.kind = whole.kind
        part.protocol = whole.protocol
        part.check = -1
        part.partial = 0
        part.gso_size = 0
        part.gso_type = 0
        take_way(part, whole)
        mib.FragCreates += 1
        count_out(host, whole.cast, ihl + size)
        if link_output(host, address) != SENT:
            mib.FragFails += 1
            return SEND_DROPPED
        start += size
    mib.FragOKs += 1
    return SENT
