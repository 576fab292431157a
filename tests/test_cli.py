"""The command as such: help, arguments that are wrong, and how it starts."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from netemu.cli import COMMANDS
from tests.replay_kit import environment, netemu, one_error_line
from tests.support import PCAPS

BASICS = str(PCAPS / "basics.pcap")


@pytest.mark.parametrize("arguments", [[], ["replay"], ["show"], ["tap"], ["wireshark"], ["wireshark", "install"]])
def test_help_fits_80_columns(arguments: list[str]) -> None:
    run = netemu(*arguments, "--help")
    assert (run.returncode, run.stderr) == (0, b"")
    text = run.stdout.decode()
    assert max(len(line) for line in text.splitlines()) <= 80
    assert text.startswith("Usage: netemu")
    assert "Example" in text
    assert netemu(*arguments, "-h").stdout.decode() == text


def test_help_names_each_command_with_its_first_sentence() -> None:
    listing = netemu("--help").stdout.decode()
    for command, words in COMMANDS.items():
        assert re.search(rf"^  {command} +{re.escape(words)}$", listing, re.MULTILINE)
        assert words in netemu(command, "--help").stdout.decode()


def test_every_option_of_the_examples_exists() -> None:
    """The examples that help prints, and the limits it names, are true."""
    text = netemu("replay", "--help").stdout.decode()
    options = set(re.findall(r"^ +(?:-\w, )?(--[a-z-]+)", text, re.MULTILINE))
    assert options >= {"--output", "--mode", "--queue-size", "--queues", "--driver", "--limit", "--loop", "--burst"}
    assert set(re.findall(r"--[a-z-]+", text.partition("Examples:")[2])) <= options
    for limit in (["--queue-size", "1024"], ["--queues", "64"]):
        assert netemu("replay", BASICS, *limit).returncode == 0


def test_without_a_command_it_prints_help() -> None:
    run = netemu()
    assert run.returncode == 2
    assert run.stdout == b""
    assert "replay" in run.stderr.decode()


def test_version() -> None:
    assert netemu("--version").stdout.decode().strip() == f"netemu, version {version('virtio-netemu')}"
    assert netemu("-V").returncode == 0


def test_help_and_wrong_arguments_load_nothing_heavy() -> None:
    code = (
        "import sys; from netemu.cli import main\n"
        "sys.argv = ['netemu', 'replay', *sys.argv[1:]]\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(*sorted({'numba', 'numpy', 'scapy', 'rich', 'llvmlite'} & set(sys.modules)), file=sys.stderr)\n"
    )
    for arguments in (["--help"], ["--nonsense"], ["--mode", "fast", "in.pcap"]):
        run = subprocess.run(
            [sys.executable, "-c", code, *arguments], env=environment(), capture_output=True, text=True, check=True
        )
        assert run.stderr.splitlines()[-1] == ""


WRONG = {
    "unknown command": (["frobnicate"], 2, "No such command 'frobnicate' (try 'netemu --help')"),
    "unknown option": (["replay", BASICS, "--xyzzy"], 2, "No such option '--xyzzy'"),
    "no input": (["replay"], 2, "Missing argument 'IN...' (try 'netemu replay --help')"),
    "no file to show": (["show"], 2, "Missing argument 'FILE' (try 'netemu show --help')"),
    "mode": (["replay", BASICS, "--mode", "fast"], 2, "'fast' is not one of 'mergeable', 'small', 'big'"),
    "driver": (["replay", BASICS, "--driver", "linux-2.4"], 2, "'linux-2.4' is not one of 'linux-4.19', 'linux-6.1'"),
    "queue size 0": (["replay", BASICS, "--queue-size", "0"], 1, "from 1 to 32768, not 0"),
    "queue size 3": (["replay", BASICS, "--queue-size", "3"], 1, "a power of two"),
    "queue size 100000": (["replay", BASICS, "--queue-size", "100000"], 1, "from 1 to 32768, not 100000"),
    "queue size -1": (["replay", BASICS, "--queue-size", "-1"], 1, "from 1 to 32768, not -1"),
    "queue size x": (["replay", BASICS, "--queue-size", "x"], 2, "'x' is not a valid integer"),
    "queues 0": (["replay", BASICS, "--queues", "0"], 1, "1 to 64 queue pairs, not 0"),
    "queues 1000": (["replay", BASICS, "--queues", "1000"], 1, "1 to 64 queue pairs, not 1000"),
    "burst 0": (["replay", BASICS, "--burst", "0"], 2, "0 is not in the range x>=1"),
    "loop 0": (["replay", BASICS, "--loop", "0"], 2, "0 is not in the range x>=1"),
    "limit -1": (["replay", BASICS, "--limit", "-1"], 2, "-1 is not in the range x>=0"),
    "frames 0": (["show", BASICS, "--frames", "0"], 2, "0 is not in the range x>=1"),
    "stdin twice": (["replay", "-", "-"], 1, "standard input can be played only once"),
    "stdin in a loop": (["replay", "-", "--loop", "2"], 1, "name a file to use --loop"),
    "wireshark nothing": (["wireshark", "frobnicate"], 2, "No such command 'frobnicate'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments_are_one_line(case: str) -> None:
    arguments, status, words = WRONG[case]
    run = netemu(*arguments)
    line = one_error_line(run)
    assert words in line
    assert ". (" not in line
    assert (run.returncode, run.stdout) == (status, b"")


def test_an_odd_queue_size_destroys_no_output(tmp_path: Path) -> None:
    (tmp_path / "out.pcapng").write_bytes(b"precious")
    assert netemu("replay", BASICS, "-o", tmp_path / "out.pcapng", "--queue-size", "3").returncode == 1
    assert (tmp_path / "out.pcapng").read_bytes() == b"precious"


def test_a_narrow_character_set_is_no_obstacle(tmp_path: Path) -> None:
    """A file name that the locale cannot print is still named."""
    run = netemu("replay", tmp_path / "文.pcap", env=environment(PYTHONIOENCODING="latin-1", PYTHONUTF8="0"))
    assert one_error_line(run).endswith("\\u6587.pcap: no such file")


def test_warnings_would_be_seen() -> None:
    """The runs of these tests show Python's warnings, so an empty standard error says that there were none."""
    assert environment()["PYTHONWARNINGS"] == "default"
