"""Either half's control surface in the hands of somebody who keeps no rule: errors that say so, and nothing else."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from netemu.device import receive as r
from netemu.device.net import HONOURED, NetDevice
from netemu.driver.features import SUPPORTED
from netemu.driver.probe import VirtioNet
from netemu.errors import NetemuError
from netemu.memory import DEFAULT_BASE, GuestMemory
from netemu.virtio.features import FeatureSet
from netemu.virtio.net import NetConfig
from netemu.virtio.split import RingAddresses
from tests.device_kit import HostFrame
from tests.driver_hand import HandTransport
from tests.driver_kit import ERAS

SIZE = 1 << 16
DRIVER_OK, FEATURES_OK, SUSPEND, NEEDS_RESET, FAILED = 4, 8, 16, 64, 128
OFFER = HONOURED - FeatureSet.of(34)
"""All but packed rings, whose parts have other sizes."""


class Mad(HandTransport):
    """A device whose every answer is somebody else's choice."""

    def __init__(
        self, features: int, space: bytes, sizes: list[int], statuses: list[int], generations: list[int]
    ) -> None:
        super().__init__(FeatureSet(features), NetConfig(), 16)
        self._space = space
        self._sizes = sizes
        self._statuses = statuses
        self._generations = generations

    def _next(self, answers: list[int], otherwise: int) -> int:
        return answers.pop() if answers else otherwise

    def get_status(self) -> int:
        return self._next(self._statuses, self.status)

    def config_generation(self) -> int:
        return self._next(self._generations, 0)

    def read_config(self, offset: int = 0, size: int | None = None) -> bytes:
        data = self._space[offset:]
        return data if size is None else data[:size]

    def queue_size_max(self, index: int) -> int:
        return self._sizes[index % len(self._sizes)]


@settings(max_examples=120, suppress_health_check=[HealthCheck.too_slow])
@given(
    features=st.one_of(st.integers(0, (1 << 140) - 1), st.sampled_from([HONOURED.mask, SUPPORTED.mask])),
    space=st.binary(max_size=40),
    sizes=st.lists(st.sampled_from([0, 1, 2, 3, 8, 16, 100, 70_000, -1]), min_size=1, max_size=3),
    statuses=st.lists(st.integers(0, 255), max_size=12),
    generations=st.lists(st.integers(0, 255), max_size=12),
    kernel=st.sampled_from(ERAS),
)
def test_a_driver_probes_any_device_or_says_what_is_wrong(
    features: int, space: bytes, sizes: list[int], statuses: list[int], generations: list[int], kernel: str
) -> None:
    """FEAT-V-03, FEAT-V-10, INIT-V-12, INIT-V-13: nothing but a NetemuError, after which FAILED is the last word.

    What it took is part of the offer and of what it knows, and keeps the dependency rules.
    """
    device = Mad(features & ~(1 << 22 | 1 << 60), space, sizes, statuses, generations)
    try:
        driver = VirtioNet(device, GuestMemory(64 << 20), kernel, 16, SUPPORTED)
    except NetemuError:
        assert device.status_writes[-1] & FAILED
        return
    assert driver.features - device.offered == driver.features - SUPPORTED == FeatureSet()
    assert driver.features.unmet() == []
    assert 68 <= driver.vi.mtu <= 65535
    assert all(1 <= vq.num <= 16 for vq in driver.rings)
    driver.open()
    assert device.status_writes[-1] & DRIVER_OK


