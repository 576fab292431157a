"""What a user sets from the command line: filters, coalescing, offloads; counted by a reader that is not netemu's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.replay_kit import netemu, one_error_line, read_capture_by_hand
from tests.support import PCAPS

BASICS, VLAN = PCAPS / "basics.pcap", PCAPS / "vlan.pcap"


def figures(*arguments: str, capture: Path = BASICS) -> dict[str, Any]:
    run = netemu("replay", capture, "--json", *arguments)
    assert (run.returncode, run.stderr) == (0, b"")
    found: dict[str, Any] = json.loads(run.stdout)
    return found


def test_no_promisc_leaves_the_frames_of_others_out() -> None:
    """MAC-D-04: what is neither for this address nor for everybody."""
    frames = [seen.data for seen in read_capture_by_hand(BASICS.read_bytes())]
    mac = max({data[:6] for data in frames if not data[0] & 1}, key=[data[:6] for data in frames].count)
    mine = sum(data[:6] in (mac, b"\xff" * 6) for data in frames)
    assert 0 < mine < len(frames)
    result = figures("--no-promisc", "--mac", mac.hex(":"))
    assert result["frames_out"] == mine
    assert result["dropped"] == {"filtered": len(frames) - mine}


def test_vlan_lets_frames_of_these_vlans_and_untagged_ones_in() -> None:
    """VLAN-D-02, VLAN-D-03: of a capture with several VLANs, 802.1Q tags."""
    frames = [seen.data for seen in read_capture_by_hand(VLAN.read_bytes())]
    vids = [int.from_bytes(data[14:16], "big") & 0xFFF for data in frames if data[12:14] == b"\x81\0"]
    assert {10, 100} < set(vids)
    result = figures("--vlan", "10", "--vlan", "100", capture=VLAN)
    assert result["dropped"] == {"filtered": sum(vid not in (10, 100) for vid in vids)}
    assert figures("--vlan", "4000", capture=VLAN)["dropped"] == {"filtered": len(vids)}


def test_coalescing_is_shown_and_saves_interrupts() -> None:
    plain, held = figures("--burst", "1"), figures("--burst", "1", "--coalesce", "rx-usecs=10000000,rx-frames=4")
    assert plain["coalesce"] == [{"rx_frames": 0, "rx_usecs": 0}]
    assert held["coalesce"] == [{"rx_frames": 4, "rx_usecs": 10_000_000}]
    assert held["frames_out"] == plain["frames_out"]
    assert held["queues"][0]["interrupts"] < plain["queues"][0]["interrupts"] == plain["frames_in"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--coalesce", "rx=5"], "rx-usecs, rx-frames"),
        (["--adaptive-rx", "--driver", "linux-4.19"], "VQ_NOTF_COAL"),
        (["--coalesce", "rx-usecs=5", "--driver", "linux-4.19"], "NOTF_COAL"),
        (["--vlan", "4096"], "0 to 4095"),
        (["--guest-offloads", "+MRG_RXBUF"], "MRG_RXBUF"),
        (["--guest-offloads", "-NOSUCH"], "NOSUCH"),
    ],
)
def test_what_cannot_be_is_one_line(arguments: list[str], words: str) -> None:
    assert words in one_error_line(netemu("replay", str(BASICS), *arguments))
