"""What comes out of a replay is what went in, byte for byte, but for frames dropped by a rule that is worked out here.

The input is read by `replay_kit.read_capture_by_hand`, the output too: neither side of the comparison is netemu's.

The rules, for the features that `netemu.offer.offered_features` offers (VERSION_1, so a header of 12 bytes):

* A frame under 14 bytes reaches the driver and is dropped there (``short_frame``).
* small: a buffer is a header and 1518 bytes (14 + 4 + 1500); a longer frame finds no room (``too_long``).
* big: a buffer is the header, the rest of a first page behind a pad of 16 bytes (4.19) or 32 (later), and 17 pages. A
  frame beyond that is ``too_long``. An skb holds 17 pages at most, though, so that what needs the 18th is refused by
  the driver (``length_error``).
* mergeable: a frame may use all buffers of the ring, and their size depends on what came before. On rings of 64 and
  more that is always enough for these captures. On a ring of 16 the buffers have a page each (Linux makes 16 of them
  hold an IPv4 packet of 65535 bytes), up to two at the end of a block; so 65,536 bytes with the header always fit a
  full ring, and 131,072 never do. The driver refills when more than half of such a ring is free: between half a ring
  and a whole one a frame may come too early for the buffers it needs (``no_buffer``).
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import nullcontext
from itertools import product, takewhile
from pathlib import Path
from typing import Any

import pytest

from netemu.errors import CaptureError
from netemu.offer import Mode
from netemu.replay import Replay, ReplayOptions
from tests.replay_kit import (
    DROPS,
    ETHERNET,
    FLAGS,
    PACKET_ID,
    QUEUE,
    Seen,
    assert_consistent,
    numbered,
    seen_in,
    write_pcap,
)
from tests.support import own_captures, shared_captures

CAPTURES = own_captures() + shared_captures()
ERAS = ("linux-4.19", "linux-6.1", "linux-7.0")
HEADER = 12
PAGE = 4096
BIG_PAD = {"linux-4.19": 16, "linux-6.1": 32, "linux-7.0": 32}


def name(path: Path) -> str:
    return "/".join(path.parts[-2:])


def allowed_fates(size: int, options: ReplayOptions) -> set[str]:
    """What may become of a frame of ``size`` bytes: "" for delivered, else the reason."""
    if size < 14:
        return {"short_frame"}
    if options.mode == "small":
        return {"too_long"} if size > 1518 else {""}
    if options.mode == "big":
        first = PAGE - BIG_PAD[options.driver]
        if size > first + 17 * PAGE:
            return {"too_long"}
        return {"length_error"} if size > first + 16 * PAGE else {""}
    if options.queue_size >= 64 or HEADER + size <= 8 * PAGE:
        return {""}
    if HEADER + size <= 16 * PAGE:
        return {"", "no_buffer"}
    # Blocks of 32 KiB begin with a record of 16 bytes in 7.0, so that a buffer at the end of one is longer.
    if options.driver == "linux-7.0" and HEADER + size <= 32 * PAGE:
        return {"", "no_buffer", "too_long"}
    return {"no_buffer", "too_long"}


def check(sent: list[Seen], options: ReplayOptions, figures: dict[str, Any], output: Path) -> None:
    """Compare a capture that was written with what went in; it is pcapng, so that a frame's number is in it."""
    assert figures["frames_in"] == len(sent)
    assert figures["bytes_in"] == sum(len(frame.data) for frame in sent)
    assert_consistent(figures)
    received = seen_in(output)
    numbers = [frame.number(PACKET_ID) or 0 for frame in received]
    # in order of arrival over all queues: every burst is within a poll's budget
    assert numbers == sorted(set(numbers))
    last = 0
    for number, frame in zip(numbers, received, strict=True):
        original = sent[number - 1]
        assert frame.data == original.data
        assert (frame.tstamp, frame.wire_len) == (original.tstamp, original.wire_len)
        assert frame.number(FLAGS) == 1
        assert 0 <= (frame.number(QUEUE) or 0) < options.queues
        assert frame.number(DROPS) == (number - last - 1 or None)
        last = number
    assert figures["frames_out"] == len(received)
    assert figures["bytes_out"] == sum(len(frame.data) for frame in received)
    counted: dict[str, int] = defaultdict(int, figures["dropped"])
    arrived = set(numbers)
    open_fates = 0
    for number, frame in enumerate(sent, 1):
        fates = allowed_fates(len(frame.data), options)
        if number in arrived:
            assert "" in fates, (number, len(frame.data))
        elif len(fates - {""}) == 1:
            counted[(fates - {""}).pop()] -= 1
        else:
            assert fates != {""}, (number, len(frame.data))
            open_fates += 1
    # every drop is accounted for; where a rule leaves two reasons open, their sum is right
    assert all(count >= 0 for count in counted.values())
    assert sum(counted.values()) == open_fates
    assert {key for key, count in counted.items() if count} <= {"no_buffer", "too_long"}


MODES: tuple[Mode, ...] = ("mergeable", "small", "big")
SETTINGS = list(product(MODES, (16, 64, 256, 1024), (1, 4)))


def settings(path: Path) -> list[ReplayOptions]:
    """Every mode, ring and number of queues for the project's own captures, a quarter for others; kernels by turns."""
    at = CAPTURES.index(path)
    chosen = list(enumerate(SETTINGS)) if path in own_captures() else list(enumerate(SETTINGS))[at % 4 :: 4]
    return [
        ReplayOptions(mode=mode, queue_size=size, queues=queues, driver=ERAS[(at + number) % 3])
        for number, (mode, size, queues) in chosen
    ]


