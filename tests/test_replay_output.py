"""What replay writes: ring captures, journeys, formats, and what Wireshark's tools read in them."""

from __future__ import annotations

import gzip
import json
import re
import struct
import subprocess
from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any, get_args

import pytest

from netemu.capture.packets import read_packets
from netemu.errors import ConfigError, NetemuError
from netemu.offer import Mode
from netemu.replay import Encap, Replay, ReplayOptions
from tests.replay_kit import (
    DROPS,
    FLAGS,
    PACKET_ID,
    QUEUE,
    Seen,
    assert_consistent,
    netemu,
    numbered,
    seen_in,
    write_pcap,
)
from tests.support import PCAPS, REPO, REQUIRE_TOOLS, needs

BASICS, FLOWS, SIZES, WEB = (PCAPS / name for name in ("basics.pcap", "flows.pcapng", "sizes.pcap", "web.pcapng"))
SNAPPED, BAD = PCAPS / "snapped.pcap", PCAPS / "bad.pcap"
PREFIX = struct.Struct("<BBBBHHQQQ")
HEADER = struct.Struct("<BBHHHHH")
ERAS = ("linux-4.19", "linux-6.1", "linux-7.0")
MODES: tuple[Mode, ...] = ("mergeable", "small", "big")

# VIRTIO 1.4: MAC 5, STATUS 16, INDIRECT_DESC 28, EVENT_IDX 29, VERSION_1 32
ALWAYS = {5, 16, 28, 29, 32}
# GUEST_CSUM 1, GUEST_TSO4 7, GUEST_TSO6 8, GUEST_ECN 9, GUEST_UFO 10; MRG_RXBUF 15
FEATURES = {"small": ALWAYS, "big": ALWAYS | {1, 7, 8, 9, 10}, "mergeable": ALWAYS | {1, 7, 8, 9, 10, 15}}
MULTIQUEUE = {17, 22}
"""CTRL_VQ and MQ"""


def play(
    source: Path | list[Path], output: Path, options: ReplayOptions | None = None, kind: str | None = None
) -> dict[str, Any]:
    """Replay into ``output``; the figures, which are consistent."""
    job = Replay(options or ReplayOptions(), str(output), kind)
    job.play([str(path) for path in (source if isinstance(source, list) else [source])])
    figures = job.summary()
    assert_consistent(figures)
    return figures


def content(packets: list[Seen]) -> list[tuple[bytes, int, int]]:
    return [(packet.data, packet.tstamp, packet.wire_len) for packet in packets]


# Ring captures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("journey", [False, True])
@pytest.mark.parametrize(("mode", "queues"), list(product(MODES, (1, 4))))
def test_ring_records_hold_prefix_header_and_frame(mode: Mode, queues: int, journey: bool, tmp_path: Path) -> None:
    sent = seen_in(SIZES) + seen_in(FLOWS) + seen_in(SNAPPED)
    options = ReplayOptions(mode=mode, queues=queues, encap="virtio", journey=journey, queue_size=256)
    figures = play([SIZES, FLOWS, SNAPPED], tmp_path / "ring.pcapng", options)
    records = seen_in(tmp_path / "ring.pcapng")
    bits = FEATURES[mode] | (MULTIQUEUE if queues > 1 else set())
    lost_at_device = figures["dropped"].get("too_long", 0)
    assert len(records) == len(sent) - lost_at_device
    buffers: Counter[int] = Counter()
    last = 0
    for record in records:
        version, prefix_len, flags, hdr_len, queue, used, frame_id, low, high = PREFIX.unpack_from(record.data)
        assert (record.link_type, version, prefix_len, flags, hdr_len) == (147, 1, 32, 4, 12)
        assert (low, high) == (sum(1 << bit for bit in bits), 0)
        original = sent[frame_id - 1]
        # no offload at the device: all is zero but num_buffers, which is 1 unless frames may be merged (RX-D-01)
        assert HEADER.unpack_from(record.data, 32) == (0, 0, 0, 0, 0, 0, used)
        assert record.data[44:] == original.data
        assert (record.tstamp, record.wire_len) == (original.tstamp, 44 + original.wire_len)
        assert (record.number(PACKET_ID), record.number(QUEUE), record.number(FLAGS)) == (frame_id, queue, 1)
        assert record.number(DROPS) == (frame_id - last - 1 or None)
        last = frame_id
        if mode != "mergeable":
            assert used == 1
        buffers[queue] += used
    assert [queue["buffers"] for queue in figures["queues"]] == [buffers[n] for n in range(queues)]
    if mode == "mergeable":
        assert max(PREFIX.unpack_from(record.data)[5] for record in records) > 40  # 80,000 bytes in buffers of 1,536
    comments = [record.comment for record in records]
    assert all(comment.startswith("netemu: queue ") for comment in comments) if journey else not any(comments)


