"""A stub resolver: asks a DNS server, again if need be, and remembers answers for as long as they say."""

from __future__ import annotations

import asyncio
import socket

from dnslib import QTYPE, RCODE, DNSError, DNSRecord

from netemu.aio import AsyncHost
from netemu.aio.host import SECOND, duration
from netemu.chance import next_random
from netemu.stack.addresses import Halves, halves_of

_WORDS = {RCODE.NXDOMAIN: "there is no such name", RCODE.SERVFAIL: "the server failed", RCODE.REFUSED: "refused"}
_ANY_PORT = 0


class DnsClient:
    """A resolver for a host: ``a.resolver = DnsClient(a, "10.0.0.53").addresses``."""

    def __init__(
        self, host: AsyncHost, *servers: str, port: int = 53, timeout: str | float = 5.0, attempts: int = 2
    ) -> None:
        """Ask ``servers`` one after the other, ``attempts`` times, waiting ``timeout`` for each (resolv.conf(5))."""
        self._host, self._servers, self._port = host, servers, port
        self._timeout, self._attempts = duration(timeout), attempts
        self._known: dict[tuple[str, int], tuple[int, list[str]]] = {}
        self.asked = 0
        """Queries that were sent."""

    async def addresses(self, name: str) -> list[Halves]:
        """The addresses of a name, IPv4 first. Raises `socket.gaierror` if there are none, or nobody answers."""
        found: list[str] = []
        trouble: socket.gaierror | None = None
        for kind in (QTYPE.A, QTYPE.AAAA):
            try:
                found += await self.lookup(name, kind)
            except socket.gaierror as error:
                if error.errno == socket.EAI_AGAIN:
                    raise
                trouble = error
        if not found:
            raise trouble or socket.gaierror(socket.EAI_NONAME, f"{name}: it has no address")
        return [halves_of(text) for text in found]

    async def lookup(self, name: str, kind: int = QTYPE.A) -> list[str]:
        """The addresses of one kind (QTYPE.A or AAAA), as they are written. Raises `socket.gaierror`."""
        key = (name.lower().rstrip("."), kind)
        now = asyncio.get_running_loop().time()
        until, values = self._known.get(key, (0, []))
        if now * SECOND < until:
            return values
        reply = await self._ask(name, kind)
        if reply.header.rcode != RCODE.NOERROR:
            words = _WORDS.get(reply.header.rcode, f"error {reply.header.rcode}")
            raise socket.gaierror(socket.EAI_NONAME, f"{name}: {words}")
        values = [str(record.rdata) for record in reply.rr if record.rtype == kind]
        if reply.rr:
            live = min(record.ttl for record in reply.rr)
            self._known[key] = (round((now + live) * SECOND), values)
        return values

    async def _ask(self, name: str, kind: int) -> DNSRecord:
        for _ in range(self._attempts):
            for server in self._servers:
                query = DNSRecord.question(name, QTYPE[kind])
                # From a port of its own for each question, as RFC 5452 section 9.2 has it.
                with await self._host.datagram(_ANY_PORT, remote=(server, self._port)) as sock:
                    state = self._host.stack.host
                    state.random = next_random(state.random)
                    query.header.id = state.random & 0xFFFF
                    self.asked += 1
                    try:
                        async with asyncio.timeout(self._timeout / SECOND):
                            await sock.send(query.pack())
                            while True:
                                data, _ = await sock.receive()
                                reply = _reply_to(query, data)
                                if reply is not None:
                                    return reply
                    except OSError:  # no answer in time, or nobody there: TimeoutError is one, too
                        continue
        raise socket.gaierror(socket.EAI_AGAIN, f"{name}: no server answers")


def _reply_to(query: DNSRecord, data: bytes) -> DNSRecord | None:
    """The message if it is a reply to the query, else None."""
    try:
        reply = DNSRecord.parse(data)
    except (DNSError, ValueError, IndexError):
        return None
    if not reply.header.qr or reply.header.id != query.header.id:
        return None
    return reply if reply.questions and reply.q == query.q else None
