"""The loop in which device and driver meet: order, interrupts, waiting, dropping, full taps; compiled or not."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from functools import cache
from typing import Any

import pytest

from netemu.capture.sink import SINK_NONE, SINK_PCAP, SINK_PCAPNG, Sink
from netemu.driver.eras import ERAS
from netemu.driver.features import SUPPORTED
from netemu.errors import ConfigError
from netemu.frame import Frame
from netemu.jit import allocate, array_of
from netemu.nic import Nic
from netemu.offer import MODES, Mode
from netemu.pages import page_pool_at
from netemu.skb import skb_pool_at
from netemu.trace import TraceBuffers
from netemu.virtio import features as f
from netemu.virtio.features import FeatureSet
from tests.engine_traffic import RING_SIZES, traffic
from tests.support import REPO

MACS = bytes.fromhex("020000000001 02000000000a")


def udp(size: int, *, port: int = 5000, number: int = 0) -> bytes:
    """A frame of ``size`` bytes, at least 46: Ethernet, IPv4 and UDP, and a number that says which one it is."""
    head = struct.pack(">BBHHHBBHII", 0x45, 0, size - 14, 0, 0, 64, 17, 0, 0xC0000201, 0xC0000202)
    data = struct.pack(">HHHHI", port, 53, size - 34, 0, number)
    return (MACS + b"\x08\0" + head + data).ljust(size, b"\xa5")


def number_of(frame: bytes) -> int:
    return int.from_bytes(frame[42:46], "big")


class Wire:
    """Frames in host memory, as a capture's reader lays them out."""

    def __init__(self, frames: list[bytes]) -> None:
        self._blocks = [allocate(max(1, len(frame))) for frame in frames]
        self._structs = array_of(Frame, len(frames))
        for n, (frame, block) in enumerate(zip(frames, self._blocks, strict=True)):
            block.array[: len(frame)] = bytearray(frame)
            row = self._structs[n]
            row.address, row.len, row.wire_len = block.address, len(frame), len(frame)
            row.tstamp, row.id = 1000 * n, n + 1
        self.address = self._structs.address
        self.count = len(frames)

    def frame(self, n: int) -> Frame:
        """The nth frame's numbers, which may be changed."""
        return self._structs[n]


# Compiled or not.


@cache
def program(jit: str) -> subprocess.CompletedProcess[str]:
    """A run of tests/engine_traffic.py with NETEMU_JIT set so."""
    command = [sys.executable, "-m", "tests.engine_traffic"]
    environment = {**os.environ, "NETEMU_JIT": jit}
    return subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True, check=False)


def left_behind(jit: str) -> dict[str, dict[str, Any]]:
    """What that run printed."""
    done = program(jit)
    assert done.returncode == 0, done.stderr
    result: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return result


CASES = [f"{mode} {kernel} {size}" for mode in MODES for kernel in ERAS for size in RING_SIZES]
CASES += [f"{mode} three queues, impatient" for mode in MODES]
CASES += [f"{kernel} sends" for kernel in ERAS]


@pytest.mark.parametrize("case", CASES)
def test_compiled_and_interpreted_leave_the_same_memory_counters_and_skbs(case: str) -> None:
    compiled, interpreted = left_behind("1")[case], left_behind("0")[case]
    assert compiled == interpreted


def test_that_comparison_compares_something() -> None:
    """Every case has traffic of its own, most frames arrive, and no ring is broken."""
    results = left_behind("0")
    assert set(results) == set(CASES)
    assert len({result["memory"] for result in results.values()}) == len(CASES)
    for case, result in results.items():
        frames_in, frames_out, bytes_in, bytes_out = result["frames"]
        if case.endswith("sends"):
            # Those that came and went back, and as many again of the guest's own, some of them cut in its stack.
            assert frames_in >= 140
            assert sum(queue["packets"] for queue in result["send queues"]) >= 90
        else:
            assert frames_in == 70
            assert frames_out + sum(result["dropped"].values()) == 70, case
        assert frames_out >= 30
        assert 0 < bytes_out <= bytes_in
        assert result["broken"] == []


# What comes out.


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("burst", [1, 7, 64])
@pytest.mark.parametrize("queue_size", [16, 256])
def test_frames_arrive_whole_and_in_order(mode: Mode, burst: int, queue_size: int) -> None:
    frames = [udp(46 + (n * 37) % 1469, number=n) for n in range(300)]
    nic = Nic(mode, queue_size, burst=burst)
    assert [skb.data for skb in nic.receive(frames)] == frames
    assert nic.dropped == {}


