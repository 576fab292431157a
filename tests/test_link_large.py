"""Large frames and unfinished checksums on links: whole or by segment, and in front of nodes that do not take them."""

from __future__ import annotations

import pytest

from netemu.net.adapt import Adapter
from netemu.offload.accepts import ACCEPT_CSUM, ACCEPT_TSO4
from tests.net_kit import MS, Rig, balance
from tests.offload_kit import (
    IN_IPV4,
    NEEDS_CSUM,
    PSEUDO,
    TCPV4,
    TCPV6,
    TUNNEL_CSUM,
    UFO,
    USO,
    V6,
    ether,
    finished_by_hand,
    header,
    ip4,
    ip6,
    marked,
    read,
    tcp,
    udp,
    vxlan,
)
from tests.wire import UDP

SMALL = ether(ip4(tcp(b"hello")))
UNFINISHED = header(NEEDS_CSUM, start=34, offset=16)
LARGE = ether(ip4(tcp(marked(3000))))
TSO = header(NEEDS_CSUM, TCPV4, size=1000, start=34, offset=16)


@pytest.mark.parametrize(
    ("frame", "vnet", "segments", "headers"),
    [
        # Ethernet 14 + IPv4 20 + TCP 20, and TCP options 12.
        pytest.param(LARGE, TSO, 3, 54, id="tcp4"),
        pytest.param(ether(ip4(tcp(marked(3001), options=bytes(12)))), TSO, 4, 66, id="tcp4-options"),
        pytest.param(
            ether(ip6(tcp(marked(2000), addresses=V6))),
            header(NEEDS_CSUM, TCPV6, size=1000, start=54, offset=16),
            2,
            74,
            id="tcp6",
        ),
        pytest.param(
            ether(ip4(udp(marked(2500)), UDP)), header(NEEDS_CSUM, USO, size=1000, start=34, offset=6), 3, 42, id="uso"
        ),
        # Fragments: the 8 bytes of the UDP header are part of what is cut, 2508 bytes into pieces of 1000.
        pytest.param(
            ether(ip4(udp(marked(2500)), UDP)), header(NEEDS_CSUM, UFO, size=1000, start=34, offset=6), 3, 34, id="ufo"
        ),
        # Outer 14 + 20 + 8 + VXLAN 8, inner 14 + 20 + 20.
        pytest.param(
            vxlan(LARGE, check=PSEUDO),
            header(NEEDS_CSUM | TUNNEL_CSUM, TCPV4 | IN_IPV4, size=1000, start=84, offset=16, outer_th=34, inner_nh=64),
            3,
            104,
            id="tunnel",
        ),
        pytest.param(ether(ip4(tcp(marked(900)))), TSO, 1, 54, id="one-segment"),
        pytest.param(SMALL, UNFINISHED, 1, 54, id="not-large"),
    ],
)
@pytest.mark.parametrize("gso", ["whole", "segments"])
def test_a_large_frame_takes_the_time_of_its_segments(
    frame: bytes, vnet: bytes, segments: int, headers: int, gso: str
) -> None:
    """As qdisc_pkt_len_init counts: each segment has the headers again."""
    rig = Rig(f"rate 8mbit gso {gso}")  # a byte takes 1 us
    rig.send(frame, vnet=vnet)
    rig.run()
    assert rig.times[-1] == (len(frame) + (segments - 1) * headers) * 1000
    assert rig.forward.sent_bytes * 1000 == rig.times[-1]
    assert len(rig.arrivals) == (segments if gso == "segments" else 1)
    assert balance(rig.forward) == 0


def test_whole_a_large_frame_arrives_as_it_was_sent() -> None:
    rig = Rig("delay 1ms")
    rig.send(LARGE, vnet=TSO)
    (arrival,) = rig.run()
    assert (arrival.data, arrival.vnet) == (LARGE, TSO)


def test_by_segment_each_is_a_frame_of_its_own() -> None:
    rig = Rig("delay 1ms gso segments queue 1p rate 100mbit")
    rig.send(LARGE, vnet=TSO)
    assert (rig.forward.cut, rig.forward.pieces, rig.forward.dropped_queue) == (1, 3, 1)
    first, second = (read(arrival.data) for arrival in rig.run())
    assert (first.payload, second.payload) == (marked(1000), marked(1000, 1000))
    assert second.seq == first.seq + 1000
    assert balance(rig.forward) == 0
    assert rig.buffers() == rig.free


