"""The whole card over generated set-ups: mode, ring, features, era, sizes, memory in pieces, with and without quirks.

What must hold whatever the set-up: used lengths add up to header and frame, descriptors are conserved, and a frame
comes up as it was sent or is counted under one reason.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from netemu.device.queue import available
from netemu.memory import GuestMemory
from netemu.nic import Nic
from netemu.virtio import features as f
from netemu.virtio.net import header_length
from tests.wire import ipv4, udp

MODES = ["mergeable", "big", "small"]
ERAS = ["linux-4.19", "linux-6.1", "linux-7.0"]
MIB = 1 << 20


def frame(number: int, size: int) -> bytes:
    """A frame of ``size`` bytes, or 42 where that is less, unlike any other."""
    return ipv4(udp(bytes((number + n) % 251 for n in range(max(0, size - 42)))), 17)


def in_pieces(size: int) -> GuestMemory:
    """As much in each of four places far apart, from which everything is dealt out in turn."""
    places = (0x1000, 0x7F12_3456_0000, 1 << 40, 2**64 - size)
    return GuestMemory.of_regions([(gpa & ~0xFFF, size & ~0xFFF) for gpa in places], spread=True)


def descriptors_are_conserved(nic: Nic) -> None:
    """What the driver has not free lies in the ring: slots of a packed one, whole chains of a split one."""
    for n in range(nic.queues):
        ring, dq = nic.driver.rings[2 * n], nic.device.queues[2 * n]
        out, waiting = ring.num - ring.num_free, available(dq)
        if dq.packed or out == 0 or waiting == 0:
            assert out == waiting
        else:
            assert out % waiting == 0
            assert out // waiting in (1, 2, 19)


SETUPS = st.fixed_dictionaries(
    {
        "mode": st.sampled_from(MODES),
        "driver": st.sampled_from(ERAS),
        "queue_size": st.sampled_from([16, 32, 64, 256]),
        "queues": st.sampled_from([1, 1, 3]),
        "ring": st.sampled_from(["split", "packed"]),
        "burst": st.sampled_from([1, 5, 64]),
        "wait": st.booleans(),
        "hash_report": st.booleans(),
        "features": st.lists(
            st.sampled_from(["-EVENT_IDX", "-INDIRECT_DESC", "+IN_ORDER", "+NOTIFICATION_DATA"]), unique=True
        ).map(",".join),
    }
)
SIZES = st.lists(st.integers(42, 1514) | st.integers(42, 128) | st.sampled_from([1514, 9014, 65549]), max_size=60)


def build(setup: dict[str, Any], **more: Any) -> Nic:
    """The card; no kernel before 7.0 knows hash reports."""
    if setup["driver"] == "linux-4.19":
        setup = setup | {"hash_report": False}
    return Nic(**setup, **more)


@given(SETUPS, SIZES, st.booleans())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_frames_come_up_as_sent_or_are_counted_and_nothing_leaks(
    setup: dict[str, Any],
    sizes: list[int],
    pieces: bool,
) -> None:
    """RX-D-02, RX-D-03, RFB-D-05; T21: memory in one piece or in four makes no difference."""
    nic = build(setup, memory=in_pieces(64 * MIB) if pieces else None)
    frames = [frame(n, size) for n, size in enumerate(sizes)]
    received = nic.receive(frames)
    header = header_length(nic.driver.features)
    for one in received:
        assert one.data == frames[one.skb.frame_id - 1]
        assert sum(buffer.used for buffer in one.buffers) == header + len(one.data)
        assert all(buffer.used <= buffer.posted for buffer in one.buffers)
        # All but the last are full.
        assert all(buffer.used == buffer.posted for buffer in one.buffers[:-1])
    numbers = [one.skb.frame_id for one in received]
    assert len(set(numbers)) == len(numbers)
    assert len(received) + sum(nic.dropped.values()) == len(frames)
    assert nic.dropped.keys() <= {"no_buffer", "too_long"}
    descriptors_are_conserved(nic)
    assert not nic.device.broken
    assert not nic.driver.broken
    count = 3 * setup["queue_size"]
    more = nic.receive([frame(n, 60) for n in range(count)])
    # A big buffer has 19 descriptors, which a ring of 16 does not hold without tables.
    none = setup["mode"] == "big" and setup["queue_size"] == 16 and "-INDIRECT_DESC" in setup["features"]
    assert bool(more) != none
    assert len(more) + sum(nic.dropped.values()) + len(received) == len(frames) + count
    descriptors_are_conserved(nic)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("ring", ["split", "packed"])
@pytest.mark.parametrize("driver", ERAS)
def test_both_halves_work_unchanged_over_memory_in_pieces(mode: Any, ring: Any, driver: str) -> None:
    """The skbs are the same, number for number, as over memory in one piece."""
    frames = [frame(n, size) for n, size in enumerate([60, 1514, 128, 1000, 9014, 60] * 20)]
    results = []
    for memory in (None, in_pieces(64 * MIB)):
        nic = Nic(mode, 64, 2, driver, ring=ring, memory=memory)
        received = nic.receive(frames)
        results.append(([(one.data, one.skb.to_dict()) for one in received], nic.dropped, nic.ethtool))
    assert results[0] == results[1]
    assert results[0][0]


QUIRKS = ["num-buffers-more", "used-length-over", "buffers-late", "out-of-order", "header-dirty", "interrupt-spurious"]


@given(SETUPS, SIZES, st.lists(st.sampled_from(QUIRKS), min_size=1, max_size=3, unique=True), st.integers(1, 99))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_with_quirks_every_frame_still_has_one_fate(
    setup: dict[str, Any], sizes: list[int], names: list[str], seed: int
) -> None:
    nic = build(setup, quirks=[f"{name}:p=0.2,seed={seed}" for name in names])
    nic.receive([frame(n, size) for n, size in enumerate(sizes)])
    assert nic.engine.frames_out + sum(nic.dropped.values()) == len(sizes) + nic.made_up
    assert f.VERSION_1 in nic.driver.features
