"""A DHCP server (RFC 2131): one pool of addresses on one link, no relays."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from dataclasses import dataclass

from netemu.aio import AsyncHost
from netemu.aio.datagram import Datagram
from netemu.aio.host import SECOND
from netemu.errors import ConfigError
from netemu.services.dhcp_messages import (
    ACK,
    BROADCAST,
    CLIENT_PORT,
    DECLINE,
    DISCOVER,
    INFORM,
    NAK,
    NOWHERE,
    OFFER,
    RELEASE,
    REQUEST,
    SERVER_PORT,
    DhcpMessage,
    parse,
)
from netemu.stack.host import Interface

OFFER_HOLD = 60 * SECOND
"""How long an address that was offered is kept for who asked, ns."""
_DECLINED = b""


@dataclass
class Binding:
    """Who has an address, or was offered it, until when (ns)."""

    mac: bytes
    until: int
    offered: bool = False


class DhcpServer:
    """Which addresses there are, and who has them."""

    def __init__(
        self,
        network: str,
        first: str,
        last: str,
        *,
        lease: int = 3600,
        router: str | None = None,
        dns: list[str] | None = None,
    ) -> None:
        """Give out the addresses ``first`` to ``last`` of ``network`` ("10.0.0.0/24"), each for ``lease`` seconds.

        Raises `ConfigError` for a range that is not in the network.
        """
        try:
            self.network = ipaddress.IPv4Network(network)
            low, high = ipaddress.IPv4Address(first), ipaddress.IPv4Address(last)
        except ValueError as error:
            raise ConfigError(f"a DHCP server needs an IPv4 network and a range in it: {error}") from None
        if low not in self.network or high not in self.network or low > high:
            raise ConfigError(f"{first} to {last} is no range of {network}")
        self.pool = [str(ipaddress.IPv4Address(number)) for number in range(int(low), int(high) + 1)]
        self.lease, self.router, self.dns = lease, router, dns or []
        self.bindings: dict[str, Binding] = {}
        """By address."""
        self.ignored = 0
        """Datagrams that were no requests."""

    def answer(self, data: bytes, own: str, now: int) -> tuple[DhcpMessage, str] | None:
        """The answer to a datagram, and the address it goes to; ``own`` is the server's address, ``now`` in ns."""
        message = parse(data)
        if message is None or data[0] != 1:
            self.ignored += 1
            return None
        reply = {
            DISCOVER: self._offer,
            REQUEST: self._acknowledge,
            DECLINE: self._give_up,
            RELEASE: self._give_up,
            INFORM: self._inform,
        }.get(message.kind)
        made = reply(message, own, now) if reply is not None else None
        if made is None:
            return None
        made.options.setdefault("server_id", own)
        if message.ciaddr != NOWHERE and made.kind != NAK:
            return made, message.ciaddr
        return made, BROADCAST

    def _reply(self, message: DhcpMessage, kind: int, address: str = NOWHERE) -> DhcpMessage:
        return DhcpMessage(kind, message.xid, message.mac, message.ciaddr, address, message.broadcast)

    def _settings(self, reply: DhcpMessage, own: str) -> DhcpMessage:
        reply.options |= {"server_id": own, "subnet_mask": str(self.network.netmask)}
        if self.router is not None:
            reply.options["router"] = self.router
        if self.dns:
            reply.options["name_server"] = self.dns
        return reply

    def _is_free(self, address: str, mac: bytes, now: int) -> bool:
        binding = self.bindings.get(address)
        return binding is None or binding.mac == mac or binding.until <= now

    def _choose(self, message: DhcpMessage, now: int) -> str | None:
        """The address that the client has or had, the one it asks for, or the first free one (section 4.3.1)."""
        own = [address for address, binding in self.bindings.items() if binding.mac == message.mac]
        wanted = message.address("requested_addr")
        for address in [*own, *([wanted] if wanted in self.pool else []), *self.pool]:
            if address is not None and self._is_free(address, message.mac, now):
                return address
        return None

    def _offer(self, message: DhcpMessage, own: str, now: int) -> DhcpMessage | None:
        address = self._choose(message, now)
        if address is None:
            return None
        binding = self.bindings.get(address)
        if binding is None or binding.mac != message.mac or binding.until <= now:
            self.bindings[address] = Binding(message.mac, now + OFFER_HOLD, offered=True)
        reply = self._settings(self._reply(message, OFFER, address), own)
        reply.options["lease_time"] = self.lease
        return reply

    def _acknowledge(self, message: DhcpMessage, own: str, now: int) -> DhcpMessage | None:
        chosen = message.address("server_id")
        wanted = message.address("requested_addr") or message.ciaddr
        if chosen is not None and chosen != own:
            # The client took another server's offer.
            for address, binding in list(self.bindings.items()):
                if binding.mac == message.mac and binding.offered:
                    del self.bindings[address]
            return None
        if wanted not in self.pool or not self._is_free(wanted, message.mac, now):
            return self._reply(message, NAK)
        self.bindings[wanted] = Binding(message.mac, now + self.lease * SECOND)
        reply = self._settings(self._reply(message, ACK, wanted), own)
        reply.options["lease_time"] = self.lease
        return reply

    def _give_up(self, message: DhcpMessage, _own: str, now: int) -> None:
        """A client releases its address, or found that somebody else has it: then nobody gets it for a while."""
        address = message.address("requested_addr") if message.kind == DECLINE else message.ciaddr
        if address in self.bindings and self.bindings[address].mac == message.mac:
            if message.kind == DECLINE:
                self.bindings[address] = Binding(_DECLINED, now + self.lease * SECOND)
            else:
                del self.bindings[address]

    def _inform(self, message: DhcpMessage, own: str, _now: int) -> DhcpMessage:
        return self._settings(self._reply(message, ACK), own)

    async def serve(self, host: AsyncHost, interface: int = 1) -> DhcpService:
        """Answer on a host's interface, which has an IPv4 address, from now on."""
        one = host.stack.interfaces[interface - 1]
        return DhcpService(self, one, await host.datagram(SERVER_PORT, interface=interface, broadcast=True, family=4))


class DhcpService:
    """A server at work."""

    def __init__(self, server: DhcpServer, interface: Interface, datagram: Datagram) -> None:
        """For `DhcpServer.serve`."""
        self.server, self._interface, self._datagram = server, interface, datagram
        self._task = asyncio.get_running_loop().create_task(self._run(), name="DHCP server")

    async def _run(self) -> None:
        while True:
            data, _ = await self._datagram.receive()
            own = str(ipaddress.IPv4Address(self._interface.ipv4))
            answer = self.server.answer(data, own, self._datagram.loop.now)
            if answer is not None:
                message, target = answer
                with contextlib.suppress(OSError):  # the client will ask again
                    await self._datagram.send(message.pack(), (target, CLIENT_PORT))

    def close(self) -> None:
        """Answer no more."""
        self._task.cancel()
        self._datagram.close()
