"""The card as a user holds it: built from keyword arguments, fed with frames, asked for what came of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from netemu.capture.formats import MAX_FRAME
from netemu.capture.sink import SINK_NONE, Sink
from netemu.device.net import NetDevice
from netemu.driver.eras import DEFAULT_ERA
from netemu.driver.features import SUPPORTED
from netemu.driver.probe import VirtioNet
from netemu.frame import FRAME_SIZE
from netemu.memory import GuestMemory
from netemu.nic.card import Card
from netemu.nic.control import Settings
from netemu.nic.frames import Outgoing, ReceivedSkb, laid_out, received_skbs, sent_frame
from netemu.nic.hashing import configure_hashing
from netemu.nic.plan import DEFAULT_BURST, check_way_of_running, plan
from netemu.nic.quirk_list import by_side
from netemu.nic.sending import Role, SentFrame
from netemu.offer import Mode, RingKind, RssOptions
from netemu.trace import TraceBuffers
from netemu.virtio.features import FeatureSet
from netemu.ways import Ways
from netemu.xdp import XdpProgram

_TRACE_EVENTS = 2048
_TRACE_BYTES = 8 * MAX_FRAME


class Nic(Card):
    """A device and a driver that have negotiated and are up, joined by rings in guest memory.

    ``device``, ``driver`` and ``stack`` are the parts, ``memory`` the guest's bytes; `receive` brings frames in and
    gives skbs back. `netemu.replay.Replay` plays whole files through one.
    """

    def __init__(
        self,
        mode: Mode = "mergeable",
        queue_size: int = 256,
        queues: int = 1,
        driver: str = DEFAULT_ERA,
        *,
        features: str = "",
        ring: RingKind = "split",
        mtu: int | None = None,
        mac: bytes | str | None = None,
        offer: FeatureSet | None = None,
        rss: RssOptions | str | None = None,
        hash_report: bool = False,
        accept: FeatureSet = SUPPORTED,
        burst: int = DEFAULT_BURST,
        wait: bool = True,
        threads: bool = False,
        settings: Settings = Settings(),  # noqa: B008 - it cannot be changed
        gro: bool = False,
        xdp: XdpProgram | None = None,
        pressure: Iterable[str] = (),
        quirks: Iterable[str] = (),
        memory: GuestMemory | None = None,
        guest: Role = "sink",
        xmit_more: int = 1,
    ) -> None:
        """Build the pair.

        ``driver`` names the kernel to follow (`netemu.driver.eras.ERAS`). The device offers what makes Linux end up in
        ``mode`` with ``queues`` pairs and rings of kind ``ring``, or exactly ``offer``, changed by ``features`` like
        "+STANDBY,-GUEST_UFO" (`FeatureSet.changed`); the ``mode`` of the object is what came of it. ``accept`` limits
        what the driver takes. ``mtu`` and ``mac`` go to the device's configuration; an MTU is then also offered, as is
        what ``settings`` need, which are set when the card is up. ``rss`` turns receive-side scaling on, with the
        driver's defaults ("on") or as `RssOptions` say, ``hash_report`` has the device report each frame's hash.
        ``threads`` gives each queue pair a thread of its own.
        ``burst`` frames arrive between an interrupt and its poll; a frame without a buffer waits for the guest, or with
        ``wait`` off is dropped. With ``gro`` the guest merges segments of a TCP flow that come in one poll: one skb
        stands for several frames and has the number of the first. An ``xdp`` program (`netemu.xdp`) sees each frame
        before there is an skb. ``guest`` says what becomes of frames that came up, and whether those of a batch arrive
        at all (`netemu.nic.sending.Role`); it kicks once for ``xmit_more`` frames that it sends.
        Allocations of the guest fail by the rules of ``pressure`` (`netemu.pressure.parse_pressure`), ``quirks`` are
        rules for what goes wrong on purpose (`netemu.quirks.parse_quirk`, `netemu.nic.quirk_list.ALL_QUIRKS`).
        ``memory`` takes the place of guest memory in one piece: it has to be large enough, and nobody else's.
        Raises `ConfigError` for a combination that cannot be.
        """
        pressure, quirks = [*pressure], [*quirks]
        check_way_of_running(
            burst=burst,
            xmit_more=xmit_more,
            guest=guest,
            threads=threads,
            xdp=xdp is not None,
            pressure=pressure,
            quirks=quirks,
        )
        of_device, of_driver = by_side(quirks)
        rss = RssOptions.parse(rss) if isinstance(rss, str) else rss
        planned = plan(
            mode,
            queue_size,
            queues,
            driver,
            features=features,
            ring=ring,
            mtu=mtu,
            mac=mac,
            offer=offer,
            accept=accept,
            settings=settings,
            rss=rss is not None,
            hash_report=hash_report,
            xdp=xdp is not None,
        )
        memory = memory or planned.guest_memory(guest)
        device = NetDevice(memory, planned.offered, planned.config, queue_size)
        device.misbehave(of_device)
        guest_driver = VirtioNet(device, memory, driver, queue_size, accept, forwards=guest == "reflect")
        configure_hashing(device, guest_driver, rss, hash_report=hash_report)
        super().__init__(device, guest_driver, memory, mode=planned.mode, gro=gro)
        self.role = guest
        self.engine.burst, self.engine.may_wait, self.engine.xmit_more = burst, int(wait), xmit_more
        if quirks:
            self.engine.outstanding = self.guest.keep_count()
        self.driver.put_under_pressure(pressure)
        self.driver.misbehave(of_driver)
        if xdp is not None:
            if planned.pairs != queues:
                self.driver.control.virtnet_set_queues(queues)
            self.attach_xdp(xdp)
        self.driver.open()
        self.let_guest_run()
        self.control.apply(settings)
        if guest == "reflect":
            self.sending.reflect()
        elif guest == "send":
            self.sending.send(on=True)
        if threads:
            self.start_threads()

    def receive(self, frames: Iterable[bytes | Any], tstamp: int = 0) -> list[ReceivedSkb]:
        """Bring frames (bytes, or scapy packets) to the guest at time ``tstamp`` (ns); the skbs that come up.

        Frames that are dropped are missing from the list and counted in `dropped`. Raises `ConfigError` for a frame
        over 262,144 bytes; what came up before it is lost with the error. What the guest sends meanwhile is lost too:
        `exchange` gives both.
        """
        return self.exchange(frames, tstamp)[0]

    def exchange(self, frames: Iterable[bytes | Any], tstamp: int = 0) -> tuple[list[ReceivedSkb], list[SentFrame]]:
        """`receive`, and the frames that left the guest meanwhile, finished for the wire."""
        before = self._sink, self._trace, bool(self.engine.ring_sink)
        trace = TraceBuffers(_TRACE_EVENTS, _TRACE_BYTES)
        ways = Ways(in_order=not self.guest.gro)
        self.attach(Sink(kind=SINK_NONE), trace)
        received: list[ReceivedSkb] = []
        sent: list[SentFrame] = []

        def take() -> None:
            nonlocal received
            ways.take(trace, self.guest.take_fates())
            received += received_skbs(trace, ways)
            trace.clear()
            self.take_sent(sent)

        if self.role == "send":
            self.sending.send(on=False)
        try:
            for item in frames:
                kept, frame = laid_out(item, tstamp)
                self.arrive(frame.address, 1)
                while not self.run():
                    take()
                del kept
            while not self.let_guest_run():
                take()
            take()
        finally:
            # After an error frames may still lie in the ring: they are not left for the next caller.
            while not self.let_guest_run():
                trace.clear()
                self.take_sent([])
            self.attach(before[0], before[1], at_ring=before[2])
            if self.role == "send":
                self.sending.send(on=True)
        return received, sent

    def send(
        self, frames: Iterable[bytes | Outgoing | Any], tstamp: int = 0, *, finished: bool = True
    ) -> list[SentFrame]:
        """Have the guest send frames at time ``tstamp`` (ns); those that left the device.

        Its stack leaves to the device what was negotiated; a frame's virtio header (`Outgoing`) or, without one, the
        frame itself says what is left to do. They come out as the wire needs them, or with ``finished`` off as they
        were in the ring. `SentFrame.id` counts the frames given, from 1. Frames that are dropped are missing and
        counted in `dropped`. Raises `ConfigError` for a frame over 262,144 bytes.
        """
        sending = self.sending
        sent: list[SentFrame] = []

        def pass_on(address: int, count: int, _notes: int) -> None:
            self.arrive(address, count)
            while not self.run():
                self.take_sent(sent, finished=finished)

        sending.send(on=True)
        try:
            for number, item in enumerate(frames, start=1):
                kept, frame = laid_out(item, tstamp)
                frame[0].id = number
                sending.pass_down(frame.address, 1, pass_on)
                del kept
            while not self.let_guest_run():
                self.take_sent(sent, finished=finished)
            self.take_sent(sent, finished=finished)
        finally:
            sending.send(on=self.role == "send")
        return sent

    def take_sent(self, into: list[SentFrame], *, finished: bool = True) -> None:
        """Append what has left the device to a list, as `send` gives it; there is room for more afterwards."""

        def use(address: int, count: int, _notes: int) -> None:
            into.extend(sent_frame(address + n * FRAME_SIZE) for n in range(count))

        if self._sending is not None:
            self._sending.leave(use, finished=finished)

    def forget_sent(self) -> None:
        """Make room for more frames that leave the device, without looking at those there are."""
        if self._sending is not None:
            self._sending.egress.empty()
