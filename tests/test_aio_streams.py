"""asyncio's streams over emulated TCP: whole hosts on an Ethernet whose frames take 10 ms."""

from __future__ import annotations

import asyncio
import hashlib
import random
from asyncio import StreamReader as Reader
from asyncio import StreamWriter as Writer
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether

from netemu.aio import DeadlockError
from netemu.errors import NetemuError
from tests.aio_kit import run
from tests.ether_kit import DELAY, Net
from tests.plain import plain_entries

__all__ = ["plain_entries"]

pytestmark = [
    pytest.mark.usefixtures("plain_entries"),
    # Whether a program closes its streams is its own affair.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]


def net(**how: Any) -> Net:
    return Net(["10.0.0.1/24", "2001:db8::1/64"], ["10.0.0.2/24", "2001:db8::2/64"], **how)


HELD: list[Any] = []
"""Streams that are to stay open: asyncio closes those that nobody holds."""


def hold(*streams: Any) -> None:
    HELD.append(streams)


async def shout(reader: Reader, writer: Writer) -> None:
    """A server that answers when it has heard all."""
    writer.write((await reader.read()).upper())
    writer.close()


@pytest.mark.parametrize("version", [4, 6])
def test_a_conversation_over_stock_streams(version: int) -> None:
    lab = net()
    a, b = lab.hosts

    async def main() -> bytes:
        await asyncio.sleep(3)  # IPv6 addresses are not in use before they were found to be nobody else's
        async with await b.start_server(shout, 80) as server:
            reader, writer = await a.connect(b, 80, version=version)
            writer.write(b"hello")
            writer.write_eof()
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()
            assert server.accepted == 1
        return answer

    assert run(lab.world, main()) == b"HELLO"


def test_what_a_stream_knows_of_its_ends() -> None:
    lab = net()
    a, b = lab.hosts

    async def main() -> None:
        seen: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def meet(reader: Reader, writer: Writer) -> None:
            hold(reader, writer)
            seen.set_result(writer)

        server = await b.start_server(meet, 80)
        assert server.local == ("::", 80)
        _, writer = await a.connect("host2", 80, local_port=1234)
        assert writer.get_extra_info("sockname") == ("10.0.0.1", 1234)
        assert writer.get_extra_info("peername") == ("10.0.0.2", 80)
        assert (await seen).get_extra_info("peername") == ("10.0.0.1", 1234)
        assert writer.get_extra_info("tcp_info")["state"] == "ESTABLISHED"
        assert writer.get_extra_info("socket") is None
        assert str(writer.transport) == "host1: TCP 10.0.0.1 port 1234 to 10.0.0.2 port 80, ESTABLISHED"

    run(lab.world, main())


def test_the_handshake_takes_a_round_trip_behind_arp() -> None:
    lab = net()
    a, b = lab.hosts

    async def main() -> int:
        await b.start_server(shout, 80)
        await a.connect(b, 80)
        return lab.world.now

    assert run(lab.world, main()) == 4 * DELAY


def test_either_half_closes_by_itself() -> None:
    """RFC 9293 section 3.6: who has closed may still receive."""
    lab = net()
    a, b = lab.hosts

    async def first_close_then_listen(reader: Reader, writer: Writer) -> None:
        writer.write(b"that is all")
        writer.write_eof()
        heard.set_result(await reader.read())

    heard: asyncio.Future[bytes]

    async def main() -> tuple[bytes, bytes]:
        nonlocal heard
        heard = asyncio.get_running_loop().create_future()
        await b.start_server(first_close_then_listen, 80)
        reader, writer = await a.connect(b, 80)
        said = await reader.read()
        await asyncio.sleep(5)
        writer.write(b"and yet")
        writer.close()
        return said, await heard

    assert run(lab.world, main()) == (b"that is all", b"and yet")


def test_writing_behind_the_end_is_a_mistake() -> None:
    lab = net()
    a, b = lab.hosts

    async def main() -> None:
        await b.start_server(shout, 80)
        _, writer = await a.connect(b, 80)
        writer.write_eof()
        with pytest.raises(RuntimeError, match="write_eof"):
            writer.write(b"x")
        assert writer.can_write_eof()

    run(lab.world, main())


# What goes wrong.


def test_a_port_where_nobody_listens_refuses() -> None:
    lab = net()
    a, b = lab.hosts
    assert b.tcp is not None

    async def main() -> None:
        with pytest.raises(ConnectionRefusedError, match=r"host1: TCP .* to 10\.0\.0\.2 port 81"):
            await a.connect(b, 81)

    run(lab.world, main())


def test_a_host_that_is_not_there_cannot_be_reached() -> None:
    """RFC 1122 section 4.2.3.9, by the ARP that nobody answers: EHOSTUNREACH, as Linux says after three seconds."""
    lab = net()

    async def main() -> None:
        with pytest.raises(OSError, match="host"):
            await lab.hosts[0].connect("10.0.0.99", 80)

    run(lab.world, main())
    assert lab.world.now < 10_000_000_000


def test_no_route_is_an_error_at_once() -> None:
    lab = net()

    async def main() -> None:
        with pytest.raises(OSError, match="no route to host"):
            await lab.hosts[0].connect("192.0.2.1", 80)

    run(lab.world, main())
    assert lab.world.now == 0


def test_a_handshake_that_nobody_answers_times_out() -> None:
    lab = net()
    a, b = lab.hosts

    def lose(_number: int, frame: bytes) -> list[bytes]:
        return [] if TCP in Ether(frame) else [frame]

    lab.spoil = lose

    async def main() -> None:
        with pytest.raises(TimeoutError, match="timed out"):
            await a.connect(b, 80)

    run(lab.world, main())
    assert lab.world.now > 60_000_000_000


def test_giving_up_on_a_handshake_leaves_nothing_behind() -> None:
    lab = net()
    a, b = lab.hosts
    lab.spoil = lambda _number, frame: [] if TCP in Ether(frame) else [frame]

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2):
                await a.connect(b, 80)
        await asyncio.get_running_loop().create_future()

    with pytest.raises(DeadlockError) as caught:
        run(lab.world, main())
    assert "open sockets" not in str(caught.value)


