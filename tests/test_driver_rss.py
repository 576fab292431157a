"""What the driver tells a device about hashing, at probe and when ethtool asks (sheet 1.3, areas RSS, HCFG, MQ)."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from netemu.driver.probe import VirtioNet
from netemu.errors import ConfigError
from netemu.memory import GuestMemory
from netemu.virtio.features import FeatureSet
from netemu.virtio.net import NetConfig
from tests.driver_hand import HandControl, HandTransport
from tests.hashing import CTRL_VQ, HASH_REPORT, HASH_TUNNEL, MQ, RSS

VERSION_1, MRG_RXBUF = 32, 15
V4_19, V6_1, V7_0 = "linux-4.19", "linux-6.1", "linux-7.0"
KEY = bytes(range(100, 200))
MQ_CLASS, PAIRS_SET, RSS_CONFIG, HASH_CONFIG = 4, 0, 1, 2
PLAIN, EX = 0x3F, 0x1C0


class Probed:
    """A driver over a device held by hand, with what it was told of hashing."""

    def __init__(self, kernel: str, *bits: int, refuse: tuple[int, ...] = (), **fields: int) -> None:
        self.memory = GuestMemory(64 << 20)
        config = NetConfig(**({"max_virtqueue_pairs": 4, "supported_hash_types": 0x1FF} | fields))  # type: ignore[arg-type]
        features = FeatureSet.of(VERSION_1, MRG_RXBUF, CTRL_VQ, *bits)
        self.transport = HandTransport(features, config, 16)
        self.control = HandControl(self.memory, self.transport)
        self.control.refuse = {(MQ_CLASS, command) for command in refuse}
        self.transport.answer = self.control
        self.driver = VirtioNet(self.transport, self.memory, kernel, 16, boot_key=KEY)
        self.rss = self.driver.rss

    def told(self) -> list[tuple[int, bytes]]:
        """The commands of class MQ since the last look: number and data."""
        return [(command, data) for kind, command, data in self.control.take() if kind == MQ_CLASS]


def rss_bytes(types: int, table: tuple[int, ...], max_tx: int, key: bytes) -> bytes:
    """struct virtio_net_rss_config by section E."""
    head = struct.pack("<IHH", types, len(table) - 1, 0)
    return head + struct.pack(f"<{len(table)}H", *table) + struct.pack("<HB", max_tx, len(key)) + key


def hash_bytes(types: int, key: bytes) -> bytes:
    return struct.pack("<I4HB", types, 0, 0, 0, 0, len(key)) + key


IN_TURN = tuple(n % 4 for n in range(128))


# At probe -----------------------------------------------------------------------------------------------------------


def test_the_newest_kernel_sends_the_default_at_probe() -> None:
    """RSS-V-02 to RSS-V-06, sheet 1.3 steps 9 and 18: queues in turn, 128 entries, no _EX types, the kernel's key.

    The number of queues is set by another RSS_CONFIG, as the table is the driver's own.
    """
    probed = Probed(V7_0, MQ, RSS)
    expected = (RSS_CONFIG, rss_bytes(PLAIN, IN_TURN, 4, KEY[:40]))
    assert probed.told() == [expected, expected]
    assert probed.driver.vi.curr_queue_pairs == 4
    assert all(status & 4 for status in probed.control.status)  # DRIVER_OK came first


def test_linux_6_1_leaves_the_device_without_a_configuration() -> None:
    """Until v6.12: RSS is negotiated, queues are chosen by automatic steering."""
    probed = Probed(V6_1, MQ, RSS, HASH_REPORT)
    assert probed.told() == [(PAIRS_SET, b"\4\0")]
    assert probed.rss.virtnet_commit_rss_command()
    assert probed.told() == [(RSS_CONFIG, rss_bytes(PLAIN, IN_TURN, 4, KEY[:40]))]


def test_linux_4_19_knows_neither() -> None:
    """RSS-V-01."""
    probed = Probed(V4_19, MQ, RSS, HASH_REPORT)
    assert probed.told() == [(PAIRS_SET, b"\4\0")]
    assert not probed.rss.has_rss
    assert not probed.rss.has_rss_hash_report
    assert not probed.rss.virtnet_commit_rss_command()


def test_hcfg_v_01_without_rss_the_report_is_configured_by_hash_config() -> None:
    """HCFG-V-01: reserved fields are zeroes; queues by VQ_PAIRS_SET."""
    probed = Probed(V7_0, MQ, HASH_REPORT)
    assert probed.told() == [(HASH_CONFIG, hash_bytes(PLAIN, KEY[:40])), (PAIRS_SET, b"\4\0")]


@pytest.mark.parametrize("kernel", [V6_1, V7_0])
def test_rss_v_01_without_the_features_nothing_is_said_of_hashing(kernel: str) -> None:
    """RSS-V-01, HTUN-V-01: nor of tunnels, which Linux does not know."""
    probed = Probed(kernel, MQ)
    assert probed.told() == [(PAIRS_SET, b"\4\0")]
    assert not probed.rss.virtnet_commit_rss_command()
    assert not probed.rss.virtnet_set_features(rxhash=True)
    assert not probed.control.commands
    assert HASH_TUNNEL not in Probed(V7_0, MQ, RSS, HASH_TUNNEL).driver.features


def test_htun_v_02_linux_knows_no_tunnels_and_asks_for_none() -> None:
    """HTUN-V-02, HTUN-V-03: whatever bits the device says it supports, the feature is not taken, no command sent."""
    probed = Probed(V7_0, MQ, RSS, HASH_TUNNEL, supported_tunnel_types=0xFFFFFFFF)
    assert HASH_TUNNEL not in probed.driver.features
    assert 7 not in {kind for kind, _, _ in probed.control.take()}


@pytest.mark.parametrize("size", [128, 256, 1024])
def test_rss_v_04_the_table_is_as_long_as_the_device_s(size: int) -> None:
    """RSS-V-03, RSS-V-04: the mask is one less than the device's most."""
    probed = Probed(V7_0, MQ, RSS, rss_max_indirection_table_length=size, max_virtqueue_pairs=3)
    _, data = probed.told()[0]
    assert struct.unpack_from("<H", data, 4) == (size - 1,)
    assert struct.unpack_from(f"<{size}H", data, 8) == tuple(n % 3 for n in range(size))


