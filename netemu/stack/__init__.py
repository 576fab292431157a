"""A host's protocols: headers checked and faults counted as a Linux host does, and what a host that talks adds.

Theory of operation
-------------------
A frame is looked at where it lies: offsets into the skb move upwards, headers are fetched by `skb_header_pointer`, so
they may lie in frags or straddle them, and padding beyond a datagram's end is left out of account instead of trimmed.
Each protocol checks what its Linux function checks, in that order, moves the counters that one moves
(`netemu.stack.mib`) and returns a verdict (`netemu.stack.reasons`). Frames are any bytes of any length: no header field
is an offset or a length before it was compared with the bytes that are there, and every loop moves forward in them.

A checksum that a virtio device vouched for, or that is still to be finished, is believed as far as Linux believes it.

State is one `Stack` struct with the addresses of a struct of counters per protocol; `ProtocolStack` owns them all.

At the end of the checks hooks of `Stack` go on. A replay has none: nothing is answered, fragments are counted and not
put together, all addresses are taken as the host's own. A host that talks (`netemu.stack.host`, for Python
`netemu.stack.host_stack`) sets them: it has addresses, routes, neighbours and sockets.

UDP-Lite counts as unknown, and so do the protocols that Linux keeps in modules (SCTP, GRE, ESP and more).
"""

from __future__ import annotations

from netemu.stack.ethernet import netif_receive_skb
from netemu.stack.protocols import ProtocolStack
from netemu.stack.reasons import REASON_COUNT, StackReason, reason_words
from netemu.stack.state import Stack, stack_at

__all__ = [
    "netif_receive_skb",
    "stack_at",
    "Stack",
    "ProtocolStack",
    "StackReason",
    "REASON_COUNT",
    "reason_words",
]