def test_by_segment_a_header_that_is_not_true_is_refused() -> None:
    rig = Rig("gso segments")
    rig.send(LARGE, vnet=header(NEEDS_CSUM, TCPV4, size=1000, start=14, offset=16))
    assert rig.run() == []
    assert rig.forward.dropped_header == 1
    assert balance(rig.forward) == 0
    assert rig.buffers() == rig.free


@pytest.mark.parametrize(("mtu", "passes"), [(1040, True), (1039, False)])
@pytest.mark.parametrize("gso", ["whole", "segments"])
def test_the_mtu_is_held_against_the_segments_of_a_large_frame(mtu: int, passes: bool, gso: str) -> None:
    rig = Rig(f"mtu {mtu} gso {gso}")
    rig.send(LARGE, vnet=TSO)
    assert bool(rig.run()) == passes
    assert rig.forward.dropped_mtu == int(not passes)


@pytest.mark.parametrize(
    "vnet",
    [
        header(NEEDS_CSUM, TCPV4, size=0xFFFF, start=0xFFFF, offset=0xFFFF),
        header(NEEDS_CSUM, TCPV4, size=1, start=34, offset=16),
        header(NEEDS_CSUM, UFO, size=1, start=len(LARGE) - 20, offset=6),
        header(0xFF, 0xFF, size=7, start=3, offset=2, outer_th=0xFFFF, inner_nh=0xFFFF),
    ],
)
def test_a_senseless_header_does_no_harm(vnet: bytes) -> None:
    for gso in ("whole", "segments"):
        rig = Rig(f"rate 100mbit mtu 1500 gso {gso}")
        rig.send(LARGE, vnet=vnet)
        rig.run()
        assert balance(rig.forward) == 0
        assert rig.buffers() == rig.free


# In front of a node.


def adapted(frame: bytes, vnet: bytes, accepts: int) -> tuple[list[tuple[bytes, bytes]], Adapter]:
    rig = Rig("delay 1ms")
    adapter = Adapter(rig.frames, rig.ports[1], accepts)
    rig.send(frame, vnet=vnet)
    rig.run()
    assert rig.buffers() == rig.free
    return [(arrival.data, arrival.vnet) for arrival in rig.arrivals], adapter


def test_a_node_that_takes_all_gets_the_frame_as_it_is() -> None:
    """The sum of the pseudo-header is in the frame: nothing has to be changed."""
    ((data, vnet),), _ = adapted(LARGE, TSO, ACCEPT_CSUM | ACCEPT_TSO4)
    assert data == LARGE
    assert vnet[:2] == TSO[:2]
    assert vnet[4:10] == TSO[4:10]  # size, start, offset


def test_a_node_that_takes_no_large_frames_gets_its_segments() -> None:
    found, _ = adapted(LARGE, TSO, ACCEPT_CSUM)
    assert [len(read(data).payload) for data, _ in found] == [1000, 1000, 1000]
    assert {vnet for _, vnet in found} == {b""}


def test_a_node_that_takes_nothing_gets_checksums_finished() -> None:
    ((data, vnet),), _ = adapted(SMALL, UNFINISHED, 0)
    assert data == finished_by_hand(SMALL)
    assert vnet == b""


def test_a_node_that_finishes_checksums_gets_them_unfinished() -> None:
    ((data, vnet),), _ = adapted(SMALL, UNFINISHED, ACCEPT_CSUM)
    assert data == SMALL
    assert vnet == UNFINISHED


def test_a_frame_whose_header_does_not_fit_it_reaches_no_node() -> None:
    found, adapter = adapted(LARGE, header(NEEDS_CSUM, TCPV4, size=0, start=34, offset=16), 0)
    assert found == []
    assert adapter.refused == 1


def test_what_a_node_takes_may_change_and_be_left_to_it() -> None:
    rig = Rig("delay 1ms")
    adapter = Adapter(rig.frames, rig.ports[1], 0)
    assert adapter.accepts == 0
    adapter.accepts = ACCEPT_CSUM | ACCEPT_TSO4
    rig.send(LARGE, vnet=TSO)
    adapter.accepts = 0  # before it arrives
    rig.run(1 * MS)
    assert len(rig.arrivals) == 3
    adapter.remove()
    rig.send(LARGE, vnet=TSO)
    rig.run()
    assert rig.arrivals[-1].data == LARGE
