"""The HTTP server and client: each against the other, and against bytes written by hand."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path
from typing import Any

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netemu.errors import ConfigError
from netemu.services.http_client import HttpClient, HttpError, fetch
from netemu.services.http_server import HttpServer
from tests.aio_kit import run
from tests.ether_kit import DELAY, Net
from tests.plain import plain_entries

__all__ = ["plain_entries"]

pytestmark = pytest.mark.usefixtures("plain_entries")

FILES = {"/": b"root", "/a.txt": b"some text", "/big": bytes(range(256)) * 200}


WORDS = [b"GET ", b"/", b" HTTP/1.1", b"\r\n", b"Host: x", b":", b"\0"]


def lab() -> Net:
    return Net("10.0.0.1/24", "10.0.0.2/24")


def talk(data: bytes, server: HttpServer | None = None, *, close: bool = True) -> bytes:
    """What the server answers to bytes."""
    net = lab()
    a, b = net.hosts

    async def main() -> bytes:
        await (server or HttpServer(FILES)).serve(b)
        reader, writer = await a.connect(b, 80)
        writer.write(data)
        if close:
            writer.write_eof()
        answer = await reader.read()
        writer.close()
        return answer

    return run(net.world, main())


def requests(*pairs: tuple[str, str], server: HttpServer | None = None, **bodies: bytes) -> list[Any]:
    """The client's answers to a series of requests over one connection, and how many connections it took."""
    net = lab()
    a, b = net.hosts

    async def main() -> list[Any]:
        await (server or HttpServer(FILES)).serve(b)
        async with HttpClient(a, b) as client:
            answers: list[Any] = [
                await client.request(method, path, bodies.get(path.strip("/"), b"")) for method, path in pairs
            ]
            return [*answers, client.connections]

    return run(net.world, main())


# The server, by hand.