def test_an_abort_is_a_reset_for_the_peer() -> None:
    lab = net()
    a, b = lab.hosts

    async def main() -> None:
        met: asyncio.Future[tuple[Reader, Writer]] = asyncio.get_running_loop().create_future()
        await b.start_server(lambda reader, writer: met.set_result((reader, writer)), 80)
        _, writer = await a.connect(b, 80)
        reader, other = await met
        writer.transport.abort()
        with pytest.raises(ConnectionResetError):
            await reader.read()
        other.write(b"to nobody")
        with pytest.raises(ConnectionResetError):
            await other.drain()

    run(lab.world, main())


def test_bytes_that_came_before_a_reset_are_not_made_up_for_by_it() -> None:
    """What was received in order is handed up before the error."""
    lab = net()
    a, b = lab.hosts

    async def speak_and_die(_reader: Reader, writer: Writer) -> None:
        writer.write(b"last words")
        await asyncio.sleep(1)
        writer.transport.abort()

    async def main() -> bytes:
        await b.start_server(speak_and_die, 80)
        reader, _ = await a.connect(b, 80)
        words = await reader.readexactly(10)
        with pytest.raises(ConnectionResetError):
            await reader.read()
        return words

    assert run(lab.world, main()) == b"last words"


def test_a_port_is_listened_at_once() -> None:
    lab = net()
    b = lab.hosts[1]

    async def main() -> None:
        server = await b.start_server(shout, 80)
        with pytest.raises(NetemuError, match="port 80 is in use"):
            await b.start_server(shout, 80)
        server.close()
        await server.wait_closed()
        assert not server.is_serving()
        free = await b.start_server(shout)
        assert free.port != 0
        (await b.start_server(shout, 80)).close()

    run(lab.world, main())


