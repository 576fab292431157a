"""Packets that wait: for the address of a neighbour, or for their turn at the host's own stack.

Theory of operation
-------------------
A `netemu.stack.packet.Packet` is gone when the call that sends it is over, so one that waits is copied, as it is from
the IP header on, into *chunks* of 2 KiB from a pool of the host's. The first chunk's struct says what the packet's
checksum and segmentation still need; `take_held` puts the bytes side by side again in the host's room for it.
"""

from __future__ import annotations

import numpy as np

from netemu.jit import Buffer, Struct, StructArray, allocate, array_of, i64, kernel, memcpy, pointer, struct
from netemu.stack.packet import Packet, packet_at, packet_len

CHUNK_SIZE = 2048
CHUNK_COUNT = 1024
"""2 MiB a host, memory that costs nothing until it is used."""


@struct
class Held(Struct):
    """A chunk of a packet; what follows ``bytes`` is of its first one alone."""

    next: i64
    """Address of the packet's next chunk, or of the next free one."""
    following: i64
    """Address of the first chunk of the next packet in the same queue."""
    bytes: i64
    """CHUNK_SIZE bytes."""
    len: i64
    """Bytes of the packet."""
    chunks: i64
    kind: i64
    partial: i64
    transport: i64
    """Bytes from the IP header to the transport's."""
    transport_len: i64
    check: i64
    gso_size: i64
    gso_type: i64
    protocol: i64
    interface: i64


@struct
class HeldPool(Struct):
    """Free chunks."""

    free: i64
    free_count: i64
    refused: i64
    """Packets for which there were too few."""


held_at = pointer(Held)
held_pool_at = pointer(HeldPool)
HELD_SIZE = Held.dtype.itemsize


@kernel
def _append(first: i64, at: i64, source: i64, size: i64) -> None:
    """Copy ``size`` bytes to position ``at`` of a packet whose chunks are there."""
    chunk = first
    while at >= CHUNK_SIZE:
        chunk = held_at(chunk).next
        at -= CHUNK_SIZE
    while size > 0:
        some = min(size, CHUNK_SIZE - at)
        memcpy(held_at(chunk).bytes + at, source, some)
        source += some
        size -= some
        at = 0
        chunk = held_at(chunk).next


@kernel
def hold_packet(pool: HeldPool, packet: i64) -> i64:
    """Copy a `Packet`; the address of its first `Held`, or 0: there is no room."""
    p = packet_at(packet)
    size = packet_len(packet)
    chunks = max((size + CHUNK_SIZE - 1) // CHUNK_SIZE, 1)
    if chunks > pool.free_count:
        pool.refused += 1
        return 0
    first = pool.free
    last = held_at(first)
    for _ in range(chunks - 1):
        last = held_at(last.next)
    pool.free = last.next
    pool.free_count -= chunks
    last.next = 0
    h = held_at(first)
    h.following = 0
    h.len = size
    h.chunks = chunks
    h.kind = p.kind
    h.partial = p.partial
    h.transport = p.transport - p.data
    h.transport_len = p.transport_len
    h.check = p.check
    h.gso_size = p.gso_size
    h.gso_type = p.gso_type
    h.protocol = p.protocol
    h.interface = p.interface
    head = p.transport + p.transport_len - p.data
    _append(first, 0, p.data, head)
    _append(first, head, p.payload, p.payload_len)
    _append(first, head + p.payload_len, p.more, p.more_len)
    return first


@kernel
def drop_held(pool: HeldPool, address: i64) -> None:
    """Give a packet's chunks back."""
    chunk = held_at(address)
    pool.free_count += chunk.chunks
    while chunk.next != 0:
        chunk = held_at(chunk.next)
    chunk.next = pool.free
    pool.free = address


@kernel
def copy_held(address: i64, target: i64) -> None:
    """Copy a packet's bytes to where ``target`` points."""
    size = held_at(address).len
    chunk = address
    while size > 0:
        some = min(size, CHUNK_SIZE)
        memcpy(target, held_at(chunk).bytes, some)
        target += some
        size -= some
        chunk = held_at(chunk).next


@kernel
def take_held(pool: HeldPool, address: i64, target: i64) -> None:
    """`copy_held`, and give the chunks back; what `Held` says of the packet is good until the next one is held."""
    copy_held(address, target)
    drop_held(pool, address)


@kernel
def unfold(address: i64, p: Packet, source: i64) -> None:
    """Make ``p`` the packet that was held at ``address`` and now lies at ``source``."""
    h = held_at(address)
    head = h.transport + h.transport_len
    p.data = p.transport - h.transport
    memcpy(p.data, source, head)
    p.transport_len = h.transport_len
    p.payload = source + head
    p.payload_len = h.len - head
    p.more_len = 0
    p.kind = h.kind
    p.partial = h.partial
    p.check = h.check
    p.gso_size = h.gso_size
    p.gso_type = h.gso_type
    p.protocol = h.protocol
    p.interface = h.interface


class HeldPackets:
    """A `HeldPool` with its memory."""

    def __init__(self, count: int = CHUNK_COUNT) -> None:
        """Room for ``count`` chunks."""
        self._bytes: Buffer = allocate(count * CHUNK_SIZE)
        self._chunks: StructArray[Held] = array_of(Held, count)
        order, view = np.arange(count), self._chunks.view
        view["bytes"] = self._bytes.address + order * CHUNK_SIZE
        view["next"] = self._chunks.address + (order + 1) * HELD_SIZE
        view["next"][-1] = 0
        self.struct = HeldPool(free=self._chunks.address, free_count=count)