@pytest.mark.parametrize("journey", [False, True])
def test_the_longest_frames_leave_room_for_prefix_and_header(journey: bool, tmp_path: Path) -> None:
    """A capture's record ends at 262,144 bytes, so a ring capture of the longest frames loses their last 44."""
    lengths = (262_100, 262_101, 262_144)
    source = write_pcap(tmp_path / "in.pcap", [numbered(length, at) for at, length in enumerate(lengths)])
    play(source, tmp_path / "out.pcapng", ReplayOptions(encap="virtio", journey=journey))
    records = seen_in(tmp_path / "out.pcapng")
    assert [len(record.data) for record in records] == [262_144] * 3
    assert [record.wire_len for record in records] == [length + 44 for length in lengths]
    assert [record.data[44:] for record in records] == [frame.data[:262_100] for frame in seen_in(source)]
    back = netemu("show", tmp_path / "out.pcapng")
    assert (back.returncode, back.stderr) == (0, b"")


def test_a_ring_capture_as_pcap(tmp_path: Path) -> None:
    play(BASICS, tmp_path / "ring.pcap", ReplayOptions(encap="virtio"))
    records = seen_in(tmp_path / "ring.pcap")
    assert {record.link_type for record in records} == {147}
    assert [record.data[44:] for record in records] == [frame.data for frame in seen_in(BASICS)]


RING_FIELDS = [
    "frame.interface_name", "frame.interface_queue", "frame.packet_id", "frame.packet_flags", "frame.len",
    "netemu.version", "netemu.direction", "netemu.prefix_len", "netemu.hdr_len", "netemu.queue", "netemu.buffers",
    "netemu.frame_id", "netemu.frame_len", "virtio_net.flags", "virtio_net.gso_type", "virtio_net.num_buffers",
    "virtio_net.violation",
]  # fmt: skip


def tshark(file: Path, fields: list[str], *options: str) -> list[dict[str, str]]:
    """Fields of each packet; fails if tshark complains of the file."""
    arguments = [part for field in fields for part in ("-e", field)]
    command = ["tshark", "-n", *options, "-r", str(file), "-T", "fields", "-E", "occurrence=f", *arguments]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert [line for line in run.stderr.splitlines() if line and not line.startswith("Running as user")] == []
    return [dict(zip(fields, line.split("\t"), strict=True)) for line in run.stdout.splitlines()]


