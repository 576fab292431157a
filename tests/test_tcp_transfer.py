"""Bytes go from one host to another, whatever the channel does: they arrive, in order, once."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from netemu.stack.addresses import halves, parse_address
from netemu.stack.tcp.sockets import TcpSocket
from tests.tcp_pair import FINE, LOST, MS, Fate, TcpPair

FATES = st.lists(
    st.one_of(
        st.just(FINE),
        st.just(LOST),
        st.builds(Fate, st.integers(1, 3), st.integers(1, 40).map(lambda ms: ms * MS)),
    ),
    max_size=60,
)


def pump(wire: TcpPair, sender: TcpSocket, receiver: TcpSocket, data: bytes, *, seconds: int = 600) -> bytes:
    """Write all of ``data``, close, and read until the end."""
    got, left = b"", data
    closed = False
    for _ in range(seconds * 20):
        if left:
            left = left[sender.write(left) :]
        elif not closed:
            sender.shutdown()
            closed = True
        wire.after(50)
        wire.check()
        part = receiver.read()
        while part:
            got += part
            part = receiver.read()
        if part == b"":
            return got
    raise AssertionError(f"{len(got)} of {len(data)} bytes came; {sender.info()}, {receiver.info()}")


def content(size: int) -> bytes:
    return random.Random(size).randbytes(size)


@pytest.mark.parametrize("offloads", [1, 3], ids=["segments", "tso"])
@pytest.mark.parametrize("options", [(0, 0, 0), (1, 1, 1), (0, 1, 1), (1, 0, 0)], ids=["bare", "all", "sack", "stamps"])
def test_a_clean_channel(options: tuple[int, int, int], offloads: int) -> None:
    timestamps, sack, scaling = options
    wire = TcpPair(offloads=offloads, timestamps=timestamps, sack=sack, window_scaling=scaling)
    client, server = wire.opened()
    data = content(200_000)
    assert pump(wire, client, server, data) == data
    assert client.tcb.total_retrans == 0
    assert any(frame.gso_size for frame in wire.frames) == (offloads == 3)
    server.shutdown()
    wire.after(20)
    assert (client.state, server.state) == ("TIME-WAIT", "CLOSED")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    fates=FATES,
    sack=st.booleans(),
    timestamps=st.booleans(),
    congestion=st.sampled_from(["reno", "cubic"]),
    tso=st.booleans(),
    size=st.integers(1, 60_000),
)
def test_bytes_arrive_whatever_the_channel_does(
    fates: Sequence[Fate], *, sack: bool, timestamps: bool, congestion: str, tso: bool, size: int
) -> None:
    wire = TcpPair(fates, offloads=3 if tso else 1, sack=int(sack), timestamps=int(timestamps), congestion=congestion)
    client, server = wire.opened()
    data = content(size)
    assert pump(wire, client, server, data) == data
    assert (client.error, server.error) == (None, None)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 1 << 16), sack=st.booleans())
def test_both_ways_at_once_over_a_bad_channel(seed: int, *, sack: bool) -> None:
    chance = random.Random(seed)
    fates = [chance.choice([FINE, FINE, FINE, LOST, Fate(2), Fate(1, chance.randint(1, 30) * MS)]) for _ in range(150)]
    wire = TcpPair(fates, sack=int(sack))
    client, server = wire.opened()
    there, back = content(30_000), content(20_000)
    ends = [(client, there, bytearray()), (server, back, bytearray())]
    written, ended = [0, 0], [False, False]
    for turn in range(6000):
        for n, (sock, data, got) in enumerate(ends):
            if written[n] < len(data):
                written[n] += sock.write(data[written[n] : written[n] + 5000])
                if written[n] == len(data):
                    sock.shutdown()
            part = sock.read()
            while part:
                got += part
                part = sock.read()
            ended[n] = part == b""
        wire.after(20 if turn < 1000 else 1000)  # timeouts grow when what measures them is lost
        wire.check()
        if all(ended):
            break
    assert (bytes(ends[1][2]), bytes(ends[0][2])) == (there, back)


def test_over_ipv6() -> None:
    """The same over IPv6, whose header takes 20 bytes more."""
    wire = TcpPair(offloads=7)
    for number, stack in enumerate(wire.stacks):
        stack.add_address(stack.interfaces[0], f"2001:db8::{number + 1}/64")
    wire.after(3000)
    listener = wire.sockets[1].listen(80)
    client = wire.sockets[0].connect(halves(parse_address("2001:db8::2")), 80)
    wire.after(100)
    server = listener.accept()
    assert server is not None
    data = content(50_000)
    assert pump(wire, client, server, data) == data
    assert (client.tcb.mss, client.tcb.total_retrans) == (1500 - 40 - 20 - 12, 0)


def test_small_buffers_and_a_reader_that_sleeps() -> None:
    """The window closes, probes find it open again, nothing is lost (RFC 9293 section 3.8.6.1)."""
    wire = TcpPair(send_buffer=4096, receive_buffer=4096)
    client, server = wire.opened()
    data, got, left = content(20_000), b"", content(20_000)
    for turn in range(2000):
        left = left[client.write(left) :]
        wire.after(300)
        wire.check()
        if turn % 4 == 3:
            got += server.read(1500) or b""
        if len(got) == len(data):
            break
    assert got == data
