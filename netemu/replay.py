"""The main job: captures through the receive path, into a capture, with everything counted."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from netemu.capture import CaptureReader, CaptureWriter, InterfaceInfo, InterfaceStatistics, Sink
from netemu.capture.formats import (
    ENHANCED_HEADER,
    EPB_DROPCOUNT,
    EPB_VERDICT,
    FLAG_INBOUND,
    FLAG_OUTBOUND,
    LINKTYPE_ETHERNET,
    LINKTYPE_USER0,
    VERDICT_XDP,
    XDP_PASS,
)
from netemu.capture.frames import FrameBatch
from netemu.capture.options import unpack_options
from netemu.capture.ring import RING_TRANSMIT, RingPrefix
from netemu.capture.sink import SINK_NONE, SINK_PCAPNG
from netemu.capture.writer import kind_of_path
from netemu.control import Settings
from netemu.driver.eras import DEFAULT_ERA
from netemu.errors import ConfigError
from netemu.jit import allocate, load_together
from netemu.job import Job
from netemu.journey import comment, lost_in_words
from netemu.nic import DEFAULT_BURST, Nic
from netemu.offer import Mode, RingKind
from netemu.offload import Coalescer, Finisher, pour
from netemu.offload.coalesce import coalesce
from netemu.offload.finish import finish
from netemu.offload.report import finishing, merging
from netemu.programs import load_program
from netemu.reasons import DropReason
from netemu.sending import Role
from netemu.sent_capture import SentCapture, Tap, which_tap
from netemu.trace import SkbEvent, TraceBuffers
from netemu.ways import Ways
from netemu.xdp import XdpProgram

_TRACE_EVENTS = 8192
_TRACE_BYTES = 4 << 20
_RING_BYTES = 1 << 20
_XDP_PASSED = EPB_VERDICT, struct.pack("<BQ", VERDICT_XDP, XDP_PASS)
_BLOCK_HEAD = struct.Struct("<4xI4xIIII")
"""Of an enhanced packet block: its length, the timestamp's halves, captured bytes, bytes on the wire."""


Encap = Literal["ethernet", "virtio"]
HostOffloads = Literal["as-is", "host"]


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """How to replay.

    ``features`` changes what the device offers for ``mode``, ``queues`` and ``ring``, as in "+STANDBY,-GUEST_UFO".
    ``rss`` is "on" or what `netemu.offer.RssOptions.parse` reads; with ``hash_report`` hashes reach the capture.
    ``threads`` gives each queue pair a thread.
    ``burst`` is how many frames arrive between an interrupt and the poll it asks for; ``wait`` whether a frame for
    which there is no buffer waits for the guest or is dropped. ``limit`` ends the replay after so many frames
    (None: all), ``loop`` plays the input so many times. ``encap`` chooses what a capture holds: the frames
    ("ethernet") or the ring's content ("virtio", docs/ring-capture-format.md). ``journey`` puts a comment on every
    frame. ``offloads`` says what the frames are: "as-is" they are complete, from a "host" its stack left work on them
    to hardware, which the device leaves to the guest or does itself, as was negotiated; with ``host_gro`` the host
    merges segments of a flow first. With ``gro`` the guest merges TCP segments, so that a frame of the output may stand
    for several of the input. ``xdp`` is an XDP program, or the file that holds one (`netemu.programs.load_program`).
    ``xdp_redirect`` is a capture for the frames that it redirects.
    Allocations fail by the rules of ``pressure``, and things go wrong by those of ``quirks``: see `netemu.nic.Nic`.
    ``settings`` are made once the driver is up.
    ``guest`` says what the guest does: it is a "sink", it "reflect"s what it receives, or it "send"s the frames itself,
    one kick for ``xmit_more`` of them. ``tap`` chooses what a capture holds, see `netemu.sent_capture`.
    """

    mode: Mode = "mergeable"
    queue_size: int = 256
    queues: int = 1
    driver: str = DEFAULT_ERA
    ring: RingKind = "split"
    features: str = ""
    mtu: int | None = None
    mac: str | None = None
    rss: str | None = None
    hash_report: bool = False
    threads: bool = False
    burst: int = DEFAULT_BURST
    wait: bool = True
    limit: int | None = None
    loop: int = 1
    encap: Encap = "ethernet"
    journey: bool = False
    offloads: HostOffloads = "as-is"
    host_gro: bool = False
    gro: bool = False
    xdp: XdpProgram | str | None = None
    xdp_redirect: str | None = None
    pressure: tuple[str, ...] = ()
    quirks: tuple[str, ...] = ()
    settings: Settings = Settings()  # noqa: RUF009 - it cannot be changed
    guest: Role = "sink"
    tap: Tap | None = None
    xmit_more: int = 1