ADDRESSES = st.one_of(
    st.integers(DEFAULT_BASE, DEFAULT_BASE + SIZE),
    st.integers(0, SIZE // 16).map(lambda n: DEFAULT_BASE + 16 * n),
    st.integers(0, (1 << 64) - 1),
)
INDICES = st.integers(-2, 8)


class MadDriver(RuleBasedStateMachine):
    """A driver that does anything, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = GuestMemory(SIZE)
        self.device = NetDevice(self.memory, OFFER, NetConfig(max_virtqueue_pairs=2), queue_size=16)
        self.frame = HostFrame(bytes(range(60)))
        self.agreed: FeatureSet | None = None

    def attempt(self, operation: Any, *arguments: Any) -> None:
        """What is refused is refused with an error of ours."""
        try:
            operation(*arguments)
        except NetemuError:
            return

    @rule(value=st.one_of(st.integers(0, 255), st.sampled_from([0, 1, 3, 11, 15, 31])))
    def set_status(self, value: int) -> None:
        before = self.device.get_status()
        self.device.set_status(value)
        now = self.device.get_status()
        if value == 0:
            assert now == 0
            self.agreed = None
            return
        # STAT-V-02: bits stay, but for the two that trade places when the device is suspended.
        assert before & ~now & ~(SUSPEND | DRIVER_OK) == 0
        assert now & ~before & ~value & ~NEEDS_RESET == 0
        if now & FEATURES_OK and self.agreed is None:
            self.agreed = self.device.features

    @rule(mask=st.one_of(st.integers(0, (1 << 140) - 1), st.sampled_from([OFFER.mask, 1 << 32, 0, 1 << 32 | 1 << 43])))
    def set_features(self, mask: int) -> None:
        self.device.set_features(FeatureSet(mask))

    @rule(index=INDICES, num=st.integers(-1, 40), desc=ADDRESSES, avail=ADDRESSES, used=ADDRESSES)
    def setup_queue(self, index: int, num: int, desc: int, avail: int, used: int) -> None:
        self.attempt(self.device.setup_queue, index, RingAddresses(num, desc, avail, used))

    @rule(index=st.integers(0, 4), place=st.integers(0, 30), num=st.sampled_from([1, 4, 16]))
    def setup_queue_well(self, index: int, place: int, num: int) -> None:
        at = DEFAULT_BASE + 2048 * place
        self.attempt(self.device.setup_queue, index, RingAddresses(num, at, at + 512, at + 1024))

    @rule(mask=st.sampled_from([OFFER.mask, 1 << 32, 1 << 5, 1 << 32 | 1 << 43 | 1 << 40 | 1 << 17]))
    def come_up(self, mask: int) -> None:
        """For once by the rules, so that what follows meets a device that is live."""
        for value in (0, 1, 3):
            self.set_status(value)
        self.set_features(mask)
        self.set_status(11)
        for index in range(3):
            self.setup_queue_well(index, index, 16)
        self.set_status(15)
        assert self.device.live

    @rule(index=INDICES)
    def reset_queue(self, index: int) -> None:
        self.attempt(self.device.reset_queue, index)
        self.device.queue_in_reset(index)

    @rule(offset=st.integers(0, 40), size=st.one_of(st.none(), st.integers(0, 40)))
    def read_config(self, offset: int, size: int | None) -> None:
        assert self.device.read_config(offset, size) == self.device.config.pack()[offset:][:size]

    @rule(offset=st.integers(-3, 40), data=st.binary(max_size=8))
    def write_config(self, offset: int, data: bytes) -> None:
        self.device.write_config(offset, data)

    @rule(offset=st.integers(0, SIZE - 64), data=st.binary(min_size=1, max_size=64))
    def write_memory(self, offset: int, data: bytes) -> None:
        self.memory.write(DEFAULT_BASE + offset, data)

    @rule(up=st.booleans())
    def set_link(self, up: bool) -> None:
        self.device.set_link(up)

    @rule(index=INDICES)
    def serve(self, index: int) -> None:
        self.device.serve(index)

    @rule()
    def frame_arrives(self) -> None:
        """RST-D-03, STAT-D-01, SUSP-D-04: a device that is not live leaves its queues alone."""
        before = self.memory.snapshot()
        calls = sum(bell.call_count for bell in self.device.doorbells)
        outcome = r.receive_frame(self.device.queues[0], self.device.side, self.frame.address, self.frame.size, 0)
        if outcome == r.RECEIVED:
            r.publish(self.device.queues[0])
        if not self.device.live:
            assert outcome == r.BROKEN
            assert self.memory.snapshot() == before
            assert sum(bell.call_count for bell in self.device.doorbells) == calls

    @invariant()
    def queues_are_touched_only_where_they_may_be(self) -> None:
        device = self.device
        status = device.get_status()
        if status & (FAILED | SUSPEND) or not device.live:
            assert not any(dq.num for dq in device.queues)
        for index, dq in enumerate(device.queues):
            assert dq.num == 0 or device.queue_enabled(index)

    @invariant()
    def what_was_agreed_stands_and_is_legal(self) -> None:
        """FEAT-D-03, FEAT-D-06, INIT-V-08."""
        if self.agreed is not None:
            assert self.device.features == self.agreed
            assert self.agreed.unmet() == []
            assert self.agreed - OFFER == FeatureSet()


MadDriver.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestMadDriver = MadDriver.TestCase