@pytest.mark.parametrize("mode", ["mergeable", "big"])
def test_frames_of_64_kib_arrive_whole(mode: Mode) -> None:
    frames = [udp(size, number=n) for n, size in enumerate([65535, 46, 65535, 40000, 65535])]
    assert [skb.data for skb in Nic(mode, 256).receive(frames)] == frames


def test_order_is_kept_within_a_queue_and_flows_stay_on_theirs() -> None:
    """RSS or not: a flow that changed queues would lose its order."""
    frames = [udp(100, port=1024 + n % 40, number=n) for n in range(800)]
    nic = Nic(queues=4, burst=13)
    skbs = nic.receive(frames)
    assert sorted(number_of(skb.data) for skb in skbs) == list(range(800))
    queue_of: dict[int, set[int]] = {}
    last: dict[int, int] = {}
    for skb in skbs:
        number, queue = number_of(skb.data), skb.skb.queue
        queue_of.setdefault(number % 40, set()).add(queue)
        assert last.get(queue, -1) < number
        last[queue] = number
    assert all(len(queues) == 1 for queues in queue_of.values())
    assert set(last) == {0, 1, 2, 3}


def test_every_frame_comes_with_the_number_and_time_it_arrived_with() -> None:
    nic = Nic()
    skbs = nic.receive([udp(60 + n, number=n) for n in range(5)], tstamp=123)
    seen = [(skb.skb.frame_id, skb.skb.tstamp, skb.skb.wire_len) for skb in skbs]
    assert seen == [(n + 1, 123, 60 + n) for n in range(5)]
    assert [skb.skb.frame_id for skb in nic.receive([udp(60)])] == [6]


# Interrupts.


@pytest.mark.parametrize(("burst", "interrupts"), [(1, 128), (2, 64), (64, 2)])
def test_burst_frames_arrive_between_an_interrupt_and_its_poll(burst: int, interrupts: int) -> None:
    """With a burst of 1 each frame has its own interrupt; else the first of a burst calls, then the driver polls."""
    nic = Nic(burst=burst)
    nic.receive([udp(60) for _ in range(128)])
    (queue,) = nic.queue_counters()
    assert queue["interrupts"] == interrupts
    assert queue["packets"] == queue["buffers"] == 128


def test_with_a_burst_of_1_each_frame_has_its_own_poll() -> None:
    nic = Nic(burst=1)
    before = nic.queue_counters()[0]["completions"]
    nic.receive([udp(60) for _ in range(100)])
    assert nic.queue_counters()[0]["completions"] == before + 100


# When the device is short of buffers.


@pytest.mark.parametrize("mode", MODES)
def test_a_frame_waits_for_the_guest_s_turn(mode: Mode) -> None:
    """16 buffers, 100 frames before the guest would run by itself: none is lost."""
    nic = Nic(mode, 16, burst=1000)
    frames = [udp(100, number=n) for n in range(100)]
    assert [skb.data for skb in nic.receive(frames)] == frames
    assert nic.dropped == {}


@pytest.mark.parametrize("mode", ["mergeable", "small"])
def test_without_waiting_a_frame_that_finds_no_buffer_is_dropped(mode: Mode) -> None:
    nic = Nic(mode, 16, burst=1000, wait=False)
    skbs = nic.receive([udp(100, number=n) for n in range(100)])
    assert [number_of(skb.data) for skb in skbs] == list(range(16))
    assert nic.dropped == {"no_buffer": 84}
    # After its turn the guest has buffers again.
    assert len(nic.receive([udp(100) for _ in range(10)])) == 10


@pytest.mark.parametrize(
    ("mode", "fits", "too_long"), [("mergeable", 65_524, 65_525), ("small", 1518, 1519), ("big", 65_535, 73_713)]
)
@pytest.mark.parametrize("wait", [True, False])
def test_a_frame_longer_than_all_buffers_is_dropped_and_holds_up_nobody(
    mode: Mode, fits: int, too_long: int, *, wait: bool
) -> None:
    """What a ring of 16 holds at most behind a header of 12 bytes.

    That is 16 mergeable buffers of a page, a small buffer of GOOD_PACKET_LEN, or a big one: 18 pages without the padded
    header of 16 bytes at the start of the first (of which the driver takes less).
    """
    nic = Nic(mode, 16, driver="linux-4.19", wait=wait)
    largest, larger = udp(46, number=1).ljust(fits, b"x"), udp(46, number=2).ljust(too_long, b"x")
    skbs = []
    for frame in (largest, larger, larger, udp(100, number=3), udp(100, number=4)):
        skbs += nic.receive([frame])
    assert [number_of(skb.data) for skb in skbs] == [1, 3, 4]
    assert skbs[0].data == largest
    assert nic.dropped == {"too_long": 2}


