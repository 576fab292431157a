"""The main job: captures through the receive path, into a capture, with everything counted."""

from __future__ import annotations

import select
import struct
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from netemu.capture import CaptureReader, CaptureWriter, InterfaceInfo, InterfaceStatistics, Sink, open_capture
from netemu.capture.formats import ENHANCED_HEADER, EPB_DROPCOUNT, FLAG_INBOUND, LINKTYPE_ETHERNET, LINKTYPE_USER0
from netemu.capture.frames import FrameBatch
from netemu.capture.options import unpack_options
from netemu.capture.ring import RingPrefix
from netemu.capture.sink import SINK_NONE, SINK_PCAPNG
from netemu.capture.writer import kind_of_path
from netemu.driver.eras import DEFAULT_ERA
from netemu.errors import ConfigError, NetemuError
from netemu.jit import allocate
from netemu.journey import comment, lost_in_words
from netemu.nic import DEFAULT_BURST, Nic
from netemu.offer import Mode, RingKind
from netemu.trace import SkbEvent, TraceBuffers
from netemu.ways import Ways

_TRACE_EVENTS = 8192
_TRACE_BYTES = 4 << 20
_RING_BYTES = 1 << 20
_BLOCK_HEAD = struct.Struct("<4xI4xIIII")
"""Of an enhanced packet block: its length, the timestamp's halves, captured bytes, bytes on the wire."""
_PAUSE = 0.1
"""Seconds."""


Encap = Literal["ethernet", "virtio"]


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """How to replay.

    ``features`` changes what the device offers for ``mode``, ``queues`` and ``ring``, as in "+STANDBY,-GUEST_UFO".
    ``burst`` is how many frames arrive between an interrupt and the poll it asks for; ``wait`` whether a frame for
    which there is no buffer waits for the guest or is dropped. ``limit`` ends the replay after so many frames
    (None: all), ``loop`` plays the input so many times. ``encap`` chooses what a capture holds: the frames
    ("ethernet") or the ring's content ("virtio", docs/ring-capture-format.md). ``journey`` puts a comment on every
    frame.
    """

    mode: Mode = "mergeable"
    queue_size: int = 256
    queues: int = 1
    driver: str = DEFAULT_ERA
    ring: RingKind = "split"
    features: str = ""
    mtu: int | None = None
    mac: str | None = None
    burst: int = DEFAULT_BURST
    wait: bool = True
    limit: int | None = None
    loop: int = 1
    encap: Encap = "ethernet"
    journey: bool = False


