"""What a user sets on a running card, from the call to the frames: device and driver together in the loop."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from netemu.driver import dim as driver_dim
from netemu.errors import ConfigError, NetemuError
from netemu.frame import Frame
from netemu.jit import allocate, array_of
from netemu.nic import Nic
from netemu.nic.control import Settings, parse_coalesce
from netemu.virtio.features import FeatureSet

STATION, OTHER = bytes.fromhex("020000000001"), bytes.fromhex("020000000077")
GROUP, BROADCAST = bytes.fromhex("01005e000001"), b"\xff" * 6
EVERYBODY = [STATION, OTHER, GROUP, BROADCAST]


def frame(destination: bytes, vid: int | None = None, size: int = 100) -> bytes:
    tag = b"" if vid is None else struct.pack(">HH", 0x8100, vid)
    return (destination + bytes.fromhex("02000000000a") + tag + b"\x88\xb5").ljust(size, b"\xa5")


def heard(nic: Nic) -> list[bytes]:
    return [skb.data[:6] for skb in nic.receive(frame(mac) for mac in EVERYBODY)]


def udp(port: int) -> bytes:
    ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 46, 0, 0, 64, 17, 0, b"\xc0\0\2\1", b"\xc0\0\2\2")
    return STATION + bytes(6) + b"\x08\0" + ip + struct.pack(">HHHH", port, 53, 26, 0) + bytes(18)


# Filters.


def test_a_card_receives_everything_unless_it_is_told_otherwise() -> None:
    """As under a packet capture; with CTRL_RX because the driver asks for it (RXF-D-02)."""
    assert heard(Nic()) == EVERYBODY
    assert heard(Nic(features="+CTRL_RX,+CTRL_VLAN")) == EVERYBODY


@pytest.mark.parametrize("kernel", ["linux-4.19", "linux-6.1", "linux-7.0"])
def test_without_promiscuous_mode_frames_for_others_are_dropped_by_the_device(kernel: str) -> None:
    """MAC-D-04: counted as filtered, on no queue."""
    nic = Nic(driver=kernel, settings=Settings(promisc=False))
    assert heard(nic) == [STATION, BROADCAST]
    assert nic.dropped == {"filtered": 2}
    nic.control.set_addresses([GROUP, OTHER])
    assert heard(nic) == EVERYBODY
    nic.control.set_addresses([])
    nic.control.set_allmulti(on=True)
    assert heard(nic) == [STATION, GROUP, BROADCAST]
    nic.control.set_promiscuous(on=True)
    assert heard(nic) == EVERYBODY


def test_another_station_address_is_in_the_filter_and_in_the_driver() -> None:
    nic = Nic(features="+CTRL_MAC_ADDR", settings=Settings(promisc=False))
    nic.control.set_mac("02:00:00:00:00:77")
    assert heard(nic) == [OTHER, BROADCAST]
    assert nic.driver.vi.mac == 0x020000000077
    assert nic.device.read_config(0, 6) == OTHER


@pytest.mark.parametrize("mode", ["mergeable", "small", "big"])
def test_only_vlans_of_the_table_are_let_in(mode: Any) -> None:
    """VLAN-D-02, VLAN-D-03; frames without a tag always, and whoever they are for."""
    nic = Nic(mode, settings=Settings(vlans=[5, 4095]))
    frames = [frame(OTHER, vid) for vid in (None, 5, 6, 4095)]
    assert [skb.data for skb in nic.receive(frames)] == [frames[0], frames[1], frames[3]]
    nic.control.remove_vlan(5)
    nic.control.add_vlan(6)
    assert [skb.data for skb in nic.receive(frames)] == [frames[0], frames[2], frames[3]]
    assert nic.dropped == {"filtered": 2}


def test_a_filtered_frame_is_noted_before_the_next_one_that_arrives() -> None:
    nic = Nic(settings=Settings(promisc=False))
    skbs = nic.receive([frame(OTHER), frame(OTHER), frame(STATION)])
    assert [(skb.skb.frame_id, skb.skb.drops) for skb in skbs] == [(3, 2)]


# Queues.


def test_mq_b_02_the_number_of_queues_changes_while_frames_come() -> None:
    """MQ-B-02: No frame is lost, and no queue beyond the pairs is used (MQ-D-03, MQ-V-05)."""
    nic = Nic(queues=4)
    frames = [udp(port) for port in range(1024, 1224)]
    used = []
    for pairs in (4, 1, 3, 2):
        nic.control.set_queues(pairs)
        skbs = nic.receive(frames)
        assert sorted(skb.data for skb in skbs) == sorted(frames)
        used.append({skb.skb.queue for skb in skbs})
    assert used == [{0, 1, 2, 3}, {0}, {0, 1, 2}, {0, 1}]
    with pytest.raises(NetemuError, match="set_queues"):
        nic.control.set_queues(5)


@pytest.mark.parametrize("features", ["", "+RSS", "+RSS,-MQ"])
def test_mq_v_01_steering_is_automatic_or_by_rss_or_the_device_offers_both(features: str) -> None:
    """MQ-D-01, MQ-V-01: every combination is negotiated and brings all frames."""
    nic = Nic(queues=2, features=features)
    frames = [udp(port) for port in range(1024, 1064)]
    skbs = nic.receive(frames)
    assert sorted(skb.data for skb in skbs) == sorted(frames)
    assert nic.driver.vi.curr_queue_pairs == 2


# Offloads.


def test_offloads_that_are_switched_off_are_not_left_to_the_guest() -> None:
    """OFFL-D-01: all on at first; the device's answer is what decides."""
    nic = Nic(features="+CTRL_VQ,+CTRL_GUEST_OFFLOADS")
    before = nic.accepts
    nic.control.set_guest_offloads(FeatureSet.parse(["GUEST_CSUM"]))
    assert nic.accepts != before
    assert str(nic.device.guest_offloads) == "GUEST_CSUM"
    with pytest.raises(NetemuError, match="set_guest_offloads"):
        nic.control.set_guest_offloads(FeatureSet.parse(["GUEST_USO4"]))
    with pytest.raises(ConfigError, match="no guest offloads: MRG_RXBUF"):
        nic.control.set_guest_offloads(FeatureSet.parse(["MRG_RXBUF"]))


