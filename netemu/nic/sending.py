"""The send side of a `netemu.nic.Nic`: the guest's stack above it, and the wire below.

Theory of operation
-------------------
What a guest sends passes two stages of `netemu.offload`. *Above* the driver stands its protocol stack: it leaves to the
device what was negotiated, and does the rest itself. *Below* the device stands the wire, where nothing may be left
undone. In between lies the driver with its send queues, and the device, which collects what it took in an `Egress`.

The loop (`netemu.engine`) stops when the egress is full; `leave` passes on what is there and empties it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from netemu.device.net import NetDevice
from netemu.device.stats import count_frame
from netemu.device.transmit import Egress
from netemu.driver.netdev import (
    NETIF_F_GSO_UDP_L4,
    NETIF_F_GSO_UDP_TUNNEL,
    NETIF_F_GSO_UDP_TUNNEL_CSUM,
    NETIF_F_HW_CSUM,
    NETIF_F_TSO,
    NETIF_F_TSO6,
    NETIF_F_TSO_ECN,
)
from netemu.driver.outgoing import SendMemory
from netemu.driver.probe import VirtioNet
from netemu.engine import Engine
from netemu.engine.reflect import reflect
from netemu.engine.send import send_frames
from netemu.engine.turn import transmit_turn
from netemu.frame import FRAME_SIZE
from netemu.jit import allocate, hook, load_together
from netemu.memory import GuestMemory
from netemu.offload import Finisher, pour
from netemu.offload.accepts import (
    ACCEPT_CSUM,
    ACCEPT_ECN,
    ACCEPT_TSO4,
    ACCEPT_TSO6,
    ACCEPT_TUNNEL,
    ACCEPT_TUNNEL_CSUM,
    ACCEPT_USO4,
    ACCEPT_USO6,
)
from netemu.offload.finish import finish
from netemu.virtio import features as f
from netemu.virtio.net import HDR_LEN_MAX

Role = Literal["sink", "reflect", "send"]
"""What a guest does: it only takes frames, sends each of them back, or sends frames itself."""
ROLES: tuple[Role, ...] = get_args(Role)

_HANDED_DOWN = {
    NETIF_F_HW_CSUM: ACCEPT_CSUM,
    NETIF_F_TSO: ACCEPT_TSO4,
    NETIF_F_TSO6: ACCEPT_TSO6,
    NETIF_F_TSO_ECN: ACCEPT_ECN,
    NETIF_F_GSO_UDP_L4: ACCEPT_USO4 | ACCEPT_USO6,
    NETIF_F_GSO_UDP_TUNNEL: ACCEPT_TUNNEL,
    NETIF_F_GSO_UDP_TUNNEL_CSUM: ACCEPT_TUNNEL_CSUM,
}
Use = Callable[[int, int, int], None]
"""Gets frames: the address of their structs, how many, and the address of their notes (0: none)."""


@dataclass(frozen=True, slots=True)
class SentFrame:
    """A frame that has left the device: its bytes, which of the frames sent it belongs to, and its queue pair.

    ``header`` is None where nothing is left to do to it; else the virtio header's template (32 bytes).
    """

    data: bytes
    id: int
    queue: int
    tstamp: int
    header: bytes | None = None


def handed_down(driver: VirtioNet) -> int:
    """What the guest's stack leaves to the device, as a mask of `netemu.offload.accepts`."""
    return sum(accept for flag, accept in _HANDED_DOWN.items() if driver.vi.tx_features & flag)


class Sending:
    """Memory, hooks and stages for a guest that sends; made when it first does."""

    def __init__(self, engine: Engine, memory: GuestMemory, device: NetDevice, driver: VirtioNet) -> None:
        """Give the driver what it needs to send, and the device an egress.

        Raises `NetemuError` where the guest's memory is too small.
        """
        self._engine = engine
        # Rings may grow to what the device can have.
        self._queues = [
            SendMemory(memory, sq, device.queue_size_max(2 * n + 1)) for n, sq in enumerate(driver.send_queues)
        ]
        self.egress = Egress(device.transmit_features.address, device.transmit_outcomes.address)
        if f.DEVICE_STATS in device.features:
            self.egress.struct.stats = device.stats.counts.address
            self.egress.struct.count_frame = hook(count_frame)
        accepts = handed_down(driver)
        self.above = Finisher(mtu=driver.vi.mtu, accepts=accepts)
        """The guest's stack: frames are judged, as captures say nothing of what is left to do."""
        self.wire = Finisher(mtu=device.config.mtu, judging=False)
        """Behind the device."""
        self.segmenting = Finisher(mtu=driver.vi.mtu, accepts=accepts, judging=False)
        """skb_gso_segment: what the stack cuts of what it was to send on as one."""
        self._segment_frame = allocate(FRAME_SIZE + HDR_LEN_MAX)
        load_together(transmit_turn, finish)
        engine.egress = self.egress.struct.address
        engine.finish = hook(finish)
        engine.finish_job = self.segmenting.job.address
        engine.segment_frame = self._segment_frame.address
        engine.turn = hook(transmit_turn)
        device.steering.learn()

    def reflect(self) -> None:
        """From now on the guest sends back what it receives."""
        self._engine.reflect = hook(reflect)

    def send(self, *, on: bool) -> None:
        """From now on the frames of a batch are sent by the guest (or, off, arrive at it)."""
        self._engine.send = hook(send_frames) if on else 0

    def idle(self) -> bool:
        """Whether no frame of the guest's own is under way: all its memory is free."""
        return all(queue.idle() for queue in self._queues)

    def pass_down(self, address: int, count: int, use: Use) -> None:
        """What becomes of frames in the guest's stack: ``use`` gets what the driver is to send."""
        pour([self.above], address, count, use)

    def leave(self, use: Use, *, finished: bool = True) -> None:
        """Empty the egress; ``use`` gets its frames, finished as the wire needs them or as they left the device."""
        side = self.egress.struct
        if side.count:
            pour([self.wire] if finished else [], side.frames, side.count, use)
            self.egress.empty()
