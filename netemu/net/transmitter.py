"""A direction's transmitter: one frame at a time, each for as long as the rate says.

How long a frame takes is rounded to ns, and what rounding left is added to the next one, so a busy link carries its
rate exactly. Packet overhead and cells are netem's: a frame of 50 bytes in ATM cells of 48 bytes, each with a header of
5, takes two of them, 106 bytes.
"""

from __future__ import annotations

from netemu.jit import call1, call2, entry, i64, kernel
from netemu.net.direction import Direction, direction_at, size_of
from netemu.net.line import enter_line
from netemu.net.queue import pop
from netemu.timers import call_at, timers_at

_BIT_NS = 8 * 1_000_000_000


@kernel
def bytes_on_wire(d: Direction, size: i64) -> i64:
    """Bytes that a frame of ``size`` bytes takes of the rate, overhead and cells included; not negative."""
    size += d.overhead
    if d.cell != 0:
        size = (size + d.cell - 1) // d.cell * (d.cell + d.cell_overhead)
    return max(size, 0)


@kernel
def on_wire(direction: i64, wire_frame: i64, size: i64) -> None:
    """A frame of ``size`` bytes has left the transmitter."""
    d = direction_at(direction)
    d.sent += 1
    d.sent_bytes += size
    if d.impair != 0:
        call2(d.impair, direction, wire_frame)
    else:
        enter_line(direction, wire_frame, timers_at(d.timers).now + d.delay)


@kernel
def start_sending(direction: i64, wire_frame: i64, size: i64) -> None:
    """The transmitter, which was idle, takes a frame."""
    d = direction_at(direction)
    d.sending = wire_frame
    work = bytes_on_wire(d, size) * _BIT_NS + d.rest
    time = work // d.rate
    d.rest = work - time * d.rate
    timers = timers_at(d.timers)
    call_at(timers, timers.now + time, d.on_sent, direction, d.epoch)


@kernel
def next_frame(direction: i64) -> i64:
    """Take the next frame out of the queue, as its policy has it, which learns of an empty one too; 0: none."""
    d = direction_at(direction)
    return pop(d) if d.pick == 0 else call1(d.pick, direction)


@entry
def frame_sent(direction: i64, epoch: i64) -> i64:
    """Event: the transmitter has sent a frame, and takes the next one."""
    d = direction_at(direction)
    if epoch != d.epoch:
        return 0
    wire_frame = d.sending
    d.sending = 0
    on_wire(direction, wire_frame, size_of(wire_frame))
    wire_frame = next_frame(direction)
    while wire_frame != 0:
        size = size_of(wire_frame)
        if d.rate != 0:
            start_sending(direction, wire_frame, size)
            return 0
        on_wire(direction, wire_frame, size)  # the rate was taken away meanwhile
        wire_frame = next_frame(direction)
    d.rest = 0
    return 0