def test_rss_v_05_only_types_that_the_device_has_are_enabled() -> None:
    """RSS-V-05: and of those not the _EX types."""
    _, data = Probed(V7_0, MQ, RSS, supported_hash_types=0x101 | 0x1000).told()[0]
    assert struct.unpack_from("<I", data)[0] & EX == 0
    assert struct.unpack_from("<I", data)[0] & 0x1FF == 0x001


@pytest.mark.parametrize(("kernel", "offered", "used"), [(V6_1, 40, 40), (V7_0, 40, 40), (V7_0, 52, 52)])
def test_keys_as_long_as_the_device_takes(kernel: str, offered: int, used: int) -> None:
    probed = Probed(kernel, MQ, RSS, rss_max_key_size=offered)
    assert probed.rss.rss_key_size == used
    assert probed.rss.config.key == KEY[:used]
    assert not probed.rss.warnings


def test_a_key_size_of_255_is_refused_by_one_kernel_and_used_by_another() -> None:
    """Sheet 9, case 31: room for 40 bytes and a check in between, for 256 now."""
    with pytest.raises(ConfigError, match="rss_max_key_size is 255"):
        Probed(V6_1, MQ, RSS, rss_max_key_size=255)
    probed = Probed(V7_0, MQ, RSS, rss_max_key_size=255)
    _, data = probed.told()[0]
    assert data[8 + 256 + 2] == 255
    assert data[-255:] == KEY.ljust(255, b"\0")


def test_a_refusal_at_probe_turns_hashing_off() -> None:
    probed = Probed(V7_0, MQ, RSS, HASH_REPORT, refuse=(RSS_CONFIG,))
    assert not probed.rss.has_rss
    assert probed.driver.vi.rxhash == 0
    assert "RSS disabled because committing failed." in probed.driver.control.warnings
    assert [command for command, _ in probed.told()] == [RSS_CONFIG, PAIRS_SET]


# ethtool ------------------------------------------------------------------------------------------------------------


