"""Captures at a port: what its node sends and receives, as records of a capture file.

Theory of operation
-------------------
A frame is copied into the `netemu.capture.sink.Sink` of a file, stamped with the emulated time, and marked inbound or
outbound as the node at the port sees it. A checksum that its sender left to others is finished in the copy, so that a
reader sees what a wire would carry; ``raw`` leaves it as it is. A large frame is one record, as a capture on a host
with segmentation offload has it; ``cut`` makes a record of each of its segments.

Events cannot wait for a file. The loop that runs them empties sinks in time (`netemu.net.world`); a record that finds
no room all the same is lost, counted here, and noted on the next one.
"""

from __future__ import annotations

from netemu.capture.formats import FLAG_INBOUND, FLAG_OUTBOUND
from netemu.capture.sink import Sink, sink_at, sink_record
from netemu.checksum import csum_partial
from netemu.frame import Frame, frame_at
from netemu.jit import Struct, entry, hook, i64, kernel, memcpy, pointer, store16, struct
from netemu.net.pieces import Finishing, finished, pieces_at
from netemu.net.port import Port, port_at
from netemu.net.wire_frame import WireFrames, get_wire_frame, put_wire_frame, wire_frame_at
from netemu.offload.large import csum_field, is_large
from netemu.offload.sums import complement, not_zero
from netemu.timers import TimerQueue, timers_at


@struct
class PortTap(Struct):
    """Where the records of a port go, and how."""

    sink: i64
    """Address of the `Sink`."""
    interface: i64
    """pcapng: the file's interface that stands for this port."""
    timers: i64
    epoch: i64
    """What the emulated time 0 is in ns since 1970."""
    raw: i64
    """1: checksums as they are."""
    pieces: i64
    """Address of a `Pieces` that cuts large frames; 0: they stay whole."""
    frames: i64
    """Records written."""
    lost: i64
    """Records that found no room."""


tap_at = pointer(PortTap)


@kernel
def _record(tap: PortTap, frame: Frame, outbound: i64) -> None:
    """Write one record."""
    sink = sink_at(tap.sink)
    sink.interface = tap.interface
    now = tap.epoch + timers_at(tap.timers).now
    flags = FLAG_OUTBOUND if outbound else FLAG_INBOUND
    at = sink_record(sink, now, frame.len, frame.wire_len, -1, frame.id, flags)
    if at == 0:
        tap.lost += 1
        sink.pending_drops += 1
        return
    tap.frames += 1
    memcpy(at, frame.address, frame.len)
    if tap.raw == 0 and frame.vnet != 0:
        start = csum_field(frame)
        if start != 0:
            field = start & 0xFFFF
            start >>= 16
            store16(at + field, not_zero(complement(csum_partial(at + start, frame.len - start, 0))))


@entry
def tap_frame(port: i64, wire_frame: i64, outbound: i64) -> i64:
    """`Port.tap`: a frame passes the port; it is only looked at."""
    tap = tap_at(port_at(port).capture)
    frame = frame_at(wire_frame_at(wire_frame).frame)
    if tap.pieces == 0 or is_large(frame) == 0:
        _record(tap, frame, outbound)
        return 0
    p = pieces_at(tap.pieces)
    get_wire_frame(wire_frame)
    piece = finished(p, wire_frame)
    tap.lost += p.lost
    while piece != 0:
        following = wire_frame_at(piece).next
        _record(tap, frame_at(wire_frame_at(piece).frame), outbound)
        put_wire_frame(piece)
        piece = following
    return 0


class PortCapture:
    """A capture of what passes a port, until `remove`; it has to be kept for as long."""

    def __init__(
        self,
        timers: TimerQueue,
        frames: WireFrames,
        port: Port,
        sink: Sink,
        *,
        interface: int = 0,
        epoch: int = 0,
        raw: bool = False,
        cut: bool = False,
    ) -> None:
        """Record into ``sink`` from now on.

        ``interface`` is that of the file which stands for the port (`CaptureWriter.add_interface`). ``epoch`` is added
        to the emulated time, ns since 1970. ``raw``: checksums stay as their senders left them. ``cut``: large frames
        become a record a segment. A port has one capture; a second one takes its place.
        """
        self._port = port
        self._sink = sink
        self._finishing = Finishing(frames.pool.address) if cut else None
        self.struct = PortTap(
            sink=sink.address,
            interface=interface,
            timers=timers.struct.address,
            epoch=epoch,
            raw=int(raw),
            pieces=self._finishing.struct.address if self._finishing is not None else 0,
        )
        port.capture, port.tap = self.struct.address, hook(tap_frame)

    @property
    def frames(self) -> int:
        """Records written."""
        return self.struct.frames

    @property
    def lost(self) -> int:
        """Records for which there was no room."""
        return self.struct.lost

    def remove(self) -> None:
        """Record no more."""
        if self._port.capture == self.struct.address:
            self._port.tap = 0