def test_a_frame_that_only_a_full_ring_would_hold_is_dropped_for_want_of_buffers() -> None:
    """v4.19 refills when half the ring is free: until then 15 of 16 buffers are all that there will be."""
    nic = Nic("mergeable", 16, driver="linux-4.19")
    nic.receive([udp(100)])
    assert nic.receive([udp(46).ljust(65_524, b"x")]) == []
    assert nic.dropped == {"no_buffer": 1}


@pytest.mark.parametrize("kernel", ERAS)
@pytest.mark.parametrize("wait", [True, False])
def test_a_guest_out_of_memory_starves_its_queue_and_recovers(kernel: str, *, wait: bool) -> None:
    """Every frame is either delivered or dropped for want of a buffer, the loop comes to an end, and life goes on."""
    nic = Nic("big", 16, driver=kernel, wait=wait, burst=1)
    rq = nic.driver.receive_queues[0]
    frames = [udp(60_000, number=n) for n in range(100)]
    page_pool_at(rq.page_pool).refuse = 1 << 40
    arrived = [number_of(skb.data) for skb in nic.receive(frames)]
    assert arrived == sorted(arrived)
    # The ring's 16 buffers of 18 pages: 15 pages of each frame are gone for good, the rest serve again.
    assert 16 <= len(arrived) <= 16 * 18 // 15
    assert nic.dropped == {"no_buffer": 100 - len(arrived)}
    assert rq.oom > 0
    page_pool_at(rq.page_pool).refuse = 0
    # Seconds later delayed refill work has run, where a kernel has it.
    for second in (1, 2, 3):
        nic.receive([udp(400)], tstamp=second * 10**9)
    assert [skb.data for skb in nic.receive(frames, tstamp=4 * 10**9)] == frames


def test_the_guest_gets_its_turn_after_a_burst_whether_or_not_its_frames_found_buffers() -> None:
    """Frames that are dropped take their time on the wire like any other: of each 64 the 16 that fit arrive."""
    nic = Nic("mergeable", 16, burst=64, wait=False)
    skbs = nic.receive([udp(100, number=n) for n in range(256)])
    assert [number_of(skb.data) for skb in skbs] == [64 * round_ + n for round_ in range(4) for n in range(16)]


def test_without_mq_a_device_of_two_pairs_is_used_with_one() -> None:
    """NETQ-B-02: the driver did not take MQ, so there is one receive queue, and nothing walks a second."""
    nic = Nic(queues=2, accept=SUPPORTED - FeatureSet.of(f.MQ))
    assert nic.queues == 1
    frames = [udp(100, port=port) for port in range(1024, 1064)]
    assert [skb.data for skb in nic.receive(frames)] == frames


def test_a_broken_queue_drops_its_frames_and_the_others_live() -> None:
    nic = Nic(queues=2)
    dq = nic.device.queues[0]
    guest = nic.memory
    avail = dq.avail - guest.host_address(guest.regions[0][0], 1) + guest.regions[0][0]
    guest.write(avail + 2, (0x4000).to_bytes(2, "little"))  # idx, far ahead of its ring
    frames = [udp(100, port=port) for port in range(1024, 1124)]
    skbs = nic.receive(frames)
    assert {skb.skb.queue for skb in skbs} == {1}
    assert nic.dropped == {"queue_broken": 100 - len(skbs)}
    assert 0 < len(skbs) < 100
    assert len(nic.device.broken) == 1


# Full taps.


