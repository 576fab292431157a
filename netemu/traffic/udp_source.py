"""A flow of datagrams: an event that sends one and asks to come back.

Each carries its number and the time it was sent (HEADER bytes), which is what `netemu.traffic.udp_sink` measures by;
the rest is zeros. Moments are counted from the first one on, not from the last, so a rate is kept exactly.
"""

from __future__ import annotations

from netemu.chance import next_random
from netemu.jit import Struct, entry, i64, kernel, pointer, store32be, struct
from netemu.stack.host import SENT, host_at
from netemu.stack.messages.datagram import datagram_socket_at, wake_socket
from netemu.stack.udp.output import udp_sendmsg
from netemu.timers import call_at, timers_at
from netemu.traffic.draws import ONE, draw_at, drawn

HEADER = 16
"""Bytes of the header: number and time (ns), 64 bits each, big-endian."""


@struct
class UdpFlow(Struct):
    """One flow. Times in ns, sizes in bytes of payload."""

    host: i64
    socket: i64
    """The sending `netemu.stack.messages.datagram.DatagramSocket`; it wakes Python when the flow is done."""
    hook: i64
    """`flow_tick`."""
    target_hi: i64
    target_lo: i64
    target_port: i64
    sizes: i64
    gaps: i64
    """Addresses of `netemu.traffic.draws.Draw` structs: sizes, and factors of gaps."""
    gap: i64
    """From one datagram to the next, times 65536; 0: by ``per_byte``."""
    per_byte: i64
    """The same for each byte of the datagram before: a rate."""
    random: i64
    payload: i64
    """Host address of the longest payload."""
    next_at: i64
    fraction: i64
    """What ``next_at`` is short of, times 65536."""
    until: i64
    """No datagram is sent from this moment on."""
    remaining: i64
    """Datagrams that are still to be sent."""
    running: i64
    """0: it is done, or was stopped."""
    sent: i64
    """Datagrams that went out, or wait for a neighbour to be found."""
    sent_bytes: i64
    refused: i64
    """Datagrams that the interface had no room for, or had no way; they have numbers, too."""
    number: i64
    """Of the next datagram, from 0."""
    first_at: i64
    last_at: i64


udp_flow_at = pointer(UdpFlow)


@kernel
def _store64be(address: i64, value: i64) -> None:
    store32be(address, value >> 32)
    store32be(address + 4, value & 0xFFFFFFFF)


@kernel
def stamp_payload(flow: UdpFlow, now: i64) -> None:
    """Write number and time to the payload."""
    _store64be(flow.payload, flow.number)
    _store64be(flow.payload + 8, now)


@kernel
def _send_one(flow: UdpFlow, now: i64) -> i64:
    """Send the next datagram; its size."""
    flow.random = next_random(flow.random)
    size = drawn(draw_at(flow.sizes), flow.random)
    stamp_payload(flow, now)
    s = datagram_socket_at(flow.socket)
    result = udp_sendmsg(flow.host, s, flow.target_hi, flow.target_lo, flow.target_port, flow.payload, size)
    if flow.number == 0:
        flow.first_at = now
    flow.last_at = now
    flow.number += 1
    flow.remaining -= 1
    if result == SENT:
        flow.sent += 1
        flow.sent_bytes += size
    else:
        flow.refused += 1
    return size


@kernel
def step_flow(flow: UdpFlow, size: i64) -> None:
    """Move ``next_at`` on, behind a datagram of ``size`` bytes."""
    gap = flow.gap if flow.gap != 0 else flow.per_byte * size
    gaps = draw_at(flow.gaps)
    if gaps.count > 1:
        flow.random = next_random(flow.random)
        gap = (gap >> 16) * drawn(gaps, flow.random)
    gap += flow.fraction
    flow.next_at += gap >> 16
    flow.fraction = gap & (ONE - 1)


@entry
def flow_tick(address: i64, _unused: i64) -> i64:
    """It is time for the next datagram of the `UdpFlow` at an address; always 0."""
    flow = udp_flow_at(address)
    if flow.running == 0:
        return 0
    timers = timers_at(host_at(flow.host).timers)
    if flow.remaining > 0 and timers.now < flow.until:
        step_flow(flow, _send_one(flow, timers.now))
    if flow.remaining > 0 and flow.next_at < flow.until:
        call_at(timers, flow.next_at, flow.hook, address, 0)
    else:
        flow.running = 0
        wake_socket(flow.host, datagram_socket_at(flow.socket))
    return 0
