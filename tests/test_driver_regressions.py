"""Mishaps that once were: each test is named for the rule that was broken."""

from __future__ import annotations

import pytest

from netemu.driver.netdev import dev_watchdog
from netemu.driver.qdisc import dev_queue_xmit, qdisc_run
from netemu.driver.sock import Sock, skb_set_owner_w
from netemu.driver.transmit import free_old_xmit_skbs, skb_xmit_done, start_xmit, virtnet_poll_tx
from netemu.errors import ConfigError, NetemuError
from netemu.gro import GroState, napi_gro_flush, napi_gro_receive
from netemu.jit import hook
from netemu.memory import GuestMemory
from netemu.nic import Nic
from netemu.skb import Skbs
from netemu.virtio import features as f
from netemu.virtio.features import FeatureSet
from netemu.xdp import XDP_TX
from tests.driver_kit import (
    BIG,
    MERGEABLE,
    SMALL,
    V4_19,
    V6_1,
    V7_0,
    Rig,
    contents,
    every_era,
    frame,
    free,
    vnet_hdr,
)
from tests.xdp_kit import PlainProgram, XdpRig

RESET = FeatureSet.of(f.RING_RESET)
newer_eras = pytest.mark.parametrize("kernel", [V6_1, V7_0])


def _send_until_stopped(rig: Rig) -> int:
    count = 0
    while not rig.sq.stopped:
        start_xmit(rig.sq, rig.outgoing(frame(60)).address, 0)
        count += 1
    return count


def _take_all(rig: Rig) -> None:
    """The device is done with everything that was sent."""
    while rig.tx.pending():
        rig.tx.use(rig.tx.take(), 0)


# Rings of another size.


@pytest.mark.parametrize("features", [SMALL, MERGEABLE, BIG], ids=["small", "mergeable", "big"])
def test_buffers_of_a_ring_that_grew_belong_to_its_own_pool(features: FeatureSet) -> None:
    """A block of the old pool was cut on for a ring with new pools, and its pages were looked for outside of both."""
    rig = Rig(V7_0, features | RESET, 64)
    rig.transport.queue_size = 256
    rig.driver.open()
    rig.poll()
    rig.use_up(10)
    old = rig.data_pool
    rig.driver.set_ringparam(rx_pending=256)
    rig.turn_to(0)
    assert rig.data_pool.address != old.address
    assert old.free_count == old.total
    for n in range(300):
        skb = rig.receive_frame(frame(60 + n, n))
        assert contents(skb) == frame(60 + n, n)
        free(skb)
        rig.fill()
    rig.assert_nothing_lost()


def test_a_receive_ring_that_grows_leaves_the_send_queue_its_own_skbs() -> None:
    rig = Rig(V7_0, MERGEABLE | RESET, 64)
    rig.transport.queue_size = 256
    rig.driver.open()
    own = Skbs(rig.memory, 4)
    rig.sq.skb_pool = own.pool.address
    rig.driver.set_ringparam(rx_pending=256)
    assert rig.sq.skb_pool == own.pool.address


def test_frames_keep_their_numbers_over_a_send_ring_that_grows() -> None:
    """What travels beside the send ring had room for the first ring alone, and began in the middle after a reset."""
    nic = Nic(queue_size=256, features="+RING_RESET")
    nic.set_ringparam(tx_pending=32)
    assert [sent.id for sent in nic.send([frame(100)] * 3)] == [1, 2, 3]
    nic.set_ringparam(tx_pending=256)
    assert [sent.id for sent in nic.send([frame(100)] * 600)] == list(range(1, 601))
    nic.driver.freeze()
    nic.driver.restore()
    nic.let_guest_run()
    assert [sent.id for sent in nic.send([frame(100)] * 3)] == [1, 2, 3]
    assert nic.sending.idle()


