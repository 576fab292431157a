"""Flows of datagrams: their sizes and moments, and what the sink makes of what the wire did to them."""

from __future__ import annotations

import asyncio
import gc
import itertools
import statistics
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.packet import Raw

from netemu.errors import ConfigError
from netemu.jit import allocate, hook
from netemu.stack.addresses import halves_of
from netemu.stack.host import SEND_DROPPED
from netemu.traffic.draws import IMIX, ONE, Table, drawn, gap_table, size_table
from netemu.traffic.udp import FlowStats, UdpReceiver, UdpSender, udp_flow
from netemu.traffic.udp_apps import ECHO_ROOM, udp_echo_app
from netemu.traffic.udp_sink import SAMPLES, WINDOW, UdpSink, _is_new, _measure
from tests.aio_kit import run
from tests.message_kit import MessageHost, packet_of
from tests.plain import plain_entries
from tests.wire_kit import DELAY, Wire

__all__ = ["plain_entries"]

pytestmark = pytest.mark.usefixtures("plain_entries")


def flow(wire: Wire, **how: Any) -> FlowStats:
    return run(wire.world, udp_flow(wire.sockets[0], wire.sockets[1], **how))


def moments(wire: Wire, **how: Any) -> list[tuple[int, int]]:
    """When datagrams are sent, and their payloads' sizes."""
    seen: list[tuple[int, int]] = []

    def note(_number: int, packet: Any) -> list[Any]:
        seen.append((wire.world.now, len(packet[UDP].payload)))
        return []

    wire.spoil = note
    flow(wire, **how)
    return seen


# The source.


def test_datagrams_leave_at_the_interval() -> None:
    assert moments(Wire(1, 2), interval="10ms", count=4, size=100) == [(n * 10_000_000, 100) for n in range(4)]


def test_a_rate_is_kept_to_the_nanosecond_over_many() -> None:
    """1000 bytes at 3 Mbit/s are 2,666,666.67 ns each."""
    sent = moments(Wire(1, 2), rate="3mbit", count=31, size=1000)
    assert sent[30][0] == pytest.approx(30 * 8000 / 3e6 * 1e9, abs=2)


def test_a_flow_ends_with_its_time() -> None:
    assert len(moments(Wire(1, 2), interval=0.1, time="1s")) == 10
    assert len(moments(Wire(1, 2), interval=0.1, time="1s", count=3)) == 3


def test_gaps_of_a_poisson_flow_are_exponential_with_the_same_mean() -> None:
    times = [when for when, _ in moments(Wire(1, 2), interval="10ms", count=400, spacing="poisson", size=16)]
    gaps = [later - sooner for sooner, later in itertools.pairwise(times)]
    assert statistics.mean(gaps) == pytest.approx(10e6, rel=0.15)
    assert statistics.stdev(gaps) == pytest.approx(10e6, rel=0.2)


def test_gaps_follow_the_size_where_there_is_a_rate() -> None:
    sent = moments(Wire(1, 2), rate="1mbit", count=50, size="uniform 100 1000")
    for (when, size), (after, _) in itertools.pairwise(sent):
        assert after - when == pytest.approx(size * 8000, abs=2)
    assert len({size for _, size in sent}) > 20


def test_a_datagram_carries_its_number_and_its_time() -> None:
    wire = Wire(1, 2)
    flow(wire, interval="1ms", count=3, size=20)
    payloads = [bytes(packet_of(sent)[UDP].payload) for sent in wire.hosts[0].sent]
    for number, payload in enumerate(payloads):
        assert payload == number.to_bytes(8, "big") + (number * 1_000_000).to_bytes(8, "big") + bytes(4)


def test_the_same_seed_gives_the_same_flow() -> None:
    how = {"rate": "1mbit", "size": "exponential 300", "spacing": "poisson", "count": 30}
    assert moments(Wire(1, 2), **how) == moments(Wire(1, 2), **how)


