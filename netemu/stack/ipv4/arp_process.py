"""ARP (RFC 826): answered, asked, heeded. After Linux's arp_process and arp_solicit, with arp_ignore 0."""

from __future__ import annotations

from netemu.jit import call2, call4, entry, i64, kernel, load16be, load32be, store16be, store32be
from netemu.skb import skb_at, skb_header_pointer
from netemu.stack.held import copy_held, held_at
from netemu.stack.host import host_at, interface_at, mapped
from netemu.stack.icmp.output import DEST_UNREACH, HOST_UNREACH
from netemu.stack.ipv4.output import ETH_P_IP
from netemu.stack.ipv4.state import ip_state_at
from netemu.stack.link_output import EVERYONE, ipv4_of
from netemu.stack.loopback import own_skb
from netemu.stack.neighbours import (
    LOCK_TIME,
    NUD_PROBE,
    NUD_REACHABLE,
    NUD_STALE,
    OVERRIDE,
    neighbour_at,
    neighbour_create,
    neighbour_lookup,
    neighbour_update,
    neighbours_at,
)
from netemu.stack.packet import ETH_HLEN, packet_at, push_ethernet, start_packet
from netemu.stack.routes import is_local, routes_at
from netemu.stack.state import L4_SCRATCH, PACKET_HOST, stack_at
from netemu.timers import timers_at

ETH_P_ARP = 0x0806
ARP_SIZE = 28
REQUEST = 1
REPLY = 2
_ETHERNET = 1
_IPV4 = 0x0800
_LENGTHS = 0x0604


@kernel
def _load_mac(address: i64) -> i64:
    """The station address at ``address``, as a number."""
    return (load16be(address) << 32) | load32be(address + 2)


@kernel
def _store_mac(address: i64, mac: i64) -> None:
    store16be(address, mac >> 32)
    store32be(address + 2, mac)


@kernel
def arp_send(host: i64, interface: i64, operation: i64, source: i64, target: i64, target_mac: i64, to: i64) -> i64:
    """Send an ARP packet from ``source`` about ``target`` (32 bits each) in a frame to the station ``to``.

    1 if the interface took it.
    """
    device = interface_at(interface)
    address = ip_state_at(host_at(host).ip).control
    at = start_packet(address, 0, ARP_SIZE)
    store16be(at, _ETHERNET)
    store16be(at + 2, _IPV4)
    store16be(at + 4, _LENGTHS)
    store16be(at + 6, operation)
    _store_mac(at + 8, device.mac)
    store32be(at + 14, source)
    _store_mac(at + 18, target_mac)
    store32be(at + 24, target)
    p = packet_at(address)
    p.kind = ETH_P_ARP
    p.interface = interface
    push_ethernet(p, to, device.mac)
    return call2(device.xmit, device.device, address) if device.up != 0 else 0


@entry
def arp_solicit(host: i64, neighbour: i64) -> i64:
    """Hook `Neighbours.solicit4`: ask who has the address; in PROBE at the known station, else everybody."""
    n = neighbour_at(neighbour)
    to = n.mac if n.state == NUD_PROBE else EVERYONE
    source = interface_at(n.interface).ipv4
    return arp_send(host, n.interface, REQUEST, source, ipv4_of(n.lo), to if n.state == NUD_PROBE else 0, to)


@entry
def arp_unreachable(host: i64, held: i64, interface: i64) -> i64:
    """Hook `Neighbours.unreachable4`: nobody has the address, the sender of a packet that waited is told.

    After Linux's arp_error_report: "host unreachable", which comes back to this host's own protocols by ``lo``.
    """
    h = host_at(host)
    ip = ip_state_at(h.ip)
    copy_held(held, ip.held_room + ETH_HLEN)
    own_skb(ip.inner, ip.held_room, ETH_HLEN + held_at(held).len, ETH_P_IP)
    h.skb = ip.inner
    h.input = interface
    return call4(stack_at(h.stack).icmp_send, host, DEST_UNREACH, HOST_UNREACH, 0)


@kernel
def arp_announce(host: i64, interface: i64) -> i64:
    """Tell the link of the interface's own address (RFC 5227 section 2.3): a request for it, by everybody."""
    address = interface_at(interface).ipv4
    return arp_send(host, interface, REQUEST, address, address, 0, EVERYONE)


@kernel
def _heed(host: i64, interface: i64, source: i64, mac: i64, state: i64, override: i64) -> None:
    """Update the entry of ``source`` (32 bits), if there is one."""
    table = neighbours_at(host_at(host).neighbours)
    found = neighbour_lookup(table, interface, 0, mapped(source))
    if found != 0:
        now = timers_at(host_at(host).timers).now
        if override != 0 or now > neighbour_at(found).updated + LOCK_TIME:
            override = OVERRIDE
        neighbour_update(host, found, mac, state, override)


@entry
def arp_input(host: i64, offset: i64) -> i64:
    """Hook `Stack.arp_input`: what follows from the ARP packet at ``offset``, which `arp_rcv` found in order."""
    h = host_at(host)
    skb = skb_at(h.skb)
    arp = skb_header_pointer(skb, offset, ARP_SIZE, stack_at(h.stack).scratch + L4_SCRATCH)
    operation = load16be(arp + 6)
    mac = _load_mac(arp + 8)
    source = load32be(arp + 14)
    target = load32be(arp + 24)
    interface = h.input
    if target >> 28 == 0xE or target >> 24 == 127:
        return 0
    table = neighbours_at(h.neighbours)
    routes = routes_at(h.routes)
    own_source = is_local(routes, 0, mapped(source))
    if own_source != 0 and source != 0:
        # Another station says that it has it. Linux defends nothing either; that it is there is counted.
        if mac != interface_at(interface).mac:
            table.conflicts += 1
        return 0
    if operation == REQUEST and is_local(routes, 0, mapped(target)) != 0:
        if source == 0:  # asked before an address is taken (RFC 5227 section 2.1.1)
            table.conflicts += 1
            return arp_send(host, interface, REPLY, target, 0, mac, mac)
        found = neighbour_lookup(table, interface, 0, mapped(source))
        if found == 0:
            found = neighbour_create(host, interface, 0, mapped(source))
        if found != 0:
            neighbour_update(host, found, mac, NUD_STALE, OVERRIDE)
        return arp_send(host, interface, REPLY, target, source, mac, mac)
    if source == 0:
        return 0
    state = NUD_REACHABLE if operation == REPLY and skb.pkt_type == PACKET_HOST else NUD_STALE
    _heed(host, interface, source, mac, state, 1 if source == target else 0)
    return 0
