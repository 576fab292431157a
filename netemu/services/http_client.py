"""An HTTP/1.1 client over h11, which keeps its connection between requests."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import h11

from netemu.aio import AsyncHost
from netemu.aio.endpoint import running_loop
from netemu.aio.names import Target
from netemu.errors import ConfigError, NetemuError

PORT = 80
PIECE = 1 << 18


class HttpError(NetemuError):
    """What came back was no HTTP, or not all of it."""


@dataclass
class HttpResponse:
    """What came back. Times are ns of emulated time."""

    status: int
    headers: dict[str, str]
    """By their names in lower case."""
    size: int = 0
    """Bytes of the body."""
    sha256: str = ""
    """Of the body."""
    body: bytes = b""
    """Empty where it was not to be kept."""
    started: int = field(default=0, compare=False)
    """When the request was begun, the connection included if it was a new one."""
    first: int = field(default=0, compare=False)
    """When status and headers were there."""
    done: int = field(default=0, compare=False)

    @property
    def elapsed(self) -> int:
        """Ns from the request to the last byte."""
        return self.done - self.started

    @property
    def goodput(self) -> float:
        """Bytes of the body over all that time, in bit/s."""
        return 8e9 * self.size / self.elapsed if self.elapsed else 0.0


class HttpClient:
    """A client of one server. For use in ``async with``."""

    def __init__(self, host: AsyncHost, target: Target, port: int = PORT, *, name: str | None = None) -> None:
        """Ask ``port`` of ``target`` from ``host``; ``name`` is what goes into the Host header."""
        self._host, self._target, self._port = host, target, port
        self._name = str(name or (target if isinstance(target, str) else getattr(target, "name", "host")))
        self._http: h11.Connection | None = None
        self._streams: Any = None
        self.connections = 0
        """Connections that were made."""

    async def request(
        self,
        method: str,
        path: str = "/",
        body: bytes = b"",
        headers: Iterable[tuple[str, str]] = (),
        *,
        keep_body: bool = True,
    ) -> HttpResponse:
        """Send a request, and wait for all of the answer.

        Raises `HttpError` for an answer that is none, `OSError` as a connection comes to.
        """
        loop = running_loop()
        started = loop.now
        try:
            http = await self._connection()
            length = [("Content-Length", str(len(body)))] if body or method in ("PUT", "POST") else []
            await self._send(h11.Request(method=method, target=path, headers=[("Host", self._name), *length, *headers]))
            for start in range(0, len(body), PIECE):
                await self._send(h11.Data(data=body[start : start + PIECE]))
            await self._send(h11.EndOfMessage())
            response = await self._response(http, keep_body=keep_body)
        except h11.RemoteProtocolError as error:
            self.close()
            raise HttpError(f"{self._name}: {error}") from None
        except h11.LocalProtocolError as error:
            self.close()
            raise ConfigError(f"this is no HTTP request: {error}") from None
        except BaseException:
            self.close()
            raise
        response.started, response.done = started, loop.now
        self._after(http)
        return response

    async def get(self, path: str = "/", *, keep_body: bool = True) -> HttpResponse:
        """GET."""
        return await self.request("GET", path, keep_body=keep_body)

    async def head(self, path: str = "/") -> HttpResponse:
        """HEAD."""
        return await self.request("HEAD", path)

    async def put(self, path: str, body: bytes) -> HttpResponse:
        """PUT."""
        return await self.request("PUT", path, body)

    async def _connection(self) -> h11.Connection:
        if self._http is None or self._streams[0].at_eof():
            self.close()
            self._streams = await self._host.connect(self._target, self._port)
            self._http = h11.Connection(h11.CLIENT)
            self.connections += 1
        return self._http

    async def _send(self, event: h11.Event) -> None:
        assert self._http is not None
        writer = self._streams[1]
        writer.write(self._http.send(event) or b"")
        await writer.drain()

    async def _response(self, http: h11.Connection, *, keep_body: bool) -> HttpResponse:
        response = HttpResponse(0, {})
        digest = hashlib.sha256()
        parts: list[bytes] = []
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                http.receive_data(await self._streams[0].read(PIECE))
            elif isinstance(event, h11.Response):
                response.status = event.status_code
                response.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}
                response.first = running_loop().now
            elif isinstance(event, h11.Data):
                digest.update(event.data)
                response.size += len(event.data)
                if keep_body:
                    parts.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                response.sha256, response.body = digest.hexdigest(), b"".join(parts)
                return response
            elif isinstance(event, h11.ConnectionClosed):
                raise HttpError(f"{self._name}: the connection was closed before an answer")

    def _after(self, http: h11.Connection) -> None:
        if http.our_state is h11.DONE and http.their_state is h11.DONE:
            http.start_next_cycle()
        else:
            self.close()

    def close(self) -> None:
        """Close the connection; the next request makes a new one."""
        if self._streams is not None:
            self._streams[1].close()
        self._http = self._streams = None

    async def __aenter__(self) -> Self:
        """Itself; it connects with the first request."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        self.close()


async def fetch(host: AsyncHost, url: str, method: str = "GET", body: bytes = b"", **how: Any) -> HttpResponse:
    """One request for an address like "http://server:8080/path", on a connection of its own.

    Raises `ConfigError` for an address that is none, else as `HttpClient.request`.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or PORT
    except ValueError:
        raise ConfigError(f"{url!r} is no address like http://server/path") from None
    if parts.scheme != "http" or not parts.hostname:
        raise ConfigError(f"{url!r} is no address like http://server/path")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    async with HttpClient(host, parts.hostname, port, name=parts.netloc) as client:
        return await client.request(method, path, body, **how)