def test_what_has_no_room_is_counted_and_the_flow_goes_on() -> None:
    wire = Wire(1, 2)
    wire.world.at(5_500_000, lambda: setattr(wire.hosts[0], "answer", SEND_DROPPED))
    stats = flow(wire, interval="1ms", count=10)
    assert (stats.sent, stats.refused, stats.received, stats.lost) == (6, 4, 6, 0)


def test_a_flow_can_be_stopped() -> None:
    wire = Wire(1, 2)

    async def main() -> int:
        sender = UdpSender(wire.sockets[0], halves_of("10.0.0.2"), 9, interval="1ms", time=1)
        sender.start()
        wire.world.at(2_500_000, sender.stop)
        await sender.wait(10_000_000)
        return sender.flow.sent

    assert run(wire.world, main()) == 3


def test_a_flow_whose_sender_is_closed_sends_no_more() -> None:
    wire = Wire(1, 2)

    async def main() -> None:
        with UdpSender(wire.sockets[0], halves_of("10.0.0.2"), 9, interval="1ms", time=1) as sender:
            sender.start()
            await sender.wait(2_500_000)
        del sender
        gc.collect()
        await asyncio.sleep(1)

    run(wire.world, main())
    assert len(wire.hosts[0].sent) == 3


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"count": 1}, "a rate or an interval"),
        ({"count": 1, "rate": "1mbit", "interval": 1}, "a rate or an interval"),
        ({"rate": "1mbit"}, "a count of datagrams or a time"),
        ({"rate": "1mbit", "count": 1, "size": 15}, "from 16 to 65507"),
        ({"rate": "1mbit", "count": 1, "size": "uniform 100 70000"}, "from 16 to 65507"),
        ({"rate": "1mbit", "count": 1, "size": "pareto 3"}, "is no size"),
        ({"rate": "1mbit", "count": 1, "size": "uniform 9 3"}, "is no size"),
        ({"rate": "1mbit", "count": 1, "size": ""}, "is no size"),
        ({"rate": "0", "count": 1}, "above 0"),
        ({"interval": 0, "count": 1}, "above 0"),
        ({"rate": "1mbit", "count": 1, "spacing": "bursty"}, "constant or poisson"),
    ],
)
def test_a_flow_that_makes_no_sense_is_refused(how: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        flow(Wire(1, 2), **how)


# The sink.


@pytest.mark.parametrize("version", [4, 6])
def test_a_flow_over_a_good_wire_arrives_whole(version: int) -> None:
    stats = flow(Wire(1, 2), rate="1mbit", size=1000, count=11, version=version)
    assert (stats.sent, stats.received, stats.lost, stats.loss) == (11, 11, 0, 0.0)
    assert stats.sent_bytes == stats.received_bytes == 11_000
    assert set(stats.delay) == {DELAY}
    assert (stats.delay_mean, stats.jitter) == (DELAY, 0)
    assert stats.goodput == pytest.approx(1e6, rel=1e-6)
    assert "11 datagrams, 11 arrived, 0% loss" in str(stats)
    assert stats.to_dict()["delay_ns"]["p50"] == DELAY


def test_loss_duplicates_and_late_ones_are_told_apart() -> None:
    wire = Wire(1, 2)
    held: list[Any] = []

    def spoil(number: int, packet: Any) -> list[Any]:
        if number == 3:
            return []
        if number == 5:
            held.append(packet)
            return []
        if number == 7:
            return [packet, *held, packet]
        return [packet]

    wire.spoil = spoil
    stats = flow(wire, interval="1ms", count=10)
    assert (stats.sent, stats.received, stats.lost, stats.duplicates, stats.reordered) == (10, 9, 1, 1, 1)


def test_what_no_flow_sent_is_strange() -> None:
    wire = Wire(1, 2)

    async def main() -> FlowStats:
        receiver = UdpReceiver(wire.sockets[1], 5000)
        for payload in (b"short", b"\xff" * 16, bytes(8) + b"\x7f" * 8):
            wire.hosts[1].deliver(IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=1, dport=5000) / Raw(payload))
        return receiver.stats()

    stats = run(wire.world, main())
    assert (stats.strange, stats.received) == (3, 0)
    assert len(stats.delay) == 0


