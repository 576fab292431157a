"""Compiled or interpreted, with a cache or without: the same replay."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.replay_kit import environment, netemu, seen_in
from tests.support import PCAPS
from tests.test_replay_signals import on_a_terminal

MIXED = [
    PCAPS / name
    for name in (
        "basics.pcap",
        "bad.pcap",
        "sizes.pcap",
        "fragments.pcap",
        "snapped.pcap",
        "flows.pcapng",
        "web.pcapng",
    )
]
ALIKE = (
    "frames_in",
    "bytes_in",
    "frames_out",
    "bytes_out",
    "dropped",
    "merged",
    "features",
    "queues",
    "ethtool",
    "netdev",
    "snmp",
    "broken",
)


def figures(stdout: bytes) -> dict[str, Any]:
    return {key: value for key, value in json.loads(stdout).items() if key in ALIKE}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--mode", "mergeable", "--queues", "2", "--journey"],
        ["--mode", "small", "--queue-size", "16", "--no-buffer", "drop", "--driver", "linux-4.19", "--burst", "40"],
        ["--gro", "--journey", "--queues", "3"],
        ["--gro", "--mode", "small", "--driver", "linux-4.19"],
        ["--mode", "big", "--queue-size", "64", "--encap", "virtio", "--journey", "--driver", "linux-6.1"],
    ],
)
def test_interpreted_kernels_do_the_same(arguments: list[str], tmp_path: Path) -> None:
    runs = []
    for jit in ("1", "0"):
        output = tmp_path / f"{jit}.pcapng"
        run = netemu("replay", *MIXED, "-o", output, "--json", *arguments, env=environment(NETEMU_JIT=jit))
        assert (run.returncode, run.stderr) == (0, b"")
        runs.append((figures(run.stdout), output.read_bytes()))
    assert runs[0][0] == runs[1][0]
    assert runs[0][1] == runs[1][1]
    assert runs[0][0]["frames_in"] == sum(len(seen_in(path)) for path in MIXED)


def test_the_first_run_says_that_it_compiles_and_fills_the_cache(tmp_path: Path) -> None:
    """One compilation: with a cache folder of its own, on a terminal. A second run finds what the first one left."""
    cache = tmp_path / "cache" / "of-mine"
    arguments = ["replay", str(PCAPS / "basics.pcap")]
    told = "netemu: compiling the receive path for this machine, once (about 10 s) ..."
    status, _, screen = on_a_terminal(*arguments, NETEMU_CACHE_DIR=str(cache))
    assert status == 0
    assert screen.startswith(told)
    (folder,) = cache.glob("kernels-*")
    kept = sorted(folder.iterdir())
    assert kept
    status, _, screen = on_a_terminal(*arguments, NETEMU_CACHE_DIR=str(cache))
    assert status == 0
    assert told not in screen
    assert sorted(folder.iterdir()) == kept


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    env = environment(NETEMU_CACHE_DIR=str(tmp_path / "file" / "folder"))
    run = netemu("replay", PCAPS / "basics.pcap", "--json", env=env)
    assert (run.returncode, run.stderr) == (0, b"")
    assert json.loads(run.stdout)["frames_out"] == 24


def test_a_command_that_compiles_nothing_needs_no_cache(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    env = environment(NETEMU_CACHE_DIR=str(tmp_path / "file" / "folder"), NETEMU_JIT="0")
    run = netemu("replay", PCAPS / "basics.pcap", "--json", env=env)
    assert (run.returncode, run.stderr) == (0, b"")
    assert json.loads(run.stdout)["frames_out"] == 24
