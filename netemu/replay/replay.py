"""The job: frames read, brought to a card or sent by it, and what came of them written, batch by batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from netemu.capture import CaptureReader, CaptureWriter, InterfaceInfo, InterfaceStatistics
from netemu.capture.formats import FLAG_INBOUND, LINKTYPE_ETHERNET, LINKTYPE_USER0
from netemu.capture.frames import FrameBatch
from netemu.capture.writer import kind_of_path
from netemu.jit import load_together
from netemu.job import Job
from netemu.nic import Nic
from netemu.offload import Coalescer, Finisher, pour
from netemu.offload.coalesce import coalesce
from netemu.offload.finish import finish
from netemu.reasons import DropReason
from netemu.replay.options import ReplayOptions
from netemu.replay.programs import load_program
from netemu.replay.received_capture import ReceivedCapture
from netemu.replay.sent_capture import SentCapture
from netemu.replay.summary import summary


class Replay(Job):
    """One replay: build it, `play`, look at `summary`.

    Memory does not grow with the input: frames are read, played and written in batches of about a MiB.
    """

    def __init__(self, options: ReplayOptions, output: str | None = None, kind: str | None = None) -> None:
        """Bring up device and driver, and make the file ``output`` (None: frames are only counted).

        ``kind`` is "pcap" or "pcapng" where the file's name does not say it. Raises `ConfigError` and `CaptureError`.
        """
        tap = options.check(None if output is None else kind or kind_of_path(output))
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
        self._taken = 0
        self._coalescer = Coalescer() if options.host_gro else None
        self._finisher: Finisher | None = None
        if options.offloads == "host":
            load_together(finish, *([coalesce] if options.host_gro else []))
            self._finisher = Finisher(mtu=self.nic.device.config.mtu, accepts=self.nic.accepts)
        self._stages = [stage for stage in (self._coalescer, self._finisher) if stage is not None]
        self._writer: CaptureWriter | None = None
        at_ring = options.encap == "virtio"
        if output is not None:
            link_type = LINKTYPE_USER0 if at_ring else LINKTYPE_ETHERNET
            self._writer = CaptureWriter(output, link_type, self._interface(), kind)
        self._redirected: CaptureWriter | None = None
        if options.xdp_redirect is not None:
            self._redirected = CaptureWriter(options.xdp_redirect, LINKTYPE_ETHERNET, self._interface())
        self._received = ReceivedCapture(
            self.nic,
            self._writer,
            wanted=tap != "tx",
            comments=options.journey,
            at_ring=at_ring,
            in_order=not options.gro or at_ring,
        )
        self._sent: SentCapture | None = None
        if options.guest != "sink" or tap != "rx":
            writer = self._writer if tap != "rx" else None
            if at_ring and writer is not None:
                self.nic.tap_sent(self._received.sink)
                writer = None  # the loop writes them
            self._sent = SentCapture(self.nic, writer, comments=options.journey, in_order=tap == "both")

    def _interface(self) -> InterfaceInfo:
        o = self.options
        where = "at the ring" if o.encap == "virtio" else "in the guest"
        shape = f"{self.nic.mode} buffers, {o.queues} queue(s) of {o.queue_size}, driver as {o.driver}"
        return InterfaceInfo(name="netemu0", description=f"virtio-net seen {where}: {shape}")

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
            self._received.take(self._sent, full=not done)
            if self._sent is not None:
                self._sent.take()
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

    def summary(self) -> dict[str, Any]:
        """Everything that was counted, as ``--json`` prints it."""
        return summary(
            self.nic,
            seconds=self.seconds,
            interrupted=self.interrupted,
            coalescer=self._coalescer,
            finisher=self._finisher,
            takes_sent=self._sent is not None,
        )
