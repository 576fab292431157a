"""One thread per queue pair: the same frames, in the same order, with the same counters as in one loop."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from netemu import Nic
from netemu.capture import Sink
from netemu.driver.eras import ERAS
from netemu.errors import ConfigError
from netemu.nic import lanes
from netemu.replay import ReplayOptions
from tests.replay_kit import DROPS, PACKET_ID, assert_consistent, netemu, numbered, played, seen_in, write_pcap
from tests.support import PCAPS
from tests.wire import TCP, ipv4

FLOWS, WEB = PCAPS / "flows.pcapng", PCAPS / "web.pcapng"
MODES = ["mergeable", "small", "big"]
TIMES = ("seconds", "frames_per_second")


def counted(path: Path, output: Path | None = None, **options: Any) -> dict[str, Any]:
    """The figures of a replay, without those that depend on the clock."""
    figures = played(path, ReplayOptions(**options), output)
    return {key: value for key, value in figures.items() if key not in TIMES}


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty thousand frames of five hundred flows, of all sizes up to a full one: several batches."""
    draw = random.Random(7)
    frames = []
    for _ in range(20_000):
        flow = draw.randrange(500)
        ports = (1024 + flow).to_bytes(2, "big") + b"\0\x50"
        size = draw.choice((16, 60, 300, 1400))
        frames.append(ipv4(ports + bytes(size), TCP, addresses=bytes([10, 0, 0, 1, 10, 0, 1, flow & 255])))
    return write_pcap(tmp_path_factory.mktemp("lanes") / "many.pcap", frames)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("driver", ERAS)
def test_threads_change_neither_frames_nor_counters(tmp_path: Path, mode: str, driver: str) -> None:
    """The whole capture byte by byte: number, queue, time, hash and order; every figure of the summary."""
    one, four = tmp_path / "one.pcapng", tmp_path / "four.pcapng"
    options = {"queues": 4, "mode": mode, "driver": driver, "loop": 3}
    if driver != "linux-4.19":
        options |= {"rss": "on", "hash_report": True}
    alone = counted(FLOWS, one, **options)
    together = counted(FLOWS, four, threads=True, **options)
    assert together == alone
    assert alone["frames_out"] == 768
    assert len([queue for queue in alone["queues"] if queue["packets"]]) == 4
    assert four.read_bytes() == one.read_bytes()


@pytest.mark.parametrize("burst", [1, 7, 64, 100_000])
@pytest.mark.parametrize("ring", ["split", "packed"])
def test_the_guest_s_turns_come_where_they_came(many: Path, tmp_path: Path, burst: int, ring: str) -> None:
    """Polls and interrupts of each queue are those of one loop, whatever the burst; frames keep their order."""
    one, four = tmp_path / "one.pcapng", tmp_path / "four.pcapng"
    options = {"queues": 3, "burst": burst, "ring": ring, "rss": "on", "queue_size": 32768 if burst > 99 else 1024}
    assert counted(many, four, threads=True, **options) == counted(many, one, **options)
    if burst <= 64:
        assert four.read_bytes() == one.read_bytes()
    else:
        # More than a poll's budget waits: one loop takes 64 of each queue in turn. Lanes are merged by arrival.
        alone, together = ([(frame.number(PACKET_ID), frame.data) for frame in seen_in(path)] for path in (one, four))
        assert together == sorted(alone)


@pytest.mark.parametrize("driver", ERAS)
def test_frames_that_find_no_buffer_are_dropped_alike(many: Path, tmp_path: Path, driver: str) -> None:
    """Rings of 16 and bursts of 200: drops by queue and reason, and where the capture notes them."""
    one, four = tmp_path / "one.pcapng", tmp_path / "four.pcapng"
    options = {"queues": 4, "burst": 200, "queue_size": 16, "wait": False, "driver": driver}
    alone, together = counted(many, one, **options), counted(many, four, threads=True, **options)
    assert together == alone
    assert alone["dropped"]["no_buffer"] > 1000
    assert four.read_bytes() == one.read_bytes()


@pytest.mark.parametrize("driver", ERAS)
def test_frames_that_wait_for_buffers_all_arrive_in_order(many: Path, tmp_path: Path, driver: str) -> None:
    """Waiting is each lane's own affair, so polls may differ; what arrives, and its order, does not."""
    out = tmp_path / "four.pcapng"
    figures = played(many, ReplayOptions(queues=4, burst=200, queue_size=16, driver=driver, threads=True), out)
    assert_consistent(figures)
    assert figures["dropped"] == {}
    assert [frame.data for frame in seen_in(out)] == [frame.data for frame in seen_in(many)]


def test_frames_that_are_dropped_by_the_driver_are_dropped_alike(tmp_path: Path) -> None:
    source = write_pcap(tmp_path / "short.pcap", [numbered(8 if n % 5 == 0 else 60 + n % 900, n) for n in range(3000)])
    one, four = tmp_path / "one.pcapng", tmp_path / "four.pcapng"
    alone, together = counted(source, one, queues=4), counted(source, four, queues=4, threads=True)
    assert together == alone
    assert alone["dropped"]["short_frame"] == 600
    assert four.read_bytes() == one.read_bytes()


def test_each_frame_s_way_is_told_as_in_one_loop(tmp_path: Path) -> None:
    """Comments are the same but for addresses of buffers, which are each queue's own in either case."""
    one, four = tmp_path / "one.pcapng", tmp_path / "four.pcapng"
    options = {"queues": 4, "journey": True, "burst": 50, "queue_size": 8, "wait": False}
    assert counted(FLOWS, four, threads=True, **options) == counted(FLOWS, one, **options)
    assert [frame.comment for frame in seen_in(four)] == [frame.comment for frame in seen_in(one)]
    assert any(frame.number(DROPS) for frame in seen_in(four))


