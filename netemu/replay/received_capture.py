"""What a guest receives, into a capture: as skbs, or as it lay in the ring; each frame with its way if it is asked for.

The loop writes frames by itself, into the file's own sink. Only comments are words, which Python adds: the loop then
notes skbs in a trace, or leaves records in a buffer, and `ReceivedCapture.take` writes them each time it has stopped.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from netemu.capture import CaptureWriter, Sink
from netemu.capture.formats import (
    ENHANCED_HEADER,
    EPB_DROPCOUNT,
    EPB_VERDICT,
    FLAG_INBOUND,
    FLAG_OUTBOUND,
    VERDICT_XDP,
    XDP_PASS,
)
from netemu.capture.options import unpack_options
from netemu.capture.ring import RING_TRANSMIT, RingPrefix
from netemu.capture.sink import SINK_NONE, SINK_PCAPNG
from netemu.jit import allocate
from netemu.nic import Nic
from netemu.replay.journey import comment, lost_in_words
from netemu.trace import SkbEvent, TraceBuffers
from netemu.ways import Ways

if TYPE_CHECKING:
    from netemu.replay.sent_capture import SentCapture

_TRACE_EVENTS = 8192
_TRACE_BYTES = 4 << 20
_RING_BYTES = 1 << 20
_XDP_PASSED = EPB_VERDICT, struct.pack("<BQ", VERDICT_XDP, XDP_PASS)
_BLOCK_HEAD = struct.Struct("<4xI4xIIII")
"""Of an enhanced packet block: its length, the timestamp's halves, captured bytes, bytes on the wire."""


class ReceivedCapture:
    """Takes what came up at a card, and writes it."""

    def __init__(
        self,
        nic: Nic,
        writer: CaptureWriter | None,
        *,
        wanted: bool = True,
        comments: bool = False,
        at_ring: bool = False,
        in_order: bool = True,
    ) -> None:
        """Write to ``writer`` (None: nowhere) what arrives, unless it is not ``wanted``, with ``comments`` on its way.

        ``at_ring`` writes what lay in the ring. ``in_order``: frames come up in the order in which they arrived.
        """
        self._nic = nic
        self._writer = writer
        self._wanted = wanted
        self._at_ring = at_ring
        self._commented = comments and writer is not None
        self._ways = Ways(in_order=in_order)
        self._buffer = allocate(_RING_BYTES if self._commented and at_ring else 0)
        self.trace = TraceBuffers(_TRACE_EVENTS, _TRACE_BYTES) if self._commented else TraceBuffers()
        self.sink = self._make_sink()
        """Where the loop writes: the file's own sink, a buffer that Python adds comments to, or nowhere."""
        nic.attach(self.sink if wanted else Sink(kind=SINK_NONE), self.trace, at_ring=at_ring)

    def _make_sink(self) -> Sink:
        if self._writer is None:
            return Sink(kind=SINK_NONE)
        if not self._commented:
            return self._writer.sink
        kind = SINK_PCAPNG if self._at_ring else SINK_NONE
        return Sink(kind=kind, buffer=self._buffer.address, size=self._buffer.size)

    def take(self, sent: SentCapture | None, *, full: bool) -> None:
        """Write what came up since the last call; ``full``: the loop stopped since there was no more room.

        ``sent`` knows what is to be said of frames that the guest sent.
        """
        if not self._commented:
            if full and self._writer is not None:
                self._writer.flush()
            return
        self._ways.take(self.trace, self._nic.guest.take_fates())
        if sent is not None:
            sent.note(self.trace)
        if self._at_ring:
            self._write_ring_frames(sent)
        elif self._wanted:
            for skb in self.trace.skbs[: self.trace.struct.skb_count]:
                self._write_skb(skb)
        self.trace.clear()

    def _comments(self, queue: int, frame_id: int, skb: SkbEvent | None) -> list[str]:
        """What is said of a frame: its own way, and the frames lost before it."""
        buffers = self._ways.buffers_of(queue, frame_id)
        return [comment(buffers, skb), *lost_in_words(self._ways.lost_before(frame_id))]

    def _write_skb(self, skb: SkbEvent) -> None:
        assert self._writer is not None
        data = self.trace.bytes.array[skb.offset : skb.offset + skb.len].tobytes()
        self._writer.write(
            data,
            skb.tstamp,
            skb.wire_len,
            queue=skb.queue,
            frame_id=skb.frame_id,
            flags=FLAG_INBOUND,
            comments=self._comments(skb.queue, skb.frame_id, skb),
            drops=skb.drops,
            flow_hash=skb.hash,
            options=[_XDP_PASSED] if skb.xdp else (),
        )

    def _write_ring_frames(self, sent: SentCapture | None) -> None:
        """Write the records that the kernel left in the ring buffer, which are pcapng blocks, each with its comment."""
        assert self._writer is not None
        data = self._buffer.array[: self.sink.used].tobytes()
        self.sink.used = 0
        at = 0
        while at < len(data):
            size, high, low, caplen, wire_len = _BLOCK_HEAD.unpack_from(data, at)
            frame = at + ENHANCED_HEADER
            record = data[frame : frame + caplen]
            options = dict(unpack_options(data[frame + caplen + (-caplen & 3) : at + size - 4], "<"))
            at += size
            prefix = RingPrefix.unpack(record)
            outbound = sent is not None and prefix.flags & RING_TRANSMIT
            comments = (
                sent.comments_of(prefix.frame_id)
                if sent is not None and outbound
                else self._comments(prefix.queue, prefix.frame_id, None)
            )
            self._writer.write(
                record,
                high << 32 | low,
                wire_len,
                queue=prefix.queue,
                frame_id=prefix.frame_id,
                flags=FLAG_OUTBOUND if outbound else FLAG_INBOUND,
                comments=comments,
                drops=int.from_bytes(options.get(EPB_DROPCOUNT, b""), "little"),
            )