@newer_eras
def test_a_sender_gets_back_the_memory_of_frames_that_a_reset_loses(kernel: str) -> None:
    rig = Rig(kernel, MERGEABLE | RESET, 64)
    rig.driver.open()
    sock = Sock(sndbuf=1000)
    skb = rig.outgoing(frame(60))
    skb_set_owner_w(skb, sock.address)
    start_xmit(rig.sq, skb.address, 0)
    assert sock.wmem_alloc > 0
    rig.driver.set_ringparam(tx_pending=32)
    assert (sock.wmem_alloc, skb.sk) == (0, 0)


def test_coal_d_05_either_direction_is_told_again_how_to_coalesce() -> None:
    """COAL-D-05: a queue that was disabled has lost its parameters."""
    more = RESET | FeatureSet.of(f.CTRL_VQ, f.NOTF_COAL, f.VQ_NOTF_COAL)
    rig = Rig(V7_0, MERGEABLE | more, 64)
    rig.driver.open()
    rig.control.take()
    rig.driver.set_ringparam(32, 32)
    told = [(kind, command, data[:2]) for kind, command, data in rig.control.take()]
    assert sorted(told) == [(6, 2, b"\0\0"), (6, 2, b"\1\0")]


@pytest.mark.parametrize(("kernel", "size", "refused"), [(V6_1, 16, False), (V7_0, 16, True), (V7_0, 32, False)])
def test_a_send_ring_that_would_stop_for_good(kernel: str, size: int, refused: bool) -> None:
    """v6.16: 19 entries have to be free for a queue to go on, so a ring needs more. Before, it could be had."""
    rig = Rig(kernel, MERGEABLE | RESET, 64)
    rig.driver.open()
    if refused:
        with pytest.raises(ConfigError, match="it needs 20 entries"):
            rig.driver.set_ringparam(tx_pending=size)
        assert rig.tx_vq.num == 64
        return
    rig.driver.set_ringparam(tx_pending=size)
    rig.turn_to(0)
    rig.sq.stopped = 0
    sent = _send_until_stopped(rig)
    _take_all(rig)
    virtnet_poll_tx(rig.sq)
    assert (sent, rig.sq.stopped) == ((1, 1) if size < 19 else (14, 0))


def test_a_ring_there_is_no_memory_for_is_the_old_one() -> None:
    """The queue was left in reset, with its poll off."""
    rig = Rig(V7_0, SMALL | RESET, 16, memory=GuestMemory(1 << 20))
    rig.driver.open()
    rig.poll()
    rig.transport.queue_size = 1 << 15
    for side in ("rx", "tx"):
        with pytest.raises(NetemuError, match="memory"):
            rig.driver.set_ringparam(**{f"{side}_pending": 1 << 15})
        rig.turn_to(0)
        assert (rig.vq.num, rig.tx_vq.num) == (16, 16)
        assert (rig.rx.pending(), rig.napi.enabled, rig.tx_napi.enabled, rig.sq.stopped) == (16, 1, 1, 0)
    free(rig.receive_frame(frame(60)))
    rig.assert_nothing_lost()


def test_the_least_length_of_a_buffer_is_that_of_the_first_ring() -> None:
    """Sheet 2.3, step 3: computed once the virtqueues exist; virtnet_rx_resize leaves it alone."""
    rig = Rig(V7_0, MERGEABLE | RESET, 64)
    rig.driver.open()
    rig.driver.set_ringparam(rx_pending=16)
    rig.turn_to(0)
    assert rig.rq.min_buf_len == 1518
    assert set(rig.capacities()) == {1536}


# Down and up.


@newer_eras
def test_what_was_sent_before_close_is_freed_after_open(kernel: str) -> None:
    """The interrupt came while NAPI was off, so that nobody would ever have woken the queue."""
    rig = Rig(kernel, MERGEABLE, 64)
    rig.driver.open()
    sent = _send_until_stopped(rig)
    rig.driver.close()
    _take_all(rig)
    skb_xmit_done(rig.sq)
    rig.driver.open()
    assert rig.tx_napi.scheduled == 1
    virtnet_poll_tx(rig.sq)
    assert (rig.sq.packets, rig.sq.stopped, rig.tx_napi.scheduled) == (sent, 0, 0)