@needs("tshark")
@pytest.mark.parametrize(
    ("mode", "journey"), [("mergeable", True), ("mergeable", False), ("small", True), ("big", False)]
)
def test_the_plugin_finds_nothing_wrong_with_a_ring_capture(mode: Mode, journey: bool, tmp_path: Path) -> None:
    # frames without protocol faults of their own, so that no expert has anything to say of them
    sources = [SIZES, FLOWS] if mode == "mergeable" else [FLOWS]
    options = ReplayOptions(mode=mode, queues=2, encap="virtio", journey=journey, driver="linux-6.1")
    figures = play(sources, tmp_path / "ring.pcapng", options)
    lua = f"lua_script:{REPO / 'netemu' / 'wireshark' / 'virtio_net.lua'}"
    rows = tshark(tmp_path / "ring.pcapng", RING_FIELDS, "-X", lua)
    if rows and not rows[0]["netemu.version"]:
        reason = "this tshark runs no Lua scripts (Wireshark 4.4 and later run none for root)"
        (pytest.fail if REQUIRE_TOOLS else pytest.skip)(reason)
    sent = [frame for source in sources for frame in seen_in(source)]
    assert len(rows) == len(sent)
    buffers: Counter[str] = Counter()
    for number, (row, frame) in enumerate(zip(rows, sent, strict=True), 1):
        assert row["frame.interface_name"] == "netemu0"
        assert row["frame.packet_flags"] == "0x00000001"
        assert row["frame.packet_id"] == row["netemu.frame_id"] == str(number)
        assert row["frame.interface_queue"] == row["netemu.queue"]
        assert (row["netemu.version"], row["netemu.direction"]) == ("1", "0")
        assert (row["netemu.prefix_len"], row["netemu.hdr_len"]) == ("32", "12")
        assert row["frame.len"] == str(44 + len(frame.data))
        assert row["netemu.frame_len"] == str(len(frame.data))
        assert (row["virtio_net.flags"], row["virtio_net.gso_type"]) == ("0x00", "0x00")
        assert row["virtio_net.num_buffers"] == row["netemu.buffers"]
        assert row["virtio_net.violation"] == ""
        buffers[row["netemu.queue"]] += int(row["netemu.buffers"])
    assert [queue["buffers"] for queue in figures["queues"]] == [buffers["0"], buffers["1"]]
    # a packet's comment is an expert's remark too, below a warning
    warned = tshark(
        tmp_path / "ring.pcapng", ["_ws.expert.message"], "-X", lua, "-Y", "_ws.expert.severity >= 0x600000"
    )
    assert [row["_ws.expert.message"] for row in warned] == []


# Journeys -------------------------------------------------------------------------------------------------------------

WAY = re.compile(
    r"netemu: queue (\d+), used slot (\d+), (\d+) buffers?(?: \((\d+) descriptors\))?: "
    r"((?:#\d+ \d+/\d+ B at 0x[0-9a-f]+(?:, )?)+)(?:(\d+) more)?"
    r"; skb (\d+) B linear(?: \+ (\d+) frags?)?(?: \+ (\d+) skbs? in its frag list)?, truesize (\d+)"
    r"; [^;]+; stack: .+"
)
BUFFER = re.compile(r"#(\d+) (\d+)/(\d+) B at")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("driver", ERAS)
def test_each_frame_says_where_it_lay_and_what_became_of_it(mode: Mode, driver: str, tmp_path: Path) -> None:
    options = ReplayOptions(mode=mode, driver=driver, journey=True, queues=2, queue_size=128)
    figures = play([SIZES, FLOWS], tmp_path / "out.pcapng", options)
    plain = play(
        [SIZES, FLOWS], tmp_path / "plain.pcapng", ReplayOptions(mode=mode, driver=driver, queues=2, queue_size=128)
    )
    received = seen_in(tmp_path / "out.pcapng")
    without = seen_in(tmp_path / "plain.pcapng")
    assert content(received) == content(without)
    assert [packet.options | {1: b""} for packet in received] == [packet.options | {1: b""} for packet in without]
    assert {key: figures[key] for key in ("queues", "ethtool", "snmp")} == {
        key: plain[key] for key in ("queues", "ethtool", "snmp")
    }
    buffers: Counter[int] = Counter()
    descriptors: Counter[int] = Counter()
    for packet in received:
        way = WAY.fullmatch(packet.comment)
        assert way is not None, packet.comment
        queue, slot, count = int(way[1]), int(way[2]), int(way[3])
        assert queue == packet.number(QUEUE)
        assert slot < 128
        buffers[queue] += count
        descriptors[queue] += int(way[4] or count)
        shown = [tuple(map(int, each)) for each in BUFFER.findall(way[5])]
        assert len(shown) + int(way[6] or 0) == count
        assert all(head < 128 and used <= posted for head, used, posted in shown)
        if count == len(shown):
            assert sum(used for _, used, _ in shown) == 12 + len(packet.data)
        # with several buffers every one but the last is full (RX-D-03)
        assert all(used == posted for _, used, posted in shown[: count - 1])
        linear, frags = int(way[7]), int(way[8] or 0)
        assert linear == linear_part(len(packet.data), mode, driver)
        assert (linear == len(packet.data)) == (frags == 0)
        assert frags <= 17
        assert int(way[10]) >= len(packet.data)
    assert [queue["buffers"] for queue in figures["queues"]] == [buffers[n] for n in range(2)]
    if mode == "mergeable":
        assert [queue["descriptors"] for queue in figures["queues"]] == [descriptors[n] for n in range(2)]