def test_a_table_of_the_user_s_is_repeated_until_it_is_full() -> None:
    """RSS-V-02, RSS-V-03: and is left alone when the number of queues changes."""
    probed = Probed(V7_0, MQ, RSS)
    probed.told()
    assert probed.rss.virtnet_set_rxfh([3, 1, 1])
    table = tuple((3, 1, 1)[n % 3] for n in range(128))
    assert probed.told() == [(RSS_CONFIG, rss_bytes(PLAIN, table, 4, KEY[:40]))]
    assert probed.driver.control.virtnet_set_queues(2)
    assert probed.told() == [(PAIRS_SET, b"\2\0")]


@pytest.mark.parametrize(("kernel", "command"), [(V6_1, PAIRS_SET), (V7_0, RSS_CONFIG)])
def test_the_driver_s_own_table_follows_the_number_of_queues(kernel: str, command: int) -> None:
    """RSS-V-02 (v6.12): only queues in use are in it, and as many may send (RSS-V-06)."""
    probed = Probed(kernel, MQ, RSS)
    assert probed.rss.virtnet_commit_rss_command()
    probed.told()
    assert probed.driver.control.virtnet_set_queues(2)
    [(sent, data)] = probed.told()
    assert sent == command
    if command == RSS_CONFIG:
        assert data == rss_bytes(PLAIN, tuple(n % 2 for n in range(128)), 2, KEY[:40])
        assert probed.rss.virtnet_set_rxfh(key=bytes(40))
        assert probed.told() == [(RSS_CONFIG, rss_bytes(PLAIN, tuple(n % 2 for n in range(128)), 2, bytes(40)))]


def test_another_key_and_other_types() -> None:
    probed = Probed(V7_0, MQ, RSS)
    probed.told()
    assert probed.rss.virtnet_set_rxfh(key=bytes(range(40)))
    assert probed.rss.virtnet_set_hashflow(0x3)
    assert probed.told() == [
        (RSS_CONFIG, rss_bytes(PLAIN, IN_TURN, 4, bytes(range(40)))),
        (RSS_CONFIG, rss_bytes(0x3, IN_TURN, 4, bytes(range(40)))),
    ]
    assert not probed.rss.virtnet_set_hashflow(0x40)
    assert not probed.told()


@pytest.mark.parametrize(
    "change",
    [
        lambda rss: rss.virtnet_set_rxfh([4]),
        lambda rss: rss.virtnet_set_rxfh([-1]),
        lambda rss: rss.virtnet_set_rxfh([]),
        lambda rss: rss.virtnet_set_rxfh(key=bytes(39)),
    ],
    ids=["no-such-queue", "negative", "empty", "key-of-another-length"],
)
def test_what_ethtool_would_not_let_through_is_an_error(change: Callable[..., bool]) -> None:
    """RSS-V-02."""
    probed = Probed(V7_0, MQ, RSS)
    probed.told()
    with pytest.raises(ConfigError):
        change(probed.rss)
    assert not probed.told()


def test_without_rss_there_is_no_table_to_change() -> None:
    with pytest.raises(ConfigError, match="without RSS"):
        Probed(V7_0, MQ, HASH_REPORT).rss.virtnet_set_rxfh([0])


def test_a_refused_change_leaves_what_was() -> None:
    probed = Probed(V7_0, MQ, RSS)
    before = probed.rss.config
    probed.control.refuse = {(MQ_CLASS, RSS_CONFIG)}
    assert not probed.rss.virtnet_set_rxfh([1], bytes(40))
    assert not probed.rss.virtnet_set_hashflow(1)
    assert probed.rss.config == before
    assert not probed.driver.control.rxfh_configured


def test_rxhash_off_disables_all_types_and_on_brings_them_back() -> None:
    probed = Probed(V7_0, HASH_REPORT)
    probed.told()
    assert probed.rss.virtnet_set_hashflow(0x7)
    assert probed.rss.virtnet_set_features(rxhash=False)
    assert probed.driver.vi.rxhash == 0
    assert probed.rss.virtnet_set_features(rxhash=True)
    assert probed.driver.vi.rxhash == 1
    assert probed.told() == [(HASH_CONFIG, hash_bytes(types, KEY[:40])) for types in (0x7, 0, 0x7)]
