"""Frames as a user of a `netemu.nic.Nic` gives and gets them, and as kernels read and write them."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np

from netemu.capture.formats import MAX_FRAME
from netemu.errors import ConfigError
from netemu.frame import Frame, frame_at
from netemu.jit import Buffer, StructArray, allocate, array_of
from netemu.nic.sending import SentFrame
from netemu.trace import BufferEvent, SkbEvent, TraceBuffers
from netemu.virtio.net import HDR_LEN_MAX
from netemu.ways import Ways


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


def laid_out(item: bytes | Outgoing | Any, tstamp: int) -> tuple[list[Buffer], StructArray[Frame]]:
    """A frame's bytes and header in memory that a kernel may read, and the `Frame` that names them.

    The memory has to be kept as long as the struct is used. Raises `ConfigError` for what is no frame.
    """
    if isinstance(item, int):
        raise ConfigError("this takes a list of frames, not a single one")
    header = item.header if isinstance(item, Outgoing) else None
    data = bytes(item.data if isinstance(item, Outgoing) else item)
    if len(data) > MAX_FRAME:
        raise ConfigError(f"a frame has at most {MAX_FRAME} bytes, not {len(data)}")
    memory = allocate(max(1, len(data)))
    memory.array[: len(data)] = bytearray(data)
    kept = [memory]
    frame = array_of(Frame, 1)
    frame[0].address = memory.address
    frame[0].len = frame[0].wire_len = len(data)
    frame[0].tstamp = tstamp
    if header is not None:
        vnet = allocate(HDR_LEN_MAX)
        vnet.array[:] = np.frombuffer(header[:HDR_LEN_MAX].ljust(HDR_LEN_MAX, b"\0"), np.uint8)
        frame[0].vnet = vnet.address
        kept.append(vnet)
    return kept, frame


def received_skbs(trace: TraceBuffers, ways: Ways) -> list[ReceivedSkb]:
    """The skbs of a trace, as objects of their own; ``ways`` knows their buffers."""
    return [
        ReceivedSkb(
            trace.bytes.array[skb.offset : skb.offset + skb.len].tobytes(),
            SkbEvent.from_buffer_copy(skb),
            ways.buffers_of(skb.queue, skb.frame_id),
        )
        for skb in trace.skbs[: trace.struct.skb_count]
    ]


def sent_frame(address: int) -> SentFrame:
    """A frame of the egress, or of the stage behind it, as an object of its own."""
    frame = frame_at(address)
    header = ctypes.string_at(frame.vnet, HDR_LEN_MAX) if frame.vnet else None
    data = ctypes.string_at(frame.address, frame.len)
    return SentFrame(data, frame.id, frame.interface, frame.tstamp, header)
