"""A guest short of memory: what each kernel does about receive buffers that it cannot allocate (sheet 2.7, 9 no. 9)."""

from __future__ import annotations

from pathlib import Path

import pytest

from netemu import Nic
from netemu.driver.indirect import table_pool_at
from netemu.driver.refill import refill_work, virtnet_open
from netemu.driver.virtio_ring import virtqueue_at
from netemu.offer import MODES, Mode, RingKind
from netemu.replay import Replay, ReplayOptions
from netemu.virtio import features as f
from netemu.virtio.features import FeatureSet
from tests.driver_kit import BIG, MERGEABLE, SMALL, V4_19, V6_1, V7_0, Rig, every_era, frame, free, plain, vnet_hdr
from tests.replay_kit import write_pcap
from tests.wire import udp

HALF_SECOND = 500_000_000
modes = pytest.mark.parametrize("features", [SMALL, MERGEABLE, BIG], ids=["small", "mergeable", "big"])


def _work_until_idle(rig: Rig, limit: int = 10) -> list[int]:
    """Run the delayed work whenever it is due; the moments at which it ran."""
    moments: list[int] = []
    while rig.vi.refill_due >= 0 and len(moments) < limit:
        rig.vi.now = rig.vi.refill_due
        moments.append(rig.vi.now)
        refill_work(rig.vi)
    return moments


@modes
@pytest.mark.parametrize("kernel", [V4_19, V6_1])
def test_the_worker_backs_off_by_half_a_second(kernel: str, features: FeatureSet) -> None:
    """Sheet 2.7: at once, then every HZ/2 until there is memory: 0, 0.5, 1.0 s with three failures (no. 9)."""
    rig = Rig(kernel, features, size=16)
    rig.driver.put_under_pressure(["pages:count=3"])
    rig.open()
    assert rig.vq.num_free == 16
    # open itself failed once; the worker runs at 0 and at 0.5 s in vain, at 1.0 s there is memory.
    assert _work_until_idle(rig) == [0, HALF_SECOND, 2 * HALF_SECOND]
    assert rig.rx.pending() > 0
    assert rig.driver.refused == {"pages": 3}


def test_after_v6_18_there_is_no_worker_and_the_poll_is_called_again() -> None:
    """Sheet 2.7: open ignores the failure; the poll returns its budget, so that it stays scheduled, and tries again."""
    rig = Rig(V7_0, MERGEABLE, size=16)
    rig.driver.put_under_pressure(["pages:count=3"])
    rig.open()
    assert rig.vi.refill_due == -1
    assert rig.napi.scheduled == 1
    results: list[int] = []
    while rig.napi.scheduled and len(results) < 10:
        results.append(rig.poll())
    # Budget, budget, then memory: nothing received, and the poll is over. Counters do not count what was not there.
    assert results == [64, 64, 0]
    assert rig.vq.num_free == 0
    assert rig.rq.packets == 0


@every_era
def test_a_queue_without_buffers_gets_no_interrupt(kernel: str) -> None:
    """Sheet 2.7: with nothing posted the device can never call. Without its worker a 4.19 is dead for ever; that of
    7.0 is kept alive by its own poll.
    """
    rig = Rig(kernel, MERGEABLE, size=16)
    rig.driver.put_under_pressure(["pages:first=1,last=2"])
    rig.open()
    if kernel != V7_0:
        # As if the worker were lost: nobody is going to run anything any more once the first poll is over.
        assert rig.vi.refill_due == 0
        rig.poll()
        rig.vi.refill_due = -1
        assert rig.napi.scheduled == 0
        assert rig.rx.pending() == 0
    else:
        while rig.napi.scheduled:
            rig.poll()
        assert rig.rx.pending() == 16


@pytest.mark.parametrize(("kernel", "scheduled"), [(V4_19, True), (V6_1, False)])
def test_refill_enabled_keeps_the_worker_off_a_closed_interface(kernel: str, scheduled: bool) -> None:
    """Sheet 2.7, 9 no. 10: since v5.19 a poll that comes late does not schedule the work between close and open."""
    rig = Rig(kernel, MERGEABLE, size=64)
    rig.open()
    rig.arrive(*[vnet_hdr() + frame(60)] * 40)
    rig.vi.refill_enabled = 0
    rig.driver.put_under_pressure(["pages"])
    # What is left of the block at hand is used up before a page is asked for.
    for _ in range(8):
        free(*rig.receive())
        pending = min(rig.rx.pending(), 40)
        rig.arrive(*[vnet_hdr() + frame(60)] * pending)
    assert rig.rq.oom > 0
    assert (rig.vi.refill_due >= 0) == scheduled


