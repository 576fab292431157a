"""Dynamic interrupt moderation: the walk along the profiles, worked out by hand from the rules of Linux's net_dim."""

from __future__ import annotations

import struct

import pytest

from netemu.driver import dim as d
from netemu.driver.dim import Dim, net_dim
from netemu.virtio import features as f
from netemu.virtio.features import FeatureSet
from tests.driver_kit import MERGEABLE, V7_0, Rig, frame, vnet_hdr

VQ_SET = (6, 2)


class Walk:
    """A `Dim` that is fed measurements of a millisecond each."""

    def __init__(self) -> None:
        self.dim = Dim()
        self.now = self.events = self.packets = self.size = 0
        self.sample()

    def sample(self) -> None:
        net_dim(self.dim, self.now, self.events, self.packets, self.size)

    def measure(self, size: int, packets: int = 100, events: int = 64) -> int:
        """A millisecond with so much in it; the profile afterwards. What is to be applied is applied."""
        self.now += 1_000_000
        self.size += size
        self.packets += packets
        self.events += events
        self.sample()
        if self.dim.state == d.APPLY_NEW_PROFILE:
            self.dim.state = d.START_MEASURE
            self.sample()
        return self.dim.profile_ix


def test_the_profiles_are_those_of_received_packets_from_an_event_on() -> None:
    """256 packets each, and 1, 8, 64, 128, 256 microseconds."""
    assert [(each.max_usecs, each.max_packets) for each in d.PROFILES] == [
        (1, 256), (8, 256), (64, 256), (128, 256), (256, 256),
    ]  # fmt: skip


def test_it_walks_on_while_it_gets_better_and_comes_back_to_the_best() -> None:
    """More bytes: on. Fewer: back by one; if that is better again, there was the top, and it parks."""
    walk = Walk()
    assert [walk.measure(size) for size in (1000, 1200, 1400)] == [1, 2, 3]
    assert walk.measure(1000) == 2
    assert walk.measure(1400) == 2
    assert walk.dim.tune_state == d.PARKING_ON_TOP
    assert walk.dim.tired == 0


def test_parked_it_stays_until_the_traffic_changes_by_more_than_a_tenth_of_what_it_was() -> None:
    walk = Walk()
    for size in (1000, 1200, 1400, 1000, 1400):
        walk.measure(size)
    # 1260 is a tenth less than 1400, to the unit; small steps do not add up, since the reference stays.
    assert [walk.measure(size) for size in (1400, 1330, 1260, 1540)] == [2, 2, 2, 2]
    assert walk.measure(1200) == 1
    assert walk.dim.tune_state == d.GOING_LEFT


def test_at_the_last_profile_it_parks() -> None:
    walk = Walk()
    assert [walk.measure(size) for size in (1000, 1200, 1500, 1800)] == [1, 2, 3, 4]
    assert walk.measure(2200) == 4
    assert walk.dim.tune_state == d.PARKING_ON_TOP


def test_walking_to_and_fro_it_gets_tired_rests_and_starts_again() -> None:
    """Nothing gets better: it turns each time. After ten steps it rests for as many measurements."""
    walk = Walk()
    assert walk.measure(1000) == 1
    assert [walk.measure(1000) for _ in range(9)] == [0, 1, 0, 1, 0, 1, 0, 1, 0]
    assert [walk.measure(1000) for _ in range(10)] == [0] * 10
    assert walk.dim.tune_state == d.PARKING_TIRED
    assert walk.measure(1000) == 1
    assert walk.dim.tune_state == d.GOING_RIGHT


@pytest.mark.parametrize(
    ("first", "second", "better"),
    [
        ((1000, 100), (1000, 120), True),
        ((1000, 100), (1000, 80), False),
        ((1000, 100), (1111, 50), True),
        ((1000, 100), (889, 500), False),
        ((1000, 100), (1000, 100), False),
    ],
)
def test_bytes_count_before_packets(first: tuple[int, int], second: tuple[int, int], *, better: bool) -> None:
    """Differences of up to a tenth do not count."""
    walk = Walk()
    walk.measure(*first)
    assert walk.measure(*second) == (2 if better else 0)


def test_fewer_interrupts_for_the_same_traffic_are_better() -> None:
    """Twice the time for 64 events, bytes and packets twice as many: the same rates, half the events."""
    walk = Walk()
    walk.measure(1000, 100)
    walk.now += 1_000_000
    assert walk.measure(2000, 200) == 2


def test_nothing_is_judged_before_64_events() -> None:
    walk = Walk()
    assert walk.measure(1000, events=63) == 0
    assert walk.dim.state == d.MEASURE_IN_PROGRESS
    assert walk.measure(1000, events=1) == 1


