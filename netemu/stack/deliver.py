"""A frame for a host: the hook through which a guest's loop, or a router's port, hands up what it received."""

from __future__ import annotations

from netemu.jit import call2, entry, i64
from netemu.skb import skb_at
from netemu.stack.ethernet import netif_receive_skb
from netemu.stack.host import host_at, interface_at
from netemu.stack.state import stack_at


@entry
def host_deliver(interface: i64, skb: i64) -> i64:
    """Take the skb that came in on the `Interface` at an address; the verdict (`netemu.stack.reasons.StackReason`).

    The caller frees the skb; the host keeps nothing of it.
    """
    host = host_at(interface_at(interface).host)
    host.input = interface
    host.skb = skb
    if host.raw_input != 0:
        call2(host.raw_input, interface_at(interface).host, skb)
    return netif_receive_skb(stack_at(host.stack), skb_at(skb))