def test_a_closed_server_refuses_and_its_connections_go_on() -> None:
    lab = net()
    a, b = lab.hosts

    async def main() -> bytes:
        server = await b.start_server(shout, 80)
        reader, writer = await a.connect(b, 80)
        await asyncio.sleep(0.1)  # until then the server has a handshake that is not done, and would reset it
        server.close()
        with pytest.raises(ConnectionRefusedError):
            await a.connect(b, 80)
        writer.write(b"still")
        writer.write_eof()
        return await reader.read()

    assert run(lab.world, main()) == b"STILL"


def test_a_server_may_run_for_ever_until_it_is_cancelled() -> None:
    lab = net()
    a, b = lab.hosts

    async def main() -> None:
        server = await b.start_server(shout, 80)
        task = asyncio.ensure_future(server.serve_forever())
        await a.connect(b, 80)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not server.is_serving()

    run(lab.world, main())


def test_a_deadlock_names_the_connections() -> None:
    lab = net()
    a, b = lab.hosts

    async def main() -> None:
        await b.start_server(hold, 80)
        reader, _ = await a.connect(b, 80)
        await reader.read()

    with pytest.raises(DeadlockError) as caught:
        run(lab.world, main())
    assert "port 80, ESTABLISHED" in str(caught.value)
    assert "port 80, LISTEN" in str(caught.value)
    assert "test_aio_streams.py" in str(caught.value)


# Much data.


def spoiled_by(seed: int) -> Any:
    """One in thirty frames lost, one doubled, one late."""
    chance = random.Random(seed)
    late: list[bytes] = []

    def spoil(_number: int, frame: bytes) -> list[bytes]:
        roll = chance.randrange(30)
        if roll == 0:
            return []
        if roll == 1:
            return [frame, frame]
        if roll == 2:
            late.append(frame)
            return []
        out = [frame, *late]
        late.clear()
        return out

    return spoil


@pytest.mark.parametrize("seed", [1, 2])
def test_bytes_arrive_whole_and_in_order_whatever_the_wire_does(seed: int) -> None:
    lab = net()
    lab.spoil = spoiled_by(seed)
    a, b = lab.hosts
    data = random.Random(7).randbytes(200_000)

    async def main() -> tuple[str, bytes]:
        async def digest(reader: Reader, writer: Writer) -> None:
            heard = hashlib.sha256()
            while some := await reader.read(10_000):
                heard.update(some)
            writer.write(heard.hexdigest().encode() + data[:50_000])
            writer.close()

        await b.start_server(digest, 80)
        reader, writer = await a.connect(b, 80)
        for start in range(0, len(data), 30_000):
            writer.write(data[start : start + 30_000])
            await writer.drain()
        writer.write_eof()
        answer = await reader.read()
        return answer[:64].decode(), answer[64:]

    assert run(lab.world, main()) == (hashlib.sha256(data).hexdigest(), data[:50_000])


def test_who_reads_slowly_holds_the_writer_up() -> None:
    """The window closes, then `drain` waits: nothing grows without bound."""
    lab = net(buffers=1 << 14)
    a, b = lab.hosts
    data = bytes(400_000)

    async def main() -> tuple[float, int]:
        loop = asyncio.get_running_loop()

        async def slow(reader: Reader, _writer: Writer) -> None:
            await asyncio.sleep(100)
            done.set_result(len(await reader.read()))

        done: asyncio.Future[int] = loop.create_future()
        await b.start_server(slow, 80, limit=10_000)
        _, writer = await a.connect(b, 80)
        writer.write(data)
        assert writer.transport.get_write_buffer_size() > 300_000
        await writer.drain()
        drained = loop.time()
        writer.write_eof()
        return drained, await done

    drained, size = run(lab.world, main())
    assert drained > 100
    assert size == len(data)


