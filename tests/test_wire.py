"""to-wire and to-host from file to file, with tshark as the judge."""

from __future__ import annotations

import json
import struct
import subprocess
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pytest

from netemu.errors import CaptureError, ConfigError
from netemu.offload import Coalescer, Finisher
from netemu.wire import WireJob
from tests.capture_bytes import LITTLE
from tests.offload_kit import FINISHED, ether, ip4, marked, tcp, vxlan
from tests.replay_kit import COMMENT, FLAGS, netemu, one_error_line, seen_in, write_pcap
from tests.support import PCAPS, needs, needs_shared_pcaps, own_captures, shared_captures

WEB, BAD, SNAPPED, FLOWS = PCAPS / "web.pcapng", PCAPS / "bad.pcap", PCAPS / "snapped.pcap", PCAPS / "flows.pcapng"
VERIFY = [f"{name}.check_checksum:TRUE" for name in ("ip", "tcp", "udp")]


def converted(path: Path, output: Path, stage: Finisher | Coalescer | None = None) -> dict[str, object]:
    job = WireJob(stage or Finisher(), str(output))
    job.play([str(path)])
    return job.summary()


def tshark(path: Path, *fields: str, wanted: str = "", options: Sequence[str] = ()) -> list[list[str]]:
    """The fields of each packet, several values of one separated by commas, checksums verified."""
    command = ["tshark", "-r", str(path), "-T", "fields", "-E", "separator=|", *(["-Y", wanted] if wanted else [])]
    for option in [*VERIFY, *options]:
        command += ["-o", option]
    for field in fields:
        command += ["-e", field]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [line.split("|") for line in done.stdout.splitlines()]


def streams(path: Path) -> dict[tuple[str, ...], bytes]:
    """The bytes of each direction of each TCP connection, put in place by their sequence numbers."""
    fields = ("ip.src", "ipv6.src", "tcp.srcport", "ip.dst", "ipv6.dst", "tcp.dstport", "tcp.seq_raw", "tcp.payload")
    pieces: dict[tuple[str, ...], list[tuple[int, bytes]]] = defaultdict(list)
    for *flow, number, payload in tshark(path, *fields, wanted="tcp.payload"):
        pieces[tuple(flow)].append((int(number.split(",")[0]), bytes.fromhex(payload.replace(":", ""))))
    found = {}
    for key, parts in pieces.items():
        first = min(seq for seq, _ in parts)
        stream = bytearray(max(seq + len(data) for seq, data in parts) - first)
        for seq, data in parts:
            stream[seq - first : seq - first + len(data)] = data
        found[key] = bytes(stream)
    return found


def judged(paths: list[Path], tmp_path: Path) -> int:
    """What to-wire makes of captures, but for frames that say why they are as they came, before tshark."""
    kept: list[bytes] = []
    for path in paths:
        try:
            converted(path, tmp_path / "wire.pcapng")
        except CaptureError as error:  # a capture of the wrong kind, or one that is damaged on purpose
            if path.parent != PCAPS and ("link type" in str(error) or "has declared 0 so far" in str(error)):
                continue
            raise
        said = seen_in(tmp_path / "wire.pcapng")
        kept += [frame.data for frame in said if "netemu: as it came" not in frame.comment]
    write_pcap(tmp_path / "all.pcap", kept)
    fields = ("frame.len", "ip.flags.mf", "ip.checksum.status", "tcp.checksum.status", "udp.checksum.status")
    # Fragments are not put together: those of different captures would meet.
    rows = tshark(tmp_path / "all.pcap", *fields, options=["ip.defragment:FALSE", "ipv6.defragment:FALSE"])
    assert len(rows) == len(kept)
    for number, (size, more, *sums) in enumerate(rows, start=1):
        if more.split(",")[0] in ("1", "True"):
            sums = sums[:1]  # what is in a first fragment is not all there
        # Wireshark looks into what ICMP errors quote as well; the outermost comes first.
        assert "0" not in [one.split(",")[0] for one in sums], f"frame {number}: {kept[number - 1][:80].hex()}"
        assert int(size) <= 1500 + 14 + 2 * 4, f"frame {number}"
    return len(kept)


@needs("tshark")
def test_on_the_wire_every_checksum_is_right_and_no_frame_over_the_mtu(tmp_path: Path) -> None:
    assert judged(own_captures(), tmp_path) > 1000


@needs("tshark")
@needs_shared_pcaps
def test_the_same_of_captures_that_nobody_here_made(tmp_path: Path) -> None:
    assert judged(shared_captures(), tmp_path) > 1000


@needs("tshark")
@pytest.mark.parametrize("name", ["web.pcapng", "web6.pcap", "big-tcp.pcap", "vlan-linux.pcap", "gso-before.pcap"])
def test_the_streams_are_the_same(name: str, tmp_path: Path) -> None:
    converted(PCAPS / name, tmp_path / "wire.pcap")
    before = streams(PCAPS / name)
    assert before
    assert streams(tmp_path / "wire.pcap") == before


