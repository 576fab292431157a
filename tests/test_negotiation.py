"""Negotiation between the two halves, over generated offers, wishes and kernels."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netemu.device.net import HONOURED, NetDevice
from netemu.driver.eras import era
from netemu.driver.features import SUPPORTED, choose
from netemu.driver.probe import VirtioNet
from netemu.driver.virtnet import MODE_BIG, MODE_MERGEABLE, MODE_SMALL
from netemu.errors import ConfigError
from netemu.memory import GuestMemory
from netemu.virtio import features as f
from netemu.virtio.features import FeatureSet
from netemu.virtio.net import NetConfig
from tests.driver_kit import ERAS, V4_19, V6_1, V7_0

DRIVER_OK, FEATURES_OK, FAILED = 4, 8, 128

# Sheet 1.1: which kernel knows which feature, written down a second time, by number.
SEED = {*range(4), 5, *range(7, 20), 21, 22, 23, 28, 29, 32, 33, 62, 63}
KNOWN = {
    V4_19: SEED,
    V6_1: SEED | {34, 36, 40, 53, 57, 60},
    V7_0: SEED | {34, 35, 36, 38, 40, 50, 52, 53, 54, 55, 56, 57, 59, 60},
}
# Sheet 1.2: offered without CTRL_VQ, they make the probe fail.
NEED_CTRL_VQ = {
    V4_19: {18, 19, 21, 22, 23},
    V6_1: {18, 19, 21, 22, 23, 53, 57, 60},
    V7_0: {18, 19, 21, 22, 23, 52, 53, 57, 60},
}
MODERN_ONLY = {V4_19: set[int](), V6_1: set[int](), V7_0: {65, 66, 67, 68}}
LEGACY_ONLY = {6, 27}


def mode_by_the_sheet(kernel: str, bits: set[int], mtu: int) -> int:
    """Sheet 1.4."""
    gso = bool(bits & {7, 8, 9, 10}) or (kernel == V7_0 and {54, 55} <= bits)
    if 15 in bits:
        return MODE_MERGEABLE
    return MODE_BIG if gso or (3 in bits and mtu > 1500) else MODE_SMALL


def hdr_len_by_the_sheet(bits: set[int]) -> int:
    """Sheet 1.5; the specification's table has the same four rows."""
    if bits & {65, 67}:
        return 24
    if 57 in bits:
        return 20
    return 12 if bits & {15, 32} else 10


@pytest.mark.parametrize("kernel", ERAS)
@pytest.mark.parametrize("modern", [True, False])
def test_each_kernel_knows_the_features_of_its_time(kernel: str, modern: bool) -> None:
    """Sheet 1.1; FEAT-V-04, FEAT-V-05, FEAT-V-06, FEAT-V-07, FEAT-V-10: bits it does not know are ignored.

    RFB-V-01 (VERSION_1), RFB-V-03 (ACCESS_PLATFORM), RFB-V-06 (RING_PACKED), RFB-V-07 (ORDER_PLATFORM): taken by the
    kernels that know them. RFB-V-10: SR_IOV never. LEG-V-05: ANY_LAYOUT of a legacy device; LEG-B-03: bit 30 never.
    """
    everything = FeatureSet((1 << 140) - 1) - FeatureSet.of(*([] if modern else [32]))
    taken = choose(era(kernel), everything, everything, 1500)
    wanted = KNOWN[kernel] | (MODERN_ONLY[kernel] if modern else LEGACY_ONLY)
    assert set(taken) == wanted - (set() if modern else {32})


RICH = sorted(HONOURED)
BROKEN_OFFERS = st.sets(st.sampled_from([*RICH, 4, 30, 37, 41, 42, 64, 70, 100, 127]), max_size=40)


@st.composite
def offers(draw: st.DrawFn) -> FeatureSet:
    """A legal offer: any part of what the device honours, without what lacks what it requires."""
    bits = draw(st.one_of(st.sets(st.sampled_from(RICH)), st.sets(st.sampled_from(RICH)).map(lambda s: set(RICH) - s)))
    return FeatureSet.of(*bits).closed()