def new_sink() -> tuple[UdpSink, list[Any]]:
    kept = [allocate(WINDOW // 8), allocate(SAMPLES * 8)]
    return UdpSink(seen=kept[0].address, delays=kept[1].address, random=1), kept


@given(st.lists(st.integers(0, 300), max_size=200))
def test_the_sink_counts_as_a_set_of_numbers_would(numbers: list[int]) -> None:
    sink, _kept = new_sink()
    seen: set[int] = set()
    late = 0
    for number in numbers:
        late += number not in seen and any(number < other for other in seen)
        assert _is_new(sink, number) == (number not in seen)
        seen.add(number)
    assert sink.duplicates == len(numbers) - len(seen)
    assert sink.reordered == late


def test_a_jump_over_the_window_forgets_what_was_before() -> None:
    sink, _kept = new_sink()
    assert [_is_new(sink, number) for number in (0, 1, WINDOW + 1, 1, 2 * WINDOW + 1, WINDOW + 1)] == [1, 1, 1, 1, 1, 1]
    assert sink.duplicates == 0


def test_delays_of_more_datagrams_than_are_kept_are_a_fair_sample() -> None:
    sink, kept = new_sink()
    for number in range(2 * SAMPLES):
        _measure(sink, number)
    values = kept[1].array.view("<i8")
    assert (sink.delay_min, sink.delay_max, sink.measured) == (0, 2 * SAMPLES - 1, 2 * SAMPLES)
    assert float(values.mean()) == pytest.approx(SAMPLES, rel=0.02)
    assert 0.45 < float((values >= SAMPLES).mean()) < 0.55


def test_jitter_is_that_of_rtp() -> None:
    """RFC 3550 section 6.4.1: J += (|D| - J) / 16."""
    sink, _kept = new_sink()
    jitter = 0.0
    before = None
    for delay in (100_000, 116_000, 100_000, 500_000, 500_000, 0):
        _measure(sink, delay)
        if before is not None:
            jitter += (abs(delay - before) - jitter) / 16
        before = delay
    assert sink.jitter / 16 == pytest.approx(jitter, abs=2)


# Draws.


def values_of(table: Table, count: int = 1000) -> Iterator[int]:
    for number in range(count):
        yield drawn(table.struct, (2 * number + 1) * (1 << 31) // count)


def test_an_internet_mix_has_its_shares() -> None:
    values = list(values_of(size_table("imix", 16, 65_507), 1200))
    assert [values.count(size) for size in (16, 548, 1472)] == [700, 400, 100]
    assert len(IMIX) == 12


def test_tables_have_the_mean_they_are_asked_for() -> None:
    assert size_table("exponential 500", 16, 65_507).mean == pytest.approx(500, rel=0.01)
    assert size_table("uniform 100 300", 16, 65_507).mean == 200
    assert gap_table("poisson").mean == pytest.approx(ONE, rel=1e-4)
    assert set(values_of(gap_table("constant"))) == {ONE}


# Apps that answer.


@pytest.mark.parametrize("size", [0, 1, 900])
def test_an_echo_app_answers_with_what_came(size: int) -> None:
    host = MessageHost()
    socket = host.udp.open(port=7)
    room, data = allocate(ECHO_ROOM), (bytes(range(256)) * 4)[:size]
    socket.struct.app, socket.struct.app_state = hook(udp_echo_app), room.address
    host.deliver(IP(src="10.0.0.2", dst="10.0.0.1") / UDP(sport=4000, dport=7) / Raw(data))
    (answer,) = [packet_of(sent) for sent in host.sent]
    assert (answer.dst, answer[UDP].sport, answer[UDP].dport) == ("10.0.0.2", 7, 4000)
    assert bytes(answer[UDP].payload) == data