@pytest.mark.parametrize("path", CAPTURES, ids=name)
def test_out_comes_what_went_in(path: Path, tmp_path: Path) -> None:
    sent = list(takewhile(lambda packet: packet.link_type == ETHERNET, seen_in(path)))
    foreign = len(sent) < len(seen_in(path))  # a packet of another link type is refused, and those behind it not played
    for options in settings(path):
        output = tmp_path / "out.pcapng"
        job = Replay(options, str(output))
        with pytest.raises(CaptureError, match="link type") if foreign else nullcontext():
            job.play([str(path)])
        check(sent, options, job.summary(), output)


@pytest.mark.parametrize("burst", [1, 7, 64])
@pytest.mark.parametrize("queues", [1, 3, 4, 64])
def test_order_within_each_queue_and_over_all(burst: int, queues: int, tmp_path: Path) -> None:
    sent = seen_in(own("flows.pcapng"))
    options = ReplayOptions(queues=queues, burst=burst, queue_size=64)
    job = Replay(options, str(tmp_path / "out.pcapng"))
    job.play([str(own("flows.pcapng"))])
    check(sent, options, job.summary(), tmp_path / "out.pcapng")
    per_queue: dict[int, int] = defaultdict(int)
    flows: dict[bytes, set[int]] = defaultdict(set)
    for frame in seen_in(tmp_path / "out.pcapng"):
        queue = frame.number(QUEUE) or 0
        per_queue[queue] += 1
        flows[flow_of(frame.data)].add(queue)
    assert len(flows) == 64
    assert all(len(queues_of_flow) == 1 for queues_of_flow in flows.values())
    assert [queue["packets"] for queue in job.nic.queue_counters()] == [per_queue[n] for n in range(queues)]
    if queues > 1:
        assert len(per_queue) > 1


def own(file_name: str) -> Path:
    (path,) = [path for path in own_captures() if path.name == file_name]
    return path


def flow_of(data: bytes) -> bytes:
    """Addresses, protocol and ports of a TCP or UDP frame of flows.pcapng, which has neither tags nor options."""
    if data[12:14] == b"\x08\x00":
        return data[23:24] + data[26:38]
    return data[20:21] + data[22:58]


EDGES = [13, 14, 60, 1204, 1205, 1518, 1519, 4064, 4065, 65523, 65524, 65525, 69600, 69601, 69616, 69617]
EDGES += [73696, 73697, 73712, 73713, 98304, 131060, 131061, 262144]


@pytest.mark.parametrize("driver", ERAS)
@pytest.mark.parametrize("mode", ["small", "big", "mergeable"])
@pytest.mark.parametrize("size", [16, 256])
def test_frames_at_the_edges_of_each_mode(mode: Mode, driver: str, size: int, tmp_path: Path) -> None:
    source = write_pcap(tmp_path / "edges.pcap", [numbered(length, at) for at, length in enumerate(EDGES)])
    options = ReplayOptions(mode=mode, driver=driver, queue_size=size, burst=1)
    job = Replay(options, str(tmp_path / "out.pcapng"))
    job.play([str(source)])
    check(seen_in(source), options, job.summary(), tmp_path / "out.pcapng")


@pytest.mark.parametrize("driver", ERAS)
def test_what_each_mode_drops_is_counted_by_reason(driver: str, tmp_path: Path) -> None:
    source = write_pcap(tmp_path / "in.pcap", [numbered(size, size) for size in (10, 13, 1518, 1519, 70000, 80000)])

    def dropped(mode: Mode) -> dict[str, int]:
        job = Replay(ReplayOptions(mode=mode, driver=driver))
        job.play([str(source)])
        return job.nic.dropped

    assert dropped("mergeable") == {"short_frame": 2}
    assert dropped("small") == {"short_frame": 2, "too_long": 3}
    assert dropped("big") == {"short_frame": 2, "length_error": 1, "too_long": 1}


def test_a_queue_of_few_buffers_and_no_waiting_drops_the_rest_of_a_burst(tmp_path: Path) -> None:
    """16 buffers, a burst of 64 and nobody to refill meanwhile: of each 64 frames the first 16 arrive."""
    source = write_pcap(tmp_path / "in.pcap", [numbered(60, number) for number in range(160)])
    job = Replay(ReplayOptions(queue_size=16, wait=False, mode="small"), str(tmp_path / "out.pcapng"))
    job.play([str(source)])
    figures = job.summary()
    assert_consistent(figures)
    numbers = [frame.number(PACKET_ID) or 0 for frame in seen_in(tmp_path / "out.pcapng")]
    assert numbers[:16] == list(range(1, 17))
    assert figures["dropped"] == {"no_buffer": 160 - len(numbers)}
    assert [frame.data for frame in seen_in(tmp_path / "out.pcapng")] == [
        numbered(60, number - 1) for number in numbers
    ]
    patient = Replay(ReplayOptions(queue_size=16, wait=True, mode="small"))
    patient.play([str(source)])
    assert patient.nic.dropped == {}


def test_ten_thousand_runts_are_all_counted(tmp_path: Path) -> None:
    source = write_pcap(tmp_path / "in.pcap", [numbered(13, number) for number in range(10_000)])
    for burst in (1, 64, 100_000):
        job = Replay(ReplayOptions(burst=burst))
        job.play([str(source)])
        assert job.nic.dropped == {"short_frame": 10_000}
        assert_consistent(job.summary())
