"""`MessageSocket`: a socket of messages for Python, with the memory of its queue."""

from __future__ import annotations

import struct
from typing import NamedTuple

from netemu.jit import allocate
from netemu.stack.addresses import Halves
from netemu.stack.messages.datagram import AT_START, MESSAGE_MAX, RCVBUF, RECORD, DatagramSocket

_RECORD = struct.Struct("<8q")
assert _RECORD.size == RECORD


class Received(NamedTuple):
    """A message that was received."""

    data: bytes
    source: Halves
    port: int
    """Of UDP: where it came from. Of a ping: its sequence number. Of a raw socket 0."""
    time: int
    """When, ns."""
    target: Halves
    """The own address it was sent to."""
    extra: int
    """TTL or hop limit; of a raw socket the interface's index."""


class MessageSocket:
    """A `DatagramSocket` together with its queue."""

    def __init__(self, message: int, *, handle: int = 0, rcvbuf: int = RCVBUF) -> None:
        """A socket that shares the `netemu.stack.messages.datagram.Message` at an address with its like.

        ``handle`` is put on the list of ready sockets when it wakes; ``rcvbuf`` bytes may wait in its queue.
        """
        # One message more than rcvbuf may wait, and as much again may be left out at the end of the ring.
        room = 1 << (rcvbuf + 2 * (MESSAGE_MAX + RECORD)).bit_length()
        self._queue = allocate(room)
        self._bytes = self._queue.array.data
        self._app_memory: tuple[object, ...] = ()
        self.struct = DatagramSocket(
            handle=handle, message=message, queue=self._queue.address, room=room, rcvbuf=rcvbuf
        )

    def set_app(self, app: int, state: int = 0, *memory: object) -> None:
        """Have messages go to ``app``, a hook, with ``state`` in ``app_state``; ``memory`` is kept as long as it."""
        self._app_memory = memory
        self.struct.app_state, self.struct.app = state, app

    @property
    def address(self) -> int:
        """For a kernel."""
        return self.struct.address

    def receive(self) -> Received | None:
        """The oldest message in the queue, which it leaves; None if there is none."""
        s = self.struct
        if s.tail == s.head:
            return None
        at = s.tail & (s.room - 1)
        # There may be less than a record's room at the end of the ring, but always that of a size.
        if int.from_bytes(self._bytes[at : at + 8], "little", signed=True) == AT_START:
            s.tail += s.room - at
            at = 0
        size, hi, lo, port, time, target_hi, target_lo, extra = _RECORD.unpack_from(self._bytes, at)
        data = bytes(self._bytes[at + RECORD : at + RECORD + size])
        s.tail += RECORD + ((size + 7) & ~7)
        return Received(data, (hi, lo), port, time, (target_hi, target_lo), extra)

    def close(self) -> None:
        """Get no more messages. What waits in the queue can still be received."""
        raise NotImplementedError

    def take_error(self) -> tuple[int, int]:
        """The ERROR_... that ICMP told of since the last call, 0 if none, and what came with it."""
        s = self.struct
        error, s.error = s.error, 0
        return error, s.error_info
