"""Interrupts, readers that go away, and terminals: what happens around a replay."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.replay_kit import environment, netemu, one_error_line, played, read_capture_by_hand, seen_in
from tests.support import PCAPS, needs

BASICS, FLOWS, WEB = (PCAPS / name for name in ("basics.pcap", "flows.pcapng", "web.pcapng"))
COMMAND = [sys.executable, "-m", "netemu"]
PATIENCE = 120
"""Seconds until a wait counts as failed; nothing here depends on how fast the machine is."""


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    """Have the receive path in the cache, so that nothing here waits for the compiler."""
    played(BASICS)


@contextmanager
def started(*arguments: str | Path, stdin: int | None = subprocess.DEVNULL) -> Iterator[subprocess.Popen[bytes]]:
    """A netemu that runs meanwhile, and is ended if the test leaves it behind."""
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        env=environment(),
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # as a shell starts it: also where the tests run in the background, with SIGINT ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.01)


def has_bytes(path: Path, count: int) -> Callable[[], bool]:
    return lambda: path.exists() and path.stat().st_size >= count


@needs("tshark")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("suffix", ["pcapng", "pcap.gz"])
def test_a_long_replay_that_is_interrupted(number: signal.Signals, suffix: str, tmp_path: Path) -> None:
    """Ctrl-C, and SIGTERM as `timeout` and `systemctl stop` send it, leave a whole file and print the figures."""
    output = tmp_path / f"out.{suffix}"
    journey = ["--journey"] if suffix == "pcapng" else []
    with started("replay", BASICS, "--loop", "100000000", "-o", output, "--json", *journey) as process:
        wait_until(has_bytes(output, 100_000))
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (128 + number, b"")
    figures = json.loads(out)
    assert figures["interrupted"] is True
    frames = figures["frames_out"]
    assert frames > 0
    assert frames % 24 == 0
    written = seen_in(output)
    assert len(written) == frames
    assert [packet.data for packet in written[-24:]] == [packet.data for packet in seen_in(BASICS)]
    read = subprocess.run(
        ["tshark", "-n", "-r", str(output), "-w", "/dev/null"], capture_output=True, text=True, check=True
    )
    assert "cut short" not in read.stderr


@pytest.mark.parametrize("sent", [b"", BASICS.read_bytes()[:24], BASICS.read_bytes(), BASICS.read_bytes()[:-1]])
def test_an_interrupt_while_standard_input_is_silent(sent: bytes, tmp_path: Path) -> None:
    """Nothing came, a file header, 24 frames, or 23 and a part of one."""
    output = tmp_path / "out.pcapng"
    frames = {0: 0, 24: 0, len(BASICS.read_bytes()): 24}.get(len(sent), 23)
    reading, writing = os.pipe()
    try:
        with started("replay", "-", "-o", output, stdin=reading) as process:
            os.write(writing, sent)
            # frames are written although more might come
            wait_until(has_bytes(output, 1))
            wait_until(lambda: len(seen_in(output)) == frames)
            time.sleep(0.3)  # now it waits; if it did not yet, the outcome were the same
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=PATIENCE)
    finally:
        os.close(reading)
        os.close(writing)
    assert (process.returncode, err) == (130, b"")
    assert f"frames in    {frames:>13}" in out.decode()
    assert "interrupted: the figures and the capture end where it stopped" in out.decode()
    assert [packet.data for packet in seen_in(output)] == [packet.data for packet in seen_in(BASICS)[:frames]]


def test_frames_are_passed_on_while_input_pauses() -> None:
    """In a live pipe a frame does not wait for a burst to fill up."""
    with started("replay", "-", "-o", "-", "--journey", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(BASICS.read_bytes())
        process.stdin.flush()
        received = b""
        expected = [packet.data for packet in seen_in(BASICS)]
        end = time.monotonic() + PATIENCE
        while len(packets(received)) < len(expected):
            assert time.monotonic() < end
            if select.select([process.stdout], [], [], 1)[0]:
                received += os.read(process.stdout.fileno(), 65536)
        assert packets(received) == expected
        assert process.poll() is None


def packets(data: bytes) -> list[bytes]:
    """The frames of what has come of a capture so far."""
    found: list[bytes] = []
    with suppress(Exception):  # the rest is still under way
        found.extend(packet.data for packet in read_capture_by_hand(data))
    return found


@pytest.mark.parametrize("arguments", [["replay", WEB, "-o", "-"], ["replay", WEB], ["show", WEB], ["--help"]])
def test_a_reader_of_standard_output_that_goes_away(arguments: list[str]) -> None:
    """As with ``| head -c 100``: no traceback, not a word."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        run = netemu(*arguments, stdout=writing)
    finally:
        os.close(writing)
    assert (run.returncode, run.stderr) == (1, b"")


