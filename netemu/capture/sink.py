"""Writing records from kernels: a `Sink` is a buffer of finished records, which Python writes to the file.

Theory of operation
-------------------
A kernel that has a frame to write asks `sink_record` for a place. That writes all of the record but the frame's own
bytes and returns where these belong; the kernel copies them there, from wherever they lie, and the record is whole.
Without room it returns 0 and has changed nothing: the kernel returns to Python, which calls `CaptureWriter.flush` and
enters it again at the same frame. So the buffer holds whole records whenever Python sees it.

A sink of kind SINK_NONE writes nothing; its owner tests ``kind`` and calls `sink_count` instead.
"""

from __future__ import annotations

from netemu.capture.formats import (
    BLOCK_ENHANCED_PACKET,
    ENHANCED_HEADER,
    EPB_DROPCOUNT,
    EPB_FLAGS,
    EPB_HASH,
    EPB_PACKETID,
    EPB_QUEUE,
    EPB_VERDICT,
    HASH_TOEPLITZ,
    NSEC_PER_SEC,
    PCAP_RECORD_HEADER,
    VERDICT_XDP,
    XDP_PASS,
)
from netemu.jit import Struct, i64, kernel, pointer, store32, store32be, store64, struct

SINK_NONE = 0
SINK_PCAP = 1
SINK_PCAPNG = 2

PCAP_LAST_SECOND = 0xFFFF_FFFF
LAST_NANOSECOND = NSEC_PER_SEC - 1

_OPTION_4 = 4 << 16
_OPTION_5 = 5 << 16
_OPTION_8 = 8 << 16
_OPTION_9 = 9 << 16
"""Length of an option's value, where it stands in the option's first 32 bits."""


@struct
class Sink(Struct):
    """A capture file in the making. Sizes in bytes."""

    kind: i64
    """SINK_NONE, SINK_PCAP or SINK_PCAPNG."""
    buffer: i64
    """Host address of ``size`` bytes, of which ``used`` hold whole records."""
    size: i64
    used: i64
    interface: i64
    """pcapng: index of the interface that records are attributed to."""
    frames: i64
    """Frames recorded since it was made."""
    bytes: i64
    """Captured bytes of these frames."""
    pending_drops: i64
    """Frames lost since the last record: pcapng notes them on the next one, pcap cannot."""
    hash: i64
    """Receive hash (32 bits) of the next frame, for pcapng to note; 0: there is none."""
    missed: i64
    """Frames that found no room where nobody could wait for any."""
    xdp_passed: i64
    """1: an XDP program let the next frame pass, for pcapng to note."""


sink_at = pointer(Sink)


@kernel
def sink_count(sink: Sink, caplen: i64) -> None:
    """Count a frame of ``caplen`` bytes; all that a sink of kind SINK_NONE does with one."""
    sink.frames += 1
    sink.bytes += caplen


@kernel
def _pcap_record(sink: Sink, tstamp: i64, caplen: i64, wire_len: i64) -> i64:
    """See `sink_record`."""
    if sink.used + PCAP_RECORD_HEADER + caplen > sink.size:
        return 0
    at = sink.buffer + sink.used
    second = tstamp // NSEC_PER_SEC
    fraction = tstamp - second * NSEC_PER_SEC
    if tstamp < 0:
        second = 0
        fraction = 0
    elif second > PCAP_LAST_SECOND:
        second = PCAP_LAST_SECOND
        fraction = LAST_NANOSECOND
    store32(at, second)
    store32(at + 4, fraction)
    store32(at + 8, caplen)
    store32(at + 12, wire_len)
    sink.used += PCAP_RECORD_HEADER + caplen
    return at + PCAP_RECORD_HEADER


@kernel
def _pcapng_record(sink: Sink, tstamp: i64, caplen: i64, wire_len: i64, queue: i64, frame_id: i64, flags: i64) -> i64:
    """See `sink_record`."""
    padded = (caplen + 3) & ~3
    options = 0
    if flags != 0:
        options += 8
    if sink.pending_drops > 0:
        options += 12
    if sink.hash != 0:
        options += 12
    if sink.xdp_passed != 0:
        options += 16
    if frame_id > 0:
        options += 12
    if queue >= 0:
        options += 8
    if options > 0:
        options += 4
    size = ENHANCED_HEADER + padded + options + 4
    if sink.used + size > sink.size:
        return 0
    at = sink.buffer + sink.used
    tstamp = max(tstamp, 0)
    store32(at, BLOCK_ENHANCED_PACKET)
    store32(at + 4, size)
    store32(at + 8, sink.interface)
    store32(at + 12, tstamp >> 32)
    store32(at + 16, tstamp)
    store32(at + 20, caplen)
    store32(at + 24, wire_len)
    frame = at + ENHANCED_HEADER
    at = frame + padded
    if padded != caplen:
        store32(at - 4, 0)  # the padding; the frame's own bytes of this word come later
    if flags != 0:
        store32(at, EPB_FLAGS | _OPTION_4)
        store32(at + 4, flags)
        at += 8
    if sink.hash != 0:
        store32(at, EPB_HASH | _OPTION_5)
        store64(at + 4, HASH_TOEPLITZ)  # and zeros, of which the padding stay
        store32be(at + 5, sink.hash)
        at += 12
    if sink.xdp_passed != 0:
        store32(at, EPB_VERDICT | _OPTION_9)
        store64(at + 4, VERDICT_XDP | XDP_PASS << 8)
        store32(at + 12, 0)
        at += 16
    if sink.pending_drops > 0:
        store32(at, EPB_DROPCOUNT | _OPTION_8)
        store64(at + 4, sink.pending_drops)
        at += 12
        sink.pending_drops = 0
    if frame_id > 0:
        store32(at, EPB_PACKETID | _OPTION_8)
        store64(at + 4, frame_id)
        at += 12
    if queue >= 0:
        store32(at, EPB_QUEUE | _OPTION_4)
        store32(at + 4, queue)
        at += 8
    if options > 0:
        store32(at, 0)
        at += 4
    store32(at, size)
    sink.used += size
    return frame


@kernel
def sink_record(sink: Sink, tstamp: i64, caplen: i64, wire_len: i64, queue: i64, frame_id: i64, flags: i64) -> i64:
    """Record a frame; return the host address its ``caplen`` bytes are to be copied to.

    Returns 0, and has changed nothing, when there is no room. ``tstamp`` is in ns since 1970 and held at the ends of
    what the format can say. ``caplen`` is at most MAX_FRAME and ``wire_len``. pcapng notes, as options of the packet,
    ``queue`` (not if negative), ``frame_id`` (not if 0), ``flags`` (epb_flags: FLAG_INBOUND or FLAG_OUTBOUND; not if
    0), the sink's hash and the drops that are pending.
    """
    if sink.kind == SINK_PCAP:
        frame = _pcap_record(sink, tstamp, caplen, wire_len)
    else:
        frame = _pcapng_record(sink, tstamp, caplen, wire_len, queue, frame_id, flags)
    if frame != 0:
        sink.frames += 1
        sink.bytes += caplen
    return frame
