"""Frames on their way between devices: bytes in the emulator's own memory, shared by all who still need them.

Theory of operation
-------------------
A `WireFrame` is a `netemu.frame.Frame` with a buffer of its own and a count of its users. Whoever is given one, through
a port or from `alloc_wire_frame`, owns one reference and passes it on or drops it (`put_wire_frame`); a switch that
floods takes one more for each copy (`get_wire_frame`). The bytes of a frame with several users are not changed:
`unshared` gives a copy of one's own.

What its sender left undone travels with a frame as a virtio-net header (``vnet`` of its `Frame`), as it does in the
kernel of a real host between TAP devices. A buffer has room for that header in front of the frame.

There are buffers of two sizes, each kind in a list of free ones, taken newest first. Kernels cannot allocate, so Python
adds buffers whenever fewer than ``LOW_WATER`` are free (`WireFrames.grow`), between events. A frame that finds none
all the same is lost, and counted.
"""

from __future__ import annotations

import numpy as np

from netemu.errors import NetemuError
from netemu.frame import FRAME_SIZE, Frame, frame_at
from netemu.jit import (
    Buffer,
    Struct,
    StructArray,
    allocate,
    array_of,
    i64,
    kernel,
    load64,
    memcpy,
    pointer,
    store64,
    struct,
)

VNET_ROOM = 32
"""Bytes in front of a frame for what its sender left undone."""
SMALL_ROOM = 2048
"""Bytes of a small buffer, the header's room included: frames of an ordinary MTU."""
LARGE_ROOM = (1 << 16) + 256
"""Bytes of a large one: the longest packet with its link headers."""

SMALL = 0
LARGE = 1
LOW_WATER = (4096, 512)
"""Free buffers of each size below which Python adds more: more than one event can take."""
_CHUNK = (8192, 1024)
MOST = (1 << 20, 1 << 14)
"""Buffers of each size that there may be: 2 GiB and 1 GiB. A loop of switches would take all memory there is."""


@struct
class WireFrame(Struct):
    """One frame on its way."""

    next: i64
    """Address of the next one, in a queue or in the list of free ones."""
    users: i64
    frame: i64
    """Address of its `Frame`: bytes, length, ``tstamp`` (ns, when it was sent), ``id``, ``vnet``."""
    buffer: i64
    """Host address of the buffer: VNET_ROOM bytes, then the frame's own."""
    room: i64
    kind: i64
    """SMALL or LARGE."""
    pool: i64
    """Address of the `WirePool`."""
    when: i64
    """For whoever holds it: a moment, ns (of arrival, or since when it waits)."""


@struct
class WirePool(Struct):
    """The free buffers."""

    small: i64
    small_count: i64
    large: i64
    large_count: i64
    lost: i64
    """Frames for which there was no buffer."""
    next_id: i64
    """Frames numbered so far."""


wire_frame_at = pointer(WireFrame)
wire_pool_at = pointer(WirePool)
WIRE_FRAME_SIZE = WireFrame.dtype.itemsize


@kernel
def alloc_wire_frame(pool: WirePool, size: i64) -> i64:
    """A frame of ``size`` bytes, not yet written, with one user and no header; its address, or 0: none, or too long."""
    if size <= SMALL_ROOM - VNET_ROOM:
        address = pool.small
        if address != 0:
            pool.small = wire_frame_at(address).next
            pool.small_count -= 1
    elif size <= LARGE_ROOM - VNET_ROOM:
        address = pool.large
        if address != 0:
            pool.large = wire_frame_at(address).next
            pool.large_count -= 1
    else:
        address = 0
    if address == 0:
        pool.lost += 1
        return 0
    wf = wire_frame_at(address)
    wf.next = 0
    wf.users = 1
    frame = frame_at(wf.frame)
    frame.address = wf.buffer + VNET_ROOM
    frame.len = size
    frame.wire_len = size
    frame.tstamp = 0
    frame.interface = 0
    frame.id = 0
    frame.vnet = 0
    return address


@kernel
def get_wire_frame(address: i64) -> None:
    """One more user."""
    wire_frame_at(address).users += 1


