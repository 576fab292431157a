"""Frames as kernels hand them on: where their bytes lie, when they came, and what is still to be done to them."""

from __future__ import annotations

from netemu.jit import Struct, i64, pointer, struct


@struct
class Frame(Struct):
    """One frame of a batch, wherever it comes from. Lengths in bytes."""

    address: i64
    """Host address of its first byte."""
    len: i64
    """Bytes that were captured."""
    wire_len: i64
    """Bytes it had on the wire: more than ``len`` where the capture was snapped."""
    tstamp: i64
    """ns since 1970; 0 where the format records none (simple packet blocks)."""
    interface: i64
    """Which interface of the file it came from, from 0, counted over all sections."""
    id: i64
    """Its number in the file, from 1."""
    vnet: i64
    """Host address of a virtio_net_hdr of 32 bytes that says what its sender left undone; 0: nothing is."""


frame_at = pointer(Frame)
FRAME_SIZE = Frame.dtype.itemsize
