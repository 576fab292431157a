"""Between stack and driver: what a frame has to be before a device gets it, who waits, and the watchdog.

"Sheet" is the project's fact sheet on Linux's virtio_net.c.
"""

from __future__ import annotations

import pytest

from netemu.driver.netdev import (
    NETIF_F_GSO_UDP_L4,
    NETIF_F_GSO_UDP_TUNNEL,
    NETIF_F_GSO_UDP_TUNNEL_CSUM,
    NETIF_F_HW_CSUM,
    NETIF_F_TSO,
    NETIF_F_TSO6,
    NETIF_F_TSO_ECN,
    XMIT_LINEARIZE,
    XMIT_MALFORMED,
    XMIT_OK,
    XMIT_SEGMENT,
    XMIT_TOO_LONG,
    dev_watchdog,
    netdev_features,
    validate_xmit_skb,
)
from netemu.driver.qdisc import dev_queue_xmit, qdisc_dequeue, qdisc_enqueue, qdisc_run
from netemu.driver.sock import Sock, skb_set_owner_w
from netemu.driver.transmit import free_old_xmit_skbs, start_xmit
from netemu.skb import Skb
from netemu.virtio import features as f
from netemu.virtio.features import FeatureSet
from tests.driver_kit import BASE, SMALL, V4_19, V6_1, V7_0, Rig, contents, every_era, frame, free
from tests.wire import A4, A6, TCP, UDP, internet_checksum, ipv4, ipv6, pseudo, put, tcp, udp, vlan

CHECKSUM_NONE, CHECKSUM_PARTIAL = 0, 3
TCPV4, UFO, TCPV6, UDP_L4, ECN, TUNNEL_IPV4, TUNNEL_CSUM = 1, 3, 4, 5, 0x80, 0x20, 0x100
SECOND = 1_000_000_000


def csum(*bits: int) -> FeatureSet:
    return BASE | FeatureSet.of(f.CSUM, *bits)


# Features


@pytest.mark.parametrize(
    ("offered", "wanted"),
    [
        ((), 0),
        ((f.CSUM,), NETIF_F_HW_CSUM),
        ((f.CSUM, f.GSO), NETIF_F_HW_CSUM | NETIF_F_TSO | NETIF_F_TSO6 | NETIF_F_TSO_ECN),
        ((f.CSUM, f.HOST_TSO4), NETIF_F_HW_CSUM | NETIF_F_TSO),
        ((f.CSUM, f.HOST_TSO6, f.HOST_ECN), NETIF_F_HW_CSUM | NETIF_F_TSO6 | NETIF_F_TSO_ECN),
        ((f.CSUM, f.HOST_UFO), NETIF_F_HW_CSUM),
        ((f.CSUM, f.HOST_USO), NETIF_F_HW_CSUM | NETIF_F_GSO_UDP_L4),
        (
            (f.CSUM, f.HOST_UDP_TUNNEL_GSO, f.HOST_UDP_TUNNEL_GSO_CSUM),
            NETIF_F_HW_CSUM | NETIF_F_GSO_UDP_TUNNEL | NETIF_F_GSO_UDP_TUNNEL_CSUM,
        ),
    ],
)
def test_what_the_stack_may_hand_down(offered: tuple[int, ...], wanted: int) -> None:
    """Sheet 1.3 step 3; UFO has given the stack nothing since v4.14."""
    assert netdev_features(FeatureSet.of(*offered)) == wanted


GSO = [
    pytest.param(TCPV4, (f.HOST_TSO4,), id="TX-V-06-TX-V-07"),
    pytest.param(TCPV6, (f.HOST_TSO6,), id="TX-V-08-TX-V-09"),
    pytest.param(UDP_L4, (f.HOST_USO,), id="TX-V-12-TX-V-13"),
    pytest.param(TCPV4 | ECN, (f.HOST_TSO4, f.HOST_ECN), id="TX-V-14"),
    pytest.param(TCPV4 | TUNNEL_IPV4, (f.HOST_TSO4, f.HOST_TSO6, f.HOST_USO, f.HOST_UDP_TUNNEL_GSO), id="TX-V-17"),
    pytest.param(
        TCPV4 | TUNNEL_IPV4 | TUNNEL_CSUM,
        (f.HOST_TSO4, f.HOST_TSO6, f.HOST_USO, f.HOST_UDP_TUNNEL_GSO, f.HOST_UDP_TUNNEL_GSO_CSUM),
        id="TX-V-20-TX-V-22",
    ),
]