@every_era
def test_a_guest_that_wakes_sends_although_its_ring_was_full(kernel: str) -> None:
    """netif_device_attach wakes all queues: the ring that was full is gone."""
    rig = Rig(kernel, MERGEABLE, 64)
    rig.driver.open()
    _send_until_stopped(rig)
    rig.driver.freeze()
    rig.driver.restore()
    assert (rig.sq.stopped, rig.tx_vq.num_free) == (0, 64)


@every_era
def test_counters_of_the_queues_start_again_after_sleep(kernel: str) -> None:
    """Linux frees the queues' structs and makes new ones; what the net device counts itself stays."""
    rig = Rig(kernel, MERGEABLE, 64)
    rig.driver.open()
    rig.poll()
    free(rig.receive_frame(frame(1500)))
    rig.arrive(bytes(12) + frame(13))
    rig.receive()
    start_xmit(rig.sq, rig.outgoing(frame(60)).address, 0)
    _take_all(rig)
    free_old_xmit_skbs(rig.sq)
    assert (rig.rq.packets, rig.rq.mrg_avg_pkt_len, rig.sq.packets) == (2, 1500, 1)
    rig.driver.freeze()
    rig.driver.restore()
    assert (rig.rq.packets, rig.rq.bytes, rig.rq.mrg_avg_pkt_len, rig.sq.packets, rig.sq.bytes) == (0, 0, 0, 0, 0)
    assert (rig.rq.rx_length_errors, rig.rq.kicks) == (1, 1)


@every_era
def test_what_waits_for_a_queue_is_dropped_on_close_and_kept_over_sleep(kernel: str) -> None:
    """dev_deactivate empties the queueing discipline; netif_device_detach does not."""
    rig = Rig(kernel, MERGEABLE, 64)
    rig.driver.open()
    rig.sq.tx_queue_len = 5
    before = rig.skb_pool.free_count
    rig.sq.stopped = 1
    for _ in range(3):
        dev_queue_xmit(rig.sq, rig.outgoing(frame(60)).address, 0)
    rig.driver.freeze()
    rig.driver.restore()
    assert rig.sq.qlen == 3
    rig.driver.remove()
    assert (rig.sq.qlen, rig.sq.qdisc, rig.sq.qdisc_tail, rig.sq.qdisc_drops) == (0, 0, 0, 3)
    assert rig.skb_pool.free_count == before


# Without a carrier.


@newer_eras
def test_a_queue_without_carrier_does_not_time_out(kernel: str) -> None:
    """dev_watchdog asks for a carrier first: a link that is down stops the queues on purpose."""
    rig = Rig(kernel, SMALL, 64)
    rig.driver.open()
    rig.transport.config.status = 0
    rig.transport.config_bell.ring()
    rig.driver.run_work()
    assert (rig.vi.carrier, rig.sq.stopped) == (0, 1)
    rig.vi.now = 60_000_000_000
    dev_watchdog(rig.vi)
    assert rig.sq.tx_timeouts == 0


@every_era
def test_nothing_is_sent_without_carrier_although_the_queue_was_woken(kernel: str) -> None:
    """What was under way when the link went down comes back and wakes the queue; the link is down all the same."""
    rig = Rig(kernel, SMALL, 64)
    rig.driver.open()
    rig.sq.tx_queue_len = 5
    rig.vi.carrier = 0
    assert dev_queue_xmit(rig.sq, rig.outgoing(frame(60)).address, 0) == 0
    assert (rig.tx.pending(), rig.sq.qdisc_drops, rig.sq.qlen) == (0, 1, 0)
    assert qdisc_run(rig.sq) == 0


