"""XDP programs in whole replays: what comes out, what is written about it, and the same compiled or interpreted."""

from __future__ import annotations

import json
import struct
import subprocess
from pathlib import Path

import pytest

from netemu.errors import ConfigError
from netemu.offer import Mode
from netemu.replay import ReplayOptions
from netemu.replay.programs import load_program
from tests import xdp_programs
from tests.driver_kit import ERAS
from tests.replay_kit import (
    FLAGS,
    PACKET_ID,
    assert_consistent,
    environment,
    netemu,
    numbered,
    one_error_line,
    played,
    seen_in,
    write_pcap,
)
from tests.support import PCAPS, needs

PROGRAMS = Path(xdp_programs.__file__)
EPB_VERDICT = 7
SIZES = [14, 60, 61, 62, 100, 128, 129, 1000, 1514, 1518, 2000, 3000, 3508, 3509, 9000]


def fits(size: int, mode: Mode) -> bool:
    """Whether a program that wants one buffer can be shown it: sheet 8.2 (12 + size + 256 + 320 <= 4096)."""
    return size <= 1518 if mode == "small" else size <= 4096 - 576 - 12


@pytest.mark.parametrize("driver", ERAS)
@pytest.mark.parametrize("mode", ["mergeable", "small"])
def test_what_passes_is_what_came(mode: Mode, driver: str, tmp_path: Path) -> None:
    """And each frame says that a program saw it: epb_verdict, type 2 (XDP), value 2 (XDP_PASS)."""
    frames = [numbered(size, at) for at, size in enumerate(SIZES * 3)]
    source = write_pcap(tmp_path / "in.pcap", frames)
    figures = played(source, ReplayOptions(mode=mode, driver=driver, xdp=xdp_programs.passes), tmp_path / "out.pcapng")
    assert_consistent(figures)
    came = seen_in(tmp_path / "out.pcapng")
    assert [packet.data for packet in came] == [data for data in frames if fits(len(data), mode)]
    assert {packet.options[EPB_VERDICT] for packet in came} == {struct.pack("<BQ", 2, 2)}
    reasons = {"too_long": 3 * 5} if mode == "small" else {"xdp_unfit": 3 * 2}
    assert figures["dropped"] == reasons


@pytest.mark.parametrize("mode", ["mergeable", "small"])
def test_every_frame_ends_somewhere(mode: Mode, tmp_path: Path) -> None:
    """Passed, dropped, redirected: by length, as the program says; the redirected ones in a capture of their own."""
    frames = [numbered(size, at) for at, size in enumerate([*range(60, 160), 1514, 1515, 1516])]
    source = write_pcap(tmp_path / "in.pcap", frames)
    options = ReplayOptions(
        mode=mode, journey=True, xdp=xdp_programs.by_length, xdp_redirect=str(tmp_path / "elsewhere.pcapng")
    )
    figures = played(source, options, tmp_path / "out.pcapng")
    assert_consistent(figures)
    by_rest = [[data for data in frames if len(data) % 3 == rest] for rest in range(3)]
    came = seen_in(tmp_path / "out.pcapng")
    assert [packet.data for packet in came] == by_rest[0]
    assert figures["dropped"] == {"xdp_dropped": len(by_rest[1])}
    elsewhere = seen_in(tmp_path / "elsewhere.pcapng")
    assert [packet.data for packet in elsewhere] == by_rest[2]
    assert [packet.number(PACKET_ID) for packet in elsewhere] == [frames.index(data) + 1 for data in by_rest[2]]
    assert {packet.number(FLAGS) for packet in elsewhere} == {1}
    assert figures["sent_by_xdp"] == len(by_rest[2])
    assert figures["ethtool"]["rx_xdp_packets"] == len(frames)
    assert figures["ethtool"]["rx_xdp_redirects"] == len(by_rest[2])
    assert "XDP_PASS; skb 60 B linear" in came[0].comment
    assert figures["netdev"]["rx_dropped"] == len(by_rest[1])


def test_a_journey_says_where_frames_went(tmp_path: Path) -> None:
    frames = [numbered(size, size) for size in (60, 61, 62, 63)]
    source = write_pcap(tmp_path / "in.pcap", frames)
    run = netemu("replay", source, "-o", tmp_path / "out.pcapng", "--journey", "--xdp", f"{PROGRAMS}:by_length")
    assert (run.returncode, run.stderr) == (0, b"")
    assert b"sent by XDP              1" in run.stdout
    shown = netemu("show", tmp_path / "out.pcapng").stdout.decode()
    assert "frame 2 was dropped on queue 0: xdp_dropped, the XDP program dropped it" in " ".join(shown.split())
    assert "frame 3 was sent elsewhere by the XDP program (XDP_REDIRECT)" in " ".join(shown.split())


