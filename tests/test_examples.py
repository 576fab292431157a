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

EXAMPLES = sorted((REPO / "examples").glob("*.py"))


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
    assert re.findall(r"^\| `([a-z_]+\.py)` \|", page, re.MULTILINE) == [path.name for path in EXAMPLES]


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