class Replay:
    """One replay: build it, `play`, look at `summary`.

    Memory does not grow with the input: frames are read, played and written in batches of about a MiB.
    """

    def __init__(self, options: ReplayOptions, output: str | None = None, kind: str | None = None) -> None:
        """Bring up device and driver, and make the file ``output`` (None: frames are only counted).

        ``kind`` is "pcap" or "pcapng" where the file's name does not say it. Raises `ConfigError` and `CaptureError`.
        """
        if options.encap not in get_args(Encap):
            raise ConfigError(f"no encapsulation is called {options.encap!r}; there are {', '.join(get_args(Encap))}")
        if output is not None and options.journey and (kind or kind_of_path(output)) == "pcap":
            raise ConfigError("a pcap file has no place for comments: write .pcapng for --journey")
        if options.loop < 1 or (options.limit is not None and options.limit < 0):
            raise ConfigError("loop is at least 1, and limit is not negative")
        self.options = options
        self.nic = Nic(
            options.mode,
            options.queue_size,
            options.queues,
            options.driver,
            features=options.features,
            ring=options.ring,
            mtu=options.mtu,
            mac=options.mac,
            burst=options.burst,
            wait=options.wait,
        )
        self._played = False
        self.seconds = 0.0
        self.interrupted = False
        self.reading = False
        """It may be waiting for a pipe: `stop` is then not enough, and a KeyboardInterrupt does no harm."""
        self._first_tstamp: int | None = None
        self._last_tstamp: int | None = None
        self._ring = options.encap == "virtio"
        self._writer: CaptureWriter | None = None
        if output is not None:
            link_type = LINKTYPE_USER0 if self._ring else LINKTYPE_ETHERNET
            self._writer = CaptureWriter(output, link_type, self._interface(), kind)
        self._journey = options.journey and self._writer is not None
        self._trace = TraceBuffers(_TRACE_EVENTS, _TRACE_BYTES) if self._journey else TraceBuffers()
        self._ways = Ways()
        self._sink = self._make_sink()
        self.nic.attach(self._sink, self._trace, at_ring=self._ring)

    def _interface(self) -> InterfaceInfo:
        o = self.options
        where = "at the ring" if self._ring else "in the guest"
        shape = f"{self.nic.mode} buffers, {o.queues} queue(s) of {o.queue_size}, driver as {o.driver}"
        return InterfaceInfo(name="netemu0", description=f"virtio-net seen {where}: {shape}")

    def _make_sink(self) -> Sink:
        """Where the kernel writes: the file's own sink, a buffer that Python adds comments to, or nowhere."""
        if self._writer is None:
            return Sink(kind=SINK_NONE)
        if not self._journey:
            return self._writer.sink
        self._ring_buffer = allocate(_RING_BYTES if self._ring else 0)
        kind = SINK_PCAPNG if self._ring else SINK_NONE
        return Sink(kind=kind, buffer=self._ring_buffer.address, size=self._ring_buffer.size)

    def play(self, inputs: Sequence[str], progress: Callable[[CaptureReader], None] | None = None) -> None:
        """Play the captures one after the other; ``progress`` is called after each batch.

        Raises `CaptureError` for a fault of an input, after all frames before it were played and written, and for an
        output that cannot be written.
        """
        if self._played:
            raise NetemuError("a Replay plays once: build another one")
        self._played = True
        started = time.perf_counter()
        try:
            for _ in range(self.options.loop):
                for path in inputs:
                    if self._over:
                        return
                    self._play_file(path, progress)
        except KeyboardInterrupt:
            self.interrupted = True
        finally:
            self.reading = False
            try:
                self._finish()
            finally:
                self.seconds = time.perf_counter() - started

    def stop(self) -> None:
        """End the replay after the batch at hand, as an interrupt does."""
        self.interrupted = True

    @property
    def _over(self) -> bool:
        limit = self.options.limit
        return self.interrupted or (limit is not None and self.nic.engine.frames_in >= limit)

    def _play_file(self, path: str, progress: Callable[[CaptureReader], None] | None) -> None:
        waits = not Path(path).is_file()
        self.reading = waits
        with open_capture(path) as reader:
            while not self._over:
                if path == "-" and _input_pauses():
                    self.reading = False
                    self._catch_up()
                    self.reading = waits
                batch = reader.read_batch()
                if batch is None:
                    break
                self.reading = False
                self._play_batch(batch)
                if progress is not None:
                    progress(reader)
                self.reading = waits
        self.reading = False

    def _play_batch(self, batch: FrameBatch) -> None:
        count = batch.count
        if self.options.limit is not None:
            count = min(count, self.options.limit - self.nic.engine.frames_in)
        self._note_times(batch, count)
        self.nic.arrive(batch.address, count)
        self._run(self.nic.run)

    def _note_times(self, batch: FrameBatch, count: int) -> None:
        """Remember the earliest and latest time of what was played, for the interface's statistics."""
        if count == 0:
            return
        times = batch.column("tstamp")[:count]
        first, last = int(times.min()), int(times.max())
        self._first_tstamp = first if self._first_tstamp is None else min(first, self._first_tstamp)
        self._last_tstamp = last if self._last_tstamp is None else max(last, self._last_tstamp)

    def _run(self, step: Callable[[], bool]) -> None:
        """Let the loop play what is there, emptying taps as they fill up."""
        done = False
        while not done:
            done = step()
            if self._journey:
                self._take_trace()
            elif self._writer is not None and not done:
                self._writer.flush()

    def _catch_up(self) -> None:
        """Let the guest take what still lies in its rings, and write it."""
        self._run(self.nic.let_guest_run)
        if self._writer is not None:
            self._writer.flush()

    def _finish(self) -> None:
        """Catch up, and close the capture."""
        try:
            self._catch_up()
        finally:
            if self._writer is not None:
                self._writer.close(self._statistics())

    def _statistics(self) -> InterfaceStatistics:
        by_device = int(self.nic.drops_by_device.sum())
        return InterfaceStatistics(
            starttime=self._first_tstamp,
            endtime=self._last_tstamp,
            ifrecv=self.nic.engine.frames_in,
            ifdrop=by_device,
            osdrop=sum(self.nic.dropped.values()) - by_device,
            usrdeliv=self.nic.engine.frames_out,
        )

    def _take_trace(self) -> None:
        """Write what the trace holds, each frame with its comment."""
        trace = self._trace.struct
        self._ways.take(self._trace)
        if self._ring:
            self._write_ring_frames()
        else:
            for skb in self._trace.skbs[: trace.skb_count]:
                self._write_skb(skb)
        self._trace.clear()

    def _comments(self, queue: int, frame_id: int, skb: SkbEvent | None) -> list[str]:
        """What is said of a frame: its own way, and the frames lost before it."""
        buffers = self._ways.buffers_of(queue, frame_id)
        return [comment(buffers, skb), *lost_in_words(self._ways.lost_before(frame_id))]

    def _write_skb(self, skb: SkbEvent) -> None:
        assert self._writer is not None
        data = self._trace.bytes.array[skb.offset : skb.offset + skb.len].tobytes()
        self._writer.write(
            data,
            skb.tstamp,
            skb.wire_len,
            queue=skb.queue,
            frame_id=skb.frame_id,
            flags=FLAG_INBOUND,
            comments=self._comments(skb.queue, skb.frame_id, skb),
            drops=skb.drops,
        )

    def _write_ring_frames(self) -> None:
        """Write the records that the kernel left in the ring buffer, which are pcapng blocks, each with its comment."""
        assert self._writer is not None
        data = self._ring_buffer.array[: self._sink.used].tobytes()
        self._sink.used = 0
        at = 0
        while at < len(data):
            size, high, low, caplen, wire_len = _BLOCK_HEAD.unpack_from(data, at)
            frame = at + ENHANCED_HEADER
            record = data[frame : frame + caplen]
            options = dict(unpack_options(data[frame + caplen + (-caplen & 3) : at + size - 4], "<"))
            at += size
            prefix = RingPrefix.unpack(record)
            self._writer.write(
                record,
                high << 32 | low,
                wire_len,
                queue=prefix.queue,
                frame_id=prefix.frame_id,
                flags=FLAG_INBOUND,
                comments=self._comments(prefix.queue, prefix.frame_id, None),
                drops=int.from_bytes(options.get(EPB_DROPCOUNT, b""), "little"),
            )

    def summary(self) -> dict[str, Any]:
        """Everything that was counted, as ``--json`` prints it."""
        nic, e = self.nic, self.nic.engine
        return {
            "frames_in": e.frames_in,
            "bytes_in": e.bytes_in,
            "frames_out": e.frames_out,
            "bytes_out": e.bytes_out,
            "dropped": nic.dropped,
            "seconds": round(self.seconds, 6),
            "frames_per_second": round(e.frames_in / self.seconds) if self.seconds else 0,
            "interrupted": self.interrupted,
            "mode": self.nic.mode,
            "driver": self.options.driver,
            "queue_size": nic.driver.rings[0].num,
            "features": [*str(nic.driver.features).split(", ")],
            "queues": nic.queue_counters(),
            "ethtool": nic.ethtool,
            "netdev": nic.netdev,
            "snmp": nic.stack.snmp(),
            "broken": nic.device.broken + nic.driver.broken,
        }


def _input_pauses() -> bool:
    """Whether nothing comes from standard input for a moment: whoever reads along should not wait for a full burst."""
    try:
        return not select.select([sys.stdin], [], [], _PAUSE)[0]
    except (OSError, ValueError):  # no file of the operating system is behind it
        return False