@modes
@every_era
def test_skbs_that_fail_are_drops_and_their_buffers_come_back(kernel: str, features: FeatureSet) -> None:
    """Sheet 4.8: an skb allocation that fails drops the frame; no buffer is lost (4.19 small: no counter)."""
    rig = Rig(kernel, features, size=32)
    rig.driver.put_under_pressure(["skbs:every=2"])
    rig.fill()
    for _ in range(8):
        rig.arrive_frame(frame(60))
    skbs = rig.receive()
    assert len(skbs) == 4
    assert rig.reasons() == {"NO_MEMORY": 4}
    assert rig.rq.drops == (0 if (kernel, features) == (V4_19, SMALL) else 4)
    free(*skbs)
    rig.driver.put_under_pressure([])
    rig.assert_nothing_lost()


def test_tables_that_fail_mean_chains() -> None:
    """Sheet 5.2 step 2: a big buffer takes 19 descriptors where it has no table, and frames arrive as before."""
    rig = Rig(V7_0, BIG, size=64)
    rig.driver.put_under_pressure(["tables:last=2"])
    rig.fill()
    direct = 64 - 2 * 19
    assert rig.rx.pending() == 2 + direct
    assert rig.vq.num_free == 0
    assert len(rig.rx.chain(rig.rx.avail_entry(0))) == len(rig.rx.chain(rig.rx.avail_entry(2))) == 19
    skb = rig.receive_frame(frame(9000))
    assert skb.len == 9000
    free(skb)
    assert table_pool_at(virtqueue_at(rig.rq.vq).tables).alloc_failed == 2


def test_every_queue_has_pressure_of_its_own() -> None:
    rig = Rig(V4_19, MERGEABLE | FeatureSet.of(f.MQ, f.CTRL_VQ), size=16, pairs=2)
    rig.driver.put_under_pressure(["pages:count=1"])
    plain(virtnet_open)(rig.vi.address)
    assert [rq.oom for rq in rig.driver.receive_queues[: rig.vi.curr_queue_pairs]] == [1, 1]
    assert rig.driver.refused == {"pages": 2}


# The pair under pressure


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("kernel", "ring"),
    [(V4_19, "split"), (V6_1, "split"), (V6_1, "packed"), (V7_0, "split"), (V7_0, "packed")],
)
def test_frames_arrive_whole_or_are_counted(kernel: str, mode: Mode, ring: RingKind) -> None:
    """Half of all allocations fail: what comes up is what was sent, in order, and the rest has a reason."""
    rules = ["pages:p=0.5,seed=3", "skbs:p=0.25,seed=5", "tables:p=0.5,seed=9"]
    nic = Nic(mode, 64, driver=kernel, ring=ring, pressure=rules)
    sent = [udp(bytes([n % 251]) * (100 + n)) for n in range(200)]
    received = [one.data for one in nic.receive(sent)]
    assert len(received) + sum(nic.dropped.values()) == len(sent)
    places = [sent.index(data) for data in received]
    assert places == sorted(places)
    assert received
    assert set(nic.dropped) <= {"no_memory", "no_buffer"}
    assert nic.driver.refused["skbs"] == nic.dropped["no_memory"]
    assert nic.driver.broken == nic.device.broken == []


def test_a_run_repeats() -> None:
    runs = []
    for _ in range(2):
        nic = Nic(queue_size=16, driver=V6_1, pressure=["pages:p=0.7,seed=3", "skbs:p=0.3"])
        received = [one.skb.frame_id for one in nic.receive([udp(b"x" * 600)] * 100)]
        runs.append((received, nic.driver.refused, nic.ethtool))
    assert runs[0] == runs[1]


def test_replay_says_what_was_refused(tmp_path: Path) -> None:
    """Every fourth skb fails: a quarter of 8 frames."""
    path = write_pcap(tmp_path / "in.pcap", [udp(b"x" * 60)] * 8)
    job = Replay(ReplayOptions(pressure=("skbs:every=4",)))
    job.play([str(path)])
    assert job.summary()["refused"] == {"skbs": 2}
    assert job.summary()["dropped"] == {"no_memory": 2}