@needs("tshark")
@pytest.mark.parametrize("name", ["web.pcapng", "web6.pcap", "vlan-linux.pcap"])
def test_to_host_after_to_wire_keeps_the_streams_and_merges(name: str, tmp_path: Path) -> None:
    converted(PCAPS / name, tmp_path / "wire.pcap")
    figures = converted(tmp_path / "wire.pcap", tmp_path / "host.pcap", Coalescer(flush_ns=10_000_000, budget=1000))
    assert streams(tmp_path / "host.pcap") == streams(PCAPS / name)
    assert int(str(figures["large"])) > 0
    rows = tshark(tmp_path / "host.pcap", "frame.len", "ip.checksum.status")
    assert "0" not in {row[1] for row in rows}
    assert max(int(row[0]) for row in rows) > 10_000


def test_frames_keep_their_times_and_snapped_ones_are_untouched(tmp_path: Path) -> None:
    converted(SNAPPED, tmp_path / "wire.pcapng")
    before, after = seen_in(SNAPPED), seen_in(tmp_path / "wire.pcapng")
    assert [(it.data, it.wire_len, it.tstamp) for it in after] == [(it.data, it.wire_len, it.tstamp) for it in before]
    assert sum("the capture does not hold all of it" in it.comment for it in after) == 6
    converted(WEB, tmp_path / "web.pcap")
    assert sorted({it.tstamp for it in seen_in(tmp_path / "web.pcap")}) == sorted({it.tstamp for it in seen_in(WEB)})


def _commented(path: Path, order: str, plain: int = 0) -> None:
    """A pcapng file: a large segment with a comment, a direction and a custom option, then a plain frame.

    And ``plain`` more of these, with a comment each.
    """
    large, small = ether(ip4(tcp(marked(3000)))), ether(ip4(tcp(b"x", check=FINISHED)))

    def option(code: int, value: bytes) -> bytes:
        return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) & 3)

    def block(kind: int, body: bytes) -> bytes:
        size = struct.pack(order + "I", len(body) + 12)
        return struct.pack(order + "I", kind) + size + body + size

    def packet(data: bytes, options: bytes) -> bytes:
        head = struct.pack(order + "IIIII", 0, 0x5F5E1, 7, len(data), len(data))
        return block(6, head + data + bytes(-len(data) & 3) + options)

    options = option(1, b"here it starts") + option(2, struct.pack(order + "I", 2)) + bytes(4)
    path.write_bytes(
        block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1))
        + block(1, struct.pack(order + "HHI", 1, 0, 0) + option(2, b"lan7") + bytes(4))
        + packet(large, options)
        + packet(small, b"")
        + packet(small, option(1, b"one of many") + bytes(4)) * plain
    )


@pytest.mark.parametrize("order", ["<", ">"])
def test_options_stay_with_the_first_segment_and_the_direction_with_all(order: str, tmp_path: Path) -> None:
    _commented(tmp_path / "in.pcapng", order)
    converted(tmp_path / "in.pcapng", tmp_path / "out.pcapng")
    frames = seen_in(tmp_path / "out.pcapng")
    assert [frame.comment for frame in frames] == ["here it starts", "", "", ""]
    assert [frame.number(FLAGS) for frame in frames] == [2, 2, 2, None]
    assert COMMENT not in frames[3].options
    assert b"lan7" in (tmp_path / "out.pcapng").read_bytes()


def test_what_is_remembered_of_frames_does_not_grow(tmp_path: Path) -> None:
    """Options of 20,000 frames, in several batches: only those of frames that may still come out are kept."""
    _commented(tmp_path / "in.pcapng", "<", plain=20_000)
    job = WireJob(Coalescer(), str(tmp_path / "out.pcapng"))
    most = 0

    def look(_reader: object) -> None:
        nonlocal most
        most = max(most, len(job._options))

    job.play([str(tmp_path / "in.pcapng")], look)
    assert most < 9000
    frames = seen_in(tmp_path / "out.pcapng")
    assert sum(frame.comment == "one of many" for frame in frames) == 20_000


def test_interfaces_stay_what_they_were(tmp_path: Path) -> None:
    """flows.pcapng has four, that count time differently."""
    converted(FLOWS, tmp_path / "out.pcapng")
    before, after = seen_in(FLOWS), seen_in(tmp_path / "out.pcapng")
    assert [(it.data, it.tstamp) for it in after] == [(it.data, it.tstamp) for it in before]
    data = (tmp_path / "out.pcapng").read_bytes()
    indices = set()
    at = 0
    while at < len(data):
        kind, size, index = struct.unpack_from("<III", data, at)
        if kind == 6:
            indices.add(index)
        at += size
    assert indices == {0, 1, 2, 3}


