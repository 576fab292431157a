"""asyncio's transport over an emulated TCP connection: stock streams, and protocols that others wrote, run on it.

Theory of operation
-------------------
What is written goes into the connection's own send buffer as far as it has room, the rest into ``_pending``, which is
what the protocol's flow control (pause_writing) goes by. What arrives is read when the connection says so, as much as
there is, until the protocol pauses reading; the window does the rest. A connection wakes Python for bytes once it has
LOW_WATER of them, or the sender pushed (`netemu.stack.tcp.tcb.Tcb.rcv_lowat`): a bulk transfer does not cost a wake for
each segment.
"""

from __future__ import annotations

import asyncio
import errno
from typing import Any, cast

from netemu.aio.failures import failure
from netemu.aio.loop import EmulatedLoop
from netemu.stack.addresses import halves_text
from netemu.stack.tcp.calls import can_write, readable
from netemu.stack.tcp.sockets import TcpSocket
from netemu.stack.tcp.tcb import (
    ERROR_ABORTED,
    ERROR_REFUSED,
    ERROR_RESET,
    ERROR_TIMED_OUT,
    ERROR_UNREACHABLE,
    EVENT_CLOSED,
    EVENT_CONNECTED,
    EVENT_WRITABLE,
)

LOW_WATER = 1 << 16
"""Bytes for which Python is woken although the sender did not push; a quarter of a receive buffer that is small."""
_READ_SIZE = 1 << 18
"""Bytes that are handed to a protocol at once."""
_PENDING_HIGH = 1 << 16

_ERRNO = {
    ERROR_REFUSED: errno.ECONNREFUSED,
    ERROR_RESET: errno.ECONNRESET,
    ERROR_TIMED_OUT: errno.ETIMEDOUT,
    ERROR_UNREACHABLE: errno.EHOSTUNREACH,
    ERROR_ABORTED: errno.ECONNABORTED,
}


def connection_failure(code: int, where: str) -> OSError:
    """The exception for an ERROR_... of a connection: `ConnectionRefusedError`, `TimeoutError` and so on."""
    return failure(_ERRNO.get(code, errno.ENOTCONN), where)


def endpoints(connection: TcpSocket) -> tuple[tuple[str, int], tuple[str, int]]:
    """Own address and port of a connection, and the peer's."""
    tcb = connection.tcb
    local, remote = halves_text(tcb.local_hi, tcb.local_lo), halves_text(tcb.remote_hi, tcb.remote_lo)
    return (local, tcb.local_port), (remote, tcb.remote_port)