def recorded(kind: int, room: int, *, at_ring: bool) -> tuple[bytes, int]:
    """What a sink of ``room`` bytes receives of some traffic, and how often the loop stopped for it to be emptied."""
    nic = Nic("mergeable", 16, queues=2, burst=9)
    buffer = allocate(room)
    sink = Sink(kind=kind, buffer=buffer.address, size=room)
    nic.attach(sink, at_ring=at_ring)
    wire = Wire([udp(60 + n, port=n % 50, number=n) for n in range(200)] + [udp(9000, number=n) for n in range(3)])
    data, stops = b"", 0
    nic.arrive(wire.address, wire.count)
    for step in (nic.run, nic.let_guest_run):
        while not step():
            assert sink.used > 0, "stopped for a sink that was empty"
            data += buffer.array[: sink.used].tobytes()
            sink.used = 0
            stops += 1
    data += buffer.array[: sink.used].tobytes()
    assert nic.engine.frames_out == 203
    assert nic.dropped == {}
    return data, stops


@pytest.mark.parametrize("kind", [SINK_PCAP, SINK_PCAPNG], ids=["pcap", "pcapng"])
@pytest.mark.parametrize("at_ring", [False, True], ids=["skbs", "at-ring"])
@pytest.mark.parametrize("room", [9216, 20_000])
def test_a_full_tap_stops_the_loop_and_not_a_byte_is_lost_or_doubled(kind: int, room: int, *, at_ring: bool) -> None:
    whole, stops = recorded(kind, 1 << 20, at_ring=at_ring)
    assert stops == 0
    piecemeal, stops = recorded(kind, room, at_ring=at_ring)
    assert stops > 1
    assert piecemeal == whole


def test_a_full_trace_stops_the_loop_and_not_an_event_is_lost() -> None:
    frames = traffic(5, 60)

    def events(capacity: int) -> tuple[list[dict[str, int]], int]:
        nic = Nic("mergeable", 256)
        trace = TraceBuffers(capacity, 1 << 18)
        nic.attach(Sink(), trace)
        wire = Wire(frames)
        nic.arrive(wire.address, wire.count)
        seen, stops = [], 0
        for step in (nic.run, nic.let_guest_run):
            done = False
            while not done:
                done = step()
                stops += not done
                for event in trace.skbs[: trace.struct.skb_count]:
                    fields = event.to_dict()
                    del fields["offset"]  # the place in a list that was emptied at another time
                    seen.append(fields)
                trace.clear()
        return seen, stops

    large, _ = events(1000)
    small, stops = events(50)
    assert stops > 1
    assert small == large
    assert len(large) > 40


# What came to light in a review.


def test_thousands_of_frames_that_the_driver_drops_do_not_fill_the_trace() -> None:
    nic = Nic()
    runts = [b"x" * 10] * 5000
    assert [skb.data for skb in nic.receive([*runts, udp(100)])] == [udp(100)]
    assert nic.dropped == {"short_frame": 5000}


def test_frames_before_an_error_are_not_left_for_the_next_call() -> None:
    nic = Nic()
    with pytest.raises(ConfigError, match="at most 262144 bytes"):
        nic.receive([udp(100, number=1), bytes(300_000)])
    received = nic.receive([udp(100, number=2)])
    assert [skb.data for skb in received] == [udp(100, number=2)]
    assert [len(skb.buffers) for skb in received] == [1]


def test_a_single_frame_in_place_of_a_list_is_refused() -> None:
    with pytest.raises(ConfigError, match="list of frames"):
        Nic().receive(udp(100))


@pytest.mark.parametrize("kernel", ERAS)
def test_a_frame_the_driver_drops_is_lost_once_whatever_counters_move(kernel: str) -> None:
    """No memory for an skb: v4.19 counts no drop in small mode, later kernels do; either way one frame is missing."""
    nic = Nic("small", driver=kernel)
    trace = TraceBuffers(64, 1 << 16)
    nic.attach(Sink(kind=SINK_NONE), trace)
    skb_pool_at(nic.driver.receive_queues[0].skb_pool).refuse = 1
    data = allocate(200)
    data.array[:100] = bytearray(udp(100, number=1))
    data.array[100:] = bytearray(udp(100, number=2))
    frames = array_of(Frame, 2)
    for n, frame in enumerate(frames[:]):
        frame.address, frame.len, frame.wire_len = data.address + 100 * n, 100, 100
    nic.arrive(frames.address, 2)
    assert nic.run()
    assert nic.let_guest_run()
    assert [(skb.frame_id, skb.drops) for skb in trace.skbs[: trace.struct.skb_count]] == [(2, 1)]
    assert nic.dropped == {"no_memory": 1}