def test_an_mtu_and_datagrams_of_a_size(tmp_path: Path) -> None:
    figures = converted(PCAPS / "udp-gso.pcap", tmp_path / "out.pcap", Finisher(udp_size=1400))
    assert (figures["fragmented"], figures["segmented"], figures["segments"]) == (0, 4, 10 + 11 + 10 + 11)
    assert max(len(it.data) for it in seen_in(tmp_path / "out.pcap")) == 1462
    converted(WEB, tmp_path / "out.pcap", Finisher(mtu=9000))
    assert max(len(it.data) for it in seen_in(tmp_path / "out.pcap")) == 9014
    with pytest.raises(ConfigError, match="an MTU has 68 to 65535 bytes"):
        Finisher(mtu=67)


def test_tunnels_of_big_tcp(tmp_path: Path) -> None:
    """A frame in VXLAN, 70,000 bytes inside: both IPv4 headers have no length."""
    inside = ether(ip4(tcp(marked(70_000)), total=0))
    with pytest.raises(struct.error):
        vxlan(inside)  # no field can say how long it is
    frame = bytearray(vxlan(ether(ip4(tcp(marked(60_000))))))
    write_pcap(tmp_path / "in.pcap", [bytes(frame)])
    figures = converted(tmp_path / "in.pcap", tmp_path / "out.pcap")
    assert figures["segmented"] == 1
    assert max(len(it.data) for it in seen_in(tmp_path / "out.pcap")) == 1514


# The commands ---------------------------------------------------------------------------------------------------------


def test_the_commands_from_file_to_file(tmp_path: Path) -> None:
    run = netemu("to-wire", WEB, "-o", tmp_path / "wire.pcap.gz")
    assert run.returncode == 0
    assert run.stderr == b""
    lines = run.stdout.decode().splitlines()
    assert lines[0].split() == ["frames", "in", "38", "272,752", "bytes"]
    assert lines[1].split()[:3] == ["frames", "out", "214"]
    assert "         10  large packets were segmented" in run.stdout.decode()
    assert max(map(len, lines)) < 80
    run = netemu("to-host", tmp_path / "wire.pcap.gz", "-o", tmp_path / "host.pcapng", "--flush-us", "5000", "--json")
    figures = json.loads(run.stdout)
    assert figures["frames_in"] == 214
    assert figures["frames_out"] == 214 - figures["merged"] + figures["large"]
    assert figures["large"] > 0
    assert figures["unchanged"]["not_ip"] == 2


def test_what_cannot_be_judged_is_said(tmp_path: Path) -> None:
    run = netemu("to-wire", BAD, "-o", tmp_path / "wire.pcapng")
    report = run.stdout.decode()
    assert "14  as they came: headers or lengths do not fit together" in report
    assert "as they came: its IPv4 header checksum is wrong" in report
    assert max(map(len, report.splitlines())) < 80
    said = [frame for frame in seen_in(tmp_path / "wire.pcapng") if frame.comment]
    assert len(said) == 14 + 3 + 1
    assert all(frame.comment.startswith("netemu: as it came: ") for frame in said)


def test_the_commands_in_a_pipe(tmp_path: Path) -> None:
    run = netemu("to-wire", "-", "-o", "-", stdin=WEB.read_bytes())
    assert b"frames out" in run.stderr
    (tmp_path / "out.pcapng").write_bytes(run.stdout)
    converted(WEB, tmp_path / "same.pcapng")
    assert seen_in(tmp_path / "out.pcapng") == seen_in(tmp_path / "same.pcapng")


@pytest.mark.parametrize("command", ["to-wire", "to-host"])
def test_faults_are_one_line(command: str, tmp_path: Path) -> None:
    good = tmp_path / "in.pcap"
    write_pcap(good, [ether(ip4(tcp(b"x", check=FINISHED)))])
    assert "no such file" in one_error_line(netemu(command, tmp_path / "none.pcap", "-o", tmp_path / "out.pcap"))
    assert not (tmp_path / "out.pcap").exists()
    assert "is an input too" in one_error_line(netemu(command, good, "-o", good))
    assert "ends in .pcap or .pcapng" in one_error_line(netemu(command, good, "-o", tmp_path / "out.txt"))
    assert "Missing option '-o'" in one_error_line(netemu(command, good))
    cut = tmp_path / "cut.pcap"
    cut.write_bytes(good.read_bytes() + LITTLE.pcap_record(b"12345", 1, 1)[:-2])
    run = netemu(command, cut, "-o", tmp_path / "out.pcap")
    assert run.returncode == 1
    assert b"the file ends inside frame 2" in run.stderr
    assert len(seen_in(tmp_path / "out.pcap")) == 1


def test_an_empty_capture_makes_an_empty_capture(tmp_path: Path) -> None:
    write_pcap(tmp_path / "in.pcap", [])
    assert converted(tmp_path / "in.pcap", tmp_path / "out.pcapng")["frames_out"] == 0
    assert seen_in(tmp_path / "out.pcapng") == []
