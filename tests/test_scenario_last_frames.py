"""Frames that are sent last arrive before the run is over, and what scapy leaves open is the sending guest's."""

from __future__ import annotations

from pathlib import Path

from netemu.scenario.read import read_scenario
from netemu.scenario.run import ScenarioRun

SCENARIO = """\
[guest.a]
ip = "10.0.0.1/24"

[guest.b]
ip = "10.0.0.2/24"

[[link]]
between = ["a", "b"]
delay = "10ms"

[[traffic]]
kind = "scapy"
from = "a"
packets = ["Ether()/ARP(pdst='10.0.0.2')", "Ether()/IP(dst='10.0.0.2')/UDP(dport=9)"]

[[expect]]
that = [
    "seen 1 time at b: arp.opcode == 1 and eth.src == 02:00:00:00:00:01 and arp.src.proto_ipv4 == 10.0.0.1",
    "seen 1 time at b: udp and ip.src == 10.0.0.1 and eth.dst == ff:ff:ff:ff:ff:ff",
    "seen 1 time at a: arp.opcode == 2",
    "scapy: duration == 0",
]
"""


def test_the_last_frames_arrive_and_are_the_guests_own(tmp_path: Path) -> None:
    path = tmp_path / "scenario.toml"
    path.write_text(SCENARIO)
    outcome = ScenarioRun(read_scenario(str(path)), None).execute()
    assert [(str(one.expectation), one.measured) for one, _ in outcome.verdicts if not one.held] == []
    assert len(outcome.verdicts) == 4
