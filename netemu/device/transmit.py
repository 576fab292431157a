"""Frames from the guest: take what the driver sent, hand it to the wire, give the buffers back."""

from __future__ import annotations

from netemu.device.queue import SEGMENT_SIZE, DeviceQueue, chain_at, flush, notify, pop_chain, segment_at
from netemu.jit import i64, kernel, memcpy


@kernel
def gather(dq: DeviceQueue, target: i64, room: i64) -> i64:
    """Copy the readable bytes of the one chain taken to host ``target``; how many, or -1 if they exceed ``room``."""
    chain = chain_at(dq.chains)
    size = 0
    at = dq.segments + chain.first * SEGMENT_SIZE
    for _ in range(chain.count):
        segment = segment_at(at)
        at += SEGMENT_SIZE
        if segment.writable != 0:
            break
        if segment.length > room - size:
            return -1
        memcpy(target + size, segment.address, segment.length)
        size += segment.length
    return size


@kernel
def transmit_frame(dq: DeviceQueue, hdr_len: i64, target: i64, room: i64) -> i64:
    """Copy the next frame the driver sent to ``target``, header first; its bytes, 0 if none waits, -1 if broken.

    A chain without a whole header and an Ethernet header, or longer than ``room``, is given back and skipped: -2. The
    buffer is used with length 0, as the device writes nothing to it.
    """
    if dq.num == 0:
        return 0
    got = pop_chain(dq)
    if got <= 0:
        return got
    size = gather(dq, target, room)
    flush(dq)
    notify(dq)
    return size if size >= hdr_len + 14 else -2
