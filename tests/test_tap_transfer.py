"""Data over TCP between a guest and a real Linux: curl, Python's http.server and iperf3, over a link that loses."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests import iperf3
from tests.support import needs
from tests.tap_talk import GUEST, GUEST6, HOST, HOST6, Talk, talk

SIZE = 100_000_000
LOSSY = "delay 1ms loss 0.02% reorder 0.5% gso segments"


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 MB that do not repeat."""
    path = tmp_path_factory.mktemp("body") / "body.bin"
    path.write_bytes(hashlib.shake_128(b"netemu").digest(SIZE))
    return path


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


async def fetch(talking: Talk, host: str, port: int, path: str) -> tuple[int, str]:
    """GET with HTTP/1.0 from the guest: how many bytes came, and their checksum."""
    reader, writer = await talking.guest.connect(host, port)
    writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.split()[1] == b"200"
    total, sha256 = 0, hashlib.sha256()
    while data := await reader.read(1 << 20):
        total += len(data)
        sha256.update(data)
    writer.close()
    return total, sha256.hexdigest()


@needs("curl")
def test_linux_fetches_from_the_guest(body: Path, tmp_path: Path) -> None:
    """Through a link that loses and reorders."""
    with talk(LOSSY) as talking:

        async def give(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\nConnection: close\r\n\r\n".encode())
            with body.open("rb") as file:
                while data := file.read(1 << 18):
                    writer.write(data)
                    await writer.drain()
            writer.close()

        async def main() -> None:
            await talking.guest.start_server(give, 80)
            url = f"http://{GUEST}/{body.name}"
            await talking.linux("curl", "--silent", "--show-error", "--fail", "-o", str(tmp_path / "got"), url)

        talking.run(main())
        assert digest(tmp_path / "got") == digest(body)
        assert talking.guest.stack.snmp()["TcpRetransSegs"] > 0
        assert talking.link.forward.stats().reordered > 0


def test_the_guest_fetches_from_linux(body: Path) -> None:
    """From Python's own server, through a link that loses and reorders."""
    with talk(LOSSY) as talking:
        talking.host.start("python3", "-m", "http.server", "--bind", HOST, "--directory", str(body.parent), "8000")
        talking.host.wait_for_port(8000)
        assert talking.run(fetch(talking, HOST, 8000, f"/{body.name}")) == (SIZE, digest(body))
        assert talking.link.backward.stats().dropped_total > 0


@needs("curl")
def test_curl_sends_to_the_guest_over_ipv6(tmp_path: Path) -> None:
    sent = tmp_path / "sent"
    sent.write_bytes(hashlib.shake_128(b"up").digest(5_000_000))
    with talk("delay 1ms loss 0.1%") as talking:
        got = hashlib.sha256()

        async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            left = int(head.partition(b"content-length:")[2].split()[0])
            while left:
                data = await reader.read(min(left, 1 << 16))
                assert data
                got.update(data)
                left -= len(data)
            writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
            await writer.drain()
            writer.close()

        async def main() -> None:
            await talking.guest.start_server(take, 80)
            url = f"http://[{GUEST6}]/"
            await talking.linux("curl", "-sSf", "--globoff", "-H", "Expect:", "-T", str(sent), url)

        talking.run(main())
        assert got.hexdigest() == digest(sent)


def test_the_guest_fetches_from_linux_over_ipv6(tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(hashlib.shake_128(b"down").digest(5_000_000))
    with talk("delay 1ms loss 0.1%") as talking:
        talking.host.start("python3", "-m", "http.server", "--bind", HOST6, "--directory", str(tmp_path), "8000")
        talking.host.wait_for_port(8000)

        async def main() -> tuple[int, str]:
            await asyncio.sleep(1.5)  # for a second nobody may have answered that the guest's address is his
            return await fetch(talking, HOST6, 8000, "/body")

        assert talking.run(main()) == (5_000_000, digest(tmp_path / "body"))


@needs("iperf3")
@pytest.mark.parametrize("netem", ["", LOSSY])
def test_iperf3_in_linux_counts_every_byte(netem: str) -> None:
    with talk(netem) as talking:
        server = talking.host.start("iperf3", "--server", "--one-off", "--json", "--bind", HOST)
        talking.host.wait_for_port(5201)
        blocks = 100

        async def main() -> tuple[dict[str, Any], bytes]:
            result = await iperf3.push(lambda: talking.guest.connect(HOST, 5201), blocks)
            return result, (await asyncio.to_thread(server.communicate))[0]

        result, printed = talking.run(main())
        assert result["bytes"] == blocks * iperf3.BLOCK
        told = json.loads(printed)
        assert told["end"]["sum_received"]["bytes"] == blocks * iperf3.BLOCK
