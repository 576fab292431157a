"""Echo, discard, chargen and daytime, over TCP and UDP."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from netemu.errors import NetemuError
from netemu.services import simple
from tests.aio_kit import run
from tests.ether_kit import Net
from tests.plain import plain_entries

__all__ = ["plain_entries"]

pytestmark = pytest.mark.usefixtures("plain_entries")


def lab() -> Net:
    return Net("10.0.0.1/24", "10.0.0.2/24")


def test_echo_gives_back_what_it_gets() -> None:
    """RFC 862."""
    net = lab()
    a, b = net.hosts

    async def main() -> tuple[bytes, bytes]:
        service = await simple.echo(b)
        reader, writer = await a.connect(b, 7)
        writer.write(b"stream " * 1000)
        writer.write_eof()
        heard = await reader.read()
        writer.close()
        with await a.datagram(remote=(b, 7)) as sock:
            await sock.send(b"datagram")
            back, source = await sock.receive()
        assert source == ("10.0.0.2", 7)
        assert service.datagrams == 1
        service.close()
        return heard, back

    assert run(net.world, main()) == (b"stream " * 1000, b"datagram")


def test_discard_says_nothing() -> None:
    """RFC 863."""
    net = lab()
    a, b = net.hosts

    async def main() -> bytes:
        service = await simple.discard(b)
        reader, writer = await a.connect(b, 9)
        writer.write(bytes(5000))
        writer.write_eof()
        with await a.datagram(remote=(b, 9)) as sock:
            await sock.send(b"x")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(sock.receive(), 5)
        assert service.datagrams == 1
        heard = await reader.read()
        writer.close()
        return heard

    assert run(net.world, main()) == b""


def test_chargen_sends_the_pattern() -> None:
    """RFC 864: lines of 72 characters of a ring of 95, each beginning one character further on."""
    net = lab()
    a, b = net.hosts

    async def main() -> tuple[bytes, bytes]:
        await simple.chargen(b)
        reader, writer = await a.connect(b, 19)
        heard = await reader.readexactly(74 * 100)
        writer.transport.abort()
        with await a.datagram(remote=(b, 19)) as sock:
            await sock.send(b"")
            return heard, (await sock.receive())[0]

    stream, line = run(net.world, main())
    lines = stream.decode().split("\r\n")[:100]
    printing = "".join(map(chr, range(32, 127)))
    for number, text in enumerate(lines):
        assert text == (printing * 2)[number % 95 :][:72]
    assert line == lines[0].encode() + b"\r\n"


def test_daytime_tells_the_emulated_time() -> None:
    """RFC 867."""
    net = lab()
    a, b = net.hosts

    async def main() -> bytes:
        await simple.daytime(b)
        await asyncio.sleep(3 * 86_400)
        reader, writer = await a.connect(b, 13)
        heard = await reader.read()
        writer.close()
        return heard

    assert run(net.world, main()) == b"Sunday, January 04, 2026 00:00:00-UTC\r\n"


def test_a_service_whose_port_is_in_use_opens_nothing() -> None:
    net = lab()
    b = net.hosts[1]

    async def main() -> Any:
        held = await b.datagram(7)
        with pytest.raises(NetemuError, match="port 7 is in use"):
            await simple.echo(b)
        held.close()
        return await simple.echo(b)

    assert str(run(net.world, main()).server).endswith("port 7, LISTEN")
