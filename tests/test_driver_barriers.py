"""In which order a driver writes and reads a ring: barriers, seen by looking over the kernels' shoulder.

Kernels run as plain Python here, so the loads, stores and fences of a ring's module can be watched one by one.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from netemu import jit
from netemu.driver.virtio_ring import (
    virtqueue_enable_cb_delayed,
    virtqueue_enable_cb_prepare,
    virtqueue_kick_prepare,
    virtqueue_poll,
)
from tests.driver_kit import RingRig
from tests.driver_packed_kit import DESC, PackedRig

WATCHED = ("fence", "load16", "load16_acquire", "load32", "store16", "store16_release", "store32", "store64")


class Watcher:
    """The steps that a module's kernels take: what, and the host address (0 for a fence)."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
        self.steps: list[tuple[str, int]] = []
        for module in modules:
            for name in WATCHED:
                monkeypatch.setattr(f"netemu.driver.{module}.{name}", self._watch(name), raising=False)

    def _watch(self, name: str) -> Callable[..., object]:
        plain: Callable[..., object] = getattr(jit, name)

        def watched(*args: int) -> object:
            self.steps.append((name, args[0] if args else 0))
            return plain(*args)

        return watched

    def after(self, step: str, address: int) -> list[str]:
        """The steps behind the last one of a kind at an address."""
        at = max(n for n, seen in enumerate(self.steps) if seen == (step, address))
        return [name for name, _ in self.steps[at + 1 :]]

    def before(self, step: str, address: int) -> list[str]:
        """The steps in front of the first one of a kind at an address."""
        return [name for name, _ in self.steps[: self.steps.index((step, address))]]


def test_split_v_26_everything_is_written_before_the_index(monkeypatch: pytest.MonkeyPatch) -> None:
    """SPLIT-V-26: the index is stored with release, and no store follows it."""
    rig = RingRig(8)
    watcher = Watcher(monkeypatch, "vring_split")
    rig.add([(0x1000, 1)], [(0x2000, 2), (0x3000, 3)], token=1)
    writes = [name for name in watcher.before("store16_release", rig.vq.avail + 2) if name.startswith("store")]
    # Three descriptors of three stores each, and the ring's entry.
    assert len(writes) == 3 * 3 + 1
    assert not [name for name in watcher.after("store16_release", rig.vq.avail + 2) if name.startswith("store")]


@pytest.mark.parametrize("event", [False, True])
def test_split_v_27_a_barrier_between_index_and_the_devices_wishes(
    monkeypatch: pytest.MonkeyPatch, event: bool
) -> None:
    """SPLIT-V-27: after the index, before used flags or avail_event are read."""
    rig = RingRig(8, event=event)
    watcher = Watcher(monkeypatch, "vring_split")
    rig.add_one(1)
    virtqueue_kick_prepare(rig.vq)
    assert watcher.after("store16_release", rig.vq.avail + 2)[:2] == ["fence", "load16"]


def test_pack_v_20_everything_is_written_before_the_heads_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    """PACK-V-20, PACK-V-15, PACK-V-22: the head's flags are stored with release, and no store follows them."""
    rig = PackedRig(8)
    watcher = Watcher(monkeypatch, "vring_packed")
    rig.add_many(1, 3)
    head_flags = rig.vq.desc + 14
    writes = [name for name in watcher.before("store16_release", head_flags) if name.startswith("store")]
    # Three descriptors: address, length, id; the flags of two.
    assert len(writes) == 3 * 3 + 2
    assert not [name for name in watcher.after("store16_release", head_flags) if name.startswith("store")]


def test_pack_v_21_a_barrier_between_flags_and_the_devices_event_area(monkeypatch: pytest.MonkeyPatch) -> None:
    """PACK-V-21; and the area is read in one piece, so that offset and flags belong together (sheet 5.7)."""
    rig = PackedRig(8, event=True)
    rig.device.set_device_event(0, 1, DESC)
    watcher = Watcher(monkeypatch, "vring_packed")
    rig.add_many(1, 1)
    virtqueue_kick_prepare(rig.vq)
    assert watcher.after("store16_release", rig.vq.desc + 14) == ["fence", "load32"]
    assert watcher.steps[-1] == ("load32", rig.vq.used)


@pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
def test_a_barrier_between_enabling_and_looking_again(monkeypatch: pytest.MonkeyPatch, packed: bool) -> None:
    """SPLIT-V-29, PACK-V-23: what the device used before it saw the wish would else be missed."""
    rig: RingRig | PackedRig = PackedRig(8, event=True) if packed else RingRig(8, event=True)
    module = "vring_packed" if packed else "vring_split"
    looks_at = rig.vq.desc + 14 if packed else rig.vq.used + 2
    watcher = Watcher(monkeypatch, module, "virtio_ring")
    virtqueue_poll(rig.vq, virtqueue_enable_cb_prepare(rig.vq))
    assert watcher.before("load16_acquire", looks_at)[-1] == "fence"
    watcher.steps.clear()
    virtqueue_enable_cb_delayed(rig.vq)
    assert watcher.before("load16_acquire", looks_at)[-1] == "fence"
