"""The control virtqueue as the driver uses it: virtnet_send_command.

Theory of operation
-------------------
A command is one buffer: class and number, data in one or more segments, one byte for the acknowledgement and, for
statistics alone, room for a result behind it. The driver presets the acknowledgement to 0xFF, kicks, and then spins: it
has no callback on this queue, and holds the lock that all commands take. A device that never answers hangs the caller
in Linux; here it gets `SPINS` turns, and then the queue counts as broken.

Older kernels have one place for every command's words; newer ones allocate each command's data (`fresh`), which is
here a part of the same area that moves on from command to command.
"""

from __future__ import annotations

from netemu.driver.virtio_ring import (
    SCATTER_SIZE,
    Scatter,
    Virtqueue,
    scatter_at,
    virtqueue_add,
    virtqueue_disable_cb,
    virtqueue_get_buf_ctx,
    virtqueue_kick,
)
from netemu.driver.vring import NO_ANSWER
from netemu.errors import ConfigError
from netemu.jit import array_of
from netemu.memory import GuestMemory
from netemu.virtio.control import HEADER, OK
from netemu.virtio.transport import Transport

SPINS = 1000
"""Turns of the device that a command waits for its acknowledgement; a device in one process needs one."""
AREA_SIZE = 1 << 16
"""Guest memory for commands and their answers."""
_SEGMENTS = 8
_PRESET = 0xFF
_HEADER_AT = 0
_ACK_AT = HEADER.size
_DATA_AT = 64


class ControlQueue:
    """vi->cvq, with the memory that commands lie in."""

    def __init__(self, vq: Virtqueue, transport: Transport, memory: GuestMemory, *, fresh: bool) -> None:
        """Use ring ``vq``; with ``fresh`` each command has memory of its own, else all have the same."""
        self._vq = vq
        self._transport = transport
        self._memory = memory
        self._fresh = fresh
        self._area = memory.reserve(AREA_SIZE)
        self._next = _DATA_AT
        self._sg = array_of(Scatter, _SEGMENTS)
        self.start()

    def start(self) -> None:
        """Ask for no interrupts on a ring that is new, or new again: the queue has no callback."""
        virtqueue_disable_cb(self._vq)

    @property
    def broken(self) -> bool:
        """Whether no command can be sent any more."""
        return self._vq.broken != 0

    def virtnet_send_command(self, kind: int, command: int, *data: bytes, result_size: int = 0) -> bytes | None:
        """Send a command and wait for the answer; its result, or None if it was refused or the queue is broken.

        ``data`` are the command's segments, ``result_size`` the bytes a result may have. Raises `ConfigError` for a
        command that has no room.
        """
        ack, result = self._area + _ACK_AT, self._lay_out(kind, command, data, result_size)
        readable = len(self._readable)
        segments = [*self._readable, (ack, 1), *([(result, result_size)] if result_size else [])]
        for n, (gpa, length) in enumerate(segments):
            scatter = scatter_at(self._sg.address + n * SCATTER_SIZE)
            scatter.gpa, scatter.length = gpa, length
        vq = self._vq
        if virtqueue_add(vq, self._sg.address, readable, len(segments) - readable, self._area, 0) < 0:
            return None
        if virtqueue_kick(vq) == 0:
            return None
        self._wait()
        if self._memory.read(ack, 1)[0] != OK or vq.broken:
            return None
        # The used length is not looked at (LEG-V-10): what the device did not write is zeros.
        return self._memory.read(result, result_size)

    def _lay_out(self, kind: int, command: int, data: tuple[bytes, ...], result_size: int) -> int:
        """Write a command into guest memory, note its readable segments, and return where its result goes."""
        size = sum(map(len, data)) + result_size
        if size > AREA_SIZE - _DATA_AT or len(data) > _SEGMENTS - 3:
            raise ConfigError(f"a command with {size} bytes in {len(data)} parts: there is room for {AREA_SIZE}")
        if not self._fresh or self._next + size > AREA_SIZE:
            self._next = _DATA_AT
        self._memory.write(self._area + _HEADER_AT, HEADER.pack(kind, command) + bytes([_PRESET]))
        at = self._area + self._next
        self._readable = [(self._area + _HEADER_AT, HEADER.size)]
        for part in data:
            self._memory.write(at, part)
            self._readable.append((at, len(part)))
            at += len(part)
        self._memory.write(at, bytes(result_size))
        self._next += size
        return at

    def _wait(self) -> None:
        """Spin until the command is used; a queue without an answer is broken."""
        vq = self._vq
        for _ in range(SPINS):
            self._transport.serve(vq.index)
            token, _length, _ctx = virtqueue_get_buf_ctx(vq)
            if token or vq.broken:
                return
        vq.broken = NO_ANSWER
