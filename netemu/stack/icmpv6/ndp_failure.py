"""A neighbour that nobody answered for: the senders of what waited are told, as by Linux's ndisc_error_report."""

from __future__ import annotations

from netemu.jit import entry, i64
from netemu.stack.held import copy_held, held_at
from netemu.stack.host import host_at
from netemu.stack.icmpv6.error import send_error6
from netemu.stack.icmpv6.output import DEST_UNREACH
from netemu.stack.ipv4.state import ip_state_at
from netemu.stack.ipv6.output import ETH_P_IPV6
from netemu.stack.loopback import own_skb
from netemu.stack.packet import ETH_HLEN

_ADDRESS_UNREACHABLE = 3
"""Code of DEST_UNREACH."""


@entry
def unreachable6(host: i64, held: i64, interface: i64) -> i64:
    """Hook `Neighbours.unreachable6`: a packet waited in vain; its sender may be this host itself, by ``lo``."""
    h = host_at(host)
    ip = ip_state_at(h.ip)
    copy_held(held, ip.held_room + ETH_HLEN)
    own_skb(ip.inner, ip.held_room, ETH_HLEN + held_at(held).len, ETH_P_IPV6)
    h.skb = ip.inner
    h.input = interface
    return send_error6(host, DEST_UNREACH, _ADDRESS_UNREACHABLE, 0)
