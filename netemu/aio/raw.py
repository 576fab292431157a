"""Raw sockets for coroutines: frames as bytes, or as scapy's packets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from netemu.aio.endpoint import MessageEndpoint
from netemu.aio.failures import send_failure
from netemu.aio.scapy_frames import frame_of
from netemu.stack.messages.ping_and_raw import RawSocket


class Raw(MessageEndpoint):
    """A raw socket: ``await raw.send(Ether() / IP(dst="10.0.0.2") / ICMP())``, ``packet = await raw.receive()``."""

    socket: RawSocket

    def __init__(self, name: str, open_socket: Any, sender: Callable[[], tuple[bytes, list[str]]]) -> None:
        """For `netemu.aio.host.AsyncHost.raw`; ``open_socket`` gets the handle and gives the socket.

        ``sender`` gives the MAC address and the other addresses of who sends.
        """
        self._name, self._sender = name, sender
        super().__init__(open_socket)

    async def send(self, frame: Any) -> None:
        """Send a frame, from its Ethernet header on: bytes, or a packet of scapy's.

        A packet that leaves its sources open is from this host, and without a destination MAC address for everybody.
        Raises `OSError` for one that is too long, `ConfigError` for one that is too short.
        """
        self._refuse_closed()
        problem = send_failure(self.socket.send(self.bytes_of(frame)), str(self))
        if problem is not None:
            raise problem

    def bytes_of(self, frame: Any) -> bytes:
        """What `send` sends of it."""
        return frame_of(frame, *self._sender())

    async def receive(self) -> Any:
        """The next frame that comes in, dissected by scapy; its ``time`` is the emulated one, in seconds."""
        from scapy.layers.l2 import Ether  # noqa: PLC0415 - takes long to load

        message = await self.take()
        packet = Ether(message.data)
        packet.time = message.time / 1_000_000_000
        return packet

    async def receive_bytes(self) -> bytes:
        """The next frame that comes in."""
        return (await self.take()).data

    def __str__(self) -> str:
        """Whose socket."""
        return f"{self._name}: raw socket"