# Coalescing.


def played(nic: Nic, times: list[int]) -> tuple[int, int]:
    """Frames at these times (us), played as one batch: how many interrupts there were, and skbs."""
    before = nic.queue_counters()[0]["interrupts"], nic.engine.frames_out
    batch = Batch(times)
    nic.arrive(batch.address, len(times))
    assert nic.run()
    assert nic.let_guest_run()
    return nic.queue_counters()[0]["interrupts"] - before[0], nic.engine.frames_out - before[1]


class Batch:
    """Frames in host memory with times of their own."""

    def __init__(self, times: list[int], size: int = 100) -> None:
        self._data = allocate(size)
        self._data.array[:] = bytearray(frame(STATION, size=size))
        self._frames = array_of(Frame, len(times))
        for each, usecs in zip(self._frames, times, strict=True):
            each.address, each.len, each.wire_len, each.tstamp = self._data.address, size, size, usecs * 1000
        self.address = self._frames.address


def coalescing(frames: int, usecs: int, **options: Any) -> Nic:
    return Nic(burst=1, settings=Settings(coalesce={"rx-frames": frames, "rx-usecs": usecs}), **options)


@pytest.mark.parametrize("mode", ["mergeable", "small", "big"])
def test_coal_d_10_interrupts_come_after_so_many_frames(mode: Any) -> None:
    """COAL-D-10: 64 frames within a microsecond each, 8 to an interrupt; without coalescing each has its own."""
    assert played(Nic(mode, burst=1), list(range(64))) == (64, 64)
    assert played(coalescing(8, 1000, mode=mode), list(range(64))) == (8, 64)


def test_coal_d_10_or_after_so_many_microseconds() -> None:
    """COAL-D-10: a frame every 30 us: the call for the first is due at 50, and comes before the frame at 60."""
    assert played(coalescing(100, 50), [30 * n for n in range(10)]) == (5, 10)