def linear_part(size: int, mode: Mode, driver: str) -> int:
    """Bytes in the linear part of the skb that Linux makes of a frame.

    Small buffers become the skb as they are. Else frames to 128 bytes are copied; 4.19 copies the first 128 bytes of
    longer ones, later kernels build the skb around the buffer where header, frame and 320 bytes of shared info fit,
    and where they do not, copy the Ethernet header only. A mergeable buffer has 1536 bytes here, a big one's first page
    4096, of which a frame follows 12 (mergeable) or 32 bytes (big).
    """
    if mode == "small" or size <= 128:
        return size
    if driver == "linux-4.19":
        return 128
    room = 1536 - 12 if mode == "mergeable" else 4096 - 32
    return size if size + 320 <= room else 14


def test_a_journey_needs_pcapng(tmp_path: Path) -> None:
    run = netemu("replay", BASICS, "-o", tmp_path / "out.pcap", "--journey")
    assert run.returncode == 1
    assert run.stderr.decode() == "netemu: a pcap file has no place for comments: write .pcapng for --journey\n"


def test_a_time_beyond_2106_survives_a_ring_journey(tmp_path: Path) -> None:
    """Such a time fits pcapng, where it counts 64 bits of nanoseconds, and not the 32 bits of seconds of pcap."""
    from tests.capture_bytes import LITTLE  # noqa: PLC0415

    late = 5_000_000_000 * 10**9 + 7
    options = [(9, b"\x09")]
    file = LITTLE.shb() + LITTLE.idb(options=options) + LITTLE.epb(numbered(60, 1), late)
    (tmp_path / "in.pcapng").write_bytes(file)
    for encap, journey in product(get_args(Encap), (False, True)):
        play(tmp_path / "in.pcapng", tmp_path / "out.pcapng", ReplayOptions(encap=encap, journey=journey))
        assert [packet.tstamp for packet in seen_in(tmp_path / "out.pcapng")] == [late]


# Formats --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["pcap", "pcapng", "pcap.gz", "pcapng.gz", "PCAPNG", "Pcap.GZ"])
def test_formats_by_name(suffix: str, tmp_path: Path) -> None:
    output = tmp_path / f"out.{suffix}"
    play(FLOWS, output)
    data = output.read_bytes()
    if suffix.lower().endswith(".gz"):
        data = gzip.decompress(data)
    assert data[:4].hex() == ("0a0d0d0a" if "pcapng" in suffix.lower() else "4d3cb2a1")
    assert content(seen_in(output)) == content(seen_in(FLOWS))


def test_a_format_by_request(tmp_path: Path) -> None:
    play(BASICS, tmp_path / "capture", kind="pcap")
    assert content(seen_in(tmp_path / "capture")) == content(seen_in(BASICS))


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    for name, options in (("a", ReplayOptions(journey=True)), ("b", ReplayOptions(encap="virtio"))):
        outputs = [tmp_path / f"{name}{n}.pcapng" for n in range(2)]
        for output in outputs:
            play(WEB, output, options)
        assert outputs[0].read_bytes() == outputs[1].read_bytes()


