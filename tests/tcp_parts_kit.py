"""The parts of TCP with memory under them, and sets of positions as plain Python has them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from netemu.jit import allocate, array_of
from netemu.stack.packet import PacketBuffer
from netemu.stack.tcp.options import SACK_BLOCKS_MAX, SackBlock
from netemu.stack.tcp.ranges import RANGE_SIZE, Ranges, range_left, range_right, start_ranges
from netemu.stack.tcp.receive_buffer import (
    ReceiveBuffer,
    receive_bytes,
    receive_read,
    start_receive_buffer,
    write_sack_blocks,
)
from netemu.stack.tcp.scoreboard import Scoreboard, start_scoreboard, update
from netemu.stack.tcp.send_buffer import SendBuffer, send_buffer_append, send_buffer_payload, start_send_buffer
from tests.skb_kit import SkbKit

Pair = tuple[int, int]


def spans(positions: Iterable[int]) -> list[Pair]:
    """A set of positions as sorted (left, right) pairs that do not touch."""
    out: list[Pair] = []
    for position in sorted(positions):
        if out and out[-1][1] == position:
            out[-1] = (out[-1][0], position + 1)
        else:
            out.append((position, position + 1))
    return out


class RangeSet:
    """A `Ranges` with room for ``capacity`` ranges."""

    def __init__(self, capacity: int = 16) -> None:
        self.memory = allocate(capacity * RANGE_SIZE)
        self.capacity = capacity
        self.struct = Ranges()
        start_ranges(self.struct, self.memory.address, capacity)

    def pairs(self) -> list[Pair]:
        return [(range_left(self.struct, n), range_right(self.struct, n)) for n in range(self.struct.count)]


class Sending:
    """A send buffer."""

    def __init__(self, capacity: int, position: int = 0) -> None:
        self.memory = allocate(capacity, align=1)
        self.struct = SendBuffer()
        self._packet = PacketBuffer()
        start_send_buffer(self.struct, self.memory.address, capacity, position)

    def append(self, data: bytes) -> int:
        source = allocate(max(len(data), 1), align=1)
        source.array[: len(data)] = bytearray(data)
        return int(send_buffer_append(self.struct, source.address, len(data)))

    def payload(self, position: int, size: int) -> bytes:
        """The bytes that a packet would carry."""
        count = send_buffer_payload(self.struct, position, size, self._packet.address)
        p = self._packet.struct
        pieces = b"".join(self._at(at, n) for at, n in ((p.payload, p.payload_len), (p.more, p.more_len)) if n)
        assert len(pieces) == count
        return pieces

    def _at(self, address: int, size: int) -> bytes:
        start = address - self.memory.address
        assert 0 <= start
        assert start + size <= len(self.memory)
        return self.memory.array[start : start + size].tobytes()


class Receiving:
    """A receive buffer, fed with bytes by position."""

    def __init__(self, capacity: int, ranges: int = 16, position: int = 0) -> None:
        self.memory = allocate(capacity, align=1)
        self.ranges = RangeSet(ranges)
        self.struct = ReceiveBuffer()
        self._kit = SkbKit()
        self._blocks = array_of(SackBlock, SACK_BLOCKS_MAX)
        start_receive_buffer(
            self.struct,
            self.memory.address,
            capacity,
            self.ranges.struct.address,
            self.ranges.memory.address,
            ranges,
            position,
        )

    def receive(self, position: int, data: bytes, header: int = 14, pieces: tuple[int, ...] = ()) -> int:
        """A segment whose ``data`` lies behind ``header`` bytes in its frame; how far rcv_nxt moved."""
        skb = self._kit.build(bytes(header) + data, header, pieces)
        return int(receive_bytes(self.struct, skb, header, position, len(data)))

    def read(self, size: int) -> bytes:
        target = allocate(max(size, 1), align=1)
        count = receive_read(self.struct, target.address, size)
        return target.array[:count].tobytes()

    def sacks(self, limit: int = SACK_BLOCKS_MAX) -> list[Pair]:
        count = write_sack_blocks(self.struct, self._blocks.address, limit)
        return [(block.left, block.right) for block in self._blocks[:count]]


class Board:
    """A scoreboard, fed with acknowledgements."""

    def __init__(self, smss: int = 1, position: int = 0, ranges: int = 64) -> None:
        self.ranges = RangeSet(ranges)
        self.struct = Scoreboard()
        self._blocks = array_of(SackBlock, SACK_BLOCKS_MAX)
        start_scoreboard(self.struct, self.ranges.struct.address, self.ranges.memory.address, ranges, position, smss)

    def ack(self, una: int, sacks: Sequence[Pair] = (), high_data: int = 0) -> int:
        for block, (left, right) in zip(self._blocks, sacks, strict=False):
            block.left, block.right = left, right
        return int(update(self.struct, una, high_data, self._blocks.address, len(sacks)))
