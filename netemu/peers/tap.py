"""A TAP device of this machine as a node of the lab: what Linux sends comes into a link, what comes out goes to Linux.

Theory of operation
-------------------
A read or a write of a TAP device moves one frame. Python makes these calls, kernels never do; so frames are handed over
in batches. Inwards, `TapPort.read` fills a staging area of BATCH slots as long as there are frames, and the entry point
`tap_send` makes frames of them and sends these into the link. Outwards, `tap_receive` puts each frame that comes out of
the link on a list. The first one also asks for a wake-up, HOLD later: then `TapPort.flush` writes all there are.

A list that is full, a file that takes nothing more and an interface that is down lose frames, and they are counted: a
network card does no better. Linux gets plain frames: what their senders left undone (checksums, segmentation) is done
in front of this node (`netemu.net.adapt`).
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
from collections.abc import Callable

from netemu.aio import EmulatedLoop
from netemu.errors import NetemuError
from netemu.frame import frame_at
from netemu.jit import (
    Struct,
    allocate,
    entry,
    hook,
    i64,
    load64,
    load_together,
    memcpy,
    pointer,
    store64,
    struct,
)
from netemu.net.adapt import Adapter
from netemu.net.port import Port, port_send
from netemu.net.wire_frame import alloc_wire_frame, put_wire_frame, wire_frame_at, wire_pool_at
from netemu.net.world import World
from netemu.peers.tun import Tun
from netemu.stack.host import is_ready
from netemu.timers import call_at, timers_at

HOLD = 50_000
"""ns that a frame waits at most for others to be written along with it: a wake-up of Python costs about as much."""
BATCH = 64
"""Frames that are read before the lab goes on."""
LIST_ROOM = 4096
"""Frames that can wait to be written."""
LINK_HEADERS = 14 + 8
"""Bytes of a frame beyond the MTU: Ethernet, and two VLAN tags."""

_NOT_NOW = {errno.EAGAIN, errno.EIO, errno.EINVAL, errno.ENOBUFS, errno.ENOMEM}
"""Nothing there; the interface is down; a frame that Linux does not like; no memory. EBADFD: the device is gone."""

_ENTRY = 24
"""Bytes of an entry of the list: wire frame, host address of its bytes, length."""


@struct
class TapNode(Struct):
    """The TAP device as a node, for kernels."""

    port: i64
    """Address of its `Port`."""
    pool: i64
    """Address of the `WirePool` that frames come from."""
    timers: i64
    """Address of the lab's `Timers`."""
    ready: i64
    """Address of the lab's `Ready` list, and the handle to put on it; 0: nobody waits."""
    handle: i64
    wake: i64
    """Hook `tap_wake`."""
    outward: i64
    """Address of the list of frames to be written: LIST_ROOM entries, of which ``count`` are in use."""
    count: i64
    inward: i64
    """Address of BATCH slots of ``slot`` bytes for frames that were read."""
    slot: i64
    lengths: i64
    """Address of BATCH lengths of what is in the slots."""
    full: i64
    """Frames lost because the list was full."""


tap_node_at = pointer(TapNode)


@entry
def tap_wake(node: i64, _unused: i64) -> i64:
    """It is time to write what is on the list; an event."""
    tap = tap_node_at(node)
    if tap.count > 0 and tap.handle != 0:
        is_ready(tap.ready, tap.handle)
    return 0


@entry
def tap_receive(node: i64, _number: i64, wire_frame: i64) -> i64:
    """A frame comes out of the link, and goes on the list; hook of the port."""
    tap = tap_node_at(node)
    if tap.count >= LIST_ROOM:
        tap.full += 1
        put_wire_frame(wire_frame)
        return 0
    frame = frame_at(wire_frame_at(wire_frame).frame)
    at = tap.outward + tap.count * _ENTRY
    store64(at, wire_frame)
    store64(at + 8, frame.address)
    store64(at + 16, frame.len)
    tap.count += 1
    if tap.count == 1:
        timers = timers_at(tap.timers)
        call_at(timers, timers.now + HOLD, tap.wake, node, 0)
    return 0


@entry
def tap_written(node: i64) -> i64:
    """Drop the frames on the list."""
    tap = tap_node_at(node)
    for index in range(tap.count):
        put_wire_frame(load64(tap.outward + index * _ENTRY))
    tap.count = 0
    return 0


@entry
def tap_send(node: i64, count: i64) -> i64:
    """Send the first ``count`` frames of the staging area into the link, at the moment that it is; how many went."""
    tap = tap_node_at(node)
    sent = 0
    for index in range(count):
        size = load64(tap.lengths + index * 8)
        address = alloc_wire_frame(wire_pool_at(tap.pool), size)
        if address == 0:
            continue  # counted by the pool
        frame = frame_at(wire_frame_at(address).frame)
        memcpy(frame.address, tap.inward + index * tap.slot, size)
        frame.tstamp = timers_at(tap.timers).now
        port_send(tap.port, address)
        sent += 1
    return sent