def test_head_and_tail() -> None:
    script = '"$@" | head -c 100 | wc -c; echo "${PIPESTATUS[0]}"'
    for arguments in (["replay", WEB, "-o", "-", "--loop", "50"], ["show", WEB]):
        run = subprocess.run(
            ["bash", "-c", script, "bash", *COMMAND, *map(str, arguments)],
            env=environment(), capture_output=True, text=True, check=True,
        )  # fmt: skip
        count, status = run.stdout.split()
        assert count == "100"
        assert status in ("1", "0")  # 0 if it was done before anybody left
        assert run.stderr == ""


@pytest.mark.parametrize("stream", [0, 1, 2])
def test_streams_that_are_closed(stream: int, tmp_path: Path) -> None:
    arguments = ["replay", "-"] if stream == 0 else ["replay", str(BASICS), "-o", str(tmp_path / "out.pcap")]
    run = subprocess.run(
        ["bash", "-c", f'exec "$@" {stream}{"<" if stream == 0 else ">"}&-', "bash", *COMMAND, *arguments],
        env=environment(), capture_output=True, check=False,
    )  # fmt: skip
    if stream == 0:
        assert one_error_line(run) == "netemu: standard input: is closed"
    else:
        assert run.returncode == 0
        assert len(seen_in(tmp_path / "out.pcap")) == 24
    assert b"Traceback" not in run.stderr


# Terminals ------------------------------------------------------------------------------------------------------------


def on_a_terminal(
    *arguments: str | Path, columns: int = 80, stdin: bool = False, interrupt_at: str = "", **env: str
) -> tuple[int, str, str]:
    """Run with standard error and output on a terminal; the status, all that was printed, and what of it stays there.

    Once ``interrupt_at`` is seen, the process gets a SIGINT.
    """
    terminal, process_end = pty.openpty()
    import fcntl  # noqa: PLC0415
    import struct  # noqa: PLC0415
    import termios  # noqa: PLC0415

    fcntl.ioctl(process_end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        env={key: value for key, value in environment(TERM="xterm", **env).items() if key not in ("COLUMNS", "LINES")},
        stdin=process_end if stdin else subprocess.DEVNULL,
        stdout=process_end,
        stderr=process_end,
    )
    os.close(process_end)
    raw = b""
    try:
        while True:
            try:
                block = os.read(terminal, 65536)
            except OSError:  # the process has ended
                break
            if not block:
                break
            raw += block
            if interrupt_at and interrupt_at.encode() in raw:
                interrupt_at = ""
                process.send_signal(signal.SIGINT)
        status = process.wait(PATIENCE)
    finally:
        process.kill()
        process.wait()
        os.close(terminal)
    text = raw.decode().replace("\r\n", "\n")
    return status, text, plain(text)


def plain(text: str) -> str:
    """What stays on the screen: each line from its last return to its front on, without control sequences."""
    return "\n".join(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line.rpartition("\r")[2]) for line in text.split("\n"))


def report_of(*arguments: str | Path) -> str:
    run = netemu("replay", *arguments)
    assert (run.returncode, run.stderr) == (0, b"")
    return run.stdout.decode()


