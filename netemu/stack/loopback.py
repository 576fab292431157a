"""``lo``: packets to the host's own addresses come back in as an event of the same moment.

A packet is copied and delivered after the call that sent it is over, so a protocol is not entered while it is at work.
Nothing is lost on the way unless the host has no room for it, and checksums count as good, as on Linux's ``lo``.
"""

from __future__ import annotations

from netemu.jit import call2, entry, i64, kernel
from netemu.skb import CHECKSUM_UNNECESSARY, skb_at
from netemu.stack.held import held_at, held_pool_at, hold_packet, take_held
from netemu.stack.host import host_at
from netemu.stack.ipv4.state import ip_state_at
from netemu.stack.packet import ETH_HLEN
from netemu.stack.state import PACKET_HOST
from netemu.timers import call_at, timers_at


@kernel
def own_skb(address: i64, data: i64, size: i64, kind: i64) -> None:
    """Make the `netemu.skb.Skb` at ``address`` a frame of ``size`` linear bytes at ``data``, of EtherType ``kind``."""
    skb = skb_at(address)
    skb.data = data
    skb.len = size
    skb.data_len = 0
    skb.nr_frags = 0
    skb.frag_list = 0
    skb.ip_summed = CHECKSUM_UNNECESSARY
    skb.csum_start = 0
    skb.csum_offset = 0
    skb.gso_size = 0
    skb.gso_type = 0
    skb.gso_segs = 0
    skb.protocol = kind
    skb.pkt_type = PACKET_HOST
    skb.network_header = ETH_HLEN
    skb.transport_header = 0


@entry
def loopback_xmit(host: i64, packet: i64) -> i64:
    """`Interface.xmit` of ``lo``: 1, or 0 where there is no room."""
    h = host_at(host)
    held = hold_packet(held_pool_at(ip_state_at(h.ip).held), packet)
    if held == 0:
        return 0
    timers = timers_at(h.timers)
    call_at(timers, timers.now, ip_state_at(h.ip).loopback_deliver, host, held)
    return 1


@entry
def loopback_deliver(host: i64, held: i64) -> i64:
    """The event in which a packet comes back in; the verdict on it."""
    h = host_at(host)
    ip = ip_state_at(h.ip)
    packet = held_at(held)
    size = packet.len
    kind = packet.kind
    gso_size = packet.gso_size
    gso_type = packet.gso_type
    take_held(held_pool_at(ip.held), held, ip.held_room)
    own_skb(ip.inner, ip.held_room, size, kind)
    skb = skb_at(ip.inner)
    skb.gso_size = gso_size
    skb.gso_type = gso_type
    return call2(h.deliver, h.loopback, ip.inner)
