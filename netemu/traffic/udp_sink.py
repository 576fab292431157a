"""What becomes of a flow of datagrams: a socket's app that counts, and measures delays.

Numbers tell what came twice or late: the last WINDOW of them are remembered as bits. Of the delays a sample is kept, in
which each datagram is with the same chance (Vitter's algorithm R), so percentiles of long flows need no more memory
than those of short ones.
"""

from __future__ import annotations

from netemu.chance import next_random
from netemu.jit import Struct, entry, i64, kernel, load8, load32be, pointer, store8, store64, struct
from netemu.skb import skb_at, skb_header_pointer
from netemu.stack.host import host_at, load64be
from netemu.stack.messages.datagram import datagram_socket_at, message_at
from netemu.stack.state import L4_SCRATCH, stack_at
from netemu.timers import timers_at
from netemu.traffic.udp_source import HEADER

WINDOW = 1 << 16
SAMPLES = 1 << 16
"""Delays that are kept."""


@struct
class UdpSink(Struct):
    """One sink. Times in ns, sizes in bytes of payload."""

    seen: i64
    """Host address of WINDOW / 8 bytes: a bit for each number, modulo WINDOW."""
    delays: i64
    """Host address of SAMPLES 64-bit delays."""
    random: i64
    received: i64
    """Datagrams, those that came twice included."""
    received_bytes: i64
    duplicates: i64
    reordered: i64
    """Datagrams that came after one with a higher number, and for the first time."""
    strange: i64
    """Datagrams without a header."""
    highest: i64
    """Number and one of the highest that came; 0: none."""
    first_at: i64
    last_at: i64
    delay_min: i64
    delay_max: i64
    delay_sum: i64
    measured: i64
    """Delays that were measured: those of datagrams that came for the first time."""
    transit: i64
    """The delay before."""
    jitter: i64
    """Smoothed change of the delay (RFC 3550 section 6.4.1), times 16."""


udp_sink_at = pointer(UdpSink)


@kernel
def _bit(sink: UdpSink, number: i64) -> i64:
    """1 if a number of the window came already."""
    at = number & (WINDOW - 1)
    return (load8(sink.seen + (at >> 3)) >> (at & 7)) & 1


@kernel
def _set_bit(sink: UdpSink, number: i64, value: i64) -> None:
    at = number & (WINDOW - 1)
    mask = 1 << (at & 7)
    byte = load8(sink.seen + (at >> 3))
    store8(sink.seen + (at >> 3), byte | mask if value != 0 else byte & ~mask)


@kernel
def _is_new(sink: UdpSink, number: i64) -> i64:
    """Enter a number; 0 if it was there. One that is older than the window remembers counts as late, and new."""
    if number >= sink.highest:
        for missed in range(max(sink.highest, number - WINDOW + 1), number):
            _set_bit(sink, missed, 0)
        _set_bit(sink, number, 1)
        sink.highest = number + 1
        return 1
    if number > sink.highest - 1 - WINDOW:
        if _bit(sink, number) != 0:
            sink.duplicates += 1
            return 0
        _set_bit(sink, number, 1)
    sink.reordered += 1
    return 1


@kernel
def _measure(sink: UdpSink, delay: i64) -> None:
    if sink.measured == 0 or delay < sink.delay_min:
        sink.delay_min = delay
    sink.delay_max = max(sink.delay_max, delay)
    sink.delay_sum += delay
    if sink.measured > 0:
        sink.jitter += abs(delay - sink.transit) - ((sink.jitter + 8) >> 4)
    sink.transit = delay
    place = sink.measured
    sink.measured += 1
    if place >= SAMPLES:
        sink.random = next_random(sink.random)
        place = (sink.random * sink.measured) >> 32
    if place < SAMPLES:
        store64(sink.delays + place * 8, delay)


@entry
def udp_sink_app(host: i64, socket: i64) -> i64:
    """Count the datagram at hand; the app of a socket whose ``app_state`` is the address of a `UdpSink`. Always 0."""
    h = host_at(host)
    s = datagram_socket_at(socket)
    m = message_at(s.message)
    sink = udp_sink_at(s.app_state)
    now = timers_at(h.timers).now
    if sink.received == 0:
        sink.first_at = now
    sink.last_at = now
    sink.received += 1
    sink.received_bytes += m.size
    if m.size < HEADER:
        sink.strange += 1
        return 0
    header = skb_header_pointer(skb_at(h.skb), m.offset, HEADER, stack_at(h.stack).scratch + L4_SCRATCH)
    number = load64be(header)
    sent_at = load64be(header + 8)
    # A number or a time that no source of ours can have sent yet: somebody else's datagram, or bits that were flipped.
    if load32be(header) >> 16 != 0 or not 0 <= sent_at <= now:
        sink.strange += 1
        return 0
    if _is_new(sink, number) != 0:
        _measure(sink, now - sent_at)
    return 0