@kernel
def put_wire_frame(address: i64) -> None:
    """One user less; the last one frees it."""
    wf = wire_frame_at(address)
    wf.users -= 1
    if wf.users > 0:
        return
    pool = wire_pool_at(wf.pool)
    if wf.kind == SMALL:
        wf.next = pool.small
        pool.small = address
        pool.small_count += 1
    else:
        wf.next = pool.large
        pool.large = address
        pool.large_count += 1


@kernel
def copy_vnet(target: i64, source: i64) -> None:
    """Copy VNET_ROOM bytes."""
    for at in range(0, VNET_ROOM, 8):
        store64(target + at, load64(source + at))


@kernel
def copied_frame(pool: WirePool, source: i64) -> i64:
    """A copy of a `netemu.frame.Frame` as a frame on its way, header included; its address, or 0 without a buffer."""
    old = frame_at(source)
    address = alloc_wire_frame(pool, old.len)
    if address == 0:
        return 0
    wf = wire_frame_at(address)
    new = frame_at(wf.frame)
    memcpy(new.address, old.address, old.len)
    new.wire_len = old.wire_len
    new.tstamp = old.tstamp
    new.id = old.id
    if old.vnet != 0:
        new.vnet = wf.buffer
        copy_vnet(new.vnet, old.vnet)
    return address


@kernel
def unshared(pool: WirePool, address: i64) -> i64:
    """The frame itself if nobody else uses it, else a copy in its place; 0 without a buffer, and it was dropped."""
    wf = wire_frame_at(address)
    if wf.users == 1:
        return address
    copy = copied_frame(pool, wf.frame)
    put_wire_frame(address)
    return copy


class WireFrames:
    """A `WirePool` together with the memory of its buffers, for Python."""

    def __init__(self) -> None:
        """Make the first buffers."""
        self.pool = WirePool()
        self._kept: list[StructArray[WireFrame] | StructArray[Frame] | Buffer] = []
        self.total = [0, 0]
        """Buffers of each size there are."""
        self.grow()

    def low(self) -> bool:
        """Whether it is time for `grow`."""
        return self.pool.small_count < LOW_WATER[SMALL] or self.pool.large_count < LOW_WATER[LARGE]

    def grow(self) -> None:
        """Add buffers of each size of which there are few. Raises `NetemuError` if there are as many as may be."""
        for kind, free in ((SMALL, self.pool.small_count), (LARGE, self.pool.large_count)):
            if free < LOW_WATER[kind] and self.total[kind] >= MOST[kind]:
                raise NetemuError(
                    f"more than {MOST[kind] - LOW_WATER[kind]} {'large ' if kind == LARGE else ''}frames are on their "
                    "way at once: is there a loop of switches, or a link that is too long for its rate?"
                )
        if self.pool.small_count < LOW_WATER[SMALL]:
            self._add(SMALL, SMALL_ROOM)
        if self.pool.large_count < LOW_WATER[LARGE]:
            self._add(LARGE, LARGE_ROOM)

    def _add(self, kind: int, room: int) -> None:
        count = _CHUNK[kind]
        buffers = allocate(count * room)
        frames = array_of(Frame, count)
        chunk = array_of(WireFrame, count)
        self._kept += [buffers, frames, chunk]
        self.total[kind] += count
        order = np.arange(count)
        view = chunk.view
        view["frame"] = frames.address + order * FRAME_SIZE
        view["buffer"] = buffers.address + order * room
        view["room"], view["kind"], view["pool"] = room, kind, self.pool.address
        view["next"] = chunk.address + (order + 1) * WIRE_FRAME_SIZE
        pool = self.pool
        if kind == SMALL:
            view["next"][-1] = pool.small
            pool.small = chunk.address
            pool.small_count += count
        else:
            view["next"][-1] = pool.large
            pool.large = chunk.address
            pool.large_count += count

    def bytes_of(self, address: int) -> bytes:
        """A frame's bytes."""
        frame = frame_at(wire_frame_at(address).frame)
        for kept in self._kept:
            if isinstance(kept, Buffer) and kept.address <= frame.address < kept.address + kept.size:
                start = frame.address - kept.address
                return kept.array[start : start + frame.len].tobytes()
        raise AssertionError("a frame of another pool")
