"""A DHCP client (RFC 2131): gets an interface an address, a router and a DNS server, and keeps them."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from dataclasses import dataclass
from typing import Self

from netemu.aio import AsyncHost
from netemu.aio.datagram import Datagram
from netemu.chance import next_random
from netemu.errors import NetemuError
from netemu.services.dhcp_messages import (
    ACK,
    BROADCAST,
    CLIENT_PORT,
    DISCOVER,
    NAK,
    NOWHERE,
    OFFER,
    RELEASE,
    REQUEST,
    SERVER_PORT,
    DhcpMessage,
    parse,
)
from netemu.services.dns_client import DnsClient

RETRIES = (4, 8, 16, 32, 64)
"""Seconds that an answer is waited for, each time it is asked anew (section 4.1)."""
_LEAST_WAIT = 60
"""Seconds between two attempts to renew (section 4.4.5)."""
_WANTED = [1, 3, 6, 51, 54, 58, 59]
"""Parameters that are asked for: mask, router, name servers, times, server."""


class DhcpError(NetemuError):
    """No server gave an address."""


@dataclass(frozen=True)
class Lease:
    """What a server gave. Times are in seconds."""

    address: str
    prefix: int
    server: str
    router: str | None
    dns: tuple[str, ...]
    duration: int
    renew: int
    """T1: when to ask the server for more time."""
    rebind: int
    """T2: when to ask any server."""

    def __str__(self) -> str:
        """In a line."""
        return f"{self.address}/{self.prefix} from {self.server} for {self.duration} s, router {self.router}"


def lease_of(message: DhcpMessage) -> Lease | None:
    """The lease in an offer or an acknowledgement; None if it is no use."""
    server, duration = message.address("server_id"), message.seconds("lease_time")
    mask = message.address("subnet_mask") or "255.255.255.0"
    if server is None or duration is None or message.yiaddr == NOWHERE:
        return None
    try:
        prefix = ipaddress.IPv4Network(f"0.0.0.0/{mask}").prefixlen
    except ValueError:
        return None
    servers = message.options.get("name_server", [])
    renew, rebind = message.seconds("renewal_time"), message.seconds("rebinding_time")
    return Lease(
        message.yiaddr,
        prefix,
        server,
        message.address("router"),
        tuple([servers] if isinstance(servers, str) else servers),
        duration,
        duration // 2 if renew is None else renew,
        duration * 7 // 8 if rebind is None else rebind,
    )


class DhcpClient:
    """The client of one interface."""

    def __init__(self, host: AsyncHost, interface: int = 1) -> None:
        """For an interface of ``host``, by its index."""
        self._host, self._index = host, interface
        self._interface = host.stack.interfaces[interface - 1]
        self._mac = self._interface.mac.to_bytes(6, "big")
        self._keeper: asyncio.Task[None] | None = None
        self.lease: Lease | None = None
        self.renewals = 0
        """How often the lease was extended."""

    async def acquire(self) -> Lease:
        """Get an address, set it, and see to it that it stays. Raises `DhcpError` if no server answers."""
        with await self._socket() as sock:
            lease = await self._initialise(sock)
        self._configure(lease)
        self._keeper = asyncio.get_running_loop().create_task(self._keep(), name=f"{self._host.name}: DHCP client")
        return lease

    async def release(self) -> None:
        """Give the address back."""
        lease = self.lease
        self.close()
        if lease is not None:
            with await self._socket() as sock:
                message = self._message(RELEASE, ciaddr=lease.address, server_id=lease.server)
                await sock.send(message.pack(), (lease.server, SERVER_PORT))
            self._unconfigure()

    def close(self) -> None:
        """Keep the address, and do nothing more about it."""
        if self._keeper is not None:
            self._keeper.cancel()
            self._keeper = None

    async def __aenter__(self) -> Self:
        """With an address."""
        await self.acquire()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Give it back."""
        await self.release()

    # The conversation.

    async def _socket(self) -> Datagram:
        return await self._host.datagram(CLIENT_PORT, interface=self._index, broadcast=True, family=4)

    def _message(self, kind: int, *, ciaddr: str = NOWHERE, **options: str) -> DhcpMessage:
        state = self._host.stack.host
        state.random = next_random(state.random)
        wanted = {} if kind == RELEASE else {"param_req_list": _WANTED}
        return DhcpMessage(kind, state.random, self._mac, ciaddr, NOWHERE, ciaddr == NOWHERE, {**options, **wanted})

    async def _answer(self, sock: Datagram, message: DhcpMessage, kinds: tuple[int, ...]) -> DhcpMessage:
        """The next answer to a message that is of one of these kinds."""
        while True:
            data, _ = await sock.receive()
            answer = parse(data)
            if answer is not None and (answer.xid, answer.mac) == (message.xid, self._mac) and answer.kind in kinds:
                return answer

    async def _initialise(self, sock: Datagram) -> Lease:
        """INIT, SELECTING and REQUESTING of figure 5."""
        for wait in RETRIES:
            discover = self._message(DISCOVER)
            await sock.send(discover.pack(), (BROADCAST, SERVER_PORT))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    offer = lease_of(await self._answer(sock, discover, (OFFER,)))
                    if offer is None:
                        continue
                    request = self._message(REQUEST, requested_addr=offer.address, server_id=offer.server)
                    request.xid = discover.xid
                    await sock.send(request.pack(), (BROADCAST, SERVER_PORT))
                    answer = await self._answer(sock, request, (ACK, NAK))
                    lease = lease_of(answer) if answer.kind == ACK else None
                    if lease is not None:
                        return lease
        raise DhcpError(f"{self._host.name}: no DHCP server gave an address within {sum(RETRIES)} seconds")

    async def _extend(self, target: str, until: float) -> bool:
        """RENEWING, or REBINDING where ``target`` is everybody: ask for more time until a moment; False for a NAK."""
        assert self.lease is not None
        loop = asyncio.get_running_loop()
        with await self._socket() as sock:
            while loop.time() < until:
                request = self._message(REQUEST, ciaddr=self.lease.address)
                await sock.send(request.pack(), (target, SERVER_PORT))
                wait = max((until - loop.time()) / 2, _LEAST_WAIT)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(wait, until - loop.time())):
                        answer = await self._answer(sock, request, (ACK, NAK))
                        lease = lease_of(answer) if answer.kind == ACK else None
                        if lease is None:
                            return False
                        self.renewals += 1
                        self._configure(lease)
                        return True
        return True

    async def _keep(self) -> None:
        """BOUND: extend the lease when it is time, and begin anew when it is over."""
        loop = asyncio.get_running_loop()
        while True:
            lease = self.lease
            if lease is None:
                with await self._socket() as sock, contextlib.suppress(DhcpError):
                    self._configure(await self._initialise(sock))
                continue
            start = loop.time()
            before = self.renewals
            await asyncio.sleep(lease.renew)
            good = await self._extend(lease.server, start + lease.rebind)
            if good and self.renewals == before:
                good = await self._extend(BROADCAST, start + lease.duration)
            if not good or self.renewals == before:
                self._unconfigure()

    # The interface.

    def _configure(self, lease: Lease) -> None:
        before, self.lease = self.lease, lease
        if before is not None and (before.address, before.prefix) == (lease.address, lease.prefix):
            return
        if before is not None:
            self._remove(before)
        self._host.stack.add_address(self._interface, f"{lease.address}/{lease.prefix}")
        if lease.router is not None:
            self._host.stack.add_route("0.0.0.0/0", via=lease.router)
        if lease.dns:
            self._host.resolver = DnsClient(self._host, *lease.dns).addresses

    def _unconfigure(self) -> None:
        if self.lease is not None:
            self._remove(self.lease)
            self.lease = None

    def _remove(self, lease: Lease) -> None:
        stack = self._host.stack
        if lease.router is not None:
            stack.ip.remove_route("0.0.0.0/0")
        stack.ip.remove_address(self._interface, f"{lease.address}/{lease.prefix}")
