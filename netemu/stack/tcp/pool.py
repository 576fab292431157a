"""The memory of a host's connections: TCBs with all their parts, in chunks that are added when free ones run short."""

from __future__ import annotations

from typing import Any

import numpy as np

from netemu.chance import next_random
from netemu.jit import Buffer, Struct, StructArray, allocate, array_of
from netemu.stack.tcp.congestion import Congestion
from netemu.stack.tcp.lifetime import RECEIVE_RANGES, SACKED_RANGES
from netemu.stack.tcp.options import SACK_BLOCKS_MAX, OptionsBuffer, SackBlock
from netemu.stack.tcp.ranges import RANGE_SIZE, Ranges
from netemu.stack.tcp.receive_buffer import ReceiveBuffer
from netemu.stack.tcp.rtt import Rtt
from netemu.stack.tcp.scoreboard import Scoreboard
from netemu.stack.tcp.segment import Segment
from netemu.stack.tcp.send_buffer import SendBuffer
from netemu.stack.tcp.send_times import SEND_TIMES_BYTES, SendTimes
from netemu.stack.tcp.table import LISTENER_BUCKETS, LOW_WATER, TcpSettings, TcpTable
from netemu.stack.tcp.tcb import CLOSED, TCB_SIZE, Tcb
from netemu.stack.tcp.timeouts import ACK_TIMER, RETRANSMIT_TIMER, WAIT_TIMER
from netemu.timers import STOPPED, TIMER_SIZE, Timer

BUCKETS = 1024
CHUNK = 32
HEADER_ROOM = 64
_CACHE_LINE = 64


class TcpPool:
    """A `TcpTable` with all that it points to."""

    def __init__(
        self,
        *,
        host: int,
        mib: int,
        ext: int,
        settings: TcpSettings,
        timer_hook: int,
        output_hook: int,
        seed: int,
        send_buffer: int,
        receive_buffer: int,
        connections: int,
    ) -> None:
        """Room for up to ``connections``, each with rings of so many bytes; addresses and hooks as in `TcpTable`."""
        self._timer_hook, self._most = timer_hook, connections
        self._send_buffer, self._receive_buffer = send_buffer, receive_buffer
        self._kept: list[StructArray[Any] | Buffer] = []
        self._options = OptionsBuffer()
        self._segment = Segment(options=self._options.address)
        self._blocks = array_of(SackBlock, SACK_BLOCKS_MAX)
        self._header, self._buckets = allocate(HEADER_ROOM), allocate(BUCKETS * 8)
        self._listeners = allocate(LISTENER_BUCKETS * 8)
        self.table = TcpTable(
            host=host,
            mib=mib,
            ext=ext,
            settings=settings.address,
            segment=self._segment.address,
            blocks=self._blocks.address,
            header=self._header.address,
            output=output_hook,
            buckets=self._buckets.address,
            bucket_mask=BUCKETS - 1,
            listeners=self._listeners.address,
            send_capacity=send_buffer,
            receive_capacity=receive_buffer,
            secret=next_random(seed),
            next_port=next_random(next_random(seed)),
        )
        self.grow()

    def low(self) -> bool:
        """Whether it is time for `grow`."""
        return self.table.free_count < LOW_WATER and self.table.total < self._most

    def reserve(self, count: int) -> None:
        """Have ``count`` free TCBs at least, as far as connections are allowed."""
        while self.table.free_count < count and self.table.total < self._most:
            self.grow()

    def grow(self) -> None:
        """Add TCBs, as far as connections are allowed."""
        count = min(CHUNK, self._most - self.table.total)
        if count <= 0:
            return
        tcbs = array_of(Tcb, count)
        order = np.arange(count)
        view = tcbs.view
        view["table"], view["host"] = self.table.address, self.table.host
        parts: dict[str, type[Struct]] = {
            "send_buffer": SendBuffer,
            "receive_buffer": ReceiveBuffer,
            "scoreboard": Scoreboard,
            "rtt": Rtt,
            "send_times": SendTimes,
            "congestion": Congestion,
            "receive_ranges": Ranges,
            "sacked_ranges": Ranges,
        }
        for field, kind in parts.items():
            view[field] = self._structs(kind, count) + order * kind.dtype.itemsize
        view["receive_range_items"] = self._bytes(count, RECEIVE_RANGES * RANGE_SIZE, order)
        view["sacked_range_items"] = self._bytes(count, SACKED_RANGES * RANGE_SIZE, order)
        view["send_time_items"] = self._bytes(count, SEND_TIMES_BYTES, order)
        view["send_memory"] = self._bytes(count, self._send_buffer, order)
        view["receive_memory"] = self._bytes(count, self._receive_buffer, order)
        for field, which in (
            ("retransmit_timer", RETRANSMIT_TIMER),
            ("ack_timer", ACK_TIMER),
            ("wait_timer", WAIT_TIMER),
        ):
            timers = array_of(Timer, count)
            self._kept.append(timers)
            timers.view["due"] = timers.view["queued"] = STOPPED
            timers.view["hook"], timers.view["b"] = self._timer_hook, which
            timers.view["a"] = tcbs.address + order * TCB_SIZE
            view[field] = timers.address + order * TIMER_SIZE
        view["next"] = tcbs.address + (order + 1) * TCB_SIZE
        view["next"][-1] = self.table.free
        self._kept.append(tcbs)
        self.table.free = tcbs.address
        self.table.free_count += count
        self.table.total += count

    def in_use(self) -> list[Tcb]:
        """The TCBs that are not CLOSED."""
        chunks = [kept for kept in self._kept if isinstance(kept, StructArray)]
        return [one for chunk in chunks for one in chunk if isinstance(one, Tcb) and one.state != CLOSED]

    def _structs(self, kind: type[Struct], count: int) -> int:
        array = array_of(kind, count)
        self._kept.append(array)
        return array.address

    def _bytes(self, count: int, size: int, order: Any) -> Any:
        """Addresses of ``count`` stretches of memory; pages that are never used cost none."""
        stride = -(-size // _CACHE_LINE) * _CACHE_LINE
        block = allocate(count * stride)
        self._kept.append(block)
        return block.address + order * stride