def statistics(file: Path) -> dict[int, int]:
    """The options of the interface statistics block at the end of a pcapng file that netemu wrote."""
    data = file.read_bytes()
    (size,) = struct.unpack("<I", data[-4:])
    block = data[-size:]
    assert struct.unpack_from("<II", block) == (5, size)
    found = {}
    at = 20
    while (head := struct.unpack_from("<HH", block, at)) != (0, 0):
        value = block[at + 4 : at + 4 + head[1]]
        high, low = struct.unpack("<II", value)
        # times have their upper half first, counters are plain 64-bit numbers
        found[head[0]] = high << 32 | low if head[0] in (2, 3) else int.from_bytes(value, "little")
        at += 4 + head[1]
    return found


def test_interface_statistics(tmp_path: Path) -> None:
    figures = play([BAD, SIZES], tmp_path / "out.pcapng", ReplayOptions(mode="small"))
    times = [frame.tstamp for frame in seen_in(BAD) + seen_in(SIZES)]
    too_long = sum(len(frame.data) > 1518 for frame in seen_in(SIZES))
    assert figures["dropped"] == {"too_long": too_long, "short_frame": 13}
    # starttime, endtime, ifrecv, ifdrop, osdrop, usrdeliv
    assert statistics(tmp_path / "out.pcapng") == {
        2: min(times), 3: max(times), 4: 66, 5: too_long, 7: 13, 8: 66 - too_long - 13,
    }  # fmt: skip


@needs("tshark", "capinfos")
@pytest.mark.parametrize("encap", get_args(Encap))
def test_wiresharks_tools_read_all_that_is_noted(encap: Encap, tmp_path: Path) -> None:
    output = tmp_path / "out.pcapng"
    options = ReplayOptions(mode="small", queues=4, encap=encap, journey=True)
    figures = play([FLOWS, SIZES, BAD, BASICS], output, options)
    written = seen_in(output)
    fields = ["frame.interface_name", "frame.interface_description", "frame.interface_queue", "frame.packet_id",
              "frame.drop_count", "frame.packet_flags", "frame.comment", "frame.time_epoch", "frame.len"]  # fmt: skip
    rows = tshark(output, fields)
    assert len(rows) == len(written)
    last = 0
    for row, packet in zip(rows, written, strict=True):
        assert row["frame.interface_name"] == "netemu0"
        assert "small buffers, 4 queue(s) of 256, driver as linux-7.0" in row["frame.interface_description"]
        assert row["frame.interface_queue"] == str(packet.number(QUEUE))
        number = int(row["frame.packet_id"])
        assert row["frame.drop_count"] == str(number - last - 1 or "")
        last = number
        assert row["frame.packet_flags"] == "0x00000001"
        assert row["frame.comment"] == packet.comment
        assert row["frame.time_epoch"] == f"{packet.tstamp // 10**9}.{packet.tstamp % 10**9:09d}"
        assert row["frame.len"] == str(packet.wire_len)
    assert len(written) == figures["frames_in"] - figures["dropped"]["too_long"] - (13 if encap == "ethernet" else 0)
    info = subprocess.run(["capinfos", str(output)], capture_output=True, text=True, check=True).stdout
    assert re.search(r"Number of packets: +" + str(len(written)), info)
    assert re.search(r"Name = netemu0\n", info)
    assert re.search(r"Number of stat entries = 1\n", info)
    assert re.search(r"Capture application: +netemu", info)
    assert re.search(r"File timestamp precision: +nanoseconds", info)


# Options of the command -----------------------------------------------------------------------------------------------

KEYS = ["frames_in", "bytes_in", "frames_out", "bytes_out", "dropped", "merged", "sent_by_xdp", "seconds",
        "frames_per_second", "interrupted", "mode", "driver", "queue_size", "features", "queues", "coalesce", "ethtool",
        "netdev", "snmp", "broken", "refused", "quirks", "made_up", "offloads", "sent"]  # fmt: skip