@pytest.mark.parametrize("journey", [False, True])
@pytest.mark.parametrize("burst", [64, 100_000])
def test_lanes_that_fill_up_go_on_where_they_stopped(
    many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, burst: int, journey: bool
) -> None:
    """Room for 40 events in each lane: they stop again and again, and wait for others to be merged."""
    monkeypatch.setattr(lanes, "_EVENTS", 40)
    monkeypatch.setattr(lanes, "_BYTES", 1 << 18)
    out = tmp_path / "out.pcapng"
    options: dict[str, Any] = {"queues": 3, "burst": burst, "queue_size": 32768, "limit": 6000, "journey": journey}
    figures = counted(many, out, threads=True, **options)
    assert figures == counted(many, tmp_path / "one.pcapng", **options)
    assert [frame.data for frame in seen_in(out)] == [frame.data for frame in seen_in(many)[:6000]]


@pytest.mark.parametrize("queue_size", [4, 16])
def test_a_lane_that_is_full_beside_lanes_that_are_done(
    many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, queue_size: int
) -> None:
    """Frames that wait are handed up before their burst is over, more of them than a lane has room for."""
    monkeypatch.setattr(lanes, "_EVENTS", 40)
    monkeypatch.setattr(lanes, "_BYTES", 1 << 18)
    out = tmp_path / "out.pcapng"
    options: dict[str, Any] = {"queues": 3, "burst": 5000, "queue_size": queue_size, "limit": 12_000}
    assert counted(many, out, threads=True, **options)["frames_out"] == 12_000
    arrived = sorted((frame.number(PACKET_ID), frame.data) for frame in seen_in(out))
    assert [data for _, data in arrived] == [frame.data for frame in seen_in(many)[:12_000]]


def test_without_a_capture_figures_are_the_same(many: Path) -> None:
    options: dict[str, Any] = {"queues": 4, "rss": "on"}
    assert counted(many, threads=True, **options) == counted(many, **options)


def test_large_frames_over_many_buffers(tmp_path: Path) -> None:
    one, four = tmp_path / "one.pcapng", tmp_path / "four.pcapng"
    options: dict[str, Any] = {"queues": 2, "loop": 5, "burst": 16, "queue_size": 4096}
    assert counted(WEB, four, threads=True, **options) == counted(WEB, one, **options)
    assert four.read_bytes() == one.read_bytes()


def test_received_from_python_as_in_one_loop() -> None:
    frames = [frame.data for frame in seen_in(FLOWS)]
    alone, together = Nic(queues=4).receive(frames), Nic(queues=4, threads=True).receive(frames)
    assert [one.data for one in together] == [one.data for one in alone] == frames
    assert [one.skb.to_dict() for one in together] == [one.skb.to_dict() for one in alone]
    assert [[buffer.to_dict() for buffer in one.buffers] for one in together] == [
        [buffer.to_dict() for buffer in one.buffers] for one in alone
    ]


def test_a_card_may_be_used_on_and_on() -> None:
    nic = Nic(queues=3, threads=True, rss="on", hash_report=True)
    frames = [frame.data for frame in seen_in(FLOWS)]
    for n in range(1, 4):
        assert [one.data for one in nic.receive(frames)] == frames
        assert nic.engine.frames_in == nic.engine.frames_out == 256 * n
        assert sum(nic.stack.reasons().values()) == 256 * n


def test_one_queue_has_one_thread(tmp_path: Path) -> None:
    out = tmp_path / "out.pcapng"
    assert counted(FLOWS, out, threads=True) == counted(FLOWS)
    assert len(seen_in(out)) == 256


def test_what_threads_cannot_do_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ring"):
        played(FLOWS, ReplayOptions(threads=True, queues=2, encap="virtio"), tmp_path / "out.pcapng")
    with pytest.raises(ConfigError, match="ring"):
        Nic(queues=2, threads=True).attach(Sink(), at_ring=True)
    with pytest.raises(ConfigError, match="NOTF_COAL"):
        Nic(queues=2, threads=True, features="+NOTF_COAL")
    with pytest.raises(ConfigError, match="quirks"):
        Nic(queues=2, threads=True, pressure=["pages:p=0.5"])


@pytest.mark.parametrize("features", ["+DEVICE_STATS,+CTRL_RX,+CTRL_VLAN", "+MTU"])
def test_filters_and_statistics_are_kept_per_lane(tmp_path: Path, features: str) -> None:
    """Device statistics of each queue, and frames filtered: the same as in one loop."""
    options: dict[str, Any] = {"queues": 4, "features": features, "loop": 3}
    alone = counted(FLOWS, tmp_path / "one.pcapng", **options)
    assert counted(FLOWS, tmp_path / "four.pcapng", threads=True, **options) == alone


def test_gro_merges_in_each_lane_as_in_one_loop(tmp_path: Path) -> None:
    one, four = tmp_path / "one.pcapng", tmp_path / "four.pcapng"
    options: dict[str, Any] = {"queues": 4, "gro": True}
    assert counted(PCAPS / "web6.pcap", four, threads=True, **options) == counted(PCAPS / "web6.pcap", one, **options)
    assert four.read_bytes() == one.read_bytes()


def test_the_command_line_has_threads(tmp_path: Path) -> None:
    out = tmp_path / "out.pcapng"
    run = netemu("replay", FLOWS, "-o", out, "--queues", "4", "--threads")
    assert run.returncode == 0, run.stderr
    assert [frame.data for frame in seen_in(out)] == [frame.data for frame in seen_in(FLOWS)]
