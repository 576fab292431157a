"""What every stage of the offload processing has at both ends: frames that come in, and frames that go out.

Theory of operation
-------------------
A stage takes an array of `netemu.frame.Frame` and makes another one. What it did not touch goes out by reference, with
the address it came with; bytes that are new, and the virtio-net headers of what is left undone, lie in the *arena*. The
stage returns when all frames were taken, or when the array or the arena is full; the caller uses what is there, and
calls again. So frames of the result are valid until the next call, and as long as those of the input are.
"""

from __future__ import annotations

from netemu.frame import FRAME_SIZE, Frame, frame_at
from netemu.jit import Struct, allocate, array_of, i64, kernel, pointer, store64, struct
from netemu.offload.reasons import WHOLE

DONE = 0
"""A stage has taken all frames of its input."""
FULL = 1
"""A stage has no room left for its result; call it again when the result was used."""

OUT_FRAMES = 4096
ARENA_BYTES = 1 << 20
TEMPLATE_BYTES = 32
"""A virtio-net header of full length."""


@struct
class Batch(Struct):
    """Input, result and arena of a stage, and what has passed through it."""

    frames: i64
    """Address of ``count`` frames, of which ``next`` comes next."""
    count: i64
    next: i64
    out: i64
    """Address of room for ``capacity`` frames, of which ``made`` are made."""
    capacity: i64
    made: i64
    notes: i64
    """Address of a number for each frame made: why it is as it came (`netemu.offload.reasons.Why`)."""
    arena: i64
    arena_size: i64
    arena_used: i64
    frames_in: i64
    bytes_in: i64
    frames_out: i64
    bytes_out: i64


batch_at = pointer(Batch)


@kernel
def has_room(b: Batch, size: i64) -> i64:
    """1 if one more frame with ``size`` new bytes and a template fits."""
    if b.made >= b.capacity:
        return 0
    return 1 if b.arena_used + size + 2 * TEMPLATE_BYTES <= b.arena_size else 0


@kernel
def arena_take(b: Batch, size: i64) -> i64:
    """The address of ``size`` bytes of the arena, after `has_room` said yes."""
    at = b.arena + b.arena_used
    b.arena_used += (size + 7) & ~7
    return at


@kernel
def emit_new(b: Batch, address: i64, length: i64, vnet: i64, tstamp: i64, interface: i64, number: i64) -> None:
    """One more frame of the result, of bytes that are new, with a header (0: none)."""
    frame = frame_at(b.out + b.made * FRAME_SIZE)
    frame.address = address
    frame.len = length
    frame.wire_len = length
    frame.tstamp = tstamp
    frame.interface = interface
    frame.id = number
    frame.vnet = vnet
    store64(b.notes + b.made * 8, WHOLE)
    b.made += 1
    b.frames_out += 1
    b.bytes_out += length


@kernel
def emit(b: Batch, like: Frame, address: i64, length: i64, vnet: i64, note: i64) -> None:
    """One more frame of the result: bytes, header (0: none) and note are given, the rest is that of ``like``."""
    at = b.made
    emit_new(b, address, length, vnet, like.tstamp, like.interface, like.id)
    if address == like.address:
        frame_at(b.out + at * FRAME_SIZE).wire_len = like.wire_len
    store64(b.notes + at * 8, note)


class BatchBuffers:
    """The memory behind a `Batch`, for Python."""

    def __init__(self, frames: int = OUT_FRAMES, arena_bytes: int = ARENA_BYTES) -> None:
        self._arena = allocate(arena_bytes)
        self.out = array_of(Frame, frames)
        self._notes = allocate(8 * frames)
        self.batch = Batch(
            out=self.out.address,
            capacity=frames,
            notes=self._notes.address,
            arena=self._arena.address,
            arena_size=arena_bytes,
        )

    def give(self, address: int, count: int) -> None:
        """Name ``count`` frames at host ``address`` as the next input."""
        self.batch.frames = address
        self.batch.count = count
        self.batch.next = 0

    def empty(self) -> None:
        """Forget the result, so that there is room for the next."""
        self.batch.made = 0
        self.batch.arena_used = 0