class Replay(Job):
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
        if options.encap == "virtio" and options.threads:
            raise ConfigError("threads write what the guest got, not what lay in the ring")
        if options.offloads not in get_args(HostOffloads):
            raise ConfigError(f"offloads are {' or '.join(get_args(HostOffloads))}, not {options.offloads!r}")
        if options.host_gro and options.offloads != "host":
            raise ConfigError("frames that the host merges need offloads of a host: say both")
        if options.loop < 1 or (options.limit is not None and options.limit < 0):
            raise ConfigError("loop is at least 1, and limit is not negative")
        if options.guest == "send" and options.offloads != "as-is":
            raise ConfigError(
                "offloads of a host are for frames that arrive, and nothing arrives at a guest that sends"
            )
        tap = which_tap(options.guest, options.tap, None if output is None else kind or kind_of_path(output))
        super().__init__(options.loop)
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
            rss=options.rss,
            hash_report=options.hash_report,
            threads=options.threads,
            burst=options.burst,
            wait=options.wait,
            gro=options.gro,
            xdp=load_program(options.xdp) if isinstance(options.xdp, str) else options.xdp,
            pressure=options.pressure,
            quirks=options.quirks,
            settings=options.settings,
            guest=options.guest,
            xmit_more=options.xmit_more,
        )
        if options.offloads == "host":
            load_together(finish, *([coalesce] if options.host_gro else []))
        self._taken = 0
        self._coalescer = Coalescer() if options.host_gro else None
        self._finisher = (
            Finisher(mtu=self.nic.device.config.mtu, accepts=self.nic.accepts) if options.offloads == "host" else None
        )
        self._stages = [stage for stage in (self._coalescer, self._finisher) if stage is not None]
        self._ring = options.encap == "virtio"
        self._writer: CaptureWriter | None = None
        if output is not None:
            link_type = LINKTYPE_USER0 if self._ring else LINKTYPE_ETHERNET
            self._writer = CaptureWriter(output, link_type, self._interface(), kind)
        self._redirected: CaptureWriter | None = None
        if options.xdp_redirect is not None:
            if options.xdp is None:
                raise ConfigError("only an XDP program redirects frames: say which one, too")
            self._redirected = CaptureWriter(options.xdp_redirect, LINKTYPE_ETHERNET, self._interface())
        self._journey = options.journey and self._writer is not None
        self._trace = TraceBuffers(_TRACE_EVENTS, _TRACE_BYTES) if self._journey else TraceBuffers()
        self._ways = Ways(in_order=not options.gro or self._ring)
        self._sink = self._make_sink()
        self.nic.attach(self._sink if tap != "tx" else Sink(kind=SINK_NONE), self._trace, at_ring=self._ring)
        self._tap = tap
        self._sent = self._make_sent_capture() if options.guest != "sink" else None

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

    def _make_sent_capture(self) -> SentCapture:
        """What empties the device's egress; frames are written by it, or by the loop where the ring is captured."""
        written = self._writer is not None and self._tap != "rx"
        if self._ring and written:
            self.nic.tap_sent(self._sink)
        writer = self._writer if written and not self._ring else None
        return SentCapture(self.nic, writer, comments=self._journey, in_order=self._tap == "both")

    @property
    def _over(self) -> bool:
        limit = self.options.limit
        return self.interrupted or (limit is not None and self._taken >= limit)

    def _take(self, _reader: CaptureReader, batch: FrameBatch) -> None:
        """Play a batch."""
        count = batch.count
        if self.options.limit is not None:
            count = min(count, self.options.limit - self._taken)
        self._taken += count
        self._note_times(batch, count)
        if self._finisher is not None:
            self._finisher.job.accepts = self.nic.accepts
        if self.options.guest == "send":
            self.nic.sending.pass_down(batch.address, count, self._arrive)
        else:
            pour(self._stages, batch.address, count, self._arrive)

    def _arrive(self, address: int, count: int, _notes: int) -> None:
        """Let frames reach the device."""
        self.nic.arrive(address, count)
        self._run(self.nic.run)

    def _run(self, step: Callable[[], bool]) -> None:
        """Let the loop play what is there, emptying taps as they fill up."""
        done = False
        while not done:
            done = step()
            if self._journey:
                self._take_trace()
            if self._sent is not None:
                self._sent.take()
            if self._writer is not None and not done and not self._journey:
                self._writer.flush()
            if self.options.xdp is not None:
                self._take_redirected()

    def _take_redirected(self) -> None:
        """Write the frames that the XDP program redirected, or forget them, so that there is room for more.

        Those that it sent back have left.
        """
        self.nic.forget_sent()
        if self._redirected is None:
            self.nic.guest.forget_redirected()
        else:
            for frame in self.nic.take_redirected():
                self._redirected.write(
                    frame.data, frame.tstamp, queue=frame.queue, frame_id=frame.frame_id, flags=FLAG_INBOUND
                )

    def _catch_up(self) -> None:
        """Let the guest take what still waits at the host and what lies in its rings, and write it."""
        if self._stages:
            pour(self._stages, 0, 0, self._arrive, last=True)
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
            if self._redirected is not None:
                self._redirected.close()

    def _statistics(self) -> InterfaceStatistics:
        by_device = self.nic.drops_by_device
        arriving = [reason for reason in DropReason if not reason.sending]
        sends = self.options.guest == "send"
        dropped = sum(self.nic.dropped.get(reason.key, 0) for reason in (DropReason if sends else arriving))
        at_device = int(sum(by_device[reason] for reason in arriving))
        return InterfaceStatistics(
            starttime=self._first_tstamp,
            endtime=self._last_tstamp,
            ifrecv=self.nic.engine.frames_in,
            ifdrop=at_device,
            osdrop=dropped - at_device,
            usrdeliv=self.nic.engine.frames_out,
        )

    def _take_trace(self) -> None:
        """Write what the trace holds, each frame with its comment."""
        trace = self._trace.struct
        self._ways.take(self._trace, self.nic.guest.take_fates())
        if self._sent is not None:
            self._sent.note(self._trace)
        if self._ring:
            self._write_ring_frames()
        elif self._tap != "tx":
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
            flow_hash=skb.hash,
            options=[_XDP_PASSED] if skb.xdp else (),
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
            outbound = self._sent is not None and prefix.flags & RING_TRANSMIT
            comments = (
                self._sent.comments_of(prefix.frame_id)
                if self._sent is not None and outbound
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

    def summary(self) -> dict[str, Any]:
        """Everything that was counted, as ``--json`` prints it."""
        nic, e = self.nic, self.nic.engine
        return {
            "frames_in": e.frames_in,
            "bytes_in": e.bytes_in,
            "frames_out": e.frames_out,
            "bytes_out": e.bytes_out,
            "dropped": nic.dropped,
            "merged": nic.guest.merged,
            "sent_by_xdp": nic.guest.sent_away,
            "seconds": round(self.seconds, 6),
            "frames_per_second": round(e.frames_in / self.seconds) if self.seconds else 0,
            "interrupted": self.interrupted,
            "mode": self.nic.mode,
            "driver": self.options.driver,
            "queue_size": nic.driver.rings[0].num,
            "features": [*str(nic.driver.features).split(", ")],
            "queues": nic.queue_counters(),
            "coalesce": nic.control.coalescing(),
            "ethtool": nic.ethtool,
            "netdev": nic.netdev,
            "snmp": nic.stack.snmp(),
            "broken": nic.device.broken + nic.driver.broken,
            "refused": nic.driver.refused,
            "quirks": nic.quirks_fired,
            "made_up": nic.made_up,
            "offloads": self._offloads(),
            "sent": self._sent_figures(),
        }

    def _sent_figures(self) -> dict[str, Any]:
        """What the guest sent, empty for one that does not."""
        if self._sent is None:
            return {}
        nic = self.nic
        return {
            "frames": nic.engine.sent_out,
            "bytes": nic.engine.sent_bytes,
            "queues": nic.send_counters(),
            "stack": finishing(nic.sending.above if self.options.guest == "send" else nic.sending.segmenting),
            "wire": finishing(nic.sending.wire),
        }

    def _offloads(self) -> dict[str, Any]:
        """What the host and the device did to frames, empty where they were taken as they are."""
        figures: dict[str, Any] = {}
        if self._coalescer is not None:
            figures["merging"] = merging(self._coalescer)
        if self._finisher is not None:
            figures["finishing"] = finishing(self._finisher)
        return figures