class TapPort:
    """A TAP device with its port: ``port`` is what a link plugs into."""

    def __init__(self, world: World, tun: Tun, *, mtu: int = 1500) -> None:
        """Join ``world`` with an open device, whose MTU is ``mtu`` bytes; longer frames are cut off."""
        load_together(tap_wake, tap_receive, tap_written, tap_send)  # before somebody waits for a frame
        self.tun = tun
        self._world = world
        self._loop: EmulatedLoop | None = None
        self._ended: asyncio.Future[None] | None = None
        slot = mtu + LINK_HEADERS
        self._outward, self._inward = allocate(LIST_ROOM * _ENTRY), allocate(BATCH * slot)
        self._lengths = allocate(8 * BATCH)
        self._node = TapNode(
            pool=world.wires.pool.address,
            timers=world.timers.struct.address,
            ready=world.ready.struct.address,
            wake=hook(tap_wake),
            outward=self._outward.address,
            inward=self._inward.address,
            slot=slot,
            lengths=self._lengths.address,
        )
        self.port = Port(node=self._node.address, receive=hook(tap_receive))
        self._node.port = self.port.address
        self._adapter = Adapter(world.wires, self.port, 0)
        self._refused = 0
        libc = ctypes.CDLL(None, use_errno=True)
        # By address: a frame goes between the lab's memory and the file without becoming an object of Python's.
        self._sys_read, self._sys_write = libc.read, libc.write
        for call in (self._sys_read, self._sys_write):
            call.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t]
            call.restype = ctypes.c_ssize_t

    @property
    def dropped(self) -> int:
        """Frames for Linux that were lost: nobody wrote them in time, its interface is down, or it had no memory."""
        return self._node.full + self._refused

    def serve(self, loop: EmulatedLoop) -> asyncio.Future[None]:
        """Have ``loop``, which runs in real time, carry frames both ways until `close`.

        The future is done when that ends; it has a `NetemuError` where the device was taken away.
        """
        self._loop, self._ended = loop, loop.create_future()
        self._node.handle = loop.attach(self._wanted, lambda: f"the TAP device {self.tun.name}")
        loop.add_reader(self.tun.fileno(), self._readable)
        return self._ended

    def _readable(self) -> None:
        """There are frames: they come in now, and not when the world was looked at last."""
        assert self._loop is not None
        self._world.run_until(self._loop.now)
        self._attempt(self.read)

    def _wanted(self) -> None:
        """Frames wait to be written."""
        self._attempt(self.flush)

    def _attempt(self, work: Callable[[], int]) -> None:
        try:
            work()
        except NetemuError as error:
            if self._ended is not None and not self._ended.done():
                self._ended.set_exception(error)
            self.close()

    def read(self) -> int:
        """Send what Linux has sent, up to BATCH frames of it, into the link; how many those were."""
        fd, slot, at = self.tun.fileno(), self._node.slot, self._inward.address
        lengths = self._lengths.array.view("<i8")
        count = 0
        while count < BATCH:
            size = self._sys_read(fd, at, slot)
            if size < 0:
                _expect(ctypes.get_errno(), self.tun.name)
                break
            lengths[count] = size
            at += slot
            count += 1
        if count:
            tap_send(self._node.address, count)
        return count

    def flush(self) -> int:
        """Write what came out of the link; how many frames Linux took."""
        fd, count = self.tun.fileno(), self._node.count
        taken = 0
        entries = self._outward.array.view("<i8")[: 3 * count].tolist()
        for address, size in zip(entries[1::3], entries[2::3], strict=True):
            if self._sys_write(fd, address, size) == size:
                taken += 1
            else:
                _expect(ctypes.get_errno(), self.tun.name)
        self._refused += count - taken
        self.drop_all()
        return taken

    def drop_all(self) -> None:
        """Forget what came out of the link and was not written yet."""
        if self._node.count:
            tap_written(self._node.address)

    def close(self) -> None:
        """Let go of the device; frames that come out of the link from now on are lost."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(self.tun.fileno())
            self._loop.detach(self._node.handle)
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)
        self.drop_all()
        self._loop, self._ended, self._node.handle = None, None, 0
        self.tun.close()


def _expect(number: int, name: str) -> None:
    """Pass over the errors that mean "not now"; `NetemuError` for others: the device was taken away, say."""
    if number not in _NOT_NOW:
        raise NetemuError(f"{name}: {os.strerror(number)}; was the device removed?")