def test_a_call_that_is_held_back_when_all_frames_are_there_comes_in_the_end() -> None:
    """Nobody waits for ever for a frame that does not come."""
    assert played(coalescing(100, 1_000_000), [0, 1, 2]) == (1, 3)


def test_a_frame_that_waits_for_a_buffer_does_not_wait_for_a_call_held_back() -> None:
    """The ring of 16 is full before 100 frames are there, and the driver has to hear of it to refill."""
    nic = coalescing(100, 1_000_000, queue_size=16)
    assert played(nic, list(range(64)))[1] == 64
    assert nic.dropped == {}


def test_coal_d_13_a_change_that_makes_a_call_due_is_heard_by_the_driver() -> None:
    """COAL-D-13."""
    nic = coalescing(100, 1_000_000)
    batch = Batch([0, 1, 2])
    nic.arrive(batch.address, 3)
    assert nic.run()
    assert nic.engine.frames_out == 0
    nic.control.set_coalesce(rx_frames=2)
    nic.arrive(0, 0)
    nic.engine.softirq = 1
    assert nic.run()
    assert nic.engine.frames_out == 3


def test_one_queue_can_have_parameters_of_its_own() -> None:
    nic = Nic(queues=2, features="+VQ_NOTF_COAL", settings=Settings(coalesce={"rx-usecs": 5, "rx-frames": 6}))
    nic.control.set_coalesce(rx_usecs=50, queue=1)
    assert nic.control.coalescing() == [{"rx_frames": 6, "rx_usecs": 5}, {"rx_frames": 6, "rx_usecs": 50}]
    held = [nic.device.coalescing.get_queue(index) for index in (0, 2)]
    assert [(queue.max_packets, queue.max_usecs) for queue in held] == [(6, 5), (6, 50)]


def test_the_driver_s_own_moderation_changes_the_device_s_parameters() -> None:
    """A frame every 2 us: it starts at 1 us and walks until it no longer gets better (sheet 3.7)."""
    nic = Nic(burst=1, settings=Settings(adaptive_rx=True))
    seen = set()
    now = 0
    for _ in range(60):
        times = [now + 2 * n for n in range(64)]
        now += 128
        played(nic, times)
        queue = nic.device.coalescing.get_queue(0)
        seen.add((queue.max_packets, queue.max_usecs))
    assert (256, 8) in seen
    assert seen <= {(0, 0), *((each.max_packets, each.max_usecs) for each in driver_dim.PROFILES)}
    nic.control.set_adaptive_rx(on=False)
    held = nic.device.coalescing.get_queue(0)
    played(nic, [now + 2 * n for n in range(2000)])
    assert nic.device.coalescing.get_queue(0) == held


def sending(frames: int, usecs: int, **options: Any) -> Nic:
    return Nic(burst=1, settings=Settings(coalesce={"tx-frames": frames, "tx-usecs": usecs}), **options)


def test_calls_for_frames_that_were_sent_are_held_back_too() -> None:
    """COAL-D-10, COAL-D-11: eight frames to a call; each is freed in the end, and none waits for ever."""
    frames = [frame(OTHER, size=60 + n) for n in range(64)]
    for nic, calls in ((sending(0, 0, features="-EVENT_IDX"), 64), (sending(8, 1000, features="-EVENT_IDX"), 8)):
        assert [each.data for each in nic.send(frames)] == frames
        assert nic.device.queues[1].notifications == calls
        assert nic.driver.rings[1].num_free == nic.driver.rings[1].num


def test_a_sender_that_waits_for_room_does_not_wait_for_a_call_held_back() -> None:
    """A ring of 32, and calls after 1000 frames or a second."""
    frames = [frame(OTHER, size=60 + n) for n in range(100)]
    nic = sending(1000, 1_000_000, queue_size=32)
    assert [each.data for each in nic.send(frames)] == frames
    assert nic.dropped == {}


# Statistics.