class TcpTransport(asyncio.Transport):
    """One connection."""

    def __init__(self, loop: EmulatedLoop, name: str, connection: TcpSocket) -> None:
        """Over a connection that is on its way, or was accepted; `begin` gives it a protocol."""
        super().__init__()
        self._loop, self._name, self._connection = loop, name, connection
        self._local, self._remote = endpoints(connection)
        self._protocol: asyncio.BaseProtocol | None = None
        self._pending = bytearray()
        self._high, self._low = _PENDING_HIGH, _PENDING_HIGH // 4
        self._paused = self._protocol_paused = False
        self._closing = self._finished = self._over = False
        self._eof_read = self._eof_wanted = False
        self._connected: asyncio.Future[None] | None = None
        self._handle = loop.attach(self._ready, self.__str__, self._forget)
        connection.handle = self._handle
        connection.tcb.nodelay = 1  # as asyncio sets TCP_NODELAY on every connection
        connection.tcb.rcv_lowat = min(LOW_WATER, connection.tcb.receive_capacity // 4)

    # The beginning.

    async def connected(self) -> None:
        """Wait for the handshake. Raises `OSError` if it fails; who is cancelled gives the connection up."""
        self._connected = self._loop.create_future()
        try:
            await self._connected
        except BaseException:
            self._let_go(abort=True)
            raise
        self._local, self._remote = endpoints(self._connection)

    def begin(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand up what comes from now on."""
        self._protocol = protocol
        protocol.connection_made(self)
        self._loop.call_soon(self._ready)

    # What happens.

    def _ready(self) -> None:
        """Something happened to the connection."""
        if self._finished:
            return
        events = self._connection.events()
        if self._connected is not None and not self._connected.done():
            if events & EVENT_CLOSED:
                self._connected.set_exception(connection_failure(self._connection.error_code, str(self)))
            elif events & EVENT_CONNECTED:
                self._connected.set_result(None)
        if self._protocol is None:
            return
        if events & EVENT_WRITABLE and self._pending:
            self._write_pending()
        self._read_ready()
        self._over = self._over or bool(events & EVENT_CLOSED)
        # What came before the end is handed up first, also if nobody reads at the moment.
        if self._over and not self._finished and not (self._paused and readable(self._connection.tcb)):
            self._gone()

    def _gone(self) -> None:
        """The connection is over, by an error or by its end."""
        code = self._connection.error_code
        self._finish(None if code in (0, ERROR_ABORTED) else connection_failure(code, str(self)))

    def _read_ready(self) -> None:
        while not (self._paused or self._closing or self._eof_read or self._finished):
            data = self._read_some()
            if data is None:
                return
            if data:
                self._hand_up(data)
                continue
            self._eof_read = True
            if not cast("asyncio.Protocol", self._protocol).eof_received():
                self.close()

    def _read_some(self) -> bytes | None:
        """What there is to be read, as far as it is handed up at once; b"" at the end, None if there is nothing."""
        if self._connection.error_code and not readable(self._connection.tcb):
            return None  # it is gone, and _gone says why
        parts: list[bytes] = []
        size = 0
        while size < _READ_SIZE and not (parts and not readable(self._connection.tcb)):
            part = self._connection.read(_READ_SIZE - size)
            if not part:
                if part is not None and not parts:
                    return b""
                break
            parts.append(part)
            size += len(part)
        return b"".join(parts) if parts else None

    def _hand_up(self, data: bytes) -> None:
        protocol = self._protocol
        if not isinstance(protocol, asyncio.BufferedProtocol):
            cast("asyncio.Protocol", protocol).data_received(data)
            return
        view = memoryview(data)
        while view:
            buffer = memoryview(protocol.get_buffer(len(view)))
            some = min(len(buffer), len(view))
            buffer[:some] = view[:some]
            protocol.buffer_updated(some)
            view = view[some:]

    # Reading.

    def pause_reading(self) -> None:
        """Hand up nothing until `resume_reading`; what comes fills the receive buffer, and the window closes."""
        self._paused = True

    def resume_reading(self) -> None:
        """Hand up again."""
        if self._paused:
            self._paused = False
            self._loop.call_soon(self._ready)

    def is_reading(self) -> bool:
        """Whether bytes are handed up."""
        return not (self._paused or self._closing)

    # Writing.

    def write(self, data: Any) -> None:
        """Send bytes; what there is no room for waits here. Nothing happens once the connection is gone."""
        if self._eof_wanted:
            raise RuntimeError("write_eof() was called: nothing can be written any more")
        if self._closing or self._finished or not data:
            return
        if self._pending:
            self._pending += data
        else:
            view = memoryview(data).cast("B") if not isinstance(data, bytes) else data
            done = self._push(view)
            self._pending += view[done:]
        self._mind_the_marks()

    def _push(self, data: Any) -> int:
        """Put bytes into the connection; how many it took. A connection that is going takes all, to no effect."""
        if not can_write(self._connection.tcb):
            return len(data)
        return self._connection.write(data)

    def _write_pending(self) -> None:
        done = self._push(bytes(self._pending))
        del self._pending[:done]
        self._mind_the_marks()
        if not self._pending:
            if self._closing:
                self._let_go()
            elif self._eof_wanted:
                self._connection.shutdown()

    def _mind_the_marks(self) -> None:
        """Have the protocol stop writing, or go on."""
        protocol = self._protocol
        if protocol is None:
            return
        if len(self._pending) > self._high and not self._protocol_paused:
            self._protocol_paused = True
            protocol.pause_writing()
        elif len(self._pending) <= self._low and self._protocol_paused:
            self._protocol_paused = False
            protocol.resume_writing()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """The bytes that may wait before the protocol is paused, and those at which it goes on."""
        if high is None:
            high = _PENDING_HIGH if low is None else 4 * low
        self._high, self._low = high, high // 4 if low is None else low
        self._mind_the_marks()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Low and high mark."""
        return self._low, self._high

    def get_write_buffer_size(self) -> int:
        """Bytes that wait here."""
        return len(self._pending)

    def can_write_eof(self) -> bool:
        """It can."""
        return True

    def write_eof(self) -> None:
        """Close the sending half behind what was written; the other one stays."""
        if not (self._eof_wanted or self._closing or self._finished):
            self._eof_wanted = True
            if not self._pending:
                self._connection.shutdown()

    # The end.

    def is_closing(self) -> bool:
        """Whether it is closed, or being so."""
        return self._closing or self._finished

    def close(self) -> None:
        """Close it behind what was written; nothing more is read."""
        if not (self._closing or self._finished):
            self._closing = True
            if not self._pending:
                self._let_go()

    def abort(self) -> None:
        """Give it up at once, with a RST."""
        if not self._finished:
            self._pending.clear()
            self._let_go(abort=True)

    def _let_go(self, *, abort: bool = False) -> None:
        """Leave the rest to TCP."""
        if abort:
            self._connection.abort()
        else:
            self._connection.close()
        self._finish(None)

    def _finish(self, error: Exception | None) -> None:
        """Tell the protocol that it is over."""
        if self._finished:
            return
        self._finished = self._closing = True
        self._loop.detach(self._handle)
        self._connection.close()
        self._pending.clear()
        if self._protocol is not None:
            self._loop.call_soon(self._protocol.connection_lost, error)

    def _forget(self) -> None:
        """The loop is closed: there is nobody any more to close it properly."""
        self._finished = self._closing = True

    # The rest.

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """``sockname``, ``peername``; ``tcp_info``: what ``ss -i`` shows, at this moment."""
        if name == "sockname":
            return self._local
        if name == "peername":
            return self._remote
        if name == "tcp_info":
            return self._connection.info()
        return default

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Whom it hands up to."""
        assert self._protocol is not None
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand up to somebody else."""
        self._protocol = protocol

    def __str__(self) -> str:
        """Whose connection, and its ends and state."""
        (local, port), (remote, remote_port) = self._local, self._remote
        return f"{self._name}: TCP {local} port {port} to {remote} port {remote_port}, {self._connection.state}"
