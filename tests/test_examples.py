"""Every script of examples/ runs, in a folder of its own, without a warning."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.replay_kit import environment, netemu, seen_in
from tests.support import REPO

EXAMPLES = sorted(path for path in (REPO / "examples").glob("*.py") if "async def main(lab" not in path.read_text())
"""Those for `netemu run` are in test_examples_run.py."""


def run_example(name: str, folder: Path) -> str:
    """What the example prints."""
    run = subprocess.run(
        [sys.executable, "-W", "error", str(REPO / "examples" / name)],
        cwd=folder, env=environment(), capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert (run.returncode, run.stderr) == (0, "")
    return run.stdout


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: str(path.name))
def test_it_runs(path: Path, tmp_path: Path) -> None:
    assert run_example(path.name, tmp_path).strip()


def test_the_page_lists_every_example() -> None:
    page = (REPO / "examples" / "README.md").read_text()
    told = re.findall(r"^\| `([a-z_-]+\.(?:py|toml))` \|", page, re.MULTILINE)
    assert sorted(told) == sorted(
        path.name for path in (REPO / "examples").iterdir() if path.suffix in {".py", ".toml"}
    )
    assert told[: len(EXAMPLES)] == [path.name for path in EXAMPLES]


def test_the_first_look_and_the_command_it_names(tmp_path: Path) -> None:
    """Its docstring goes on with a replay: what was written there is what comes out."""
    said = run_example("first_look.py", tmp_path)
    assert said.endswith("written to first_look.pcap\n")
    script = (REPO / "examples" / "first_look.py").read_text()
    command = re.search(r"^ +netemu (replay first_look\.pcap -o \S+)", script, re.MULTILINE)
    assert command is not None
    run = netemu(*command[1].split(), cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, b"")
    lengths = [len(packet.data) for packet in seen_in(tmp_path / "first_look.pcap")]
    assert lengths == [42, 98, 146, 1514, 14534]  # as the comments in it say
    assert [len(packet.data) for packet in seen_in(tmp_path / command[1].split()[-1])] == lengths


def test_the_receive_path_shows_buffers_and_drops(tmp_path: Path) -> None:
    """A header of 42 bytes and payloads of 18 to 40,000: what small buffers hold ends at 1518 bytes."""
    said = run_example("receive_path.py", tmp_path).splitlines()
    mergeable = said[: said.index("small buffers")]
    assert [line.split()[0] for line in mergeable[1:-1]] == ["60", "1042", "1514", "8042", "40042"]
    assert mergeable[-1].split() == ["dropped:", "none"]
    small = said[said.index("small buffers") :]
    assert [line.split()[0] for line in small[1:-1]] == ["60", "1042", "1514"]
    assert "'too_long': 2" in small[-1]


def test_the_xdp_program_filters_here_and_in_a_replay(tmp_path: Path) -> None:
    """dns.pcap has 8 frames, of which tshark's filter "udp.dstport == 53 and ip" finds 3."""
    assert run_example("xdp_filter.py", tmp_path).startswith("2 frames came up, 2 of 4 were dropped\n")
    program = REPO / "examples" / "xdp_filter.py"
    run = netemu("replay", REPO / "pcaps" / "dns.pcap", "--xdp", program, "-o", tmp_path / "out.pcapng", "--json")
    assert (run.returncode, run.stderr) == (0, b"")
    wanted = seen_in(REPO / "pcaps" / "dns.pcap")
    asked = [packet for packet in wanted if packet.data[12:14] == b"\x08\x00" and packet.data[36:38] == b"\0\x35"]
    assert len(asked) == json.loads(run.stdout)["dropped"]["xdp_dropped"] == 3
    assert [packet.data for packet in seen_in(tmp_path / "out.pcapng")] == [
        packet.data for packet in wanted if packet not in asked
    ]


def test_both_kinds_of_ring_carry_the_same_frames(tmp_path: Path) -> None:
    said = run_example("rings.py", tmp_path).splitlines()
    split, packed = said.index("split ring"), said.index("packed ring")
    assert split == 0
    frames = [line.split(" bytes")[0].strip() for line in said[split + 1 : packed - 1]]
    assert frames == [line.split(" bytes")[0].strip() for line in said[packed + 1 : -2]] == ["60", "1514", "9000"]
    assert "RING_PACKED" in said[-1]


def test_flows_keep_their_queue_and_the_table_is_obeyed(tmp_path: Path) -> None:
    """48 frames; a table of 0, 2 leaves queues 1 and 3 without any."""
    said = run_example("rss.py", tmp_path).splitlines()
    assert said[0] == "16 hashes, each on one queue: True"
    queues = [[int(number) for number in re.findall(r"\d+", line.partition(":")[2])] for line in said[1:]]
    assert [sum(row) for row in queues] == [48, 48]
    assert queues[1][1] == queues[1][3] == 0 < queues[1][0]


def test_to_wire_leaves_no_frame_over_the_mtu(tmp_path: Path) -> None:
    """1500 bytes and an Ethernet header."""
    said = run_example("to_wire.py", tmp_path).splitlines()
    assert said[-1] == "longest after: 1514"
    assert max(len(packet.data) for packet in seen_in(tmp_path / "wire.pcapng")) == 1514


def test_a_large_packet_is_whole_in_the_ring_where_the_device_segments(tmp_path: Path) -> None:
    """8000 bytes behind 54 of headers; in frames of 1514 five have 1460 bytes, the last 700."""
    said = run_example("transmit.py", tmp_path).splitlines()
    wire = [1514] * 5 + [754]
    assert [json.loads(line.split(": ")[1]) for line in said if "in the ring" in line] == [[8054], wire]
    assert [json.loads(line.split(": ")[1]) for line in said if "on the wire" in line] == [wire, wire]
    # NEEDS_CSUM; TCPv4; hdr_len, a hint only; 1460 a segment; the sum starts at 34, and lies 16 behind.
    assert re.search(r"virtio_net_hdr: 01 01 \w\w 00 b4 05 22 00 10 00$", "\n".join(said), re.MULTILINE)


def test_commands_change_what_comes_up(tmp_path: Path) -> None:
    said = run_example("control_queue.py", tmp_path).splitlines()
    assert said[0] == "promiscuous: 2 of 2 came up"
    assert said[1] == "not any more: 1 of 2 came up, dropped: {'filtered': 1}"
    assert said[2] == "with the other's address: ['020000000099']"
    assert said[3] == "coalescing: {'rx_frames': 32, 'rx_usecs': 50}"
