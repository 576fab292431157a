"""Cutting a large packet into those that go on the wire, as Linux's GSO does: TSO, USO, both in UDP tunnels, and UFO.

Theory of operation
-------------------
`start_plan` copies the headers of the packet into the plan's own memory, without the hop-by-hop header of a jumbogram,
and notes where in there everything lies. Each call of `next_segment` writes one packet: the headers, the fields that
differ, and a piece of the payload, which is summed while it is copied. The plan knows where it is, so that a caller
without room can go on later.

What differs from one segment to the next (tcp_gso_segment, __udp_gso_segment, inet_gso_segment, skb_udp_tunnel_segment,
udp4_ufo_fragment and udp6_ufo_fragment in Linux):

* TCP: the sequence number grows; FIN and PSH stand on the last segment only, CWR on the first only.
* UDP (USO): each is a datagram with its length and checksum.
* IPv4: the identification grows by one a segment, inside and outside of a tunnel; with fragments (UFO) it stays.
* Fragments: the datagram's checksum is finished first. IPv4's DF is gone afterwards; IPv6 gets a fragment header.
* The outer UDP header of a tunnel: its length, and its checksum if it had one.
"""

from __future__ import annotations

from netemu.checksum import csum_fold, csum_partial
from netemu.jit import (
    Struct,
    i64,
    kernel,
    load8,
    load16,
    load16be,
    load32be,
    memcpy,
    pointer,
    store8,
    store16,
    store16be,
    store32be,
    struct,
)
from netemu.offload.dissect import TCP, Layers
from netemu.offload.reasons import NO_ROOM, TOO_LONG, WHOLE
from netemu.offload.sums import (
    CHECK_AT_UDP,
    check_at,
    complement,
    copy_and_sum,
    length_sum,
    not_zero,
    packet_pseudo_sum,
    pseudo_sum,
)
from netemu.offload.vnet import GSO_BITS, VnetHeader
from netemu.virtio.net import GSO_UDP, NEEDS_CSUM

HEADERS_MAX = 2048
"""Most bytes of headers in front of the payload; a packet with more is left alone."""
_FRAGMENT_HEADER = 44
_MORE = 0x2000
_FIN_PSH = 0x09
_CWR = 0x80


@struct
class Plan(Struct):
    """A packet that is being cut."""

    source: i64
    """Address of the frame."""
    at: i64
    """Offset in the frame of the payload that comes next."""
    first: i64
    """Where the payload began."""
    end: i64
    size: i64
    """Bytes of payload in each piece but the last."""
    index: i64
    """Pieces made."""
    headers: i64
    """Address of HEADERS_MAX bytes, of which ``head`` are the headers that all pieces start with."""
    head: i64
    network: i64
    """This and the following are offsets in the headers, as in `Layers`."""
    version: i64
    transport: i64
    protocol: i64
    outer_network: i64
    outer_version: i64
    outer_transport: i64
    fragment: i64
    """1: the pieces are fragments of one datagram."""
    fragment_header: i64
    """Offset of IPv6's fragment header."""
    fragment_id: i64
    check: i64
    """The datagram's checksum, for fragments."""
    finish: i64
    """1: the pieces get a TCP or UDP checksum; 0: the datagram has none."""
    outer_finish: i64
    """1: the outer UDP header gets a checksum."""
    pseudo: i64
    outer_pseudo: i64
    """Sums of the pseudo-headers without their length."""


plan_at = pointer(Plan)


@kernel
def left(plan: Plan) -> i64:
    """Bytes of payload still to come."""
    return plan.end - plan.at


@kernel
def piece_bytes(plan: Plan) -> i64:
    """How long the next frame will be."""
    return plan.head + min(plan.size, left(plan))


@kernel
def _plan_headers(plan: Plan, frame: i64, d: Layers) -> None:
    """Copy the headers, without the one that only says how long a jumbogram is."""
    plan.network = d.network
    plan.version = d.version
    plan.transport = d.transport
    plan.protocol = d.protocol
    plan.outer_network = d.outer_network
    plan.outer_version = d.outer_version
    plan.outer_transport = d.outer_transport
    if d.jumbo == 0:
        memcpy(plan.headers, frame, plan.head)
        return
    plan.head -= 8
    plan.transport -= 8
    memcpy(plan.headers, frame, d.jumbo)
    memcpy(plan.headers + d.jumbo, frame + d.jumbo + 8, plan.head - d.jumbo)
    store8(plan.headers + d.network + 6, load8(frame + d.jumbo))


@kernel
def _plan_fragments(plan: Plan, frame: i64, d: Layers) -> None:
    """Make this a plan of fragments, whose payload is the whole datagram."""
    plan.fragment = 1
    plan.size &= ~7
    plan.at = d.transport
    check = d.transport + CHECK_AT_UDP
    plan.check = load16(frame + check)
    if plan.finish:
        total = csum_partial(frame + d.transport, d.end - d.transport, packet_pseudo_sum(frame, d))
        # The field itself is no part of the sum.
        plan.check = not_zero(complement(total + (plan.check ^ 0xFFFF)))
    plan.head = d.transport
    if d.version == 6:
        plan.at = d.fragmentable
        plan.head = d.fragmentable + 8
        plan.fragment_header = d.fragmentable
        memcpy(plan.headers, frame, d.fragmentable)
        store8(plan.headers + d.fragmentable, load8(frame + d.fragmentable_next))
        store8(plan.headers + d.fragmentable + 1, 0)
        store32be(plan.headers + d.fragmentable + 4, plan.fragment_id)
        store8(plan.headers + d.fragmentable_next, _FRAGMENT_HEADER)
    else:
        memcpy(plan.headers, frame, plan.head)
    plan.first = plan.at


