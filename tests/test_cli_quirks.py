"""`netemu quirks`, and quirks in a replay."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from netemu.errors import ConfigError
from netemu.nic import Nic
from netemu.nic.quirk_list import ALL_QUIRKS, by_side
from netemu.replay import ReplayOptions
from tests.replay_kit import netemu, one_error_line, played
from tests.support import PCAPS, REPO

CLAUSES = set(re.findall(r"^\| ([A-Z]+-[DVB]-\d\d) \|", (REPO / "docs" / "clauses.md").read_text(), re.MULTILINE))
# What a half can do wrong, in words, and the quirks that stand for it.
ASKED = {
    "num_buffers 0, too many, too few": ["num-buffers-zero", "num-buffers-more", "num-buffers-fewer"],
    "used length beyond the buffer": ["used-length-over"],
    "used id out of range, not a head, twice": ["used-id-out-of-range", "used-id-not-head", "used-id-twice"],
    "buffers late or out of order": ["buffers-late", "out-of-order"],
    "used index torn or stepped back": ["used-index-torn", "used-index-back"],
    "wrong checksum offsets, unknown or not-negotiated type, zero size": [
        "csum-offsets",
        "gso-unknown",
        "gso-unasked",
        "gso-size-zero",
    ],
    "interrupt lost or spurious": ["interrupt-lost", "interrupt-spurious"],
    "event index ignored": ["event-ignored"],
    "header bytes dirty": ["header-dirty"],
    "the driver's": [
        *("chain-loop", "next-out-of-range", "address-outside", "length-wraps", "length-zero", "wrong-direction"),
        *("avail-too-far", "indirect-inside", "short-last"),
    ],
}


def test_every_quirk_is_listed_with_clauses_that_there_are() -> None:
    done = netemu("quirks", "--json")
    rows = {row["name"]: row for row in json.loads(done.stdout)["quirks"]}
    assert {name for names in ASKED.values() for name in names} <= rows.keys()
    assert len(rows) == len(ALL_QUIRKS)
    for row in rows.values():
        assert row["side"] in ("device", "driver")
        assert row["words"]
        assert set(row["clauses"]) <= CLAUSES


def test_the_list_fits_a_terminal_and_names_all() -> None:
    text = netemu("quirks").stdout.decode()
    assert max(map(len, text.splitlines())) <= 80
    assert text.splitlines()[0] == "device:"
    assert all(f"  {quirk.name} " in text for quirk in ALL_QUIRKS)


def test_a_replay_with_quirks_says_how_often_they_happened() -> None:
    source = str(REPO / "pcaps" / "sizes.pcap")
    done = netemu("replay", source, "--json", "--quirk", "csum-offsets:at=2,count=3", "--quirk", "short-last:p=0")
    figures = json.loads(done.stdout)
    assert figures["quirks"] == {"csum-offsets": 3, "short-last": 0}
    assert figures["dropped"]["bad_header"] == 3
    assert figures["made_up"] == 0
    assert b"quirk csum-offsets: 3 times" in netemu("replay", source, "--quirk", "csum-offsets:at=2,count=3").stdout


def test_a_journey_names_the_frames_that_were_lost_in_the_ring(tmp_path: Path) -> None:
    """Bug: they were called dropped by the driver, whose counters know nothing of them."""
    out = tmp_path / "out.pcapng"
    rule = "num-buffers-more:at=3,count=1"
    figures = played(PCAPS / "dns.pcap", ReplayOptions(journey=True, quirks=(rule,)), out)
    assert figures["dropped"] == {"ring_lost": 1}
    assert out.read_bytes().count(b"frame 4 was dropped on queue 0: ring_lost") == 1


def test_the_same_seed_does_the_same() -> None:
    source = str(REPO / "pcaps" / "flows.pcapng")
    runs = [
        json.loads(netemu("replay", source, "--json", "--quirk", f"gso-unknown:p=0.2,seed={seed}").stdout)
        for seed in (4, 4, 5)
    ]
    dropped = [run["dropped"] for run in runs]
    assert dropped[0] == dropped[1]
    assert dropped[0]["bad_header"] > 0


@pytest.mark.parametrize("rule", ["no-such-quirk", "csum-offsets:p=2", "chain-loop:often=1"])
def test_a_rule_that_cannot_be_is_refused_in_one_line(rule: str) -> None:
    done = netemu("replay", str(REPO / "pcaps" / "sizes.pcap"), "--quirk", rule)
    assert done.stdout == b""
    assert "quirk" in one_error_line(done)
    with pytest.raises(ConfigError):
        Nic(quirks=[rule])


def test_rules_go_to_the_side_whose_quirks_they_are() -> None:
    assert by_side(["chain-loop:p=0.1", "num-buffers-zero", "short-last"]) == (
        ["num-buffers-zero"],
        ["chain-loop:p=0.1", "short-last"],
    )
