"""What an emulated socket has in common with Python's: it is waited for, and closed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from netemu.aio.failures import icmp_failure
from netemu.aio.loop import SECOND, EmulatedLoop
from netemu.errors import ConfigError
from netemu.stack.messages.socket import MessageSocket, Received


def running_loop() -> EmulatedLoop:
    """The loop that the caller runs on. Raises `ConfigError` if it is not an emulated one."""
    loop = asyncio.get_running_loop()
    if not isinstance(loop, EmulatedLoop):
        raise ConfigError("sockets of emulated hosts live in emulated time: run the coroutine with lab.run()")
    return loop


class MessageEndpoint:
    """A socket of messages that coroutines wait at, any number of them. For use in ``with``, or to be closed."""

    socket: MessageSocket

    def __init__(self, open_socket: Callable[[int], Any]) -> None:
        """Open it on the running loop: ``open_socket`` gets its handle, and gives the socket."""
        self.loop = running_loop()
        self.handle = self.loop.attach(self._wake, lambda: str(self))
        self._waiters: list[asyncio.Future[None]] = []
        self._closed = False
        try:
            self.socket = open_socket(self.handle)
        except BaseException:
            self.loop.detach(self.handle)
            raise

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self, until: int | None = None) -> bool:
        """Wait for a message or an error, no longer than until a moment (ns); False if that came first."""
        waiter: asyncio.Future[None] = self.loop.create_future()
        self._waiters.append(waiter)
        self.socket.struct.wanted = 1
        if until is None:
            await waiter
            return True
        timer = self.loop.call_at(until / SECOND, lambda: waiter.done() or waiter.cancel())
        try:
            await asyncio.wait([waiter])
        finally:
            timer.cancel()
        return not waiter.cancelled()

    async def take(self) -> Received:
        """The next message, as soon as there is one. Raises `OSError` for what ICMP told of, or if it is closed."""
        while True:
            self._refuse_closed()
            error, _ = self.socket.take_error()
            if error:
                raise icmp_failure(error, str(self))
            message = self.socket.receive()
            if message is not None:
                return message
            await self.wait()

    @property
    def is_closed(self) -> bool:
        """Whether it is."""
        return self._closed

    def _refuse_closed(self) -> None:
        if self._closed:
            raise OSError(f"{self} is closed")

    def close(self) -> None:
        """Let go of it; who waits there gets an `OSError`."""
        if not self._closed:
            self._closed = True
            self.loop.detach(self.handle)
            self.socket.close()
            self._wake()

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()
