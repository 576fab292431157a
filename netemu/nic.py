"""A virtual network card: one device, one driver and one protocol stack, over one guest's memory."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from netemu import engine
from netemu.capture.formats import MAX_FRAME
from netemu.capture.sink import SINK_NONE, Sink
from netemu.control import NicControl, Settings
from netemu.device.coalesce import signal_hook
from netemu.device.filter import filter_frame
from netemu.device.net import NetDevice
from netemu.device.stats import count_frame
from netemu.driver.eras import DEFAULT_ERA, era
from netemu.driver.ethtool import ethtool_statistics, netdev_statistics
from netemu.driver.features import MODE_NAMES, SUPPORTED, choose, receive_mode
from netemu.driver.outgoing import memory_for_sending
from netemu.driver.probe import VirtioNet
from netemu.engine.extras import FOREVER, interrupt, send_calls
from netemu.engine.turn import send_calls_for_sent
from netemu.errors import ConfigError
from netemu.frame import FRAME_SIZE, Frame, frame_at
from netemu.guest import Guest, Redirected
from netemu.jit import Buffer, StructArray, allocate, array_of, hook, load_together
from netemu.lanes import QueueLanes
from netemu.memory import GuestMemory
from netemu.offer import Mode, RingKind, RssOptions, configuration, offered_features
from netemu.offload import accepts_from_features
from netemu.pages import PAGE_SIZE
from netemu.quirk_list import by_side
from netemu.reasons import DropReason
from netemu.sending import ROLES, Role, Sending, SentFrame
from netemu.skb import MAX_SKB_FRAGS
from netemu.stack import ProtocolStack, deliver
from netemu.trace import BufferEvent, SkbEvent, TraceBuffers
from netemu.virtio import features as f
from netemu.virtio import packed, split
from netemu.virtio.features import FeatureSet
from netemu.virtio.net import HDR_LEN_MAX, LINK_UP
from netemu.ways import Ways
from netemu.xdp import XdpProgram

DEFAULT_BURST = 64

_MEMORY_BASE = 4 << 20
_MEMORY_PER_BUFFER = 3 * PAGE_SIZE
_MEMORY_PER_BIG_BUFFER = (MAX_SKB_FRAGS + 1) * PAGE_SIZE
_MEMORY_PER_ENTRY = 1024
_MEMORY_FORWARDED = 32 << 20
"""For frames that are sent on as they were received."""
_SPARE_BUFFERS = 192
"""What a queue's rings and pools take at most, see `VirtioNet`; what is never touched costs no memory."""
_TRACE_EVENTS = 2048
_TRACE_BYTES = 8 * MAX_FRAME


def _memory_size(mode: str, queue_size: int, queues: int, guest: Role) -> int:
    """Bytes of guest memory for a driver in this receive mode."""
    per_buffer = _MEMORY_PER_BIG_BUFFER if mode == "big" else _MEMORY_PER_BUFFER
    size = _MEMORY_BASE + queue_size * _MEMORY_PER_ENTRY + (queue_size + _SPARE_BUFFERS) * per_buffer
    size += memory_for_sending(queue_size) + (_MEMORY_FORWARDED if guest == "reflect" else 0)
    return queues * size


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A frame for a guest to send, with a virtio header (little-endian, up to 32 bytes) that says what is undone."""

    data: bytes
    header: bytes


@dataclass(frozen=True, slots=True)
class ReceivedSkb:
    """A frame as the driver handed it up: its bytes, the skb's numbers, and the buffers it came in."""

    data: bytes
    skb: SkbEvent
    buffers: tuple[BufferEvent, ...]


