"""A link under test: two ports whose nodes note when which frame arrived, and drop it."""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

from netemu.frame import frame_at
from netemu.jit import hook
from netemu.net.direction import Direction
from netemu.net.link import Link
from netemu.net.options import LinkOptions
from netemu.net.port import Port, port_send
from netemu.net.wire_frame import VNET_ROOM, WireFrames, alloc_wire_frame, put_wire_frame, wire_frame_at
from netemu.timers import TimerQueue

MS = 1_000_000
S = 1_000_000_000


class Arrival(NamedTuple):
    """A frame that came out of a link."""

    when: int
    port: int
    data: bytes
    vnet: bytes


def make_wire_frame(frames: WireFrames, data: bytes, vnet: bytes = b"") -> int:
    """A wire frame of these bytes, with a virtio-net header of 32 bytes if one is given."""
    wire_frame = alloc_wire_frame(frames.pool, len(data))
    assert wire_frame
    frame = frame_at(wire_frame_at(wire_frame).frame)
    ctypes.memmove(frame.address, data, len(data))
    if vnet:
        frame.vnet = wire_frame_at(wire_frame).buffer
        ctypes.memmove(frame.vnet, vnet.ljust(VNET_ROOM, b"\0"), VNET_ROOM)
    return wire_frame


class Rig:
    """A link, its clock and its buffers. ``send(0, ...)`` is a frame from the first port, which goes forward."""

    def __init__(self, words: str = "", **more: Any) -> None:
        self.timers = TimerQueue(1 << 14)
        self.frames = WireFrames()
        self.arrivals: list[Arrival] = []
        receive = hook(self._receive)
        self.ports = [Port(number=n, receive=receive) for n in range(2)]
        seed = more.pop("link_seed", 1)
        self.link = Link(
            self.timers, self.frames, self.ports[0], self.ports[1], LinkOptions.of(words, **more), seed=seed
        )
        self.free = self.buffers()

    def _receive(self, _node: int, number: int, wire_frame: int) -> int:
        frame = frame_at(wire_frame_at(wire_frame).frame)
        vnet = ctypes.string_at(frame.vnet, VNET_ROOM) if frame.vnet else b""
        arrival = Arrival(self.timers.struct.now, number, self.frames.bytes_of(wire_frame), vnet)
        self.arrivals.append(arrival)
        put_wire_frame(wire_frame)
        return 0

    def make(self, data: bytes, vnet: bytes = b"") -> int:
        """A wire frame of these bytes, with a virtio-net header of 32 bytes if one is given."""
        return make_wire_frame(self.frames, data, vnet)

    def send(self, data: bytes | int, *, port: int = 0, at: int | None = None, vnet: bytes = b"") -> None:
        """Send a frame, or one of so many zeros, now or at a moment."""
        if at is not None:
            self.timers.run_until(at)
        port_send(self.ports[port].address, self.make(bytes(data) if isinstance(data, int) else data, vnet))

    def run(self, until: int = 100 * S) -> list[Arrival]:
        """Let time pass; all that has arrived."""
        self.timers.run_until(until)
        return self.arrivals

    @property
    def times(self) -> list[int]:
        """When frames arrived."""
        return [arrival.when for arrival in self.arrivals]

    @property
    def forward(self) -> Direction:
        """The first direction's state."""
        return self.link.forward.struct

    def buffers(self) -> tuple[int, int]:
        """Free buffers of each size."""
        return self.frames.pool.small_count, self.frames.pool.large_count


def balance(d: Direction) -> int:
    """Frames that went in, less those accounted for: 0."""
    dropped = sum(value for name, value in d.to_dict().items() if name.startswith("dropped_"))
    return d.offered + d.pieces - d.cut + d.duplicated - d.delivered - dropped - d.held