def json_of(*arguments: str | Path, stdin: bytes = b"") -> dict[str, Any]:
    """The figures of a run that went well and had nothing else to say."""
    run = netemu("replay", *arguments, "--json", stdin=stdin)
    assert (run.returncode, run.stderr) == (0, b"")
    figures: dict[str, Any] = json.loads(run.stdout)
    assert_consistent(figures)
    return figures


def test_json_keys_and_figures(tmp_path: Path) -> None:
    output = tmp_path / "out.pcapng.gz"
    figures = json_of(BASICS, BAD, SIZES, "-o", output, "--mode", "small", "--queues", "4", "--driver", "linux-6.1")
    assert list(figures) == KEYS
    sent = seen_in(BASICS) + seen_in(BAD) + seen_in(SIZES)
    assert figures["frames_in"] == len(sent) == 90
    assert figures["bytes_in"] == sum(len(frame.data) for frame in sent)
    fitting = [frame for frame in sent if 14 <= len(frame.data) <= 1518]
    assert content(seen_in(output)) == content(fitting)
    assert figures["frames_out"] == len(fitting)
    assert figures["bytes_out"] == sum(len(frame.data) for frame in fitting)
    assert figures["dropped"] == {"too_long": 7, "short_frame": 13}
    assert figures["seconds"] > 0
    assert (figures["mode"], figures["driver"], figures["queue_size"]) == ("small", "linux-6.1", 256)
    assert len(figures["queues"]) == 4
    assert figures["netdev"]["rx_length_errors"] == 13
    assert figures["interrupted"] is False


@pytest.mark.parametrize("driver", ERAS)
def test_ethtools_names_are_those_of_the_kernel(driver: str) -> None:
    """rx_queue_0_packets until 6.9; since 6.10 rx0_drops and the like, with a sum over all queues in front."""
    job = Replay(ReplayOptions(driver=driver, queues=2))
    job.play([str(FLOWS)])
    names = job.nic.ethtool
    packets = [queue["packets"] for queue in job.nic.queue_counters()]
    assert sum(packets) == 256
    if driver == "linux-7.0":
        assert [names["rx0_drops"], names["rx1_drops"]] == [0, 0]
        assert "rx_queue_0_packets" not in names
    else:
        assert [names["rx_queue_0_packets"], names["rx_queue_1_packets"]] == packets
        assert "rx0_drops" not in names
    assert ("tx_queue_0_tx_timeouts" in names or "tx0_tx_timeouts" in names) == (driver != "linux-4.19")


def test_several_inputs_in_their_order(tmp_path: Path) -> None:
    play([WEB, BASICS, WEB], tmp_path / "out.pcapng")
    expected = seen_in(WEB) + seen_in(BASICS) + seen_in(WEB)
    assert content(seen_in(tmp_path / "out.pcapng")) == content(expected)


@pytest.mark.parametrize(("limit", "loop", "frames"), [(0, 1, 0), (1, 1, 1), (30, 2, 30), (None, 3, 72), (1000, 2, 48)])
def test_limit_and_loop(limit: int | None, loop: int, frames: int, tmp_path: Path) -> None:
    play(BASICS, tmp_path / "out.pcapng", ReplayOptions(limit=limit, loop=loop))
    received = seen_in(tmp_path / "out.pcapng")
    assert content(received) == content((seen_in(BASICS) * 3)[:frames])
    assert [packet.number(PACKET_ID) for packet in received] == list(range(1, frames + 1))


def test_the_limit_counts_over_all_inputs(tmp_path: Path) -> None:
    play([BASICS, FLOWS], tmp_path / "out.pcapng", ReplayOptions(limit=25))
    assert content(seen_in(tmp_path / "out.pcapng")) == content(seen_in(BASICS) + seen_in(FLOWS)[:1])