@settings(max_examples=150)
@given(
    offer=offers(),
    unwanted=st.sets(st.sampled_from(RICH), max_size=12),
    kernel=st.sampled_from(ERAS),
    mtu=st.sampled_from([68, 1280, 1500, 1501, 9000, 65535]),
    pairs=st.integers(1, 3),
)
def test_every_part_of_an_offer_negotiates_to_a_legal_set_or_is_refused(
    offer: FeatureSet, unwanted: set[int], kernel: str, mtu: int, pairs: int
) -> None:
    """FEAT-V-01, FEAT-V-02, FEAT-V-03, FEAT-D-02, FEAT-D-05, FEAT-V-08; header and mode as the sheet's tables say.

    What is refused is refused with FAILED set (FEAT-V-09, INIT-V-12); after a reset the same set is agreed to again.
    """
    memory = GuestMemory(24 << 20)
    wanted = SUPPORTED - FeatureSet.of(*unwanted)
    device = NetDevice(memory, offer, NetConfig(mtu=mtu, max_virtqueue_pairs=pairs), queue_size=8)
    refused = f.CTRL_VQ not in offer and any(bit in offer for bit in NEED_CTRL_VQ[kernel])
    if refused:
        with pytest.raises(ConfigError, match="without CTRL_VQ"):
            VirtioNet(device, memory, kernel, 8, wanted)
        assert device.get_status() & FAILED
        assert not device.live
        return
    driver = VirtioNet(device, memory, kernel, 8, wanted)
    chosen = driver.features
    bits = set(chosen)
    assert chosen - offer == chosen - wanted == FeatureSet()
    assert chosen.unmet() == []
    assert bits <= KNOWN[kernel] | MODERN_ONLY[kernel] | LEGACY_ONLY
    # Nothing is left out that could have been taken: the set is the largest of its kind.
    could = KNOWN[kernel] | (MODERN_ONLY[kernel] if 32 in offer else LEGACY_ONLY)
    left = {bit for bit in (set(offer & wanted) & could) - bits if not (chosen | FeatureSet.of(bit)).unmet()}
    assert left <= {62}, "STANDBY goes where there is no MAC"
    assert device.features == chosen
    assert device.live
    assert bool(device.get_status() & FEATURES_OK) == (32 in bits)
    assert driver.vi.hdr_len == device.side.hdr_len == hdr_len_by_the_sheet(bits)
    assert driver.vi.mode == mode_by_the_sheet(kernel, bits, mtu)
    expected_pairs = pairs if {22, 60} & bits and 17 in bits else 1
    assert driver.vi.max_queue_pairs == expected_pairs
    assert len(driver.rings) == 2 * expected_pairs + (17 in bits)
    driver.freeze()
    assert device.get_status() == 0
    driver.restore()
    assert device.features == chosen
    assert device.live


@settings(max_examples=60)
@given(bits=BROKEN_OFFERS)
def test_an_offer_is_legal_or_refused(bits: set[int]) -> None:
    """FEAT-D-01, FEAT-D-04: nothing but ConfigError, and only for a rule that is broken."""
    offer = FeatureSet.of(*bits)
    broken = bool(offer.unmet()) or bool(offer - HONOURED)
    try:
        NetDevice(GuestMemory(1 << 16), offer)
    except ConfigError:
        assert broken
    else:
        assert not broken


@settings(max_examples=60)
@given(offer=offers(), choice=st.sets(st.integers(0, 140)))
def test_a_device_agrees_to_legal_choices_and_to_no_other(offer: FeatureSet, choice: set[int]) -> None:
    """FEAT-D-02, FEAT-D-03, trap T15: over choices that no driver of ours would make."""
    device = NetDevice(GuestMemory(1 << 16), offer)
    for chosen in (FeatureSet.of(*choice), FeatureSet.of(*choice) & offer, offer):
        device.set_status(0)
        device.set_status(3)
        device.set_features(chosen)
        device.set_status(3 | FEATURES_OK)
        agreed = bool(device.get_status() & FEATURES_OK)
        assert agreed == (chosen - offer == FeatureSet() and chosen.unmet() == [])