@kernel
def start_plan(plan: Plan, frame: i64, d: Layers, h: VnetHeader, fragment_id: i64) -> i64:
    """Get ready to cut the packet that ``d`` describes as ``h`` says; WHOLE, or why that cannot be.

    ``fragment_id`` is the identification of IPv6 fragments. Without NEEDS_CSUM the packet has no checksum.
    """
    if d.payload + 8 > HEADERS_MAX:
        return NO_ROOM
    plan.source = frame
    plan.at = d.payload
    plan.first = d.payload
    plan.end = d.end
    plan.size = h.gso_size
    plan.index = 0
    plan.head = d.payload
    plan.fragment = 0
    plan.fragment_id = fragment_id
    plan.finish = 1 if h.flags & NEEDS_CSUM else 0
    plan.outer_finish = 0
    plan.pseudo = pseudo_sum(frame, d.network, d.version, d.protocol)
    if h.gso_type & ~GSO_BITS == GSO_UDP:
        if d.end - d.network > 0xFFFF:
            return TOO_LONG  # no fragment can say that it lies so far back
        plan.network = d.network
        plan.version = d.version
        plan.transport = d.transport
        plan.protocol = d.protocol
        plan.outer_network = 0
        _plan_fragments(plan, frame, d)
        return WHOLE
    _plan_headers(plan, frame, d)
    if d.outer_network != 0:
        plan.outer_finish = 1 if load16(frame + d.outer_transport + CHECK_AT_UDP) != 0 else 0
        plan.outer_pseudo = pseudo_sum(frame, d.outer_network, d.outer_version, 17)
    return WHOLE


@kernel
def _finish_network(to: i64, network: i64, version: i64, transport: i64, size: i64, number: i64) -> None:
    """Length, identification and header checksum of the IP header of a packet that is ``size`` bytes from there on."""
    if version == 6:
        store16be(to + network + 4, size - 40)
        return
    store16be(to + network + 2, size)
    store16be(to + network + 4, load16be(to + network + 4) + number)
    store16(to + network + 10, 0)
    store16(to + network + 10, complement(csum_partial(to + network, transport - network, 0)))


@kernel
def _fragment(plan: Plan, to: i64, part: i64) -> None:
    """Finish a fragment of ``part`` bytes, whose payload is copied already."""
    offset = plan.at - plan.first
    more = 1 if plan.at + part < plan.end else 0
    check = plan.transport + CHECK_AT_UDP if plan.version == 4 else 0
    if plan.version == 6:
        store16be(to + plan.fragment_header + 2, offset | more)
        store16be(to + plan.network + 4, plan.head + part - plan.network - 40)
        check = plan.transport + CHECK_AT_UDP + 8
    else:
        store16be(to + plan.network + 6, (offset >> 3) | (_MORE if more else 0))
        _finish_network(to, plan.network, 4, plan.head, plan.head + part - plan.network, 0)
    # The checksum's place in this fragment, if it is here.
    check -= offset
    if plan.head <= check < plan.head + part:
        store16(to + check, plan.check)


@kernel
def _finish_transport(plan: Plan, to: i64, total: i64, payload_sum: i64) -> None:
    """Finish the TCP or UDP header of a frame of ``total`` bytes, and the outer one of a tunnel."""
    l4 = to + plan.transport
    size = total - plan.transport
    if plan.protocol == TCP:
        store32be(l4 + 4, load32be(l4 + 4) + plan.at - plan.first)
        flags = load8(l4 + 13)
        if total - plan.head < left(plan):
            flags &= ~_FIN_PSH
        if plan.index > 0:
            flags &= ~_CWR
        store8(l4 + 13, flags)
    else:
        store16be(l4 + 4, size)
    inner = plan.pseudo + length_sum(size)
    check = l4 + check_at(plan.protocol)
    if plan.finish:
        store16(check, 0)
        header = csum_partial(l4, plan.head - plan.transport, 0)
        value = complement(inner + header + payload_sum)
        store16(check, value if plan.protocol == TCP else not_zero(value))
    if plan.outer_network != 0:
        outer = to + plan.outer_transport
        store16be(outer + 4, total - plan.outer_transport)
        if plan.outer_finish:
            # From the inner header on, all adds up to the complement of the inner pseudo-header (RFC 1071), which
            # saves a walk over the payload.
            store16(outer + CHECK_AT_UDP, 0)
            front = csum_partial(outer, plan.transport - plan.outer_transport, 0)
            if plan.finish:
                rest = csum_fold(inner) ^ 0xFFFF
            else:
                rest = csum_partial(l4, plan.head - plan.transport, payload_sum)
            whole = plan.outer_pseudo + length_sum(total - plan.outer_transport) + front + rest
            store16(outer + CHECK_AT_UDP, not_zero(complement(whole)))


@kernel
def next_segment(plan: Plan, to: i64) -> i64:
    """Write the next frame of a plan to ``to``, which has room for `piece_bytes`; its length."""
    part = min(plan.size, left(plan))
    total = plan.head + part
    memcpy(to, plan.headers, plan.head)
    if plan.fragment:
        memcpy(to + plan.head, plan.source + plan.at, part)
        _fragment(plan, to, part)
    else:
        if plan.outer_network != 0:
            size = total - plan.outer_network
            _finish_network(to, plan.outer_network, plan.outer_version, plan.outer_transport, size, plan.index)
        _finish_network(to, plan.network, plan.version, plan.transport, total - plan.network, plan.index)
        payload_sum = copy_and_sum(to + plan.head, plan.source + plan.at, part, 0)
        _finish_transport(plan, to, total, payload_sum)
    plan.at += part
    plan.index += 1
    return total
