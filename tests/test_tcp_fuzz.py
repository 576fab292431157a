"""Any segment in any state: nothing is raised, no access is wild, and what must hold of a connection holds."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from netemu.errors import NetemuError
from netemu.skb import CHECKSUM_UNNECESSARY
from netemu.stack.reasons import StackReason
from netemu.stack.tcp.sockets import TcpSocket
from netemu.stack.tcp.tcb import ESTABLISHED, tcb_at
from tests.tcp_kit import SACK_OK, Seg, TcpBench, build, mss, sack, stamp
from tests.tcp_pair import consistent

NEAR = st.one_of(st.integers(-3, 12), st.integers(-70_000, 70_000), st.integers(0, (1 << 32) - 1))
FLAG_SETS = st.lists(st.sampled_from("FSRP.U"), unique=True, max_size=6).map("".join)
OPTION = st.one_of(
    st.builds(stamp, st.integers(-5, 50), st.integers(0, 100)),
    st.builds(lambda left, size: sack((left, left + size)), st.integers(0, 1 << 32), st.integers(-9, 4000)),
    st.tuples(st.integers(2, 40), st.binary(max_size=8)),
)
SEGMENT = st.fixed_dictionaries(
    {
        "flags": st.one_of(st.sampled_from([".", "P.", "F.", "S", "R", "R.", "S."]), FLAG_SETS),
        "seq": NEAR,
        "ack": NEAR,
        "win": st.integers(0, 65535),
        "data": st.integers(0, 1500),
        "opts": st.lists(OPTION, max_size=2),
    }
)
STEP = st.one_of(
    SEGMENT,
    st.sampled_from(["write", "read", "shutdown", "wait", "sleep"]),
    st.just("ack all"),
)
STARTS = ["passive", "active", "connecting", "listening", "half closed", "closing", "close-wait"]


def start(b: TcpBench, how: str) -> TcpSocket:
    """Bring a connection into a state."""
    opts = [mss(1460), SACK_OK]
    if how == "connecting":
        return b.connecting()
    if how == "listening":
        return b.listen()
    sock = b.connected(opts) if how == "active" else b.accepted(opts)
    if how in ("half closed", "closing"):
        sock.shutdown()
        b.inject("F." if how == "closing" else ".", 1, 1 if how == "closing" else 2)
    if how == "close-wait":
        b.inject("F.", 1, 1)
    return sock


def do(b: TcpBench, sock: TcpSocket, step: str) -> None:
    """A call of the user's, time, or the peer's acknowledgement of all there is."""
    try:
        if step == "write":
            sock.write(bytes(3000))
        elif step == "read" and sock.state != "LISTEN":
            sock.read(2000)
        elif step == "shutdown":
            sock.shutdown()
        elif step == "wait":
            b.after(50)
        elif step == "sleep":
            b.after(5000)
        elif step == "ack all" and sock.tcb.state >= ESTABLISHED:
            b.inject(".", sock.tcb.rcv_nxt - sock.tcb.irs, sock.tcb.snd_nxt - sock.tcb.iss)
    except NetemuError:
        assert sock.state != "ESTABLISHED"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(how=st.sampled_from(STARTS), sack_on=st.booleans(), stamps=st.booleans(), steps=st.lists(STEP, max_size=12))
def test_any_segment_in_any_state(*, how: str, sack_on: bool, stamps: bool, steps: list[dict[str, Any] | str]) -> None:
    b = TcpBench(sack=int(sack_on), timestamps=int(stamps), connections=6)
    sock = start(b, how)
    for step in steps:
        if isinstance(step, dict):
            assert b.inject(**step) in StackReason
        else:
            do(b, sock, step)
        for one in b.sockets.tcbs():
            consistent(one)
    b.after(300_000)
    for one in b.sockets.tcbs():
        consistent(one)
    b.queue.check()
    table = b.sockets.table
    free, at = 0, table.free
    while at != 0:
        free, at = free + 1, tcb_at(at).next
    assert free == table.free_count


@settings(max_examples=100, deadline=None)
@given(junk=st.binary(min_size=20, max_size=80), flip=st.integers(0, 19), value=st.integers(0, 255))
def test_mutated_headers(junk: bytes, flip: int, value: int) -> None:
    """Bytes that are no segment, and segments with a byte changed, through all checks from the frame on."""
    b = TcpBench(sack=1)
    b.accepted([mss(1460), SACK_OK])
    frame = build(Seg(".", b.peer_isn + 1, (b.isn or 0) + 1, 1000, junk, [], b.sport, b.dport))
    for raw in (frame[: 34 + flip] + bytes([value]) + frame[35 + flip :], frame[:34] + junk + frame[34 + len(junk) :]):
        skb = b.skb(raw)
        skb.ip_summed = CHECKSUM_UNNECESSARY
        assert b.take(skb) in StackReason
        for one in b.sockets.tcbs():
            consistent(one)
