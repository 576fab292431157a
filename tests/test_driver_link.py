"""What the driver reads from configuration space, and when; the link it follows (fact sheet, 1.2 and 1.3)."""

from __future__ import annotations

import pytest

from netemu.driver.config import cread, cread_bytes
from netemu.driver.features import SUPPORTED
from netemu.driver.probe import VirtioNet
from netemu.errors import ConfigError
from netemu.memory import GuestMemory
from netemu.virtio import features as f
from netemu.virtio.features import FeatureSet
from netemu.virtio.net import NetConfig
from tests.driver_hand import HandTransport
from tests.driver_kit import BASE, MAC, V4_19, V6_1, V7_0, every_era

UNKNOWN_SPEED, UNKNOWN_DUPLEX = 0xFFFFFFFF, 0xFF


def transport(*bits: int, without: tuple[int, ...] = (), **config: int) -> HandTransport:
    offered = (BASE | FeatureSet.of(*bits)) - FeatureSet.of(*without)
    return HandTransport(offered, NetConfig(mac=MAC, **config), 16)


def probed(device: HandTransport, kernel: str = V7_0) -> VirtioNet:
    return VirtioNet(device, GuestMemory(32 << 20), kernel, 16, SUPPORTED)


# Reading.


class Restless(HandTransport):
    """A device whose configuration changes between two reads, so many times."""

    def __init__(self, changes: int) -> None:
        super().__init__(BASE, NetConfig(mac=bytes(6)), 16)
        self.changes = changes

    def read_config(self, offset: int = 0, size: int | None = None) -> bytes:
        data = super().read_config(offset, size)
        if self.changes:
            # The other half of what was just read: a reader that believed it would have a torn address.
            self.changes -= 1
            self.config.mac = bytes([self.changes % 250 + 1] * 6)
            self.generation = (self.generation + 1) & 0xFF
            return data[:3] + self.config.mac[3:][: max(0, len(data) - 3)]
        return data


@pytest.mark.parametrize("changes", [0, 1, 5])
def test_cfg_v_03_a_read_is_repeated_until_the_generation_stays(changes: int) -> None:
    """CFG-V-01, CFG-V-02, CFG-V-03: six bytes are never read at once, so that they may be of two versions."""
    device = Restless(changes)
    assert cread_bytes(device, 0, 6) == bytes([1] * 6 if changes else 6)
    assert len(device.reads) == changes + 1


def test_a_device_that_never_comes_to_rest_is_given_up() -> None:
    with pytest.raises(ConfigError, match="changes faster than it can be read"):
        cread_bytes(Restless(10**9), 0, 6)


def test_the_address_is_whole_though_it_changes_while_probing() -> None:
    device = Restless(3)
    assert probed(device).vi.mac == 0x010101010101


@pytest.mark.parametrize("most", [6, 8, 12, 28, 100])
def test_cfg_v_05_06_a_space_of_any_length_will_do(most: int) -> None:
    """CFG-V-05, CFG-V-06: what the features need is there; what lies beyond is not asked for, and nobody minds more."""
    device = transport()
    whole = device.config.pack() + b"\xee" * 72
    device.read_config = lambda offset=0, size=None: whole[:most][offset:][:size]  # type: ignore[method-assign]
    driver = probed(device)
    assert driver.vi.mac == 0x020000000001
    driver.open()
    assert driver.link.status == (0 if most == 6 else 1)


def test_a_field_beyond_the_end_reads_as_zeros() -> None:
    device = transport(f.MTU)
    device.read_config = lambda offset=0, size=None: bytes(8)[offset:][:size]  # type: ignore[method-assign]
    assert cread(device, "mtu") == 0


@pytest.mark.parametrize(
    ("bits", "fields"),
    [
        ((), {"mac", "status"}),
        ((f.MTU,), {"mac", "status", "mtu"}),
        ((f.CTRL_VQ, f.MQ), {"mac", "status", "pairs"}),
        ((f.SPEED_DUPLEX,), {"mac", "status", "speed", "duplex"}),
    ],
)
@every_era
def test_cfg_v_04_no_field_is_touched_whose_feature_is_not_there(
    kernel: str, bits: tuple[int, ...], fields: set[str]
) -> None:
    """CFG-V-04."""
    places = {(0, 6): "mac", (6, 2): "status", (8, 2): "pairs", (10, 2): "mtu", (12, 4): "speed", (16, 1): "duplex"}
    device = transport(*bits, max_virtqueue_pairs=1)
    driver = probed(device, kernel)
    driver.open()
    assert {places[read] for read in device.reads} == fields
    bare = transport(without=(f.MAC, f.STATUS))
    probed(bare, kernel).open()
    assert bare.reads == []


def test_netc_v_04_without_mac_the_address_is_a_local_one() -> None:
    """NETC-V-04: locally administered, of a station; NETC-V-02, NETC-V-03: else the device's own."""
    mac = probed(transport(without=(f.MAC,))).vi.mac >> 40
    assert mac & 0b11 == 0b10
    assert probed(transport()).vi.mac == int.from_bytes(MAC, "big")


# Validation.


@pytest.mark.parametrize(("kernel", "kept"), [(V4_19, True), (V6_1, True), (V7_0, False)])
def test_standby_without_mac(kernel: str, kept: bool) -> None:
    """Sheet 1.2 step 4: newer kernels clear it. NETC-V-10: with a MAC address it is taken."""
    assert f.STANDBY in probed(transport(f.STANDBY), kernel).features
    assert (f.STANDBY in probed(transport(f.STANDBY, without=(f.MAC,)), kernel).features) == kept


