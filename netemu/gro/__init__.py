"""Generic receive offload in the guest: TCP segments of a flow that come in one poll become one skb, as in Linux.

Theory of operation
-------------------
A queue that has GRO on hands each finished skb to `napi_gro_receive` instead of its list. That finds out where the
headers are (`netemu.gro.headers`), looks for an skb of the same flow among those it *holds* back (eight buckets by
hash, eight flows each), and decides by Linux's rules (`netemu.gro.flow`) whether the new one continues it. One that
does gives its payload to the held skb (`netemu.gro.merge`) and is gone. What cannot be held is *ready* at once, and so
is a held skb that got its last segment, or whose flow went on in a way that cannot be merged; the caller gets a list of
what is ready, in order. At the end of each poll `napi_gro_flush` makes all of it ready, as kernels with HZ below 1000
do.

A merged skb goes up with gso_size, gso_segs, lengths and a checksum to be finished (the pseudo-header's), which is how
tcpdump sees it in Linux. It has the number and the time of its first frame. Frames that came as GSO from the device, or
with a frag list, pass unmerged: a device is not trusted to have told the truth about them (SKB_GSO_DODGY).

Merged are TCP over IPv4 and IPv6, also behind VLAN tags. UDP is not, since no socket asks for it, nor are tunnels. One
difference from Linux: an skb's own small head never becomes a frag of another, so payloads that the driver copied there
are merged through the frag list, as Linux does where the head is not a page fragment.
"""

from __future__ import annotations

from netemu.gro.receive import napi_gro_flush, napi_gro_receive
from netemu.gro.state import Gro, GroState, gro_at

__all__ = ["Gro", "GroState", "gro_at", "napi_gro_flush", "napi_gro_receive"]