def _gso(rig: Rig, kind: int) -> Skb:
    skb = rig.outgoing(ipv4(tcp(bytes(2000)), TCP))
    skb.ip_summed, skb.csum_start, skb.csum_offset = CHECKSUM_PARTIAL, 34, 16
    skb.gso_type, skb.gso_size, skb.inner_protocol = kind, 500, 0x0800
    return skb


@pytest.mark.parametrize(("kind", "bits"), GSO)
def test_a_large_frame_needs_its_feature(kind: int, bits: tuple[int, ...]) -> None:
    """TX-V-30 and its like: with all of them it goes as it is, with any one missing the stack has to segment it.

    So no tunnel leaves whose outer checksum somebody else would have to make (TX-V-20, TX-V-37).
    """
    rig = Rig(V7_0, csum(*bits))
    assert validate_xmit_skb(rig.vi, _gso(rig, kind)) == XMIT_OK
    for missing in bits:
        left = csum(*bits) - FeatureSet.of(missing)
        rig.vi.tx_features = netdev_features(left)
        skb = _gso(rig, kind)
        needless = missing in (f.HOST_TSO6, f.HOST_USO) and kind & ~0x1E0 == TCPV4
        assert validate_xmit_skb(rig.vi, skb) == (XMIT_OK if needless else XMIT_SEGMENT), missing
    rig.vi.tx_features = netdev_features(BASE)
    assert validate_xmit_skb(rig.vi, _gso(rig, kind)) == XMIT_SEGMENT


def test_tx_v_11_ufo_is_always_made_in_software() -> None:
    """TX-V-10, TX-V-11: Linux never asks for it, whether or not it may."""
    rig = Rig(V7_0, csum(f.HOST_UFO, f.HOST_USO))
    assert validate_xmit_skb(rig.vi, _gso(rig, UFO)) == XMIT_SEGMENT


def test_tx_v_31_segments_without_a_checksum_to_finish_are_refused() -> None:
    rig = Rig(V7_0, csum(f.HOST_TSO4))
    skb = _gso(rig, TCPV4)
    skb.ip_summed = CHECKSUM_NONE
    assert validate_xmit_skb(rig.vi, skb) == XMIT_MALFORMED


# Checksums


