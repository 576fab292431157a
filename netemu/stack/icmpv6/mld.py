"""Which multicast groups a host listens to, told to the link's routers and switches: MLDv2 (RFC 3810), listener's side.

As Linux does, a host reports the solicited-node groups of its addresses when it begins to use them, and once more when
it has a link-local address to report from; it answers queries with all its groups. Reports have no retransmissions and
no source lists: a group is always listened to as a whole (EXCLUDE with no sources).
"""

from __future__ import annotations

from netemu.checksum import csum_fold, csum_partial, length_sum
from netemu.jit import call2, i64, kernel, load8, store8, store16, store16be, store32be
from netemu.stack.host import Host
from netemu.stack.icmpv6.ndp_send import solicited_node
from netemu.stack.icmpv6.output import HEADER, IPPROTO_ICMPV6, MLD2_REPORT, count_sent
from netemu.stack.ipv6.addresses import ALL_NODES_HI, MLD_ROUTERS_LO, link_local6
from netemu.stack.ipv6.header import pseudo_sum6, store64be
from netemu.stack.ipv6.routes import link_mtu6
from netemu.stack.ipv6.state import (
    FREE,
    IP6_ADDRESS_SIZE,
    IP6_GROUP_SIZE,
    OUTGOING,
    interface_ip6,
    ip6_address_at,
    ip6_at,
    ip6_group_at,
)
from netemu.stack.packet import packet_at, start_packet
from netemu.stack.state import MULTICAST

IS_EXCLUDE = 2
"""Type of a record that answers a query."""
TO_EXCLUDE = 4
"""Type of a record that says what changed (RFC 3810 section 5.2.12)."""

_HOP_BY_HOP = 8
"""Bytes of the header with the router alert option that every report has (RFC 3810 section 5.2, RFC 2711)."""
_RECORD = 20
_RECORDS_MAX = 60
"""In one report: so many fit a packet of the smallest MTU."""


@kernel
def _put_record(at: i64, count: i64, kind: i64, hi: i64, lo: i64) -> i64:
    """Write a record behind ``count`` others, unless one of those is for the same group; how many there are then."""
    record = at + count * _RECORD
    store8(record, kind)
    store8(record + 1, 0)
    store16be(record + 2, 0)
    store64be(record + 4, hi)
    store64be(record + 12, lo)
    for n in range(count):
        same = 1
        for byte in range(4, _RECORD):
            if load8(at + n * _RECORD + byte) != load8(record + byte):
                same = 0
                break
        if same != 0:
            return count
    return count + 1


@kernel
def _send_records(host: i64, h: Host, interface: i64, body: i64, count: i64) -> None:
    """Send a report with so many records from a body."""
    packet = ip6_at(h.ip6).message
    at = start_packet(packet, 0, _HOP_BY_HOP + HEADER)
    store32be(at, IPPROTO_ICMPV6 << 24 | 0x0502)
    store32be(at + 4, 0x0000_0100)
    message = at + _HOP_BY_HOP
    store32be(message, MLD2_REPORT << 24)
    store32be(message + 4, count)
    p = packet_at(packet)
    p.payload, p.payload_len = body, count * _RECORD
    source = link_local6(h, interface)
    if source != 0:
        own = ip6_address_at(source)
        p.source_hi, p.source_lo = own.hi, own.lo
    p.target_hi, p.target_lo = ALL_NODES_HI, MLD_ROUTERS_LO
    p.next_hop_hi, p.next_hop_lo = p.target_hi, p.target_lo
    p.interface = interface
    p.cast = MULTICAST
    p.hop_limit = 1
    p.path_mtu = link_mtu6(h, interface)
    p.routed = 1
    # The checksum is ICMPv6's, which is not the protocol that the IPv6 header names.
    p.protocol = IPPROTO_ICMPV6
    total = pseudo_sum6(p) + length_sum(HEADER + p.payload_len)
    p.protocol = 0
    total = csum_partial(message, HEADER, total)
    store16(message + 2, csum_fold(csum_partial(body, p.payload_len, total)) ^ 0xFFFF)
    count_sent(h, MLD2_REPORT, call2(ip6_at(h.ip6).output, host, packet))


@kernel
def report_groups(host: i64, h: Host, interface: i64, kind: i64) -> None:
    """Report all groups that the host listens to on an interface, with records of a kind."""
    if interface_ip6(h, interface).report == 0:
        return
    ip6 = ip6_at(h.ip6)
    body = ip6.scratch + OUTGOING
    count = 0
    at = ip6.addresses
    for _ in range(ip6.address_count):
        own = ip6_address_at(at)
        if own.state != FREE and own.interface == interface:
            count = _put_record(body, count, kind, ALL_NODES_HI, solicited_node(own.lo))
        at += IP6_ADDRESS_SIZE
        if count == _RECORDS_MAX:
            _send_records(host, h, interface, body, count)
            count = 0
    at = ip6.groups
    for _ in range(ip6.group_count):
        group = ip6_group_at(at)
        if group.users > 0 and group.interface == interface:
            count = _put_record(body, count, kind, group.hi, group.lo)
        at += IP6_GROUP_SIZE
        if count == _RECORDS_MAX:
            _send_records(host, h, interface, body, count)
            count = 0
    if count > 0:
        _send_records(host, h, interface, body, count)
