"""README.md promises nothing that does not run: its commands, its library example, the files it names."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from netemu.driver.eras import ERAS
from netemu.offer import MODES
from tests.replay_kit import environment, netemu
from tests.support import REPO

README = (REPO / "README.md").read_text()
PROSE = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
SHELL = [line[4:] for line in PROSE.splitlines() if re.match(r"    \S", line)]
"""The lines of its indented blocks."""
COMMANDS = [shlex.split(line, comments=True)[1:] for line in SHELL if line.startswith("netemu ")]
ELSEWHERE = {"tap": "test_tap_command.py"}
"""Commands that need more than a folder to run in, and the tests that run them."""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the bundled captures and examples, where commands of the README leave what they write."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("pcaps", "examples"):
        (folder / name).symlink_to(REPO / name)
    return folder


def test_the_commands_run_in_their_order(checkout: Path) -> None:
    assert len(COMMANDS) >= 5
    config = checkout / "config"
    for arguments in COMMANDS:
        if arguments[0] in ELSEWHERE:
            assert (REPO / "tests" / ELSEWHERE[arguments[0]]).exists()
            continue
        env = environment(HOME=str(config), XDG_CONFIG_HOME=str(config), XDG_DATA_HOME=str(config))
        env = env | {"NETEMU_CACHE_DIR": str(cache_root())}
        run = netemu(*arguments, cwd=checkout, env=env)
        assert (run.returncode, run.stderr) == (0, b""), arguments
        assert run.stdout


def cache_root() -> Path:
    """Where compiled kernels are kept now: the README's commands run in another HOME."""
    from netemu.jit import cache  # noqa: PLC0415

    folder = cache.folder()
    return folder.parent if folder else Path("/nonexistent")


def test_the_other_commands_exist() -> None:
    targets = re.findall(r"^([a-z]+):", (REPO / "Makefile").read_text(), re.MULTILINE)
    for line in SHELL:
        words = line.split()
        if words[0] == "make":
            assert words[1] in targets
        else:
            assert words[0] in ("netemu", "wireshark", "ping", "curl"), f"nothing tests this line: {line}"


def test_commands_within_the_text() -> None:
    """Such as a pipe: its options exist."""
    known = netemu("replay", "--help").stdout.decode()
    for code in re.findall(r"`([^`\n]*netemu replay[^`\n]*)`", README):
        (call,) = re.findall(r"netemu replay ([^|]*)", code)
        for option in re.findall(r"--[a-z-]+", call):
            assert option in known
    assert re.search(r"`--json`", README)


def test_the_library_examples_run(checkout: Path) -> None:
    said = []
    for code in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        run = subprocess.run(
            [sys.executable, "-W", "error", "-c", code],
            cwd=checkout, env=environment(), capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
        assert (run.returncode, run.stderr) == (0, "")
        said.append(run.stdout.splitlines())
    lab, lines = said
    assert lab[0] == "3 requests to 10.0.0.2, 3 answered, 0% loss"
    assert lab[2].startswith("b'HELLO\\n' after ")
    assert len(lines) == 38 + 1  # frames of web.pcapng (pcaps/README.md), and what was dropped
    assert lines[0] == "42 bytes in 1 buffers, 0 frags"


def test_the_files_it_names_are_there() -> None:
    named = set(re.findall(r"`((?:docs|pcaps|examples|tests)/[\w./-]*)`", README)) | set(
        re.findall(r"\]\(([\w./-]+)\)", README)
    )
    assert named
    assert [name for name in sorted(named) if not (REPO / name).exists()] == []


def test_kernels_and_modes_it_names() -> None:
    for era in ERAS:
        assert era in README
    for mode in MODES:
        assert mode in README
