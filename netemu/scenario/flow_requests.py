"""Requests as they run: HTTP and DNS."""

from __future__ import annotations

import socket
from fractions import Fraction

from netemu.aio.endpoint import running_loop
from netemu.aio.host import SECOND, AsyncHost
from netemu.errors import NetemuError
from netemu.expect.measured import Value
from netemu.samples import Samples
from netemu.scenario.flow import sleep_until
from netemu.services.dns_client import DnsClient
from netemu.services.http_client import HttpClient

_RECORDS = {"A": 1, "AAAA": 28}
"""Types of records by name (RFC 1035, RFC 3596)."""


class HttpFlow:
    """``count`` requests over one connection, each with or for a body; an answer from 400 on is an error."""

    def __init__(
        self, source: AsyncHost, target: AsyncHost, *, method: str, path: str, body: bytes, count: int, port: int
    ) -> None:
        """From a guest to the server of another."""
        self._source, self._target = source, target
        self._method, self._path, self._body, self._count, self._port = method, path, body, count, port
        self._start = self._end = 0
        self._sent = self._received = self._completed = self._errors = self._bytes = 0
        self._rtt = Samples()

    async def run(self) -> None:
        """Ask, one request after the other. Raises `OSError` or `NetemuError` where a connection fails."""
        loop = running_loop()
        self._start = self._end = loop.now
        async with HttpClient(self._source, self._target, self._port) as client:
            for _ in range(self._count):
                self._sent += 1
                try:
                    response = await client.request(self._method, self._path, self._body, keep_body=False)
                except (OSError, NetemuError):
                    self._errors += 1
                    raise
                finally:
                    self._end = loop.now
                good = response.status < 400
                self._received += 1
                self._completed += good
                self._errors += not good
                self._bytes += (len(self._body) if self._method == "PUT" else response.size) if good else 0
                self._rtt.add(response.elapsed)

    def metrics(self) -> dict[str, Value]:
        """Of requests and bodies; goodput is over all the time from the first request to the last answer."""
        took = self._end - self._start
        return {
            "sent": self._sent,
            "received": self._received,
            "completed": self._completed,
            "errors": self._errors,
            "bytes": self._bytes,
            "goodput": Fraction(8 * SECOND * self._bytes, took) if took and self._completed else None,
            "rtt": self._rtt,
            "duration": took,
        }


class DnsFlow:
    """``count`` questions for a name; an answer that says there is none is an answer, and an error."""

    def __init__(
        self,
        source: AsyncHost,
        target: AsyncHost,
        *,
        query: str,
        kind: str,
        count: int,
        interval: int,
        timeout: int,
    ) -> None:
        """From a guest to the server of another."""
        self._source, self._target = source, target
        self._query, self._kind = query, _RECORDS[kind]
        self._count, self._interval, self._timeout = count, interval, timeout
        self._sent = self._received = self._errors = 0
        self._start = self._end = 0
        self._rtt = Samples()

    async def run(self) -> None:
        """Ask, each question once."""
        loop = running_loop()
        self._start = self._end = loop.now
        server = await self._source.lookup(self._target)
        for number in range(self._count):
            await sleep_until(self._start + number * self._interval)
            client = DnsClient(self._source, server, timeout=self._timeout / SECOND, attempts=1)
            asked = loop.now
            self._sent += 1
            try:
                found = await client.lookup(self._query, self._kind)
            except socket.gaierror as error:
                self._errors += 1
                if error.errno == socket.EAI_AGAIN:
                    continue
            else:
                self._errors += not found
            finally:
                self._end = loop.now
            self._received += 1
            self._rtt.add(loop.now - asked)

    def metrics(self) -> dict[str, Value]:
        """Of questions and answers."""
        lost = self._sent - self._received
        return {
            "sent": self._sent,
            "received": self._received,
            "lost": lost,
            "loss": Fraction(lost, self._sent) if self._sent else None,
            "errors": self._errors,
            "rtt": self._rtt,
            "duration": self._end - self._start,
        }