@pytest.mark.parametrize("driver", ERAS)
def test_burst_1_is_an_interrupt_and_a_poll_for_every_frame(driver: str) -> None:
    job = Replay(ReplayOptions(burst=1, driver=driver, mode="small"))
    polls_before = job.nic.queue_counters()[0]["polls"]
    job.play([str(FLOWS)])
    (queue,) = job.nic.queue_counters()
    assert queue["interrupts"] == 256
    assert queue["polls"] - polls_before >= 256
    together = Replay(ReplayOptions(burst=64, driver=driver, mode="small"))
    together.play([str(FLOWS)])
    # 256 frames, four turns of the guest; the event index may hold back what would only repeat an interrupt
    assert 1 <= together.nic.queue_counters()[0]["interrupts"] <= 4


def test_pipes_in_and_out() -> None:
    source = FLOWS.read_bytes()
    run = netemu("replay", "-", "-o", "-", "--journey", "--queues", "2", "--json", stdin=source)
    assert run.returncode == 0
    figures = json.loads(run.stderr)
    assert figures["frames_in"] == 256
    from tests.replay_kit import read_capture_by_hand  # noqa: PLC0415

    received = list(read_capture_by_hand(run.stdout))
    assert content(received) == content(seen_in(FLOWS))
    assert all(packet.comment for packet in received)


def test_packed_standard_input() -> None:
    figures = json_of("-", stdin=gzip.compress(BASICS.read_bytes()))
    assert figures["frames_in"] == 24


def test_the_options_of_the_command_reach_the_link(tmp_path: Path) -> None:
    output = tmp_path / "ring.pcapng"
    arguments = ["--mode", "big", "--queue-size", "64", "--queues", "2", "--driver", "linux-4.19", "--limit", "40"]
    arguments += ["--loop", "2", "--burst", "1", "--no-buffer", "drop", "--encap", "virtio", "--journey"]
    figures = json_of(BASICS, "-o", output, *arguments)
    assert [figures[key] for key in ("frames_in", "mode", "driver", "queue_size")] == [40, "big", "linux-4.19", 64]
    assert sum(queue["interrupts"] for queue in figures["queues"]) == 40
    records = seen_in(output)
    assert [record.data[44:] for record in records] == [frame.data for frame in (seen_in(BASICS) * 2)[:40]]
    assert all(record.comment.startswith("netemu: queue ") for record in records)


def test_a_journey_names_the_frames_that_were_lost_before_one(tmp_path: Path) -> None:
    """A runt that the driver drops, and a frame too long for small buffers, stand in the next frame's comments."""
    frames = [numbered(60, 1), numbered(10, 2), numbered(2000, 3), numbered(60, 4)]
    write_pcap(tmp_path / "in.pcap", frames)
    play(tmp_path / "in.pcap", tmp_path / "out.pcapng", ReplayOptions(mode="small", journey=True))
    first, second = (packet.comments for packet in read_packets(tmp_path / "out.pcapng"))
    assert len(first) == 1
    assert second[0].startswith("netemu: queue 0, used slot 2, 1 buffer")
    assert second[1].startswith("netemu: frame 2 was dropped on queue 0: short_frame, ")
    assert second[2].startswith("netemu: frame 3 was dropped on queue 0: too_long")
    assert len(second) == 3


def test_a_journey_into_pcap_is_refused_before_the_file_is_touched(tmp_path: Path) -> None:
    output = tmp_path / "kept.pcap"
    output.write_bytes(b"precious")
    with pytest.raises(ConfigError, match="no place for comments"):
        Replay(ReplayOptions(journey=True), str(output))
    assert output.read_bytes() == b"precious"


def test_a_replay_plays_once(tmp_path: Path) -> None:
    job = Replay(ReplayOptions(), str(tmp_path / "out.pcapng"))
    job.play([str(BASICS)])
    with pytest.raises(NetemuError, match="plays once"):
        job.play([str(BASICS)])
