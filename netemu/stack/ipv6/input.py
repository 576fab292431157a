"""Who a received IPv6 packet is for: this host, somebody else, nobody. After Linux's ip6_route_input, ip6_mc_input."""

from __future__ import annotations

from netemu.jit import entry, i64, kernel
from netemu.skb import skb_at, skb_copy_bits
from netemu.stack.host import host_at, load64be
from netemu.stack.ipv6.addresses import is_assigned6, is_member6, is_multicast6, own_address6
from netemu.stack.ipv6.forward import forward6
from netemu.stack.ipv6.header import HEADER6
from netemu.stack.ipv6.receive import LOCAL
from netemu.stack.ipv6.state import interface_ip6, ip6_at
from netemu.stack.reasons import IP_INADDRERRORS

_TARGET = 24


@kernel
def _take(host: i64, offset: i64, end: i64) -> i64:
    h = host_at(host)
    if h.input == h.loopback:
        return LOCAL
    if interface_ip6(h, h.input).enabled == 0:
        return IP_INADDRERRORS
    hdr = ip6_at(h.ip6).scratch
    if skb_copy_bits(skb_at(h.skb), offset, hdr, HEADER6) < 0:
        return IP_INADDRERRORS
    hi, lo = load64be(hdr + _TARGET), load64be(hdr + _TARGET + 8)
    if is_multicast6(hi) != 0:
        # A group that nobody here listens to: the frame came by chance, and no counter says so.
        return LOCAL if is_member6(h, h.input, hi, lo) != 0 else IP_INADDRERRORS
    if is_assigned6(own_address6(h, h.input, hi, lo)) != 0:
        return LOCAL
    return forward6(host, h, hdr, offset, end)


@entry
def ip6_input(host: i64, offset: i64, end: i64) -> i64:
    """The hook `netemu.stack.state.Stack.ip6_input`: LOCAL for the host's own protocols, else a verdict."""
    return _take(host, offset, end)
