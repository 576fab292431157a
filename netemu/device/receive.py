"""A frame from the wire into receive buffers, in four verbs: collect, fill, flush, notify."""

from __future__ import annotations

from netemu.device.queue import (
    CHAIN_SIZE,
    SEGMENT_SIZE,
    Chain,
    DeviceQueue,
    chain_at,
    disable_kicks,
    enable_kicks,
    flush,
    notify,
    pop_chain,
    segment_at,
    take_kick,
    unpop,
)
from netemu.device.quirks import device_quirks_at
from netemu.device.rss import rss_state_at
from netemu.jit import Struct, call1, i64, kernel, memcpy, memset, pointer, store16, store32, struct
from netemu.virtio.net import HDR_HASH_REPORT, HDR_HASH_VALUE, HDR_LEN_MAX, HDR_NUM_BUFFERS

RECEIVED = 0
NO_BUFFERS = 1
NOT_ENOUGH = 2
BROKEN = 3
DOES_NOT_FIT = 4


@struct
class ReceiveSide(Struct):
    """What the receive queues of a device have in common."""

    hdr_len: i64
    mergeable: i64
    header: i64
    """Host address of HDR_LEN_MAX bytes: the header of the frame at hand."""
    header_used: i64
    """The header at hand is not all zeros behind num_buffers: a frame that brings none needs it cleared first."""
    hashes: i64
    """Address of the `RssState` whose hash the header reports, with HASH_REPORT; else 0."""


receive_side_at = pointer(ReceiveSide)


@kernel
def collect(dq: DeviceQueue, side: ReceiveSide, need: i64) -> i64:
    """Take buffers until ``need`` bytes fit; without mergeable buffers one has to do (RXB-D-02).

    Returns RECEIVED with the chains taken. Otherwise nothing is taken: NO_BUFFERS when none waits, NOT_ENOUGH when
    all that wait are too small together, DOES_NOT_FIT when a single one had to do and is too small, BROKEN.
    """
    room = 0
    while room < need:
        if side.mergeable == 0 and dq.taken == 1:
            unpop(dq)
            return DOES_NOT_FIT
        got = pop_chain(dq)
        if got < 0:
            if dq.broken != 0:
                return BROKEN
            # No room for more segments (SPLIT-D-02).
            unpop(dq)
            return DOES_NOT_FIT
        if got == 0:
            dq.seen = dq.taken if dq.packed == 0 else dq.slots_taken
            unpop(dq)
            return NOT_ENOUGH if dq.seen > 0 else NO_BUFFERS
        room += chain_at(dq.chains + (dq.taken - 1) * CHAIN_SIZE).writable_bytes
    return RECEIVED


@kernel
def _scatter(dq: DeviceQueue, chain: Chain, skip: i64, source: i64, size: i64) -> i64:
    """Write up to ``size`` bytes into a chain's writable segments, ``skip`` bytes in; how many fitted."""
    written = 0
    at = dq.segments + chain.first * SEGMENT_SIZE
    for _ in range(chain.count):
        segment = segment_at(at)
        at += SEGMENT_SIZE
        # SPLIT-D-03: never into a readable one.
        if segment.writable == 0:
            continue
        if skip >= segment.length:
            skip -= segment.length
            continue
        part = min(segment.length - skip, size - written)
        memcpy(segment.address + skip, source + written, part)
        written += part
        skip = 0
        if written == size:
            break
    return written


@kernel
def fill(dq: DeviceQueue, side: ReceiveSide, frame: i64, length: i64) -> None:
    """Write header and frame into the chains taken; every one but the last is filled completely (RX-D-03).

    The header says how many buffers there are (RX-D-01, RX-D-02); the header may itself lie over several segments
    or buffers, as any layout is allowed (SPLIT-D-01).
    """
    if side.hdr_len > HDR_NUM_BUFFERS:
        store16(side.header + HDR_NUM_BUFFERS, dq.taken)
    first = segment_at(dq.segments)
    if dq.segment_count == 1 and first.writable != 0:
        # The common case: all of it into the one segment there is.
        memcpy(first.address, side.header, side.hdr_len)
        memcpy(first.address + side.hdr_len, frame, length)
        chain_at(dq.chains).written = side.hdr_len + length
        return
    header_done = 0
    frame_done = 0
    at = dq.chains
    for _ in range(dq.taken):
        chain = chain_at(at)
        at += CHAIN_SIZE
        in_chain = 0
        if header_done < side.hdr_len:
            in_chain = _scatter(dq, chain, 0, side.header + header_done, side.hdr_len - header_done)
            header_done += in_chain
        if header_done == side.hdr_len and frame_done < length:
            part = _scatter(dq, chain, in_chain, frame + frame_done, length - frame_done)
            frame_done += part
            in_chain += part
        chain.written = in_chain


@kernel
def _take_header(side: ReceiveSide, vnet: i64) -> None:
    """Make the header at hand a copy of the one at ``vnet``, or all zeros where that is 0 (but for num_buffers).

    The hash in it is the device's own, of the frame that was steered last (HREP-D-01, HREP-D-02).
    """
    if vnet != 0:
        memcpy(side.header, vnet, HDR_LEN_MAX)
        side.header_used = 1
    elif side.header_used != 0:
        memset(side.header, 0, HDR_LEN_MAX)
        side.header_used = 0
    if side.hashes != 0:
        state = rss_state_at(side.hashes)
        store32(side.header + HDR_HASH_VALUE, state.hash_value)
        store16(side.header + HDR_HASH_REPORT, state.hash_report)


@kernel
def receive_frame(dq: DeviceQueue, side: ReceiveSide, frame: i64, length: i64, vnet: i64) -> i64:
    """Bring one frame to the driver: RECEIVED and ready to `publish`, or why not (see `collect`).

    The header is that at host address ``vnet`` (HDR_LEN_MAX bytes), which says what is left to do; its num_buffers
    is the device's own. With ``vnet`` 0 it is all zeros but num_buffers: no offload is claimed, so the frame has to
    be complete (RX-D-05, RX-D-26).
    """
    if dq.num == 0 or dq.broken != 0:
        return BROKEN
    outcome = collect(dq, side, side.hdr_len + length)
    if outcome != RECEIVED:
        return outcome
    if dq.wants_kick != 0:
        # There are buffers again: whether the driver kicked or not, it need not go on doing so.
        take_kick(dq)
        disable_kicks(dq)
    _take_header(side, vnet)
    fill(dq, side, frame, length)
    return RECEIVED


@kernel
def wait_for_buffers(dq: DeviceQueue) -> i64:
    """After NO_BUFFERS or NOT_ENOUGH: ask for a kick; 1 if there are more buffers after all."""
    if enable_kicks(dq, dq.seen) > dq.seen:
        disable_kicks(dq)
        return 1
    return 0


@kernel
def publish(dq: DeviceQueue) -> i64:
    """Flush and notify; how often the driver was called: at most once, by a device without quirks."""
    if dq.quirks != 0:
        return call1(device_quirks_at(dq.quirks).publish, dq.quirks)
    flush(dq)
    return notify(dq)