@newer_eras
def test_a_queue_that_stops_amid_a_batch_is_woken(kernel: str) -> None:
    """xmit_more leaves interrupts off, and v6.1 forgot to turn them on where the ring was full (stable, v6.2)."""
    rig = Rig(kernel, SMALL, 64)
    rig.driver.open()
    virtnet_poll_tx(rig.sq)
    while not rig.sq.stopped:
        start_xmit(rig.sq, rig.outgoing(frame(60)).address, 1)
    assert (rig.sq.kicks, rig.tx.avail_flags & 1) == (1, 0)
    _take_all(rig)
    skb_xmit_done(rig.sq)
    assert rig.tx_napi.scheduled == 1
    virtnet_poll_tx(rig.sq)
    assert rig.sq.stopped == 0


# Queues in use.


def test_rss_without_mq_has_all_pairs_in_use_in_6_1() -> None:
    """virtnet_set_queues has nothing to send there, and all pairs are in use from probe on."""
    rig = Rig(V6_1, MERGEABLE | FeatureSet.of(f.RSS, f.CTRL_VQ), 64, pairs=4)
    assert (rig.vi.max_queue_pairs, rig.vi.curr_queue_pairs) == (4, 4)


@pytest.mark.parametrize(("kernel", "stopped"), [(V6_1, 0), (V7_0, 1)])
def test_xdp_tx_stops_a_send_queue_that_it_fills(monkeypatch: pytest.MonkeyPatch, kernel: str, stopped: int) -> None:
    """v6.4: the stack's next frame would have been refused; the queue is woken as after frames of the stack's."""
    rig = XdpRig(monkeypatch, kernel, SMALL, PlainProgram(lambda _ctx: XDP_TX))
    rig.vi.carrier = rig.tx_napi.enabled = 1
    for _ in range(46):
        rig.arrive_frame(frame(60))
    rig.poll()
    assert (rig.tx_vq.num_free, rig.sq.stopped) == (18, stopped)
    _take_all(rig)
    skb_xmit_done(rig.sq)
    virtnet_poll_tx(rig.sq)
    assert (rig.tx_vq.num_free, rig.sq.stopped) == (64, 0)
    rig.finish()


@pytest.mark.parametrize("kernel", [V4_19, V6_1])
def test_num_buffers_0_in_an_old_buffer_swallows_the_ring(monkeypatch: pytest.MonkeyPatch, kernel: str) -> None:
    """Section 9 no. 6, in xdp_linearize_page, where a buffer has no headroom yet: 16 bits that go below zero."""
    rig = XdpRig(monkeypatch, kernel, late=True)
    rig.arrive(vnet_hdr(num_buffers=0) + frame(100))
    for _ in range(3):
        rig.arrive_frame(frame(60))
    assert rig.receive() == []
    assert rig.xdp_counters() == {"drops": 1, "xdp_drops": 1, "rx_length_errors": 1}
    assert (rig.rq.packets, rig.rq.xdp_packets) == (1, 0)
    rig.finish()


@pytest.mark.parametrize("first", [b"\x08\x00\x45", b"\x86\xdd\x60", b"\x81\x00\x00"], ids=["IPv4", "IPv6", "VLAN"])
@every_era
def test_headers_in_a_frag_list_are_not_pulled(kernel: str, first: bytes) -> None:
    """A device that uses a buffer for each byte: GRO went on behind the last frag, and gave pages back twice."""
    rig = Rig(kernel, MERGEABLE, 64)
    rig.fill()
    gro = GroState()
    rig.rq.gro, rig.rq.gro_receive, rig.rq.gro_flush = gro.address, hook(napi_gro_receive), hook(napi_gro_flush)
    data = frame(12) + first + bytes(60)
    rig.arrive(vnet_hdr(num_buffers=51) + data[:14], *(data[at : at + 1] for at in range(14, 64)))
    [skb] = rig.receive()
    assert contents(skb) == data[:64]
    free(skb)
    rig.assert_nothing_lost()
