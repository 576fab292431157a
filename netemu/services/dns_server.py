"""A DNS server with a few records (RFC 1034, RFC 1035): A, AAAA, CNAME, NXDOMAIN, over UDP."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import Mapping

from dnslib import AAAA, CNAME, QTYPE, RCODE, RR, A, DNSError, DNSHeader, DNSRecord
from dnslib.label import DNSLabel

from netemu.aio import AsyncHost
from netemu.aio.datagram import Datagram
from netemu.errors import ConfigError

PORT = 53
_CHAIN = 8
"""Aliases that are followed."""
_CLASSIC_SIZE = 512
"""Bytes of an answer over UDP at most (RFC 1035 section 4.2.1): the answers that do not fit are left out, TC set."""
_QUERY = 0
_INTERNET = 1


class DnsServer:
    """Answers what it was told, for names below no zone in particular."""

    def __init__(self, records: Mapping[str, str | list[str]], *, ttl: int = 60) -> None:
        """``records``: addresses of each name, or the name that it is an alias of. ``ttl`` is in seconds.

        Raises `ConfigError` for a name that cannot be one.
        """
        self.ttl = ttl
        self.queries = 0
        """Queries that were answered, with whatever code."""
        self.refused = 0
        """Datagrams that were no queries, and got no answer."""
        self._records: dict[tuple[bytes, ...], list[str]] = {}
        for name, values in records.items():
            self.add(name, [values] if isinstance(values, str) else values)

    def add(self, name: str, values: list[str]) -> None:
        """What is known of a name, in place of what was."""
        try:
            label = DNSLabel(name)
            if not all(0 < len(part) <= 63 for part in label.label) or not label.label:
                raise ConfigError(f"{name!r} is no name of a host")
        except (ValueError, UnicodeError):
            raise ConfigError(f"{name!r} is no name of a host") from None
        self._records[_key(label)] = values

    def answer(self, data: bytes) -> bytes | None:
        """The answer to a message; None for one that deserves none."""
        try:
            query = DNSRecord.parse(data)
        except (DNSError, ValueError, IndexError):
            return self._malformed(data)
        if query.header.qr:
            self.refused += 1
            return None
        self.queries += 1
        reply = query.reply(ra=0, aa=1)
        if query.header.opcode != _QUERY:
            reply.header.rcode = RCODE.NOTIMP
        elif len(query.questions) != 1:
            reply.header.rcode = RCODE.FORMERR
        elif query.q.qclass != _INTERNET:
            reply.header.rcode = RCODE.REFUSED
        else:
            self._fill(reply, query.q.qname, query.q.qtype)
        return _short_enough(reply)

    def _malformed(self, data: bytes) -> bytes | None:
        """FORMERR to what at least began as a query."""
        if len(data) < 12 or data[2] & 0x80:
            self.refused += 1
            return None
        self.queries += 1
        header = DNSHeader(id=int.from_bytes(data[:2], "big"), qr=1, rcode=RCODE.FORMERR)
        packed: bytes = DNSRecord(header).pack()
        return packed

    def _fill(self, reply: DNSRecord, name: DNSLabel, kind: int) -> None:
        for _ in range(_CHAIN):
            known = self._records.get(_key(name))
            if known is None:
                reply.header.rcode = RCODE.NXDOMAIN
                return
            alias = None
            for value in known:
                try:
                    address = ipaddress.ip_address(value)
                except ValueError:
                    alias = DNSLabel(value)
                    reply.add_answer(RR(name, QTYPE.CNAME, rdata=CNAME(alias), ttl=self.ttl))
                    continue
                of_kind = QTYPE.A if address.version == 4 else QTYPE.AAAA
                if kind in (of_kind, QTYPE.ANY):
                    data = A(value) if address.version == 4 else AAAA(value)
                    reply.add_answer(RR(name, of_kind, rdata=data, ttl=self.ttl))
            if alias is None or kind == QTYPE.CNAME:
                return
            name = alias
        reply.header.rcode = RCODE.SERVFAIL

    async def serve(self, host: AsyncHost, port: int = PORT) -> DnsService:
        """Answer at a host's ``port`` from now on."""
        return DnsService(self, await host.datagram(port))


def _key(label: DNSLabel) -> tuple[bytes, ...]:
    """The same for names that differ in case alone (RFC 4343); a query's may have any bytes in it."""
    return tuple(part.lower() for part in label.label)


def _short_enough(reply: DNSRecord) -> bytes:
    packed: bytes = reply.pack()
    while len(packed) > _CLASSIC_SIZE and reply.rr:
        reply.rr.pop()
        reply.header.tc = 1
        packed = reply.pack()
    return packed


class DnsService:
    """A server at work."""

    def __init__(self, server: DnsServer, datagram: Datagram) -> None:
        """For `DnsServer.serve`."""
        self.server, self._datagram = server, datagram
        self._task = asyncio.get_running_loop().create_task(self._run(), name="DNS server")

    async def _run(self) -> None:
        while True:
            data, source = await self._datagram.receive()
            answer = self.server.answer(data)
            if answer is not None:
                with contextlib.suppress(OSError):  # the asker will ask again
                    await self._datagram.send(answer, source)

    def close(self) -> None:
        """Answer no more."""
        self._task.cancel()
        self._datagram.close()
