"""A guest of a lab and a real Linux host, for the tests of the one against the other."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

from netemu.lab import Lab
from tests.tap_kit import Namespace, linux

T = TypeVar("T")
HOST, GUEST = "10.9.0.1", "10.9.0.2"
HOST6, GUEST6 = "2001:db8:9::1", "2001:db8:9::2"


class Talk:
    """A guest of a lab and a real Linux host, with a link between them."""

    def __init__(self, host: Namespace, netem: str = "", mtu: int = 1500, **guest: Any) -> None:
        self.host = host
        self.lab = Lab(realtime=True)
        self.guest = self.lab.guest("guest", [f"{GUEST}/24", f"{GUEST6}/64"], mtu=mtu, **guest)
        with host.inside():
            self.port = self.lab.tap("tap0", [f"{HOST}/24"], mtu=mtu)
        host.run("ip", "address", "add", f"{HOST6}/64", "dev", "tap0", "nodad")
        self.link = self.lab.link(self.guest, self.port, netem)

    def run(self, main: Coroutine[Any, Any, T], seconds: float = 60) -> T:
        """Run a coroutine while frames are carried."""

        return self.lab.run(asyncio.wait_for(main, seconds))

    async def linux(self, *words: str) -> str:
        """Run a program on the Linux host; what it printed."""
        return await asyncio.to_thread(self.host.run, *words)

    def socket(self, kind: socket.SocketKind = socket.SOCK_DGRAM, address: str = HOST) -> socket.socket:
        """A socket of the Linux host, bound to any port, for the loop to wait on."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with self.host.inside():
            made = socket.socket(family, kind)
        made.setblocking(False)
        made.bind((address, 0))
        return made

    def close(self) -> None:
        """End everything."""
        self.port.close()
        self.lab.close()


@contextlib.contextmanager
def talk(netem: str = "", mtu: int = 1500, **guest: Any) -> Iterator[Talk]:
    """A guest and a Linux host for as long as the block; the test is skipped where there can be none."""
    with linux() as host:
        talking = Talk(host, netem, mtu, **guest)
        try:
            yield talking
        finally:
            talking.close()
