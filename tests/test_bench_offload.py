"""The rivals of the to-wire row do the same work: its input is what it says, and both make the same frames of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from bench.offload import HEADERS, MSS, SEGMENTS, large_packet, write_large
from netemu.offload import Finisher
from netemu.wire import WireJob
from tests.offload_kit import finished_by_hand, read
from tests.replay_kit import seen_in
from tests.support import REPO


def test_the_input_is_large_segments_with_unfinished_checksums(tmp_path: Path) -> None:
    size = write_large(tmp_path / "large.pcap", 3)
    assert size == (tmp_path / "large.pcap").stat().st_size
    frames = [frame.data for frame in seen_in(tmp_path / "large.pcap")]
    assert [len(frame) for frame in frames] == [HEADERS + MSS * SEGMENTS] * 3
    assert [read(frame, finished=False).seq for frame in frames] == [n * MSS * SEGMENTS for n in range(3)]
    assert finished_by_hand(large_packet(1)) != large_packet(1)


def test_scapy_and_netemu_cut_alike(tmp_path: Path) -> None:
    write_large(tmp_path / "large.pcap", 2)
    script = REPO / "bench" / "scapy_split.py"
    subprocess.run([sys.executable, script, tmp_path / "large.pcap", tmp_path / "scapy.pcap"], check=True)
    job = WireJob(Finisher(), str(tmp_path / "netemu.pcap"))
    job.play([str(tmp_path / "large.pcap")])
    ours = [(frame.data, frame.tstamp) for frame in seen_in(tmp_path / "netemu.pcap")]
    assert len(ours) == 2 * SEGMENTS
    assert [(frame.data, frame.tstamp) for frame in seen_in(tmp_path / "scapy.pcap")] == ours