def test_a_request_is_answered_with_length_type_and_bytes() -> None:
    answer = talk(b"GET /a.txt HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    assert lines[0].startswith(b"http/1.1 200")
    assert {b"content-length: 9", b"content-type: text/plain", b"connection: close"} <= set(lines)
    assert body == b"some text"


def test_requests_that_come_at_once_are_answered_in_order() -> None:
    """RFC 9112 section 9.3.2: pipelining."""
    answer = talk(
        b"GET /a.txt HTTP/1.1\r\nHost: x\r\n\r\nHEAD /big HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n"
    )
    assert answer.count(b"HTTP/1.1 200") == 3
    assert answer.find(b"some text") < answer.find(b"51200") < answer.find(b"root")


def test_an_old_client_gets_one_answer_and_the_end() -> None:
    answer = talk(b"GET /a.txt HTTP/1.0\r\n\r\n", close=False)
    assert answer.endswith(b"some text")


def test_a_client_that_waits_is_told_to_go_on() -> None:
    """RFC 9110 section 10.1.1: Expect: 100-continue."""
    net = lab()
    a, b = net.hosts

    async def main() -> list[bytes]:
        await HttpServer(FILES).serve(b)
        reader, writer = await a.connect(b, 80)
        writer.write(b"PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        told = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"abc")
        answer = await reader.readuntil(b"\r\n\r\n")
        writer.close()
        return [told[:12], answer[:12]]

    assert run(net.world, main()) == [b"HTTP/1.1 100", b"HTTP/1.1 201"]


def test_a_body_in_chunks_is_taken() -> None:
    answer = talk(b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
    told = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert told == {"bytes": 5, "sha256": hashlib.sha256(b"abcde").hexdigest()}


@pytest.mark.parametrize(
    "data", [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n"]
)
def test_what_is_no_request_is_refused(data: bytes) -> None:
    server = HttpServer(FILES)
    assert talk(data, server).startswith(b"HTTP/1.1 400")
    assert server.refused == 1


def test_a_head_without_end_is_refused() -> None:
    server = HttpServer(FILES)
    assert talk(b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000, server).startswith(b"HTTP/1.1 431")


@settings(max_examples=15)
@given(st.one_of(st.binary(max_size=300), st.lists(st.sampled_from(WORDS)).map(b"".join)))
def test_anything_at_all_ends_the_connection_and_nothing_else(data: bytes) -> None:
    server = HttpServer(FILES)
    talk(data, server)
    answer = talk(b"GET /a.txt HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", server)
    assert answer.endswith(b"some text")


def test_a_client_that_goes_away_does_no_harm() -> None:
    net = lab()
    a, b = net.hosts

    async def main() -> bytes:
        await HttpServer({"/": bytes(1 << 20)}).serve(b)
        reader, writer = await a.connect(b, 80)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readexactly(1000)
        writer.transport.abort()
        await asyncio.sleep(1)
        return (await fetch(a, "http://host2/", "HEAD")).headers["content-length"].encode()

    assert run(net.world, main()) == b"1048576"


# Files.


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "a.html").write_text("<p>")
    (root / "sub" / "large.bin").write_bytes(bytes(range(256)) * 3000)
    (root / "sp ace&.txt").write_text("x")
    (tmp_path / "secret").write_text("secret")
    (root / "out").symlink_to(tmp_path / "secret")
    return root


def test_files_below_the_folder_are_served_whole(folder: Path) -> None:
    page, large, count = requests(("GET", "/a.html"), ("GET", "/sub//./large.bin?x=1"), server=HttpServer(folder))
    assert (page.status, page.body, page.headers["content-type"]) == (200, b"<p>", "text/html")
    assert large.sha256 == hashlib.sha256(bytes(range(256)) * 3000).hexdigest()
    assert count == 1


@pytest.mark.parametrize(
    "path",
    ["/../secret", "/sub/../../secret", "/%2e%2e/secret", "/out", "/nothing", "/a.html/x", "/%00", "/" + "x" * 300],
)
def test_nothing_outside_of_the_folder_is_served(folder: Path, path: str) -> None:
    (answer, _) = requests(("GET", path), server=HttpServer(folder))
    assert answer.status == 404
    assert b"secret" not in answer.body


def test_a_folder_is_listed_or_not(folder: Path) -> None:
    listed, _ = requests(("GET", "/"), server=HttpServer(folder))
    assert b'href="/sp%20ace%26.txt">sp ace&amp;.txt' in listed.body
    assert b'href="/sub/"' in listed.body
    hidden, _ = requests(("GET", "/"), server=HttpServer(folder, index=False))
    assert hidden.status == 404


def test_a_folder_has_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no folder"):
        HttpServer(tmp_path / "nowhere")


# The client.


def test_requests_share_a_connection() -> None:
    text, head, put, post, gone, wrong, count = requests(
        ("GET", "/a.txt"),
        ("HEAD", "/big"),
        ("PUT", "/up"),
        ("POST", "/up"),
        ("GET", "/no"),
        ("DELETE", "/up"),
        up=b"12345",
    )
    assert (text.status, text.body) == (200, b"some text")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", "51200")
    assert (put.status, post.status, gone.status, wrong.status) == (201, 200, 404, 405)
    assert json.loads(put.body) == {"bytes": 5, "sha256": hashlib.sha256(b"12345").hexdigest()}
    assert wrong.headers["allow"] == "GET, HEAD, PUT, POST"
    assert count == 1


def test_a_large_body_goes_up_and_comes_down() -> None:
    data = bytes(range(256)) * 1000
    put, get, _ = requests(("PUT", "/up"), ("GET", "/up"), server=HttpServer({"/up": data}), up=data)
    assert json.loads(put.body)["sha256"] == get.sha256 == hashlib.sha256(data).hexdigest()
    assert get.size == len(data)
    assert get.elapsed > 0
    assert get.goodput == pytest.approx(8e9 * len(data) / get.elapsed)


def test_fetch_takes_addresses() -> None:
    net = lab()
    a, b = net.hosts

    async def main() -> list[Any]:
        await HttpServer({"/": b"root", "/x": b"x"}).serve(b, 8080)
        first = await fetch(a, "http://host2:8080/x?y=1")
        second = await fetch(a, "http://10.0.0.2:8080", keep_body=False)
        # ARP, the handshake and the request: three round trips.
        return [first.body, second.size, second.body, first.first - first.started]

    assert run(net.world, main()) == [b"x", 4, b"", 6 * DELAY]


@pytest.mark.parametrize("url", ["host2/", "ftp://host2/", "http://", "http://host2:x/"])
def test_what_is_no_address_is_refused(url: str) -> None:
    net = lab()
    with pytest.raises(ConfigError, match="is no address like"):
        run(net.world, fetch(net.hosts[0], url))


def test_a_server_that_speaks_no_http_is_an_error() -> None:
    net = lab()
    a, b = net.hosts

    async def babble(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example\r\n\r\n")
        writer.close()

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.close()

    async def main() -> None:
        await b.start_server(babble, 80)
        await b.start_server(hang_up, 81)
        for port in (80, 81):
            with pytest.raises(HttpError, match="host2"):
                await fetch(a, f"http://host2:{port}/")

    run(net.world, main())


def test_a_request_that_is_none_is_the_callers_mistake() -> None:
    net = lab()
    a, b = net.hosts

    async def main() -> None:
        await HttpServer(FILES).serve(b)
        async with HttpClient(a, b) as client:
            with pytest.raises(ConfigError, match="no HTTP request"):
                await client.get("/with space")
            assert (await client.get("/a.txt")).status == 200

    run(net.world, main())


def test_the_client_asks_as_h11_reads_it() -> None:
    """An independent look at the request: h11's server half."""
    net = lab()
    a, b = net.hosts
    seen: list[Any] = []

    async def look(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        http = h11.Connection(h11.SERVER)
        while not isinstance(event := http.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                http.receive_data(await reader.read(1000))
            else:
                seen.append(event)
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.close()

    async def main() -> int:
        await b.start_server(look, 80)
        return (await fetch(a, "http://host2/p", "PUT", b"body")).status

    assert run(net.world, main()) == 204
    assert (seen[0].method, seen[0].target, seen[1].data) == (b"PUT", b"/p", b"body")
    assert (b"host", b"host2") in list(seen[0].headers)