PARTIAL = [
    # The packet with its pseudo-header's sum for a checksum; where the sum starts, its offset; the packet finished.
    pytest.param(
        ipv4(tcp(b"odd", checksum=internet_checksum(pseudo(A4, TCP, 23)) ^ 0xFFFF), TCP),
        34, 16, ipv4(tcp(b"odd"), TCP), id="tcp",
    ),
    pytest.param(
        ipv6(udp(b"x" * 200, addresses=A6, checksum=internet_checksum(pseudo(A6, UDP, 208)) ^ 0xFFFF), UDP),
        54, 6, ipv6(udp(b"x" * 200, addresses=A6), UDP), id="udp-over-frags",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("data", "start", "offset", "right"), PARTIAL)
def test_tx_v_04_without_csum_the_stack_finishes(data: bytes, start: int, offset: int, right: bytes) -> None:
    """TX-V-03, TX-V-04: flags are 0, and the packet is whole; the sums were worked out by RFC 1071."""
    rig = Rig(V7_0, BASE)
    skb = rig.outgoing(data)
    skb.ip_summed, skb.csum_start, skb.csum_offset = CHECKSUM_PARTIAL, start, offset
    assert validate_xmit_skb(rig.vi, skb) == XMIT_OK
    assert contents(skb) == right
    start_xmit(rig.sq, skb.address, 0)
    assert rig.tx.read_buffer(rig.tx.take()) == bytes(12) + right


@pytest.mark.parametrize(("data", "start", "offset", "right"), PARTIAL)
def test_tx_v_26_with_csum_the_device_finishes(data: bytes, start: int, offset: int, right: bytes) -> None:
    """TX-V-27 to TX-V-29: the bytes as they were; one's-complement sum from csum_start on, put where it says."""
    rig = Rig(V7_0, csum())
    skb = rig.outgoing(data)
    skb.ip_summed, skb.csum_start, skb.csum_offset = CHECKSUM_PARTIAL, start, offset
    assert validate_xmit_skb(rig.vi, skb) == XMIT_OK
    start_xmit(rig.sq, skb.address, 0)
    sent = rig.tx.read_buffer(rig.tx.take())[12:]
    assert sent == data
    at = start + offset
    assert put(sent, at, internet_checksum(sent[start:]).to_bytes(2, "big")) == right


def test_a_checksum_of_zero_is_sent_as_all_ones() -> None:
    """RFC 768: 0 would mean none. The payload's last word is the complement of all the others."""
    rig = Rig(V7_0, BASE)
    unfinished = internet_checksum(pseudo(A4, UDP, 10)) ^ 0xFFFF
    rest = internet_checksum(pseudo(A4, UDP, 10) + udp(b"\0\0", checksum=0))
    skb = rig.outgoing(ipv4(udp(rest.to_bytes(2, "big"), checksum=unfinished), UDP))
    skb.ip_summed, skb.csum_start, skb.csum_offset = CHECKSUM_PARTIAL, 34, 6
    assert validate_xmit_skb(rig.vi, skb) == XMIT_OK
    assert contents(skb)[40:42] == b"\xff\xff"


@pytest.mark.parametrize("features", [BASE, csum()])
def test_a_checksum_outside_of_the_frame_is_refused(features: FeatureSet) -> None:
    """TX-V-29."""
    rig = Rig(V7_0, features)
    skb = rig.outgoing(frame(60))
    skb.ip_summed, skb.csum_start, skb.csum_offset = CHECKSUM_PARTIAL, 45, 14
    assert validate_xmit_skb(rig.vi, skb) == XMIT_MALFORMED


# Lengths


@pytest.mark.parametrize(
    ("data", "verdict"),
    [
        (frame(1514), XMIT_OK),
        (frame(1515), XMIT_TOO_LONG),
        (vlan(frame(1514)), XMIT_OK),
        (vlan(frame(1515)), XMIT_TOO_LONG),
        (vlan(frame(1514), kind=0x88A8), XMIT_OK),
        (frame(14), XMIT_OK),
        (frame(13), XMIT_MALFORMED),
    ],
)
def test_netc_v_09_frames_over_the_mtu_are_not_sent(data: bytes, verdict: int) -> None:
    """NETC-V-09: the link header is 14 bytes, 4 more where there is a tag."""
    rig = Rig(V7_0, BASE | FeatureSet.of(f.MTU))
    assert validate_xmit_skb(rig.vi, rig.outgoing(data)) == verdict


def test_netc_v_09_the_devices_mtu_counts() -> None:
    rig = Rig(V7_0, BASE | FeatureSet.of(f.MTU), mtu=9000)
    for size, verdict in ((9014, XMIT_OK), (9015, XMIT_TOO_LONG)):
        skb = rig.outgoing(frame(size))
        assert validate_xmit_skb(rig.vi, skb) == verdict
        free(skb)


def test_a_frag_list_has_to_be_linearised() -> None:
    """Virtio_net has no NETIF_F_FRAGLIST."""
    rig = Rig(V7_0, BASE)
    skb, other = rig.outgoing(frame(60)), rig.outgoing(frame(60))
    skb.frag_list = other.address
    assert validate_xmit_skb(rig.vi, skb) == XMIT_LINEARIZE


# Waiting


def test_frames_that_wait_keep_their_order_and_are_bounded() -> None:
    rig = Rig(V7_0, SMALL)
    rig.sq.tx_queue_len = 3
    skbs = [rig.outgoing(frame(60, n)).address for n in range(4)]
    assert [qdisc_enqueue(rig.sq, skb) for skb in skbs] == [1, 1, 1, 0]
    assert [qdisc_dequeue(rig.sq) for _ in range(4)] == [*skbs[:3], 0]
    assert (rig.sq.qlen, rig.sq.qdisc_tail) == (0, 0)
    assert qdisc_enqueue(rig.sq, skbs[3]) == 1
    assert qdisc_dequeue(rig.sq) == skbs[3]


@every_era
def test_frames_wait_for_a_stopped_queue_and_follow_once_it_is_woken(kernel: str) -> None:
    """46 of 64 slots stop it (sheet 6.1 step 5); what waits goes out in order, and one kick serves it all."""
    rig = Rig(kernel, SMALL, 64)
    rig.vi.carrier = 1
    rig.sq.tx_queue_len = 2
    verdicts = [dev_queue_xmit(rig.sq, rig.outgoing(frame(60, n)).address, 0) for n in range(49)]
    assert verdicts == [1] * 48 + [0]
    assert (rig.tx.pending(), rig.sq.qlen, rig.sq.qdisc_drops) == (46, 2, 1)
    assert qdisc_run(rig.sq) == 0
    heads = [rig.tx.take() for _ in range(46)]
    for head in heads:
        rig.tx.use(head, 0)
    free_old_xmit_skbs(rig.sq)
    rig.sq.stopped = 0
    kicks = rig.sq.kicks
    assert qdisc_run(rig.sq) == 2
    assert rig.sq.kicks == kicks + 1
    assert [rig.tx.read_buffer(rig.tx.take())[12:] for _ in range(2)] == [frame(60, 46), frame(60, 47)]


@every_era
def test_a_sender_is_charged_until_its_frames_are_done_or_orphaned(kernel: str) -> None:
    """Sheet 6.1 step 4: without TX NAPI, as in 4.19, the account is cleared at once; with it, at completion."""
    rig = Rig(kernel, SMALL)
    sock = Sock()
    skb = rig.outgoing(frame(60))
    skb_set_owner_w(skb, sock.address)
    assert sock.wmem_alloc == skb.truesize
    start_xmit(rig.sq, skb.address, 0)
    assert sock.wmem_alloc == (0 if kernel == V4_19 else skb.truesize)
    rig.tx.use(rig.tx.take(), 0)
    free_old_xmit_skbs(rig.sq)
    assert sock.wmem_alloc == 0


def test_a_sender_gets_back_what_the_ring_refused() -> None:
    rig = Rig(V7_0, SMALL)
    rig.tx_vq.broken = 1
    sock = Sock()
    skb = rig.outgoing(frame(60))
    skb_set_owner_w(skb, sock.address)
    start_xmit(rig.sq, skb.address, 0)
    assert sock.wmem_alloc == 0


# The watchdog


def _stopped(kernel: str) -> Rig:
    """A queue of 64 that 46 frames have stopped at second 1."""
    rig = Rig(kernel, SMALL, 64)
    rig.vi.carrier = 1
    rig.vi.now = SECOND
    dev_watchdog(rig.vi)
    for _ in range(46):
        start_xmit(rig.sq, rig.outgoing(frame(60)).address, 0)
    assert rig.sq.stopped == 1
    return rig


@pytest.mark.parametrize("kernel", [V6_1, V7_0])
def test_a_queue_that_stays_stopped_times_out_every_five_seconds(kernel: str) -> None:
    """Sheet 6.3: counted since v5.17, and nothing is reset."""
    rig = _stopped(kernel)
    counted = []
    for second in (2, 5, 6, 7, 10, 11, 12, 17):
        rig.vi.now = second * SECOND
        dev_watchdog(rig.vi)
        counted.append(rig.sq.tx_timeouts)
    assert counted == [0, 0, 1, 1, 1, 2, 2, 3]
    assert (rig.sq.stopped, rig.tx.pending()) == (1, 46)


def test_there_was_no_watchdog_in_4_19() -> None:
    rig = _stopped(V4_19)
    rig.vi.now = 60 * SECOND
    dev_watchdog(rig.vi)
    assert rig.sq.tx_timeouts == 0


def test_a_running_queue_does_not_time_out_however_idle() -> None:
    rig = Rig(V7_0, SMALL, 64)
    rig.vi.carrier = 1
    start_xmit(rig.sq, rig.outgoing(frame(60)).address, 0)
    for second in range(0, 60, 5):
        rig.vi.now = second * SECOND
        dev_watchdog(rig.vi)
    assert rig.sq.tx_timeouts == 0