def test_write_marks_are_kept() -> None:
    lab = net(buffers=1 << 14)
    a, b = lab.hosts

    async def main() -> None:
        await b.start_server(hold, 80, limit=1000)
        _, writer = await a.connect(b, 80)
        writer.transport.set_write_buffer_limits(high=1000)
        assert writer.transport.get_write_buffer_limits() == (250, 1000)
        writer.transport.set_write_buffer_limits(low=100)
        assert writer.transport.get_write_buffer_limits() == (100, 400)

    run(lab.world, main())


def test_closing_sends_what_was_written_before() -> None:
    lab = net(buffers=1 << 14)
    a, b = lab.hosts

    async def main() -> int:
        heard: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def count(reader: Reader, _writer: Writer) -> None:
            heard.set_result(len(await reader.read()))

        await b.start_server(count, 80)
        _, writer = await a.connect(b, 80)
        writer.write(bytes(100_000))
        writer.close()
        assert writer.is_closing()
        writer.write(b"too late")
        return await heard

    assert run(lab.world, main()) == 100_000


def test_a_bulk_transfer_does_not_wake_python_for_each_segment() -> None:
    lab = Net("10.0.0.1/24", "10.0.0.2/24", buffers=1 << 18)
    a, b = lab.hosts
    wakes: list[int] = []

    class Sink(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            wakes.append(len(data))

    async def main() -> None:
        await b.create_server(Sink, 80)
        _, writer = await a.connect(b, 80)
        writer.write(bytes(500_000))
        writer.close()
        await asyncio.sleep(20)
        assert sum(wakes) == 500_000

    run(lab.world, main())
    segments = sum(1 for frame in lab.frames if IP in Ether(frame) and len(frame) > 1000)
    assert segments > 300
    assert len(wakes) < segments / 5


# Protocols of others.


def test_a_protocol_with_buffers_of_its_own_is_served() -> None:
    lab = net()
    a, b = lab.hosts

    class Buffered(asyncio.BufferedProtocol):
        def __init__(self) -> None:
            self.buffer = bytearray(7)
            self.heard = bytearray()
            self.events: list[Any] = []

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.events.append(transport.get_extra_info("peername")[0])

        def get_buffer(self, sizehint: int) -> bytearray:
            assert sizehint > 0
            return self.buffer

        def buffer_updated(self, nbytes: int) -> None:
            self.heard += self.buffer[:nbytes]

        def eof_received(self) -> None:
            self.events.append("eof")

        def connection_lost(self, exc: Exception | None) -> None:
            self.events.append(exc)

    async def main() -> Buffered:
        made: list[Buffered] = []

        def factory() -> Buffered:
            made.append(Buffered())
            return made[-1]

        await b.create_server(factory, 80)
        transport, _ = await a.create_connection(asyncio.Protocol, b, 80)
        transport.write(b"in pieces of seven bytes")
        transport.write(memoryview(b"!"))
        transport.write(bytearray(b"?"))
        transport.close()
        await asyncio.sleep(1)
        return made[0]

    protocol = run(lab.world, main())
    assert protocol.heard == b"in pieces of seven bytes!?"
    assert protocol.events == ["10.0.0.1", "eof", None]


def test_reading_can_be_paused() -> None:
    lab = net()
    a, b = lab.hosts

    async def main() -> list[bytes]:
        heard: list[bytes] = []

        class Paused(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                assert isinstance(transport, asyncio.Transport)
                transports.append(transport)
                transport.pause_reading()

            def data_received(self, data: bytes) -> None:
                heard.append(data)

        transports: list[asyncio.Transport] = []
        await b.create_server(Paused, 80)
        transport, _ = await a.create_connection(asyncio.Protocol, b, 80)
        transport.write(b"wait")
        await asyncio.sleep(1)
        assert heard == []
        assert not transports[0].is_reading()
        transports[0].resume_reading()
        assert transports[0].is_reading()
        await asyncio.sleep(0)
        return heard

    assert run(lab.world, main()) == [b"wait"]