# Link.


@every_era
def test_netc_v_05_without_status_the_link_is_up(kernel: str) -> None:
    """NETC-V-05."""
    driver = probed(transport(f.SPEED_DUPLEX, without=(f.STATUS,), speed=1000, duplex=1, status=0), kernel)
    assert (driver.vi.carrier, driver.link.status) == (1, 1)
    assert (driver.link.speed, driver.link.duplex) == (1000, 1)


@pytest.mark.parametrize(("kernel", "before"), [(V4_19, 1), (V6_1, 1), (V7_0, 0)])
def test_netc_v_06_with_status_bit_0_is_the_link(kernel: str, before: int) -> None:
    """NETC-V-06, sheet 1.3: the work runs at probe; newer kernels leave it until the interface is opened (v6.12)."""
    driver = probed(transport(status=1), kernel)
    assert driver.vi.carrier == before
    driver.open()
    assert driver.vi.carrier == 1
    down = probed(transport(status=0), kernel)
    down.open()
    assert down.vi.carrier == 0


@every_era
def test_the_driver_follows_the_link(kernel: str) -> None:
    """Down: no carrier, all send queues stopped; up again: speed is read anew, queues are woken (NETC-V-12)."""
    device = transport(f.CTRL_VQ, f.MQ, f.SPEED_DUPLEX, max_virtqueue_pairs=2, speed=1000, duplex=0)
    driver = probed(device, kernel)
    driver.open()
    assert [sq.stopped for sq in driver.send_queues] == [0, 0]
    device.config.status = 0
    driver.run_work()
    assert driver.vi.carrier == 1, "nobody has rung"
    device.config_bell.ring()
    driver.run_work()
    assert (driver.vi.carrier, [sq.stopped for sq in driver.send_queues]) == (0, [1, 1])
    device.config.status, device.config.speed, device.config.duplex = 1, 25000, 1
    device.config_bell.ring()
    driver.run_work()
    assert (driver.vi.carrier, [sq.stopped for sq in driver.send_queues]) == (1, [0, 0])
    assert (driver.link.speed, driver.link.duplex) == (25000, 1)


def test_a_notification_without_news_changes_nothing() -> None:
    """Sheet 1.3: unchanged: nothing is done; a queue that is stopped for want of room stays so."""
    device = transport(f.SPEED_DUPLEX)
    driver = probed(device)
    driver.open()
    driver.send_queues[0].stopped = 1
    reads = len(device.reads)
    device.config_bell.ring()
    driver.run_work()
    assert driver.send_queues[0].stopped == 1
    assert device.reads[reads:] == [(6, 2)]


@pytest.mark.parametrize(
    ("speed", "duplex", "seen"),
    [
        (0, 0, (0, 0)),
        (0x7FFFFFFF, 1, (0x7FFFFFFF, 1)),
        (0xFFFFFFFF, 0xFF, (UNKNOWN_SPEED, UNKNOWN_DUPLEX)),
        (0x80000000, 2, (UNKNOWN_SPEED, UNKNOWN_DUPLEX)),
        (0xFFFFFFFE, 0xFE, (UNKNOWN_SPEED, UNKNOWN_DUPLEX)),
    ],
)
def test_netc_v_11_speeds_and_duplexes_that_cannot_be_are_unknown(
    speed: int, duplex: int, seen: tuple[int, int]
) -> None:
    """NETC-V-11."""
    driver = probed(transport(f.SPEED_DUPLEX, speed=speed, duplex=duplex))
    driver.open()
    assert (driver.link.speed, driver.link.duplex) == seen


def test_without_the_feature_the_speed_is_unknown() -> None:
    driver = probed(transport(speed=1000, duplex=1))
    driver.open()
    assert (driver.link.speed, driver.link.duplex) == (UNKNOWN_SPEED, UNKNOWN_DUPLEX)


@pytest.mark.parametrize(("kernel", "while_closed"), [(V6_1, 0), (V7_0, 1)])
def test_news_while_the_interface_is_down(kernel: str, while_closed: int) -> None:
    """Newer kernels do not look before the next open, and have no carrier meanwhile; older ones look at once."""
    device = transport()
    driver = probed(device, kernel)
    driver.open()
    driver.close()
    device.config.status = 0
    device.config_bell.ring()
    driver.run_work()
    assert (driver.link.status, driver.vi.carrier) == (while_closed, 0)
    driver.open()
    assert (driver.link.status, driver.vi.carrier) == (0, 0)


def test_ann_v_01_a_request_to_announce_is_answered_once() -> None:
    """ANN-V-01: status bit 1 beside the link: counted, and the link is what bit 0 says."""
    device = transport()
    driver = probed(device)
    driver.open()
    device.config.status = 3
    device.config_bell.ring()
    driver.run_work()
    driver.run_work()
    assert (driver.link.announced, driver.link.status) == (1, 1)


def test_stat_v_04_a_device_in_need_of_a_reset_changes_nothing_of_the_link() -> None:
    """STAT-V-04: DEVICE_NEEDS_RESET comes with the same notification, and nothing hangs on it."""
    device = transport()
    driver = probed(device)
    driver.open()
    device.status |= 64
    device.config_bell.ring()
    driver.run_work()
    assert driver.vi.carrier == 1