def test_big_buffers_never_see_a_program(tmp_path: Path) -> None:
    source = write_pcap(tmp_path / "in.pcap", [numbered(60, 1)])
    figures = played(source, ReplayOptions(mode="big", xdp=xdp_programs.bad), tmp_path / "out.pcapng")
    assert (figures["frames_out"], figures["dropped"]) == (1, {})
    assert EPB_VERDICT not in seen_in(tmp_path / "out.pcapng")[0].options


def test_a_verdict_there_is_none_of(tmp_path: Path) -> None:
    source = write_pcap(tmp_path / "in.pcap", [numbered(60, 1)] * 5)
    assert played(source, ReplayOptions(xdp=xdp_programs.bad))["dropped"] == {"xdp_aborted": 5}


@needs("tshark")
def test_tshark_reads_the_verdict(tmp_path: Path) -> None:
    source = write_pcap(tmp_path / "in.pcap", [numbered(60, 1)])
    played(source, ReplayOptions(xdp=xdp_programs.passes), tmp_path / "out.pcapng")
    run = subprocess.run(
        ["tshark", "-r", str(tmp_path / "out.pcapng"), "-V"], capture_output=True, text=True, check=True
    )
    assert "eBPF XDP: XDP_PASS (2)" in run.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["by_length", "--queues", "2", "--journey"],
        ["rewrites", "--gro"],
        ["rewrites", "--driver", "linux-4.19", "--mode", "small", "--queue-size", "16"],
        ["by_length", "--driver", "linux-6.1", "--no-buffer", "drop", "--queue-size", "16", "--burst", "40"],
    ],
)
def test_interpreted_kernels_do_the_same(arguments: list[str], tmp_path: Path) -> None:
    name, *options = arguments
    inputs = [PCAPS / each for each in ("basics.pcap", "bad.pcap", "sizes.pcap", "web.pcapng")]
    runs = []
    for jit in ("1", "0"):
        output = tmp_path / f"{jit}.pcapng"
        run = netemu(
            "replay", *inputs, "-o", output, "--json", "--xdp", f"{PROGRAMS}:{name}", *options,
            env=environment(NETEMU_JIT=jit),
        )  # fmt: skip
        assert (run.returncode, run.stderr) == (0, b"")
        figures = json.loads(run.stdout)
        assert_consistent(figures)
        del figures["seconds"], figures["frames_per_second"]
        runs.append((figures, output.read_bytes()))
    assert runs[0] == runs[1]


def test_files_that_hold_no_program_or_too_many(tmp_path: Path) -> None:
    for text, words in (
        ("", "holds 0 XDP programs"),
        ("1 / 0", "ZeroDivisionError"),
        ("def broken(:", "SyntaxError"),
    ):
        (tmp_path / "one.py").write_text(text)
        with pytest.raises(ConfigError, match=words):
            load_program(str(tmp_path / "one.py"))
    with pytest.raises(ConfigError, match="there is no such file"):
        load_program(str(tmp_path / "none.py"))
    with pytest.raises(ConfigError, match="holds 4 XDP programs; say which: passes, by_length, rewrites, bad"):
        load_program(str(PROGRAMS))
    with pytest.raises(ConfigError, match="no XDP program is called 'nobody'"):
        load_program(f"{PROGRAMS}:nobody")
    assert load_program(f"{PROGRAMS}:bad").name == "bad"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--xdp", "nowhere.py"], "no such file"),
        (["--xdp-redirect", "x.pcap"], "only an XDP program redirects frames"),
        (["--xdp", f"{PROGRAMS}:passes", "--mtu", "4000"], "MTU of at most 3506"),
    ],
)
def test_the_command_says_what_is_wrong(arguments: list[str], words: str, tmp_path: Path) -> None:
    run = netemu("replay", PCAPS / "basics.pcap", *arguments, cwd=tmp_path)
    assert words in one_error_line(run)


def test_what_xdp_sends_back_can_be_tapped(tmp_path: Path) -> None:
    """XDP_TX for every frame: nothing comes up, and the capture of what was sent holds them as they came."""
    program = tmp_path / "back.py"
    program.write_text(
        "from netemu.xdp import XDP_TX, XdpBuff, xdp_program\n\n\n@xdp_program\n"
        "def back(ctx: XdpBuff) -> int:\n    return XDP_TX\n"
    )
    out = tmp_path / "out.pcapng"
    run = netemu("replay", PCAPS / "dns.pcap", "--xdp", program, "--tap", "tx", "-o", out)
    assert (run.returncode, run.stderr) == (0, b"")
    assert [packet.data for packet in seen_in(out)] == [packet.data for packet in seen_in(PCAPS / "dns.pcap")]