def test_events_are_counted_in_16_bits_and_the_others_in_32() -> None:
    walk = Walk()
    walk.events, walk.packets, walk.size = 65_500, (1 << 32) - 50, (1 << 32) - 500
    walk.dim.start_events, walk.dim.start_packets, walk.dim.start_bytes = walk.events, walk.packets, walk.size
    walk.events -= 1 << 16
    walk.packets -= 1 << 32
    walk.size -= 1 << 32
    assert walk.measure(1000) == 1
    assert (walk.dim.bpms, walk.dim.ppms, walk.dim.epms) == (1000, 100, 64)


def test_rates_are_rounded_up() -> None:
    """3 ms: 1000 bytes are 333.3 a millisecond, 100 packets 33.3, 64 events 21.3."""
    walk = Walk()
    walk.now += 2_000_000
    walk.measure(1000)
    assert (walk.dim.bpms, walk.dim.ppms, walk.dim.epms) == (334, 34, 22)


def test_without_time_nothing_is_judged() -> None:
    """Frames that all have the same time."""
    walk = Walk()
    walk.now -= 1_000_000
    assert walk.measure(1000) == 0
    assert walk.dim.state == d.MEASURE_IN_PROGRESS


def test_while_a_profile_waits_to_be_applied_nothing_is_measured() -> None:
    walk = Walk()
    walk.dim.state = d.APPLY_NEW_PROFILE
    before = walk.dim.to_dict()
    walk.now += 5_000_000
    walk.events += 1000
    walk.sample()
    assert walk.dim.to_dict() == before


# In the driver.


def rig() -> Rig:
    made = Rig(V7_0, MERGEABLE | FeatureSet.of(f.CTRL_VQ, f.VQ_NOTF_COAL, f.MQ), 64, pairs=2)
    made.control.take()
    return made


def test_a_sample_is_taken_when_a_poll_that_received_something_completes() -> None:
    """Sheet 3.7: calls, packets and bytes; polls that find nothing take none."""
    one = rig()
    one.driver.dim.enable(on=True)
    dim = one.driver.dim.dims[0]
    one.fill()
    one.poll()
    assert dim.state == d.START_MEASURE
    one.vi.now = 5000
    one.rq.interrupts = 7
    one.arrive(vnet_hdr() + frame(100))
    one.poll()
    assert (dim.state, dim.start_time, dim.start_events) == (d.MEASURE_IN_PROGRESS, 5000, 7)
    assert (dim.start_packets, dim.start_bytes) == (1, 100)
    assert one.rq.packets_in_napi == 0


def test_a_poll_that_used_up_its_budget_takes_none() -> None:
    """It has not completed; its packets count for the one that does."""
    one = rig()
    one.driver.dim.enable(on=True)
    one.fill()
    one.napi.weight = 2
    for _ in range(3):
        one.arrive(vnet_hdr() + frame(100))
    assert one.poll() == 2
    assert one.rq.packets_in_napi == 2
    assert one.driver.dim.dims[0].state == d.START_MEASURE
    assert one.poll() == 1
    assert one.driver.dim.dims[0].start_packets == 3


def test_it_is_off_by_default() -> None:
    one = rig()
    one.fill()
    one.arrive(vnet_hdr() + frame(100))
    one.poll()
    assert one.rq.packets_in_napi == 0
    assert one.driver.dim.dims[0].state == d.START_MEASURE


def test_a_new_profile_is_sent_for_its_queue_by_a_work_item() -> None:
    """Virtqueue 2 is the second receive queue; profile 3 is 256 packets, 128 us."""
    one = rig()
    one.driver.dim.enable(on=True)
    dim = one.driver.dim.dims[1]
    dim.state, dim.profile_ix = d.APPLY_NEW_PROFILE, 3
    one.driver.run_work()
    assert one.control.take() == [(*VQ_SET, struct.pack("<HHII", 2, 0, 256, 128))]
    assert dim.state == d.START_MEASURE
    one.driver.run_work()
    assert one.control.take() == []


def test_a_profile_that_the_device_has_already_is_not_sent() -> None:
    one = rig()
    one.driver.dim.enable(on=True)
    dim = one.driver.dim.dims[0]
    for _ in range(2):
        dim.state, dim.profile_ix = d.APPLY_NEW_PROFILE, 1
        one.driver.run_work()
        assert dim.state == d.START_MEASURE
    assert len(one.control.take()) == 1


def test_switched_off_nothing_is_sent_any_more() -> None:
    one = rig()
    one.driver.dim.enable(on=True)
    one.driver.dim.dims[0].state = d.APPLY_NEW_PROFILE
    one.driver.dim.enable(on=False)
    one.driver.run_work()
    assert one.control.take() == []
    assert one.rq.dim_update == 0


def test_a_refusal_ends_no_moderation() -> None:
    one = rig()
    one.driver.dim.enable(on=True)
    one.control.refuse = {VQ_SET}
    one.driver.dim.dims[0].state = d.APPLY_NEW_PROFILE
    one.driver.dim.dims[0].profile_ix = 2
    one.driver.run_work()
    assert one.driver.dim.dims[0].state == d.START_MEASURE
    assert one.driver.control.coalesce_queues == {}
