"""Users that are kernels: they are called as things happen, and send before the call is over."""

from __future__ import annotations

from netemu.jit import hook
from netemu.jit.kernels import Kernel
from netemu.stack.tcp.apps import tcp_echo, tcp_sink, tcp_source
from netemu.stack.tcp.sockets import TcpSocket
from tests.tcp_kit import TcpBench, mss, pair
from tests.tcp_pair import ADDRESSES, TcpPair


def plain(app: object) -> int:
    """A hook to an app as plain Python."""
    return hook(app.py_func if isinstance(app, Kernel) else app)  # type: ignore[arg-type]


def test_a_sink_counts_and_closes_with_the_peer() -> None:
    b = TcpBench()
    b.sockets.listen(80, app=plain(tcp_sink))
    b.inject("S", 0, opts=[mss(1000)])
    b.expect("S.", 0, 1)
    b.inject(".", 1, 1)
    b.inject("P.", 1, 1, data=b"drop me")
    (child,) = [one for one in b.sockets.tcbs() if one.state == 4]
    assert child.app_count == 7
    b.inject("F.", 8, 1)
    b.expect("F.", 1, 9)
    b.inject(".", 9, 2)
    assert [one.state for one in b.sockets.tcbs()] == [1]  # the listener


def test_an_echo_sends_back_with_the_acknowledgement() -> None:
    b = TcpBench()
    b.sockets.listen(80, app=plain(tcp_echo))
    b.inject("S", 0, opts=[mss(1000)])
    b.expect("S.", 0, 1)
    b.inject(".", 1, 1)
    b.inject("P.", 1, 1, data=b"hello")
    b.expect("P.", 1, 6, data=b"hello")
    b.inject("F.", 6, 6)
    b.expect("F.", 6, 7)


def test_an_echo_with_little_room_keeps_what_it_cannot_send() -> None:
    wire = TcpPair(send_buffer=2000, receive_buffer=8000)
    wire.sockets[1].listen(80, app=plain(tcp_echo))
    client = wire.sockets[0].connect(pair(ADDRESSES[1]), 80)
    wire.after(50)
    data = bytes(range(256)) * 60
    left, got = data, b""
    for _ in range(400):
        left = left[client.write(left) :] if left else left
        wire.after(50)
        got += client.read() or b""
        if len(got) == len(data):
            break
    assert got == data


def test_a_source_sends_so_many_bytes_and_closes() -> None:
    wire = TcpPair(send_buffer=10_000)
    wire.sockets[1].listen(80, app=plain(tcp_sink))
    client: TcpSocket = wire.sockets[0].connect(pair(ADDRESSES[1]), 80, app=plain(tcp_source), count=123_457)
    wire.after(20)
    (sink,) = [one for one in wire.sockets[1].tcbs() if one.parent == 0 and one.state != 1]
    wire.after(3000)
    assert sink.app_count == 123_457
    assert client.info()["bytes_acked"] == 123_457
    assert client.state == "TIME-WAIT"


def test_an_app_may_take_over_a_connection() -> None:
    b = TcpBench()
    sock = b.accepted([mss(1000)])
    sock.start_app(plain(tcp_source), 2500)
    b.expect(".", 1, 1, length=1000)
    b.expect(".", 1001, 1, length=1000)
    b.expect("FP.", 2001, 1, length=500)