@pytest.mark.parametrize(
    "arguments",
    [
        [BASICS, PCAPS / "bad.pcap", PCAPS / "sizes.pcap", "--mode", "small", "--queues", "64"],
        [
            FLOWS,
            PCAPS / "web6.pcap",
            PCAPS / "fragments.pcap",
            "--queues",
            "4",
            "--driver",
            "linux-6.1",
            "--loop",
            "300",
        ],
        [PCAPS / "big-tcp.pcap", PCAPS / "sizes.pcap", "--mode", "big", "--queue-size", "16", "--no-buffer", "drop"],
    ],
)
def test_the_report_fits_80_columns_and_is_plain_text(arguments: list[str | Path]) -> None:
    report = report_of(*arguments)
    assert max(len(line) for line in report.splitlines()) < 80
    assert re.search(r"[^\n -~]", report) is None
    assert all(line == line.rstrip() for line in report.splitlines())


def test_the_report_lines_up_whatever_the_numbers() -> None:
    from netemu.cli.replay_report import report  # noqa: PLC0415
    from netemu.reasons import DropReason  # noqa: PLC0415

    queue = dict.fromkeys(("packets", "buffers", "descriptors", "interrupts", "polls", "refills"), 98_765_432_109)
    figures = {
        "frames_in": 98_765_432_109, "bytes_in": 9_876_543_210_987, "frames_out": 1, "bytes_out": 0,
        "dropped": {reason.key: 98_765_432_109 for reason in DropReason},
        "seconds": 123456.7891234, "frames_per_second": 98_765_432, "interrupted": True,
        "driver": "linux-7.0", "mode": "mergeable", "queue_size": 1024,
        "features": ["MRG_RXBUF"], "merged": 0, "sent_by_xdp": 0, "sent": {}, "quirks": {}, "made_up": 0,
        "refused": {"tables": 98_765_432_109}, "queues": [queue] * 64,
        "ethtool": {"rx63_xdp_redirects": 98_765_432_109}, "netdev": {}, "broken": ["a word " * 30], "offloads": {},
        "snmp": {"Icmp6InNeighborAdvertisements": 123_456_789, "Ip6InOctets": 98_765_432_109_876, "TcpInSegs": 1},
    }  # fmt: skip
    lines = report(figures).splitlines()
    assert max(len(line) for line in lines) < 80
    table = lines[lines.index("linux-7.0, mergeable buffers, rings of 1024") + 1 :][:65]
    ends = {tuple(word.end() for word in re.finditer(r"\S+", line)) for line in table}
    assert len(ends) == 1  # every column of heading and rows ends at the same place
    for reason in DropReason:
        assert any(f"98,765,432,109  {reason.key}: " in line for line in lines)


def test_progress_is_shown_on_a_terminal_only() -> None:
    """It starts after a second; Ctrl-C then ends a replay that would take hours."""
    arguments = ["replay", str(BASICS), "--loop", "100000000"]
    status, raw, screen = on_a_terminal(*arguments, interrupt_at="basics.pcap: ")
    assert status == 130
    assert re.search(r"\r\S*basics\.pcap: [ 0-9]{3} %, [0-9]+ s", raw)
    # it is wiped, and the report is as ever
    assert "basics.pcap" not in screen
    assert screen.lstrip("\n").startswith("frames in ")
    with started(*arguments) as process:
        time.sleep(2)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (130, b"")
    assert re.search(rb"[^\n -~]", out) is None


def test_show_cuts_its_lines_to_the_terminal(tmp_path: Path) -> None:
    netemu("replay", WEB, "-o", tmp_path / "way.pcapng", "--journey", "--limit", "12")
    for columns in (40, 80, 132):
        status, raw, screen = on_a_terminal("show", tmp_path / "way.pcapng", columns=columns)
        assert status == 0
        assert "\x1b" not in raw
        assert max(len(line) for line in screen.splitlines()) <= columns
        assert "0x400" in screen
    whole = netemu("show", tmp_path / "way.pcapng").stdout.decode()
    assert max(len(line) for line in whole.splitlines()) > 150


def test_captures_are_not_for_terminals() -> None:
    status, _, screen = on_a_terminal("replay", BASICS, "-o", "-", columns=200)
    assert status == 1
    assert screen.strip() == (
        "netemu: standard output is a terminal, which cannot show a capture: name a file, or use a pipe"
    )
    for command in ("replay", "show"):
        status, _, screen = on_a_terminal(command, "-", columns=200, stdin=True)
        assert status == 1
        assert screen.strip().startswith("netemu: standard input is a terminal")
