"""What a scenario says reaches the guest that is built of it, and what a guest counted is told."""

from __future__ import annotations

from pathlib import Path

from netemu.lab import Lab
from netemu.lab.guest import Guest
from netemu.scenario.build import build_lab
from netemu.scenario.read import read_scenario


def built(folder: Path, text: str) -> Lab:
    path = folder / "scenario.toml"
    path.write_text(text)
    return build_lab(read_scenario(str(path)))


def test_a_guests_tcp_has_linuxs_settings_and_those_of_its_table(tmp_path: Path) -> None:
    """200 ms and 40 ms are TCP_RTO_MIN and TCP_DELACK_MIN."""
    guests = """
[guest.plain]
ip = "10.0.0.1/24"
[guest.other]
ip = "10.0.0.2/24"
congestion = "reno"
tcp = { sack = false, timestamps = false, mtu_probing = true, rto_min = "300ms", delayed_ack = "10ms" }
[[link]]
between = ["plain", "other"]
"""
    names = ("sack", "timestamps", "window_scaling", "mtu_probing", "rto_min", "delayed_ack")
    with built(tmp_path, guests) as lab:
        told = {}
        for name, node in lab.nodes.items():
            assert isinstance(node, Guest)
            told[name] = [getattr(node.tcp.settings, setting) for setting in names]
        assert told["plain"] == [1, 1, 1, 0, 200_000_000, 40_000_000]
        assert told["other"] == [0, 0, 1, 1, 300_000_000, 10_000_000]


def test_counters_of_queues_are_told_one_by_one_and_together() -> None:
    """Three echo requests and an ARP request came, each in a buffer of one descriptor; the last interrupt was lost."""
    with Lab() as lab:
        a = lab.guest("a", "10.0.0.1/24")
        b = lab.guest("b", "10.0.0.2/24", queues=2, features="-EVENT_IDX", quirks=["interrupt-lost:at=4,count=1"])
        lab.link(a, b)
        assert lab.run(a.ping(b, count=3)).received == 2
        told = lab.counters()["guest.b"]
        queues = [[told[f"rx{n}_{name}"] for name in ("packets", "buffers", "descriptors")] for n in range(2)]
        assert queues in ([[1, 1, 1], [2, 3, 3]], [[2, 3, 3], [1, 1, 1]])  # which flow is whose, is the device's
        # Each queue polls once as it is opened.
        assert (told["rx_packets"], told["rx_buffers"], told["rx_polls"]) == (3, 4, 2 + 3)
        assert told["quirk_interrupt_lost"] == 1
        assert told["cpu_busy_ns"] == 0
