"""Who an skb's memory is charged to: as much of a socket as sending needs.

A sender may have so much memory in frames that it sent and the driver has not freed (SO_SNDBUF); then it waits. Without
TX NAPI a driver *orphans* what it sends, since nobody knows when it will be freed: that gives the sender its memory
back at once, and takes the brake off.
"""

from __future__ import annotations

from netemu.jit import Struct, i64, kernel, pointer, struct
from netemu.skb import Skb

WMEM_DEFAULT = 212_992
"""net.core.wmem_default, bytes of truesize."""


@struct
class Sock(Struct):
    """struct sock: the sender's account."""

    wmem_alloc: i64
    """Bytes of truesize that are under way."""
    sndbuf: i64


sock_at = pointer(Sock)


@kernel
def skb_set_owner_w(skb: Skb, sk: i64) -> None:
    """Charge an skb to the sender at address ``sk``."""
    skb.sk = sk
    sock_at(sk).wmem_alloc += skb.truesize


@kernel
def skb_orphan(skb: Skb) -> None:
    """Give the sender its memory back, if there is one."""
    if skb.sk != 0:
        sock_at(skb.sk).wmem_alloc -= skb.truesize
        skb.sk = 0
