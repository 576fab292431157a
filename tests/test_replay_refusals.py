"""Options of replay that cannot go together are refused in one line that names them, before a file is touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.replay_kit import netemu, one_error_line
from tests.support import PCAPS, REPO

BASICS = PCAPS / "basics.pcap"
XDP = ["--xdp", str(REPO / "examples" / "xdp_filter.py")]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        pytest.param(["--threads", "--guest", "send"], ["threads", "send"], id="threads-send"),
        pytest.param(["--threads", *XDP], ["threads", "XDP"], id="threads-xdp"),
        pytest.param(["--threads", "--quirk", "chain-loop"], ["threads", "quirks"], id="threads-quirk"),
        pytest.param(["--threads", "--encap", "virtio"], ["threads", "encap virtio"], id="threads-ring"),
        pytest.param(["--threads", "--adaptive-rx"], ["threads", "coalescing"], id="threads-coalescing"),
        pytest.param(["--ring", "packed", "--driver", "linux-4.19"], ["linux-4.19", "packed"], id="packed-old"),
        pytest.param(["--tap", "tx"], ["tap tx", "reflect or send"], id="tap-tx-sink"),
        pytest.param(["--tap", "rx", "--guest", "send"], ["tap rx", "sends"], id="tap-rx-send"),
        pytest.param(["--rss", "on", "--driver", "linux-4.19"], ["RSS", "linux-4.19"], id="rss-old"),
        pytest.param(["--quirk", "chain-lop"], ["chain-lop", "did you mean chain-loop?"], id="nearest-quirk"),
    ],
)
def test_it_is_refused_in_a_line_that_names_both(arguments: list[str], named: list[str], tmp_path: Path) -> None:
    output = tmp_path / "out.pcapng"
    output.write_bytes(b"kept")
    run = netemu("replay", BASICS, "-o", output, *arguments)
    line = one_error_line(run)
    assert all(word in line for word in named), line
    assert output.read_bytes() == b"kept"


def test_a_journey_wants_a_capture() -> None:
    assert "-o" in one_error_line(netemu("replay", BASICS, "--journey"))


def test_redirected_frames_go_over_no_input(tmp_path: Path) -> None:
    source = tmp_path / "in.pcap"
    source.write_bytes(BASICS.read_bytes())
    assert "is an input too" in one_error_line(netemu("replay", source, *XDP, "--xdp-redirect", source))
    assert source.read_bytes() == BASICS.read_bytes()


def test_redirected_frames_go_over_no_other_output(tmp_path: Path) -> None:
    output = tmp_path / "out.pcap"
    output.write_bytes(b"")
    assert "two outputs" in one_error_line(netemu("replay", BASICS, *XDP, "-o", output, "--xdp-redirect", output))


def test_a_command_that_is_mistyped_brings_the_nearest_one() -> None:
    assert "did you mean replay?" in one_error_line(netemu("rplay"))
