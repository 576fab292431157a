"""A card that runs: frames are queued for the device, the loop plays them, taps and counters see what happened.

Theory of operation
-------------------
`Card` owns the parts and decides when which of them has its turn: `arrive` queues frames, `run` plays them until they
are done or a tap is full, `let_guest_run` has the guest take what still lies in its rings. Between two runs nothing
moves, and the driver's work items have their turn. How a card is built is said in `netemu.nic.nic`.
"""

from __future__ import annotations

from netemu import engine
from netemu.capture.sink import SINK_NONE, Sink
from netemu.device.net import NetDevice
from netemu.driver.probe import VirtioNet
from netemu.engine.extras import FOREVER, interrupt, send_calls
from netemu.engine.turn import send_calls_for_sent
from netemu.errors import ConfigError
from netemu.memory import GuestMemory
from netemu.nic.control import NicControl
from netemu.nic.counters import NicCounters
from netemu.nic.guest import Guest, Redirected
from netemu.nic.lanes import QueueLanes
from netemu.nic.loop import add_extras, joined
from netemu.nic.sending import Sending
from netemu.offload import accepts_from_features
from netemu.stack import ProtocolStack
from netemu.trace import TraceBuffers
from netemu.virtio.net import LINK_UP
from netemu.xdp import XdpProgram


class Card(NicCounters):
    """A device and a driver that have negotiated, joined by rings in guest memory and by the loop."""

    def __init__(self, device: NetDevice, driver: VirtioNet, memory: GuestMemory, *, mode: str, gro: bool) -> None:
        """Join the parts, for a driver in receive mode ``mode`` that is not yet open."""
        super().__init__()
        self.device = device
        self.driver = driver
        self.memory = memory
        self.mode = mode
        self.queues: int = driver.vi.max_queue_pairs
        self._stack = ProtocolStack()
        self._lanes: QueueLanes | None = None
        self.engine = joined(device, driver, self._stack)
        self.guest = Guest(driver, gro=gro)
        self._trace = TraceBuffers()
        self._sink = Sink(kind=SINK_NONE)
        self.engine.sink = self._sink.address
        self.engine.trace = self._trace.struct.address
        self.engine.device_drops = self._device_drops.address
        self.control = NicControl(driver, self.take_interrupts)
        self._extras = int(add_extras(self.engine, device, driver))
        self._sending: Sending | None = None

    def start_threads(self) -> None:
        """From now on each queue pair has a loop and a thread of its own; raises `ConfigError` where that cannot be."""
        if self.engine.signal:
            raise ConfigError("threads do not go with coalescing (NOTF_COAL), which is for all queues: leave one out")
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

    @property
    def sending(self) -> Sending:
        """The send side, made when it is first asked for.

        Raises `ConfigError` for a card with threads, `NetemuError` where guest memory is too small.
        """
        if self._lanes is not None:
            raise ConfigError("threads do not go with a guest that sends: leave them out")
        if self._sending is None:
            self._sending = Sending(self.engine, self.memory, self.device, self.driver)
        return self._sending

    @property
    def accepts(self) -> int:
        """What the guest takes over from a host with offloads, as of now (`netemu.offload.accepts`)."""
        return accepts_from_features(self.device.guest_offloads)

    def attach(self, sink: Sink, trace: TraceBuffers | None = None, *, at_ring: bool = False) -> None:
        """Have frames written to ``sink`` and noted in ``trace`` from now on.

        ``at_ring`` writes them as they lie in the buffers (docs/ring-capture-format.md), else as skbs.
        """
        if at_ring and self._lanes is not None:
            raise ConfigError("threads do not go with a capture of the ring: leave out one of them")
        self._sink = sink
        self._trace = trace or TraceBuffers()
        if self._lanes is not None:
            self._lanes.attach(sink, self._trace)
        self.engine.sink = sink.address
        self.engine.ring_sink = int(at_ring)
        self.engine.trace = self._trace.struct.address
        self.guest.log_fates(self._trace.struct.capacity)

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

    def take_interrupts(self) -> None:
        """Let the driver hear calls that came outside of the loop, such as those that a command made due."""
        for n in range(self.queues):
            if self.device.doorbells[2 * n].call:
                interrupt(self.engine, n)

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
