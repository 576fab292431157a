"""A driver whose rings and buffers lie in regions far apart, one of them in the upper half of all addresses."""

from __future__ import annotations

import pytest

from netemu.driver.transmit import start_xmit
from netemu.driver.virtio_ring import virtqueue_get_buf_ctx
from netemu.driver.vring_create import Vring
from netemu.memory import GuestMemory
from netemu.virtio import features as f
from netemu.virtio.features import FeatureSet
from tests.driver_kit import BIG, BIG_DIRECT, MERGEABLE, SMALL, Rig, contents, every_era, frame, free
from tests.driver_packed_kit import PackedRig

REGIONS = [(0x1000_0000, 48 << 20), (0x4000_0000_0000, 48 << 20), (0xFFFF_8000_0000_0000, 48 << 20)]


def _memory() -> GuestMemory:
    """Reservations go round the regions, so that a ring's parts and its buffers are apart."""
    return GuestMemory.of_regions(REGIONS, spread=True)


def _region_of(gpa: int) -> int:
    """Which region an address lies in."""
    [region] = [n for n, (base, size) in enumerate(REGIONS) if base <= gpa < base + size]
    return region


@pytest.mark.parametrize(
    "features", [SMALL, MERGEABLE, BIG, BIG_DIRECT], ids=["small", "mergeable", "big", "big-direct"]
)
@every_era
def test_frames_arrive_in_buffers_anywhere(kernel: str, features: FeatureSet) -> None:
    """The device finds every segment where the descriptor says, and the driver finds what it wrote there."""
    rig = Rig(kernel, features, size=64, memory=_memory())
    rig.fill()
    sizes = (60, 129, 1205, 1514) if features == SMALL else (60, 1205, 9000)
    for n, size in enumerate(sizes):
        skb = rig.receive_frame(frame(size, seed=n))
        assert contents(skb) == frame(size, seed=n)
        free(skb)
    rig.assert_nothing_lost()


def test_parts_and_buffers_lie_in_all_regions() -> None:
    """Else the tests here would show nothing."""
    rig = Rig(features=BIG, size=64, memory=_memory())
    rig.fill()
    ring = rig.transport.rings[0]
    places = [ring.desc, ring.avail, ring.used, rig.rx.descriptor(0)[0], rig.rx.chain(0)[0][0]]
    assert {_region_of(gpa) for gpa in places} == {0, 1, 2}


@pytest.mark.parametrize("headroom", [64, 0])
def test_frames_are_sent_from_anywhere(headroom: int) -> None:
    """Header and frame lie in the skb's head, whose region is not that of the used ring."""
    rig = Rig(memory=_memory())
    skb = rig.outgoing(frame(100), headroom)
    start_xmit(rig.sq, skb.address, 0)
    data = rig.tx.read_buffer(rig.tx.take())
    assert data[-100:] == frame(100)
    assert len(data) == 112
    assert _region_of(rig.transport.rings[1].used) != _region_of(rig.tx.chain(0)[0][0])


@pytest.mark.parametrize("indirect", [False, True])
def test_a_packed_ring_in_parts_far_apart(indirect: bool) -> None:
    """Descriptor ring, both event areas and tables, each where the next reservation came from."""
    rig = PackedRig(8, event=True, indirect=indirect, memory=_memory())
    places = rig.ring.addresses
    assert len({_region_of(gpa) for gpa in (places.desc, places.avail, places.used)}) == 3
    for token in range(1, 20):
        rig.cycle(token, 3)
    assert rig.vq.num_free == 8
    assert virtqueue_get_buf_ctx(rig.vq)[0] == 0


def test_addresses_in_the_upper_half_stand_in_descriptors_as_they_are() -> None:
    """64 bits, whatever sign a kernel sees (architecture: all integers are signed)."""
    memory = GuestMemory.of_regions([(0xFFFF_8000_0000_0000, 1 << 20)])
    ring = Vring(memory, 0, 8, FeatureSet.of(f.INDIRECT_DESC), 0, keeps_ctx=False, table_entries=4)
    assert ring.addresses.desc >= 0xFFFF_8000_0000_0000
    assert all(table.gpa < 0 for table in ring.tables.tables)