class Nic:
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
        at all (`netemu.sending.Role`); it kicks once for ``xmit_more`` frames that it sends. Raises `ConfigError` for a
        combination that cannot be.
        Allocations of the guest fail by the rules of ``pressure`` (`netemu.pressure.parse_pressure`), ``quirks`` are
        rules for what goes wrong on purpose (`netemu.quirks.parse_quirk`, `netemu.quirk_list.ALL_QUIRKS`). ``memory``
        takes the place of guest memory in one piece: it has to be large enough, and nobody else's.
        """
        if burst < 1:
            raise ConfigError(f"a burst has at least one frame, not {burst}")
        if guest not in ROLES:
            raise ConfigError(f"no guest is called {guest!r}; there are {', '.join(ROLES)}")
        if xmit_more < 1:
            raise ConfigError(f"a kick is for at least one frame, not {xmit_more}")
        facts = era(driver)
        # Old kernels want as many queue pairs again, for what an XDP program sends back.
        pairs = 2 * queues if xdp is not None and not facts.xdp_shares_queues else queues
        config = configuration(pairs, mtu, mac)
        rss = RssOptions.parse(rss) if isinstance(rss, str) else rss
        own = offered_features(mode, pairs, ring, rss=rss is not None, hash_report=hash_report)
        offered = (own if offer is None else offer) | settings.features()
        if mtu is not None:
            offered |= FeatureSet.of(f.MTU)
        if offer is None and f.VERSION_1 not in offered.changed(features):
            offered |= FeatureSet.of(f.ANY_LAYOUT)  # LEG-D-06
        offered = offered.changed(features)
        if xdp is not None and f.GUEST_CSUM in offered:
            offered |= FeatureSet.of(f.CTRL_VQ, f.CTRL_GUEST_OFFLOADS)
        chosen = choose(facts, offered, accept & SUPPORTED, config.mtu)
        check_queue_size = packed.check_queue_size if f.RING_PACKED in chosen else split.check_queue_size
        check_queue_size(queue_size)
        self.mode = MODE_NAMES[receive_mode(chosen, facts, config.mtu if f.MTU in chosen else 0)]
        of_device, of_driver = by_side(quirks)
        self.memory = memory or GuestMemory(_memory_size(self.mode, queue_size, pairs, guest))
        self.device = NetDevice(self.memory, offered, config, queue_size)
        self.device.misbehave(of_device)
        self.driver = VirtioNet(self.device, self.memory, driver, queue_size, accept, forwards=guest == "reflect")
        self._configure_hashing(rss, hash_report=hash_report)
        self.queues: int = self.driver.vi.max_queue_pairs
        self._stack = ProtocolStack()
        self._lanes: QueueLanes | None = None
        load_together(engine.run, deliver)
        self.guest = Guest(self.driver, gro=gro)
        self._device_drops = allocate(len(DropReason) * 8)
        self._trace = TraceBuffers()
        self._sink = Sink(kind=SINK_NONE)
        mask = self.driver.features.mask
        self.engine = engine.Engine(
            burst=burst,
            may_wait=int(wait),
            xmit_more=xmit_more,
            queues=self.queues,
            vi=self.driver.vi.address,
            side=self.device.side.address,
            steering=self.device.steering.state.address,
            device_queues=self.device.queues.address,
            stack=self._stack.address,
            deliver=hook(deliver),
            sink=self._sink.address,
            features_low=mask & (1 << 64) - 1,
            features_high=mask >> 64,
            trace=self._trace.struct.address,
            device_drops=self._device_drops.address,
        )
        self.control = NicControl(self.driver, self.take_interrupts)
        self._add_extras()
        if of_device or of_driver:
            self.engine.outstanding = self.guest.keep_count()
        pressure = [*pressure]
        self.driver.put_under_pressure(pressure)
        self.driver.misbehave(of_driver)
        self.role = guest
        self._sending: Sending | None = None
        if xdp is not None:
            if pairs != queues:
                self.driver.control.virtnet_set_queues(queues)
            self.attach_xdp(xdp)
        self.driver.open()
        self.let_guest_run()
        self.control.apply(settings)
        if threads and (guest != "sink" or xdp is not None):
            raise ConfigError("what a guest sends is put in order by one thread: leave out the threads")
        if guest == "reflect":
            self.sending.reflect()
        elif guest == "send":
            self.sending.send(on=True)
        if threads:
            if pressure or of_device or of_driver:
                raise ConfigError("pressure and quirks go by the order of events in all queues: leave out the threads")
            self._start_threads()

    def _start_threads(self) -> None:
        """From now on each queue pair has a loop and a thread of its own."""
        if self.engine.signal:
            raise ConfigError("calls that are held back are for all queues at once: no threads with NOTF_COAL")
        driver = self.driver
        self._lanes = QueueLanes(
            self.engine, self.device.side, driver.vi, driver.receive_queues[:], driver.send_queues[:]
        )
        self._lanes.attach(self._sink, self._trace)

    @property
    def stack(self) -> ProtocolStack:
        """The guest's protocols, with what they counted."""
        if self._lanes is not None:
            for lane in self._lanes.lanes:
                self._stack.absorb(lane.stack)
        return self._stack

    def _add_extras(self) -> None:
        """Join to the loop what the device does only because of features that were negotiated."""
        chosen, device, e = self.driver.features, self.device, self.engine
        if chosen.has_any(f.CTRL_RX, f.CTRL_RX_EXTRA, f.CTRL_VLAN):
            e.admit, e.filter = hook(filter_frame), device.filter.struct.address
        if chosen.has_any(f.NOTF_COAL, f.VQ_NOTF_COAL):
            e.signal, e.moderations = hook(signal_hook), device.coalescing.queues.address
        if f.DEVICE_STATS in chosen:
            e.count_frame, e.stats = hook(count_frame), device.stats.counts.address
        if f.MTU in chosen:
            e.mtu = device.config.mtu
        self._extras = int(e.admit != 0 or e.signal != 0 or e.count_frame != 0 or e.mtu != 0)

    def take_interrupts(self) -> None:
        """Let the driver hear calls that came outside of the loop, such as those that a command made due."""
        for n in range(self.queues):
            if self.device.doorbells[2 * n].call:
                interrupt(self.engine, n)

    def _configure_hashing(self, rss: RssOptions | None, *, hash_report: bool) -> None:
        """What a user sets with ethtool; raises `ConfigError` where driver or device do not go along."""
        of_driver = self.driver.rss
        for wanted, there, name in (
            (rss is not None, of_driver.has_rss, "RSS"),
            (hash_report, of_driver.has_rss_hash_report, "HASH_REPORT"),
        ):
            if wanted and not there:
                raise ConfigError(
                    f"{name} was not negotiated: {self.driver.facts.name} does not know it, or refused it"
                )
        done = True
        if rss is not None and (rss.table is not None or rss.key is not None):
            done = of_driver.virtnet_set_rxfh(rss.table, rss.key)
        if rss is not None and rss.types is not None:
            done = done and of_driver.virtnet_set_hashflow(rss.types)
        if (rss is not None or hash_report) and self.driver.control.rss is None:
            done = of_driver.virtnet_commit_rss_command()  # kernels that leave it to the user
        if not done:
            why = self.device.control.last_refusal or "a hash type that driver or device does not have"
            raise ConfigError(f"hashing cannot be set up so: {why}")

    @property
    def sending(self) -> Sending:
        """The send side, made when it is first asked for.

        Raises `ConfigError` for a card with threads, `NetemuError` where guest memory is too small.
        """
        if self._lanes is not None:
            raise ConfigError("what a guest sends is put in order by one thread: leave out the threads")
        if self._sending is None:
            self._sending = Sending(self.engine, self.memory, self.device, self.driver)
        return self._sending

    def attach(self, sink: Sink, trace: TraceBuffers | None = None, *, at_ring: bool = False) -> None:
        """Have frames written to ``sink`` and noted in ``trace`` from now on.

        ``at_ring`` writes them as they lie in the buffers (docs/ring-capture-format.md), else as skbs.
        """
        if at_ring and self._lanes is not None:
            raise ConfigError("threads write what the guest got, not what lay in the ring")
        self._sink = sink
        self._trace = trace or TraceBuffers()
        if self._lanes is not None:
            self._lanes.attach(sink, self._trace)
        self.engine.sink = sink.address
        self.engine.ring_sink = int(at_ring)
        self.engine.trace = self._trace.struct.address
        self.guest.log_fates(self._trace.struct.capacity)

    def attach_xdp(self, program: XdpProgram) -> None:
        """Attach an XDP program, or replace the one there is; buffers that lie in the ring already have no headroom.

        What it sends back leaves the device like all that the guest sends (`exchange`, `take_sent`). Raises
        `ConfigError` where the driver refuses (`netemu.driver.xdp_set`), and for a card with threads.
        """
        if self.mode != "big":
            self.sending  # noqa: B018 - makes the send side
        self.guest.attach_xdp(program)

    def detach_xdp(self) -> None:
        """Take the XDP program off; guest offloads are as before."""
        self.guest.attach_xdp(None)

    def take_redirected(self) -> list[Redirected]:
        """The frames that XDP programs redirected since it was last asked, in order of arrival."""
        return self.guest.take_redirected()

    def set_link(self, *, up: bool, speed: int | None = None, duplex: int | None = None) -> None:
        """Take the link up or down at the device, and let the driver see it; ``speed`` in Mbit/s, ``duplex`` 0 or 1.

        While it is down frames are dropped before they reach the device.
        Raises `ConfigError` for a speed or duplex that cannot be, or that would change while the link is up.
        """
        self.device.set_link(up, speed, duplex)
        self.driver.run_work()

    def set_ringparam(self, rx_pending: int | None = None, tx_pending: int | None = None) -> None:
        """Give the rings other sizes, as ``ethtool -G``, after the guest has taken what lies in them.

        Raises `ConfigError` without RING_RESET, and for a size that cannot be. A sink or trace has to have room.
        """
        self.let_guest_run()
        self.driver.set_ringparam(rx_pending, tx_pending)
        self.let_guest_run()

    def tap_sent(self, sink: Sink | None) -> None:
        """Have frames that the guest sends written to ``sink``, as they lie in the ring; None: no more."""
        self._tx_sink = sink
        self.engine.tx_sink = 0 if sink is None else sink.address

    def arrive(self, address: int, count: int) -> None:
        """Queue ``count`` `Frame` structs at host ``address`` for `run`."""
        if self._lanes is not None:
            self._look_at_link()
            self._lanes.play(address, count)
            return
        self.engine.frames = address
        self.engine.next = 0
        self.engine.count = count

    def _look_at_link(self) -> None:
        """Whether the link is up is the device's to say, and may have changed."""
        self.engine.link_down = int(not self.device.config.status & LINK_UP)
        self.engine.extras = self._extras | self.engine.link_down

    def run(self) -> bool:
        """Play what was queued; False when a sink or trace is full and has to be emptied before the next call."""
        self._look_at_link()
        done = engine.run(self.engine.address) == engine.DONE if self._lanes is None else self._lanes.run()
        self.device.check_queues()
        if done:
            self.device.coalescing.now = self.driver.vi.now
            self.driver.run_work()
        return done

    def let_guest_run(self) -> bool:
        """Let the guest take everything that lies in its rings, however full the burst; the value is that of `run`."""
        if self._lanes is not None:
            self._lanes.let_guest_run()
            return self.run()
        self.arrive(0, 0)
        self.engine.softirq = 1
        if self.device.settle():
            self.take_interrupts()
        done = self.run()
        if done and self.engine.signal and self._send_calls():
            self.engine.softirq = 1
            return self.run()
        return done

    def _send_calls(self) -> bool:
        """Nothing comes for a while: calls that are held back are sent, whenever they are due."""
        sent = send_calls(self.engine, FOREVER)
        if self.engine.turn:
            sent |= send_calls_for_sent(self.engine, FOREVER)
        return bool(sent)

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
            received += self._taken(trace, ways)
            self.take_sent(sent)

        if self.role == "send":
            self.sending.send(on=False)
        try:
            for item in frames:
                memory, frame = _laid_out(item, tstamp)
                self.arrive(frame.address, 1)
                while not self.run():
                    take()
                del memory
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
                data, header = (item.data, item.header) if isinstance(item, Outgoing) else (item, None)
                memory, frame = _laid_out(data, tstamp)
                frame[0].id = number
                if header is not None:
                    vnet = allocate(HDR_LEN_MAX)
                    vnet.array[:] = np.frombuffer(header[:HDR_LEN_MAX].ljust(HDR_LEN_MAX, b"\0"), np.uint8)
                    frame[0].vnet = vnet.address
                sending.pass_down(frame.address, 1, pass_on)
                del memory
            while not self.let_guest_run():
                self.take_sent(sent, finished=finished)
            self.take_sent(sent, finished=finished)
        finally:
            sending.send(on=self.role == "send")
        return sent

    def take_sent(self, into: list[SentFrame], *, finished: bool = True) -> None:
        """Append what has left the device to a list, as `send` gives it; there is room for more afterwards."""

        def use(address: int, count: int, _notes: int) -> None:
            into.extend(_sent_frame(address + n * FRAME_SIZE) for n in range(count))

        if self._sending is not None:
            self._sending.leave(use, finished=finished)

    def forget_sent(self) -> None:
        """Make room for more frames that leave the device, without looking at those there are."""
        if self._sending is not None:
            self._sending.egress.empty()

    def _taken(self, trace: TraceBuffers, ways: Ways) -> list[ReceivedSkb]:
        """The skbs of a trace, as objects of their own; the trace is empty afterwards."""
        ways.take(trace, self.guest.take_fates())
        skbs = []
        for skb in trace.skbs[: trace.struct.skb_count]:
            data = trace.bytes.array[skb.offset : skb.offset + skb.len].tobytes()
            skbs.append(ReceivedSkb(data, SkbEvent.from_buffer_copy(skb), ways.buffers_of(skb.queue, skb.frame_id)))
        trace.clear()
        return skbs

    @property
    def accepts(self) -> int:
        """What the guest takes over from a host with offloads, as of now (`netemu.offload.accepts`)."""
        return accepts_from_features(self.device.guest_offloads)

    @property
    def drops_by_device(self) -> npt.NDArray[np.int64]:
        """Frames the device could not bring to the driver, one counter per `DropReason`."""
        counts = self._device_drops.array.view(np.int64)
        if self._lanes is not None:
            for taken in self._lanes.take_drops():
                counts += taken
        return counts

    @property
    def dropped(self) -> dict[str, int]:
        """Frames that did not arrive, by reason (`DropReason.key`); reasons that did not occur are left out.

        The reasons that begin with "tx_" are of frames that did not leave.
        """
        counts = self.drops_by_device + self.driver.drops.sum(axis=0)
        if self.guest.outstanding is not None:
            counts[DropReason.RING_LOST] += self.guest.outstanding.lost
        return {reason.key: int(counts[reason]) for reason in DropReason if counts[reason]}

    @property
    def made_up(self) -> int:
        """Frames that came up, or were dropped by the driver, and never arrived: what misbehaviour makes of buffers."""
        return self.guest.outstanding.struct.made_up if self.guest.outstanding is not None else 0

    @property
    def quirks_fired(self) -> dict[str, int]:
        """How often each quirk that is switched on has happened, by name."""
        return self.device.quirks_fired | self.driver.quirks.fired

    @property
    def ethtool(self) -> dict[str, int]:
        """The driver's counters under the names of ``ethtool -S`` in its era."""
        driver = self.driver
        return ethtool_statistics(
            driver.facts.ethtool,
            driver.receive_queues[:],
            driver.send_queues[:],
            timeouts=driver.facts.tx_timeouts,
            device=driver.control.virtnet_get_hw_stats(),
        )

    @property
    def netdev(self) -> dict[str, int]:
        """The interface's counters as ``ip -s link`` names them."""
        return netdev_statistics(self.driver.receive_queues[:], self.driver.send_queues[:])

    def queue_counters(self) -> list[dict[str, int]]:
        """For each receive queue what driver and device counted."""
        rows = []
        for n in range(self.queues):
            rq, dq, napi = self.driver.receive_queues[n], self.device.queues[2 * n], self.driver.napis[2 * n]
            rows.append(
                {
                    "packets": rq.packets,
                    "bytes": rq.bytes,
                    "drops": rq.drops,
                    "rx_length_errors": rq.rx_length_errors,
                    "rx_frame_errors": rq.rx_frame_errors,
                    "buffers": dq.chains_used,
                    "descriptors": dq.descriptors_used,
                    "interrupts": rq.interrupts,
                    "polls": napi.polls,
                    "completions": napi.completions,
                    "refills": rq.refills,
                    "kicks": rq.kicks,
                    "oom": rq.oom,
                }
            )
        return rows

    def send_counters(self) -> list[dict[str, int]]:
        """For each send queue what driver and device counted."""
        rows = []
        for n in range(self.queues):
            sq, dq, napi = self.driver.send_queues[n], self.device.queues[2 * n + 1], self.driver.napis[2 * n + 1]
            rows.append(
                {
                    "packets": sq.packets,
                    "bytes": sq.bytes,
                    "descriptors": dq.descriptors_used,
                    "kicks": sq.kicks,
                    "interrupts": dq.notifications,
                    "polls": napi.polls,
                    "stop": sq.stop,
                    "wake": sq.wake,
                    "dropped": sq.tx_dropped,
                    "qdisc_drops": sq.qdisc_drops,
                    "timeouts": sq.tx_timeouts,
                }
            )
        return rows


def _laid_out(item: bytes | Any, tstamp: int) -> tuple[Buffer, StructArray[Frame]]:
    """A frame's bytes in memory that a kernel may read, and the `Frame` that names them."""
    if isinstance(item, int):
        raise ConfigError("receive takes a list of frames, not a single one")
    data = bytes(item)
    if len(data) > MAX_FRAME:
        raise ConfigError(f"a frame has at most {MAX_FRAME} bytes, not {len(data)}")
    memory = allocate(max(1, len(data)))
    memory.array[: len(data)] = bytearray(data)
    frame = array_of(Frame, 1)
    frame[0].address = memory.address
    frame[0].len = frame[0].wire_len = len(data)
    frame[0].tstamp = tstamp
    return memory, frame


def _sent_frame(address: int) -> SentFrame:
    """A frame of the egress, or of the stage behind it, as an object of its own."""
    frame = frame_at(address)
    header = ctypes.string_at(frame.vnet, HDR_LEN_MAX) if frame.vnet else None
    data = ctypes.string_at(frame.address, frame.len)
    return SentFrame(data, frame.id, frame.interface, frame.tstamp, header)
