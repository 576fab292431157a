"""An HTTP/1.1 server of files (RFC 9110, RFC 9112), over h11: GET, HEAD, and PUT and POST as a sink.

Connections stay open between requests as far as the client wants it. There are no ranges, and nothing is ever written:
what is sent to it is counted and hashed, and the answer says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import html
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

import h11

from netemu.aio import AsyncHost
from netemu.aio.tcp_server import TcpServer
from netemu.errors import ConfigError

PORT = 80
PIECE = 1 << 18
"""Bytes that are written, or read, at once."""
_TYPES = {".html": "text/html", ".txt": "text/plain", ".json": "application/json"}


@dataclass(frozen=True)
class Content:
    """What is at a path."""

    size: int
    kind: str
    source: bytes | Path

    def pieces(self) -> Iterator[bytes]:
        """Its bytes, a piece at a time; never more than ``size``, should a file have grown."""
        if isinstance(self.source, bytes):
            for start in range(0, self.size, PIECE):
                yield self.source[start : start + PIECE]
            return
        left = self.size
        with self.source.open("rb") as file:
            while left and (piece := file.read(min(PIECE, left))):
                left -= len(piece)
                yield piece


class HttpServer:
    """What is served, and what was asked for."""

    def __init__(self, root: str | Path | Mapping[str, bytes], *, index: bool = True) -> None:
        """Serve the files below a folder, or bytes by path ("/index.html"); ``index`` lists folders.

        Raises `ConfigError` if the folder is not there.
        """
        self.index = index
        self.requests = 0
        self.received = 0
        """Bytes that PUT and POST brought."""
        self.refused = 0
        """Connections that were closed because what came was no HTTP."""
        self._files: Mapping[str, bytes] | None = None
        self._root = Path()
        if isinstance(root, Mapping):
            self._files = root
        else:
            self._root = Path(root).resolve()
            if not self._root.is_dir():
                raise ConfigError(f"{root} is no folder that files could be served from")

    def find(self, target: str) -> Content | None:
        """What is at a request's target; None if nothing is, or what is there is none of the client's business."""
        path = unquote(target.partition("?")[0])
        if self._files is not None:
            data = self._files.get(path)
            return None if data is None else Content(len(data), _kind(path), data)
        parts = [part for part in path.split("/") if part not in ("", ".")]
        if ".." in parts or "\0" in path or not path.startswith("/"):
            return None
        try:
            file = self._root.joinpath(*parts).resolve()
            if not file.is_relative_to(self._root):  # a link leads out
                return None
            if file.is_dir():
                page = self._listing(file, path)
                return None if page is None else Content(len(page), "text/html", page)
            return Content(file.stat().st_size, _kind(file.name), file) if file.is_file() else None
        except OSError:
            return None

    def _listing(self, folder: Path, path: str) -> bytes | None:
        if not self.index:
            return None
        names = sorted(each.name + "/" * each.is_dir() for each in folder.iterdir())
        base = path.rstrip("/") + "/"
        lines = [f'<li><a href="{quote(base + name)}">{html.escape(name)}</a>' for name in names]
        title = html.escape(base)
        return f"<!doctype html><title>{title}</title><h1>{title}</h1><ul>{''.join(lines)}</ul>\n".encode()

    async def serve(self, host: AsyncHost, port: int = PORT) -> TcpServer:
        """Answer at a host's ``port`` from now on."""
        return await host.start_server(self._talk, port)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from its first request to its last."""
        talk = _Talk(reader, writer)
        with contextlib.suppress(OSError):  # the client went away
            try:
                while (request := await talk.next_event()) is not None:
                    if isinstance(request, h11.Request):
                        self.requests += 1
                        await self._answer(talk, request)
                        if not talk.next_request():
                            break
            except h11.RemoteProtocolError as error:
                self.refused += 1
                await talk.refuse(error)
        writer.close()

    async def _answer(self, talk: _Talk, request: h11.Request) -> None:
        method = request.method.decode("latin-1")
        if method in ("PUT", "POST"):
            await self._swallow(talk, method)
            return
        async for _ in talk.body():
            pass  # nobody asked for it
        if method not in ("GET", "HEAD"):
            await talk.say(405, b"only GET, HEAD, PUT and POST are known here\n", allow="GET, HEAD, PUT, POST")
            return
        content = self.find(request.target.decode("latin-1"))
        if content is None:
            await talk.say(404, b"there is nothing at this path\n")
            return
        await talk.head(200, content.size, content.kind)
        if method == "GET":
            for piece in content.pieces():
                await talk.data(piece)
        await talk.end()

    async def _swallow(self, talk: _Talk, method: str) -> None:
        digest, size = hashlib.sha256(), 0
        async for piece in talk.body():
            digest.update(piece)
            size += len(piece)
        self.received += size
        text = json.dumps({"bytes": size, "sha256": digest.hexdigest()}).encode() + b"\n"
        await talk.say(201 if method == "PUT" else 200, text, kind="application/json")


class _Talk:
    """A connection in h11's words."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._http = h11.Connection(h11.SERVER)

    async def next_event(self) -> h11.Event | None:
        """What comes next; None when the client has no more requests."""
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                if self._http.they_are_waiting_for_100_continue:
                    await self._send(h11.InformationalResponse(status_code=100, headers=[]))
                self._http.receive_data(await self._reader.read(PIECE))
            elif isinstance(event, h11.ConnectionClosed) or event is h11.PAUSED:
                return None
            else:
                assert not isinstance(event, type)
                return event

    async def body(self) -> AsyncIterator[bytes]:
        """The bytes of the request that has just come."""
        while isinstance(event := await self.next_event(), h11.Data):
            yield bytes(event.data)

    async def _send(self, event: h11.Event) -> None:
        self._writer.write(self._http.send(event) or b"")
        await self._writer.drain()

    async def head(self, status: int, size: int, kind: str, **more: str) -> None:
        """Status and headers."""
        fixed = {"Server": "netemu", "Content-Length": str(size), "Content-Type": kind}
        headers = [(name.encode(), value.encode()) for name, value in {**fixed, **more}.items()]
        await self._send(h11.Response(status_code=status, headers=headers))

    async def data(self, piece: bytes) -> None:
        """A piece of the body."""
        await self._send(h11.Data(data=piece))

    async def end(self) -> None:
        """The end of the answer."""
        await self._send(h11.EndOfMessage())

    async def say(self, status: int, text: bytes, kind: str = "text/plain", **more: str) -> None:
        """A whole answer."""
        await self.head(status, len(text), kind, **more)
        await self.data(text)
        await self.end()

    def next_request(self) -> bool:
        """Get ready for the next request; False if the connection is to be closed."""
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return True

    async def refuse(self, error: h11.RemoteProtocolError) -> None:
        """Say what was wrong, if there is still a chance to."""
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            with contextlib.suppress(h11.LocalProtocolError):
                await self.say(error.error_status_hint, f"{error}\n".encode("latin-1", "replace"), connection="close")


def _kind(name: str) -> str:
    return _TYPES.get(Path(name).suffix, "application/octet-stream")
