"""Corners of a lab: loops of switches, too many of something, long times, and what is cut short."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path

import pytest

from netemu.capture import read_capture
from netemu.errors import ConfigError, NetemuError
from netemu.jit import Buffer, allocate
from netemu.lab import Guest, Lab
from netemu.net import wire_frame, world
from netemu.net.wire_frame import WireFrames
from netemu.net.world import World
from netemu.nic.control import Settings

DAY = 86_400


def two_guests(lab: Lab, netem: str = "delay 1ms") -> tuple[Guest, Guest]:
    a, b = lab.guest("a", "10.0.0.1/24"), lab.guest("b", "10.0.0.2/24")
    lab.link(a, b, netem)
    return a, b


def switches(lab: Lab, pairs: list[str], netem: str) -> Guest:
    """A guest at the first of some switches that are joined in pairs."""
    nodes = {name: lab.switch(name) for name in sorted({name for pair in pairs for name in pair})}
    guest = lab.guest("guest", "10.0.0.1/24")
    lab.link(guest, nodes[pairs[0][0]])
    for number, pair in enumerate(pairs):
        lab.link(nodes[pair[0]], nodes[pair[1]], netem, name=f"{number}")
    return guest


def test_a_loop_of_switches_without_delay_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world, "STANDSTILL", 1 << 18)
    with Lab() as lab:
        guest = switches(lab, ["st", "st"], "")
        with pytest.raises(NetemuError, match=r"time does not go on: .* a loop of switches"):
            lab.run(guest.ping("10.0.0.2", count=1))
        assert lab.now == 0


def test_frames_that_multiply_in_a_mesh_of_switches_do_not_take_all_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire_frame, "MOST", (1 << 14, 1 << 14))
    with Lab() as lab:
        guest = switches(lab, ["st", "su", "sv", "tu", "tv", "uv"], "delay 1ms")
        with pytest.raises(NetemuError, match=r"more than \d+ frames are on their way at once: .* a loop of switches"):
            lab.run(guest.ping("10.0.0.2", count=1))
        assert lab.world.wires.total[0] <= 1 << 14


def test_as_many_buffers_as_there_may_be_are_made_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = WireFrames()
    monkeypatch.setattr(wire_frame, "MOST", tuple(frames.total))
    frames.grow()  # enough are free
    frames.pool.large_count = 0
    with pytest.raises(NetemuError, match="large frames are on their way"):
        frames.grow()


def test_a_router_has_64_ports_at_most() -> None:
    with Lab() as lab, pytest.raises(ConfigError, match="at most 64 interfaces"):
        lab.router("r", [f"10.{n}.0.1/24" for n in range(65)])


def test_there_is_room_for_any_number_of_captures() -> None:
    class Capture:
        def __init__(self, sink: Buffer) -> None:
            self.sink = sink

        def flush(self) -> None:
            raise AssertionError

    one = World()
    sinks = [allocate(64) for _ in range(1000)]
    for sink in sinks:
        one.add_capture(Capture(sink))  # type: ignore[arg-type]
    assert one._sinks.array.view("<i8")[:1000].tolist() == [sink.address for sink in sinks]


@pytest.mark.parametrize("days", [80, 400])
def test_emulated_time_goes_on_for_months_and_then_says_that_it_is_over(days: int) -> None:
    async def main(a: Guest, b: Guest) -> int:
        await asyncio.sleep(days * DAY)
        stats = await a.ping(b, count=3, interval=0.1)
        return stats.received

    with Lab() as lab:
        guests = two_guests(lab)
        if days < 90:
            assert lab.run(main(*guests)) == 3
            return
        with pytest.raises(NetemuError, match="after 90 days"):
            lab.run(main(*guests))


def test_calls_that_coalescing_holds_back_for_what_is_sent_come_when_they_are_due() -> None:
    with Lab() as lab:
        coalesce = {"rx-usecs": 50, "rx-frames": 32, "tx-usecs": 50, "tx-frames": 16}
        a = lab.guest("a", "10.0.0.1/24", queue_size=64, settings=Settings(coalesce=coalesce))
        b = lab.guest("b", "10.0.0.2/24")
        lab.link(a, b, "delay 1ms")

        async def main() -> int:
            sink, source = await b.datagram(9), await a.datagram()
            for _ in range(100):
                await source.send(b"x" * 100, (b, 9))
                await asyncio.sleep(0.01)
            received = 0
            while sink.socket.receive() is not None:
                received += 1
            return received

        assert lab.run(main()) == 100
        sent, interrupts = a.nic.send_counters()[0]["packets"], a.nic.send_counters()[0]["interrupts"]
        assert 0 < interrupts <= sent


def test_thousands_connect_at_one_moment() -> None:
    """Their SYNs come between two looks of Python at the server, whose table grows meanwhile."""
    with Lab() as lab:
        a, b = two_guests(lab)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.readline())
            writer.close()

        async def one(number: int) -> bool:
            reader, writer = await a.connect(b, 80)
            line = b"%d\n" % number
            writer.write(line)
            answer = await reader.read()
            writer.close()
            return answer == line

        async def main() -> list[bool]:
            await b.start_server(serve, 80, backlog=1000)
            await a.ping(b, count=1)  # few packets wait for an answer to ARP
            return await asyncio.gather(*(one(number) for number in range(600)))

        assert lab.run(main()) == 600 * [True]
        assert lab.now < 1_000_000_000  # no SYN was sent again


class Slow(asyncio.Protocol):
    """Reads nothing for two seconds."""

    def __init__(self) -> None:
        self.got, self.lost = 0, asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()
        asyncio.get_running_loop().call_later(2, transport.resume_reading)

    def data_received(self, data: bytes) -> None:
        self.got += len(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


def test_what_came_before_a_reset_is_read_and_then_the_reset_is_told_of() -> None:
    with Lab() as lab:
        a, b = two_guests(lab)

        async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"x" * 300_000)
            await asyncio.sleep(1)
            writer.transport.abort()

        async def main() -> tuple[int, Exception | None]:
            await b.start_server(serve, 80)
            _, protocol = await a.create_connection(Slow, b, 80)
            error = await asyncio.wait_for(protocol.lost, 10)
            return protocol.got, error

        got, error = lab.run(main())
        assert got == 300_000
        assert isinstance(error, ConnectionResetError)


def test_after_an_interrupt_the_lab_goes_on_or_is_closed_with_its_captures(tmp_path: Path) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    path = tmp_path / "a.pcapng"
    with Lab() as lab:
        a, b = two_guests(lab)
        lab.capture(a, path)
        lab.at("2500ms", interrupt)
        with pytest.raises(KeyboardInterrupt):
            lab.run(a.ping(b, count=10))
        assert lab.now == 2_500_000_000
        assert lab.run(b.ping(a, count=1)).received == 1
    # ARP both ways, three echoes and one.
    assert len(list(read_capture(path))) >= 2 + 6 + 2


def test_an_interrupt_inside_a_task_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """By the call that ran the lab; not again, with a traceback, when the task is gone."""

    async def interrupted() -> None:
        await asyncio.sleep(1)
        raise KeyboardInterrupt

    async def main() -> None:
        task = asyncio.create_task(interrupted())
        await asyncio.sleep(2)
        await task

    with Lab() as lab, pytest.raises(KeyboardInterrupt):
        lab.run(main())
    del lab
    gc.collect()
    assert caplog.records == []


def test_a_task_that_cannot_be_ended_does_not_cost_the_captures(tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    lab = Lab()
    a, b = two_guests(lab)
    lab.capture(a, path)

    async def never() -> None:
        datagram = await a.datagram()
        try:
            await datagram.receive()
        finally:
            await datagram.receive()

    async def main() -> asyncio.Task[None]:
        task = asyncio.create_task(never())
        await a.ping(b, count=2)
        return task

    task = lab.run(main())
    with pytest.raises(NetemuError, match="Nothing is left that could happen"):
        lab.close()
    assert not task.done()
    # ARP both ways, two echoes and their replies.
    assert len(list(read_capture(path))) >= 2 + 4
    assert lab.loop.is_closed()
