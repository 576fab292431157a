"""A Nic, and a replay, with other features: what is offered, what comes of it, and that frames arrive all the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from netemu.errors import ConfigError
from netemu.nic import Nic
from netemu.offer import mac_address, offered_features
from netemu.virtio import features as f
from netemu.virtio.features import FeatureSet
from tests.driver_kit import V4_19, V6_1, V7_0, frame
from tests.replay_kit import netemu, one_error_line
from tests.support import PCAPS

BASICS = PCAPS / "sizes.pcap"
SHORT = [frame(60 + 61 * n % 1400, seed=n) for n in range(150)]
LONG = [*SHORT, *(frame(2000 + 7919 * n % 50_000, seed=n) for n in range(20))]


def arrives(nic: Nic) -> None:
    """Every frame that the mode can take comes up as it went in."""
    frames = SHORT if nic.mode == "small" else LONG
    assert [received.data for received in nic.receive(frames)] == frames
    assert nic.dropped == {}


# The ring's kind and manners, and the header's length.


@pytest.mark.parametrize("mode", ["mergeable", "small", "big"])
@pytest.mark.parametrize(
    ("ring", "features"),
    [
        ("packed", ""),
        ("packed", "+IN_ORDER,-EVENT_IDX,-INDIRECT_DESC"),
        ("split", "+IN_ORDER,+NOTIFICATION_DATA"),
        ("split", "-EVENT_IDX,-INDIRECT_DESC"),
        ("split", "+ACCESS_PLATFORM,+ORDER_PLATFORM,+STANDBY"),
    ],
)
def test_frames_arrive_whatever_was_negotiated(mode: str, ring: str, features: str) -> None:
    nic = Nic(mode=mode, queue_size=64, ring=ring, features=features)  # type: ignore[arg-type]
    assert nic.mode == mode
    assert (f.RING_PACKED in nic.driver.features) == (ring == "packed")
    for word in features.split(",") if features else []:
        assert (f.BITS[word[1:]] in nic.driver.features) == (word[0] == "+")
    arrives(nic)


@pytest.mark.parametrize(
    ("mode", "features", "became", "hdr_len"),
    [
        ("mergeable", "-MRG_RXBUF", "big", 12),
        ("mergeable", "-MRG_RXBUF,-GUEST_CSUM", "small", 12),
        ("small", "+MRG_RXBUF", "mergeable", 12),
        ("small", "+GUEST_USO4", "small", 12),
        ("small", "+GUEST_USO4,+GUEST_USO6", "big", 12),
        ("small", "+GUEST_UDP_TUNNEL_GSO", "big", 24),
        ("small", "-VERSION_1", "small", 10),
        ("big", "-VERSION_1", "big", 10),
        ("mergeable", "-VERSION_1", "mergeable", 12),
    ],
)
def test_the_mode_is_what_came_of_it(mode: str, features: str, became: str, hdr_len: int) -> None:
    """Sheet 1.4 and 1.5; LEG-V-11 for the header of 10 bytes, LEG-B-02: native is little-endian here."""
    nic = Nic(mode=mode, queue_size=64, features=features)  # type: ignore[arg-type]
    assert (nic.mode, nic.driver.vi.hdr_len, nic.device.side.hdr_len) == (became, hdr_len, hdr_len)
    arrives(nic)


@pytest.mark.parametrize(
    ("kernel", "packed", "in_order", "mode"), [(V4_19, 0, 0, "small"), (V6_1, 1, 0, "small"), (V7_0, 1, 1, "big")]
)
def test_each_kernel_takes_what_it_knows(kernel: str, packed: int, in_order: int, mode: str) -> None:
    """FEAT-V-08: without what it does not know it falls back: to split rings, to small buffers."""
    nic = Nic(mode="small", ring="packed", features="+IN_ORDER,+GUEST_USO4,+GUEST_USO6", driver=kernel)
    vq = nic.driver.rings[0]
    assert (vq.packed, vq.in_order, nic.mode) == (packed, in_order, mode)
    arrives(nic)


# Offers and configuration.


def test_an_offer_is_taken_as_it_is_and_may_be_changed() -> None:
    offer = FeatureSet.of(f.VERSION_1, f.MAC)
    assert Nic(offer=offer).device.get_features() == offer
    assert Nic(offer=offer, features="+STATUS").device.get_features() == offer | FeatureSet.of(f.STATUS)
    with pytest.raises(ConfigError, match="GUEST_TSO4 requires GUEST_CSUM"):
        Nic(offer=offer | FeatureSet.of(f.GUEST_TSO4))
    with pytest.raises(ConfigError, match="cannot honour: SR_IOV"):
        Nic(offer=offer | FeatureSet.of(f.SR_IOV))


@pytest.mark.parametrize(("mtu", "mode"), [(1500, "small"), (1501, "big"), (9000, "big"), (68, "small")])
def test_an_mtu_is_offered_and_shapes_the_buffers(mtu: int, mode: str) -> None:
    """NETC-V-07, NETC-V-08: a frame of the MTU and its link header fits one buffer."""
    nic = Nic(mode="small", mtu=mtu)
    assert (nic.mode, nic.driver.vi.max_mtu, f.MTU in nic.driver.features) == (mode, mtu, True)
    largest = frame(14 + mtu)
    assert [received.data for received in nic.receive([largest])] == [largest]


@pytest.mark.parametrize("mtu", [67, 65536, 0, -1])
def test_an_mtu_that_cannot_be(mtu: int) -> None:
    """NETC-D-02."""
    with pytest.raises(ConfigError, match="68 to 65535"):
        Nic(mtu=mtu)


def test_the_mac_address_is_the_device_s() -> None:
    """NETC-V-03."""
    assert Nic(mac="52:54:00:ab:cd:ef").driver.vi.mac == 0x525400ABCDEF
    assert Nic(mac=bytes.fromhex("525400abcdef")).driver.vi.mac == 0x525400ABCDEF
    assert mac_address("52-54-00-AB-cd-ef") == bytes.fromhex("525400abcdef")
    for wrong in ("52:54:00:ab:cd", "nonsense", b"\x02", "52:54:00:ab:cd:ef:00", ""):
        with pytest.raises(ConfigError, match="is no MAC address"):
            Nic(mac=wrong)
    with pytest.raises(ConfigError, match="address of a group"):
        Nic(mac="01:00:5e:00:00:01")


def test_words_that_are_no_mode_and_no_ring() -> None:
    with pytest.raises(ConfigError, match="no receive mode is called 'huge'"):
        offered_features("huge")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="no ring is called 'round'"):
        offered_features(ring="round")  # type: ignore[arg-type]


# Sizes.


@pytest.mark.parametrize(
    ("ring", "size"), [("split", 32768), ("packed", 32768), ("packed", 100), ("packed", 1), ("split", 1)]
)
def test_ring_sizes_up_to_the_limit(ring: str, size: int) -> None:
    """SPLIT-B-02, PACK-B-10."""
    nic = Nic(mode="small", queue_size=size, ring=ring)  # type: ignore[arg-type]
    assert [vq.num for vq in nic.driver.rings] == [size, size]
    arrives(nic)


@pytest.mark.parametrize(
    ("ring", "size", "kernel"),
    [("split", 100, V7_0), ("packed", 100, V4_19), ("split", 65536, V7_0), ("packed", 0, V7_0)],
)
def test_ring_sizes_that_cannot_be(ring: str, size: int, kernel: str) -> None:
    """A kernel without packed rings has split ones, and those have sizes of their own."""
    with pytest.raises(ConfigError, match="ring's size"):
        Nic(queue_size=size, ring=ring, driver=kernel)  # type: ignore[arg-type]


def test_rings_change_their_size_between_frames() -> None:
    """QRST-D-04, QRST-V-03, both halves together."""
    nic = Nic(mode="small", queue_size=256, features="+RING_RESET")
    for rx, tx in ((64, None), (256, 32), (32, 256)):
        nic.set_ringparam(rx, tx)
        arrives(nic)
    assert [vq.num for vq in nic.driver.rings] == [32, 256]
    assert [dq.num for dq in nic.device.queues] == [32, 256]


def test_the_guest_sleeps_and_wakes() -> None:
    """RST-D-01, FEAT-D-05: the same features are agreed to again, and frames arrive as before."""
    for ring in ("split", "packed"):
        nic = Nic(queue_size=64, ring=ring, queues=2)
        arrives(nic)
        nic.driver.freeze()
        assert nic.device.get_status() == 0
        nic.driver.restore()
        nic.let_guest_run()
        arrives(nic)
        assert nic.driver.vi.curr_queue_pairs == 2


def test_the_driver_follows_the_link_of_the_device() -> None:
    """OPER-D-01, NETC-V-06, NETC-V-12."""
    nic = Nic(features="+SPEED_DUPLEX")
    assert nic.driver.vi.carrier == 1
    nic.set_link(up=False)
    assert (nic.driver.vi.carrier, nic.driver.send_queues[0].stopped) == (0, 1)
    nic.set_link(up=True, speed=100_000, duplex=1)
    assert (nic.driver.vi.carrier, nic.driver.link.speed, nic.driver.link.duplex) == (1, 100_000, 1)
    with pytest.raises(ConfigError, match="take it down first"):
        nic.set_link(up=True, speed=10)


# The command line.


def figures(*options: str) -> dict[str, object]:
    run = netemu("replay", BASICS, *options, "--json")
    assert run.returncode == 0, run.stderr
    value = json.loads(run.stdout)
    assert isinstance(value, dict)
    return value


def test_replay_takes_a_change_of_features() -> None:
    told = figures("--features", "+STANDBY,-MRG_RXBUF", "--mtu", "9000", "--mac", "02:00:00:00:00:05")
    assert told["mode"] == "big"
    names = told["features"]
    assert isinstance(names, list)
    assert {"STANDBY", "MTU"} <= set(names)
    assert "MRG_RXBUF" not in names


def test_replay_in_a_packed_ring_delivers_the_same(tmp_path: Path) -> None:
    for ring in ("split", "packed"):
        figures("--ring", ring, "-o", str(tmp_path / f"{ring}.pcap"))
    assert (tmp_path / "split.pcap").read_bytes() == (tmp_path / "packed.pcap").read_bytes()


def test_the_report_says_which_rings() -> None:
    packed = netemu("replay", BASICS, "--ring", "packed", "--queue-size", "100").stdout.decode()
    assert "linux-7.0, mergeable buffers, packed rings of 100" in packed
    assert "mergeable buffers, rings of 256" in netemu("replay", BASICS).stdout.decode()


def test_features_that_start_with_a_minus() -> None:
    assert "EVENT_IDX" not in str(figures("--features=-EVENT_IDX")["features"])
    assert "EVENT_IDX" not in str(figures("--features", "-EVENT_IDX")["features"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--features", "+EVENT_IDXX"], "did you mean EVENT_IDX"),
        (["--features", "+SR_IOV"], "cannot honour: SR_IOV"),
        (["--mtu", "10"], "68 to 65535"),
        (["--mac", "1:2:3"], "is no MAC address"),
        (["--queue-size", "100"], "a power of two"),
        (["--ring", "packed", "--queue-size", "40000"], "from 1 to 32768, not 40000"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(options: list[str], words: str) -> None:
    assert words in one_error_line(netemu("replay", BASICS, *options))