def test_the_device_s_statistics_agree_with_what_happened() -> None:
    nic = Nic(features="+DEVICE_STATS", settings=Settings(promisc=False), burst=1)
    nic.receive([frame(STATION), frame(STATION, size=200), frame(OTHER)])
    stats = nic.control.device_stats()
    assert stats["rx0"]["rx_packets"] == 2
    assert stats["rx0"]["rx_bytes"] == 300
    assert stats["rx0"]["rx_drops"] == 0
    assert stats["rx0"]["rx_csum_none"] == 2
    assert stats["rx0"]["rx_interrupts"] == nic.device.queues[0].notifications == 2
    assert stats["rx0"]["rx_notifications"] == nic.driver.receive_queues[0].kicks
    # Receive mode (three commands), the query in probe, and this one.
    assert stats["cq"] == {"command_num": 5, "ok_num": 5}
    assert Nic().control.device_stats() == {}


def test_frames_that_were_sent_are_in_the_device_s_statistics() -> None:
    """A card that only receives has no send side to count."""
    nic = Nic(features="+CTRL_VQ,+DEVICE_STATS,+CSUM")
    nic.send([udp(port) for port in range(1024, 1034)])
    stats = nic.control.device_stats()["tx0"]
    assert (stats["tx_packets"], stats["tx_bytes"], stats["tx_drops"]) == (10, 600, 0)
    assert (stats["tx_csum_none"], stats["tx_needs_csum"]) == (10, 0)
    assert stats["tx_notifications"] == nic.driver.send_queues[0].kicks > 0


def test_frames_for_which_there_is_no_buffer_are_overruns() -> None:
    nic = Nic(queue_size=16, burst=1000, wait=False, features="+CTRL_VQ,+DEVICE_STATS")
    nic.receive(frame(STATION) for _ in range(50))
    stats = nic.control.device_stats()["rx0"]
    assert (stats["rx_packets"], stats["rx_drops"], stats["rx_drop_overruns"]) == (16, 34, 34)


def test_ethtool_shows_them_between_the_driver_s_own_since_6_10() -> None:
    """Sheet 7.2: totals with rx_hw_*, then tx_hw_*, cq_hw_*, then queue by queue."""
    nic = Nic(queues=2, features="+DEVICE_STATS")
    nic.receive([udp(port) for port in range(1024, 1064)])
    shown = nic.ethtool
    names = list(shown)
    assert names[6:12] == [
        "rx_hw_packets", "rx_hw_bytes", "rx_hw_notifications", "rx_hw_interrupts", "rx_hw_needs_csum",
        "rx_hw_ratelimit_bytes",
    ]  # fmt: skip
    assert names.index("cq_hw_command_num") == names.index("rx0_drops") - 2
    assert names.index("rx0_hw_packets") < names.index("rx1_drops") < names.index("tx0_xdp_tx")
    assert shown["rx_hw_packets"] == shown["rx0_hw_packets"] + shown["rx1_hw_packets"] == 40
    assert not [name for name in Nic(driver="linux-6.1", features="+DEVICE_STATS").ethtool if "hw" in name]


# What cannot be.


@pytest.mark.parametrize(
    ("kernel", "settings", "words"),
    [
        ("linux-4.19", Settings(coalesce={"rx-usecs": 5}), "NOTF_COAL"),
        ("linux-6.1", Settings(adaptive_rx=True), "VQ_NOTF_COAL"),
        ("linux-7.0", Settings(vlans=[4096]), "VLAN id is from 0 to 4095"),
        ("linux-7.0", Settings(coalesce={"rx-usecs": 1 << 32}), "from 0 to 4294967295"),
    ],
)
def test_settings_that_a_driver_or_device_cannot_have_say_so(kernel: str, settings: Settings, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Nic(driver=kernel, settings=settings)


@pytest.mark.parametrize("text", ["rx-usecs", "rx-usecs=", "rx-usecs=-1", "usecs=5", "rx-usecs=5;rx-frames=2"])
def test_a_coalescing_rule_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="rx-usecs, rx-frames, tx-usecs, tx-frames"):
        parse_coalesce(text)


def test_a_coalescing_rule_in_words() -> None:
    assert parse_coalesce("rx-usecs=8, tx-frames=0") == {"rx-usecs": 8, "tx-frames": 0}
    assert parse_coalesce("") == {}
