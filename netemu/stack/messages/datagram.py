"""Sockets that get and send whole messages: UDP, ping and raw ones.

Theory of operation
-------------------
A `DatagramSocket` has a *queue*: a ring of bytes in which messages lie one behind the other, each as RECORD bytes about
it (size, source, target, time) and its own, rounded up to 8. Kernels write at ``head``, Python reads at ``tail``; both
only grow, and are taken modulo ``room``. A message lies in one piece: what does not fit before the end of the ring
starts anew, behind a record that says so. As in Linux a message is taken while no more than ``rcvbuf`` bytes wait, so
the last one may exceed that; ``room`` allows for it.

A socket wakes Python once when it is asked to (``wanted``). A socket with an ``app`` does neither queue nor wake: the
app, a hook ``(host, socket)``, is called for each message, which lies in the host's skb as `Message` says.
"""

from __future__ import annotations

from netemu.jit import Struct, call2, i64, kernel, pointer, store64, struct
from netemu.skb import skb_at, skb_copy_bits
from netemu.stack.host import host_at, is_ready
from netemu.timers import timers_at

RCVBUF = 212_992
"""Bytes that may wait in a queue unless told otherwise: Linux's net.core.rmem_default."""
MESSAGE_MAX = 65_535 + 64
"""Bytes of the longest message: of UDP, or a frame."""

RECORD = 64
"""Bytes about a message in front of it, eight 64-bit numbers."""
RECORD_SIZE = 0
"""Bytes of the message, or AT_START."""
RECORD_SOURCE_HI = 8
RECORD_SOURCE_LO = 16
RECORD_SOURCE_PORT = 24
RECORD_TIME = 32
"""When it was received, ns."""
RECORD_TARGET_HI = 40
RECORD_TARGET_LO = 48
RECORD_EXTRA = 56
"""Of a ping: TTL or hop limit. Of a raw socket: index of the interface."""
AT_START = -1
"""In the place of a size: the next message lies at the beginning of the ring."""


@struct
class Message(Struct):
    """The message at hand: who receives it fills this in, once for all sockets it is for."""

    source_hi: i64
    source_lo: i64
    source_port: i64
    target_hi: i64
    target_lo: i64
    target_port: i64
    extra: i64
    """What RECORD_EXTRA says."""
    offset: i64
    """Where it begins in the host's skb."""
    size: i64
    interface: i64
    """Address of the interface it came in by."""


@struct
class DatagramSocket(Struct):
    """A socket of messages. Addresses of hosts are ``hi`` and ``lo``, both 0 for any."""

    next: i64
    """Address of the next one in its bucket, or of its kind."""
    handle: i64
    """For the list of ready sockets."""
    wanted: i64
    """1: Python wants to be woken by the next message or error; 0 from then on."""
    family: i64
    """4 or 6: takes that version of IP alone; 0: both."""
    local_hi: i64
    local_lo: i64
    local_port: i64
    """UDP port, or the identifier of a ping socket's echoes."""
    remote_hi: i64
    remote_lo: i64
    remote_port: i64
    """Where a connected socket sends to, and whom alone it hears; 0: it is not connected."""
    interface: i64
    """Address of the interface that it is bound to (SO_BINDTODEVICE), or 0."""
    broadcast: i64
    """1: it may send to everybody (SO_BROADCAST)."""
    hop_limit: i64
    """TTL of what it sends; 0: the default."""
    traffic_class: i64
    dont_fragment: i64
    """1: what exceeds the path's MTU is refused, not cut."""
    error: i64
    """ERROR_... that ICMP told of, until somebody asks; 0: none."""
    error_info: i64
    """What came with it: of ERROR_TOO_BIG the MTU."""
    queue: i64
    """Host address of ``room`` bytes."""
    room: i64
    """A power of two."""
    rcvbuf: i64
    head: i64
    tail: i64
    dropped: i64
    """Messages for which the queue had no room."""
    received: i64
    sent: i64
    app: i64
    """Hook ``(host, socket)``, called for each message in the place of queue and waking; 0: none."""
    app_state: i64
    """For the app."""
    message: i64
    """Address of the `Message` that is at hand when the app is called; sockets of a kind share it."""


message_at = pointer(Message)
datagram_socket_at = pointer(DatagramSocket)


@kernel
def wake_socket(host: i64, s: DatagramSocket) -> None:
    """Something happened that Python may wait for."""
    if s.wanted != 0:
        s.wanted = 0
        is_ready(host_at(host).ready, s.handle)


@kernel
def _queue_room(s: DatagramSocket, need: i64) -> i64:
    """Host address of ``need`` bytes in one piece at the head of the queue, or 0 if too many wait."""
    if s.head - s.tail > s.rcvbuf:
        return 0
    at = s.head & (s.room - 1)
    if at + need > s.room:
        store64(s.queue + at + RECORD_SIZE, AT_START)
        s.head += s.room - at
        at = 0
    return s.queue + at


@kernel
def datagram_queue(host: i64, s: DatagramSocket) -> i64:
    """Queue the message at hand, and wake who waits; 1, or 0 without room."""
    h = host_at(host)
    m = message_at(s.message)
    need = RECORD + ((m.size + 7) & ~7)
    at = _queue_room(s, need)
    if at == 0:
        s.dropped += 1
        return 0
    store64(at + RECORD_SIZE, m.size)
    store64(at + RECORD_SOURCE_HI, m.source_hi)
    store64(at + RECORD_SOURCE_LO, m.source_lo)
    store64(at + RECORD_SOURCE_PORT, m.source_port)
    store64(at + RECORD_TIME, timers_at(h.timers).now)
    store64(at + RECORD_TARGET_HI, m.target_hi)
    store64(at + RECORD_TARGET_LO, m.target_lo)
    store64(at + RECORD_EXTRA, m.extra)
    skb_copy_bits(skb_at(h.skb), m.offset, at + RECORD, m.size)
    s.head += need
    wake_socket(host, s)
    return 1


@kernel
def datagram_deliver(host: i64, socket: i64) -> i64:
    """Give the message at hand to the socket's app, or queue it; 1, or 0 if there was no room for it."""
    s = datagram_socket_at(socket)
    if s.app != 0:
        s.received += 1
        call2(s.app, host, socket)
        return 1
    if datagram_queue(host, s) == 0:
        return 0
    s.received += 1
    return 1
