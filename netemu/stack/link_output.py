"""The last step of every packet: its neighbour's station address, the Ethernet header, the interface.

What an interface does not do for a packet is done here: `set_checksum` by the sum that goes into the transport header.
Both IP versions come this way.
"""

from __future__ import annotations

from netemu.checksum import csum_fold, csum_partial, csum_swap, length_sum
from netemu.jit import call2, i64, kernel, load32be, store16
from netemu.stack.host import OFFLOAD_CSUM, SEND_DROPPED, SENT, Interface, host_at, interface_at, is_ipv4
from netemu.stack.mib import ip_ext_mib_at, ip_mib_at
from netemu.stack.neighbours import WAITS, neighbour_resolve
from netemu.stack.packet import Packet, packet_at, push_ethernet
from netemu.stack.state import BROADCAST, MULTICAST, stack_at

EVERYONE = 0xFFFFFFFFFFFF
_GROUP4 = 0x01005E000000
_GROUP6 = 0x333300000000
_UDP = 17


@kernel
def group_address(hi: i64, lo: i64) -> i64:
    """Station address of a multicast group (RFC 1112 section 6.4, RFC 2464 section 7)."""
    if is_ipv4(hi, lo) != 0:
        return _GROUP4 | (lo & 0x7FFFFF)
    return _GROUP6 | (lo & 0xFFFFFFFF)


@kernel
def payload_sum(p: Packet, total: i64) -> i64:
    """Add transport header and payload to an unfolded sum. A transport header is of an even length."""
    total = csum_partial(p.transport, p.transport_len, total)
    total = csum_partial(p.payload, p.payload_len, total)
    if p.more_len > 0:
        more = csum_partial(p.more, p.more_len, 0)
        total += csum_swap(more) if p.payload_len & 1 else more
    return total


@kernel
def finish_checksum(p: Packet) -> None:
    """Make the checksum whose field holds the pseudo-header's sum: what a device does with a partial one."""
    field = p.transport + p.check
    value = csum_fold(payload_sum(p, 0)) ^ 0xFFFF
    if value == 0 and p.protocol == _UDP:
        value = 0xFFFF
    store16(field, value)
    p.partial = 0


@kernel
def set_checksum(p: Packet, interface: Interface, pseudo: i64, fragments: i64) -> None:
    """The transport's checksum: finished, or left to the device. ``pseudo`` is the pseudo-header's sum without length.

    ``fragments``: the packet will be cut into such, which carry a finished one.
    """
    if p.check < 0:
        return
    store16(p.transport + p.check, csum_fold(pseudo + length_sum(p.transport_len + p.payload_len + p.more_len)))
    p.partial = 1
    if fragments != 0 or interface.offloads & OFFLOAD_CSUM == 0:
        finish_checksum(p)


@kernel
def link_output(host: i64, packet: i64) -> i64:
    """Send a packet that is complete from its IP header on, out of ``p.interface`` to ``p.next_hop``; SENT or SEND_....

    One that waits for its neighbour is sent as far as its sender is concerned.
    """
    p = packet_at(packet)
    interface = interface_at(p.interface)
    if interface.up == 0:
        return SEND_DROPPED
    if p.interface == host_at(host).loopback:
        mac = interface.mac
    elif p.cast == BROADCAST:
        mac = EVERYONE
    elif p.cast == MULTICAST:
        mac = group_address(p.target_hi, p.target_lo)
    else:
        mac = neighbour_resolve(host, p.interface, p.next_hop_hi, p.next_hop_lo, packet)
        if mac < 0:
            return SENT if mac == WAITS else SEND_DROPPED
    push_ethernet(p, mac, interface.mac)
    return SENT if call2(interface.xmit, interface.device, packet) != 0 else SEND_DROPPED


@kernel
def ipv4_of(lo: i64) -> i64:
    """The 32 bits of an IPv4 address."""
    return lo & 0xFFFFFFFF


@kernel
def ipv4_at(address: i64) -> i64:
    """``lo`` of the IPv4 address whose four bytes are at ``address``."""
    return (0xFFFF << 32) | load32be(address)


@kernel
def count_out(host: i64, cast: i64, octets: i64) -> None:
    """Count an IPv4 packet of ``octets`` that leaves."""
    stack = stack_at(host_at(host).stack)
    ip_mib_at(stack.ip).OutTransmits += 1
    ext = ip_ext_mib_at(stack.ip_ext)
    ext.OutOctets += octets
    if cast == MULTICAST:
        ext.OutMcastPkts += 1
        ext.OutMcastOctets += octets
    elif cast == BROADCAST:
        ext.OutBcastPkts += 1
        ext.OutBcastOctets += octets
