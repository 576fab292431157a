"""Captures turned from what a host's stack sees into what is on the wire, and back: ``to-wire`` and ``to-host``.

Theory of operation
-------------------
Frames go from the reader through a stage of `netemu.offload` into the writer, batch by batch. A kernel writes what a
pcap record or a bare pcapng block can hold; frames with options (comments, direction, queue), and those that get a
comment because nothing could be done to them, are written from Python.

The options of a frame stay with the first frame that is made of it, but for the direction, which all of them get. A
stage may hold frames back over some batches, so their options are kept for as many frames as it may hold.
"""

from __future__ import annotations

import ctypes
from typing import Any

from netemu.capture import CaptureReader, CaptureWriter, InterfaceInfo, InterfaceStatistics
from netemu.capture.formats import EPB_FLAGS
from netemu.capture.frames import FrameBatch
from netemu.capture.sink import sink_at, sink_record
from netemu.capture.writer import kind_of_path
from netemu.frame import FRAME_SIZE, Frame, frame_at
from netemu.jit import Struct, entry, i64, load64, load_together, memcpy, pointer, struct
from netemu.job import Job
from netemu.offload import Coalescer, Finisher, Why, pour
from netemu.offload.coalesce import coalesce
from netemu.offload.finish import finish
from netemu.offload.reasons import BAD_TUNNEL, SNAPPED
from netemu.offload.report import finishing, merging

WRITTEN = 0
SINK_FULL = 1
BY_HAND = 2


@struct
class WriteState(Struct):
    """Frames on their way into a sink."""

    frames: i64
    notes: i64
    count: i64
    next: i64
    sink: i64
    several: i64
    """1: frames go to the interfaces they are from."""
    comment: i64
    """1: frames that something is the matter with are left to Python."""


write_state_at = pointer(WriteState)


@entry
def write_frames(address: i64) -> i64:
    """Write frames: WRITTEN when all are, SINK_FULL when the sink has no room, BY_HAND for one that needs a comment."""
    w = write_state_at(address)
    sink = sink_at(w.sink)
    while w.next < w.count:
        frame = frame_at(w.frames + w.next * FRAME_SIZE)
        if w.comment and SNAPPED <= load64(w.notes + w.next * 8) <= BAD_TUNNEL:
            return BY_HAND
        if w.several:
            sink.interface = frame.interface
        target = sink_record(sink, frame.tstamp, frame.len, frame.wire_len, -1, 0, 0)
        if target == 0:
            return SINK_FULL
        memcpy(target, frame.address, frame.len)
        w.next += 1
    return WRITTEN


class WireJob(Job):
    """One walk through a capture with a stage in between: build it, `play`, look at `summary`."""

    def __init__(self, stage: Finisher | Coalescer, output: str, kind: str | None = None) -> None:
        """Prepare to write ``output``, which is made when the first frame comes, with the interfaces of the input.

        ``kind`` is "pcap" or "pcapng" where the file's name does not say it. Raises `ConfigError`.
        """
        super().__init__()
        self._stage = stage
        self._output = output
        self._kind = kind or kind_of_path(output)
        self._writer: CaptureWriter | None = None
        self._interfaces = 0
        self._options: dict[int, list[tuple[int, bytes]]] = {}
        self._told = 0
        """The last frame whose options were written."""
        self._state = WriteState(comment=int(self._kind == "pcapng"))
        load_together(finish if isinstance(stage, Finisher) else coalesce, write_frames)

    def _take(self, reader: CaptureReader, batch: FrameBatch) -> None:
        """Send a batch through the stage into the file."""
        writer = self._writer or self._open(reader)
        if self._kind == "pcapng":
            self._add_interfaces(writer, reader)
            self._keep_options(batch)
        self._note_times(batch, batch.count)
        pour([self._stage], batch.address, batch.count, self._write)

    def _keep_options(self, batch: FrameBatch) -> None:
        """Remember the options of a batch, and forget those of frames that were written by now."""
        if self._options:
            waiting = self._stage.job.budget if isinstance(self._stage, Coalescer) else 0
            oldest = int(batch.column("id")[0]) - waiting
            self._options = {number: kept for number, kept in self._options.items() if number >= oldest}
        self._options.update(batch.options())

    def _open(self, reader: CaptureReader | None) -> CaptureWriter:
        """Make the output; ``reader`` knows what the first interface is, None: nothing was read."""
        link_types = {} if reader is None else {"link_type": reader.interfaces[0].link_type}
        info = InterfaceInfo()
        if reader is not None:
            info = InterfaceInfo(name=reader.interfaces[0].name, description=reader.interfaces[0].description)
        self._writer = CaptureWriter(self._output, interface=info, kind=self._kind, **link_types)
        self._interfaces = 1
        self._state.sink = self._writer.sink.address
        return self._writer

    def _add_interfaces(self, writer: CaptureWriter, reader: CaptureReader) -> None:
        """Declare the interfaces that the input has declared since."""
        for interface in reader.interfaces[self._interfaces :]:
            info = InterfaceInfo(name=interface.name, description=interface.description)
            writer.add_interface(info, interface.link_type)
            self._interfaces += 1
            self._state.several = 1

    def _write(self, address: int, count: int, notes: int) -> None:
        """Write frames that came out of the stage."""
        state, writer = self._state, self._writer
        assert writer is not None
        state.frames, state.count, state.next, state.notes = address, count, 0, notes
        if self._options:
            while state.next < count:
                self._write_by_hand(writer)
        result = write_frames(state.address)
        while result != WRITTEN:
            if result == SINK_FULL:
                writer.flush()
            else:
                self._write_by_hand(writer)
            result = write_frames(state.address)

    def _write_by_hand(self, writer: CaptureWriter) -> None:
        """Write the next frame with its options, and with a comment if something is the matter with it."""
        state = self._state
        frame = Frame.from_address(state.frames + state.next * FRAME_SIZE)
        why = Why(ctypes.c_int64.from_address(state.notes + state.next * 8).value)
        options = self._options.get(frame.id, [])
        if frame.id == self._told:
            options = [(code, value) for code, value in options if code == EPB_FLAGS]
        self._told = frame.id
        if state.several:
            writer.sink.interface = frame.interface
        data = ctypes.string_at(frame.address, frame.len)
        comments = [f"netemu: as it came: {why.words}"] if why.doubtful else []
        writer.write(data, frame.tstamp, frame.wire_len, comments=comments, options=options)
        state.next += 1

    def _catch_up(self) -> None:
        """Write what waits in the stage."""
        if self._writer is not None:
            pour([self._stage], 0, 0, self._write, last=True)
            self._writer.flush()

    def _finish(self) -> None:
        """Catch up, and close the capture."""
        writer = self._writer or self._open(None)
        try:
            self._catch_up()
        finally:
            writer.close(self._statistics() if self._interfaces == 1 else None)

    def _statistics(self) -> InterfaceStatistics:
        received = self._stage.batch.frames_in
        return InterfaceStatistics(starttime=self._first_tstamp, endtime=self._last_tstamp, ifrecv=received)

    def summary(self) -> dict[str, Any]:
        """Everything that was counted, as ``--json`` prints it."""
        stage = self._stage
        batch = stage.batch
        return {
            "bytes_in": batch.bytes_in,
            "bytes_out": batch.bytes_out,
            "seconds": round(self.seconds, 6),
            "frames_per_second": round(batch.frames_out / self.seconds) if self.seconds else 0,
            "interrupted": self.interrupted,
            **(finishing(stage) if isinstance(stage, Finisher) else merging(stage)),
        }
