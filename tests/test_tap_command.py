"""``netemu tap``: a guest that Linux talks to, and what the command says when it cannot be."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.replay_kit import environment, netemu, one_error_line
from tests.support import PCAPS, needs
from tests.tap_kit import Namespace, linux

COMMAND = [sys.executable, "-m", "netemu", "tap", "tap0"]
ADDRESS = "10.9.0.2"


@pytest.fixture
def host() -> Iterator[Namespace]:
    with linux() as namespace:
        yield namespace


class Running:
    """The command as it runs on a Linux host."""

    def __init__(self, host: Namespace, *options: str, stack: str = f"{ADDRESS}/24") -> None:
        self.process = subprocess.Popen(
            host.command(*COMMAND, "--stack", stack, *options),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        assert self.process.stderr is not None
        self.greeting = self.process.stderr.readline()
        while not self.greeting.endswith("Ctrl-C ends it\n"):
            line = self.process.stderr.readline()
            assert line, self.greeting
            self.greeting += line

    def interrupt(self, number: signal.Signals = signal.SIGINT) -> str:
        """End it from outside; what it printed."""
        self.process.send_signal(number)
        out, errors = self.process.communicate(timeout=30)
        assert self.process.returncode == 0, errors
        return out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_answers_until_it_is_interrupted(host: Namespace, number: signal.Signals) -> None:
    running = Running(host, "--host-address", "10.9.0.1/24")
    assert "3 received" in host.run("ping", "-c", "3", "-i", "0.05", "-W", "5", ADDRESS)
    said = running.interrupt(number)
    assert re.search(r"^ +3 IcmpInEchos$", said, re.MULTILINE)
    assert max(len(line) for line in said.splitlines()) <= 80
    assert "tap0" not in host.run("ip", "-brief", "link")


@needs("curl")
def test_it_serves_a_folder_and_captures(host: Namespace, tmp_path: Path) -> None:
    capture, got = tmp_path / "seen.pcapng", tmp_path / "got"
    options = ["--host-address", "10.9.0.1/24", "--serve", f"http:{PCAPS}", "--link", "delay 5ms loss 1%", "--json"]
    running = Running(host, *options, "--capture", str(capture))
    host.run("curl", "-sSf", "-o", str(got), f"http://{ADDRESS}/web.pcapng")
    figures = json.loads(running.interrupt())
    assert got.read_bytes() == (PCAPS / "web.pcapng").read_bytes()
    assert figures["from_linux"]["frames"] > 10
    assert figures["to_linux"]["bytes"] > got.stat().st_size
    assert figures["guest"]["TcpPassiveOpens"] == 1
    assert netemu("show", str(capture), "--frames", "1").returncode == 0


def test_it_ends_by_itself(host: Namespace) -> None:
    running = Running(host, "--duration", "0.2")
    out, _ = running.process.communicate(timeout=30)
    assert running.process.returncode == 0
    assert "went to Linux" in out


def test_it_says_what_is_left_to_do(host: Namespace) -> None:
    running = Running(host, "--duration", "60", stack="2001:db8:9::2/64")
    assert running.process.stderr is not None
    told = [running.process.stderr.readline() for _ in range(2)]
    assert told == ["for this machine to reach it:\n", "  ip address add 2001:db8:9::1/64 dev tap0\n"]
    running.interrupt()


def test_a_device_that_is_taken_away_ends_it(host: Namespace) -> None:
    running = Running(host)
    host.run("ip", "link", "delete", "tap0")
    _, errors = running.process.communicate(timeout=30)
    assert running.process.returncode == 1
    assert errors.splitlines()[-1].startswith("netemu: tap0: ")
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--stack", "10.9.0.2"], "--stack 10.9.0.2: the prefix is missing, as in 10.9.0.2/24"),
        (["--stack", "fe80::x/64"], "--stack fe80::x/64: not an address with its prefix"),
        (["--stack", "10.9.0.2/24", "--host-address", "10.9.0.1"], "--host-address 10.9.0.1: the prefix is missing"),
        (["--stack", "10.9.0.2/24", "--link", "dealy 1ms"], "dealy"),
        (["--stack", "10.9.0.2/24", "--serve", "htp"], "htp"),
        (["--stack", "10.9.0.2/24", "--serve", "http:/nowhere"], "/nowhere"),
        (["--stack", "10.9.0.2/24", "--mac", "01:02"], "01:02"),
    ],
)
def test_a_mistake_is_told_in_a_line(host: Namespace, options: list[str], words: str) -> None:
    done = subprocess.run(
        host.command(*COMMAND, *options), capture_output=True, env=environment(), timeout=120, check=False
    )
    assert done.returncode in (1, 2)
    assert words in one_error_line(done)
    assert "tap0" not in host.run("ip", "-brief", "link")


def test_a_user_without_rights_is_told_what_to_do(host: Namespace, tmp_path: Path) -> None:
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]
    del tmp_path
    done = subprocess.run(
        host.command(*nobody, *COMMAND, "--stack", "10.9.0.2/24"),
        capture_output=True,
        env={**environment(), "HOME": os.devnull},
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert "no right to use tap0: run as root, or let root make it for you" in one_error_line(done)
