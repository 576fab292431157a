"""A real Linux host for a lab to talk to: a network namespace of its own, and a TAP device in it.

The namespace belongs to a process that ends when its standard input does: nothing is left behind, however a test ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import REQUIRE_TOOLS

CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)


class Namespace:
    """A network namespace: programs run in it, and this process can look in."""

    def __init__(self) -> None:
        self._holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "ip link set lo up; echo ready; exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        assert self._holder.stderr is not None
        if self._holder.stdout.readline() != b"ready\n":
            raise OSError(self._holder.stderr.read().decode().strip())
        self.path = f"/proc/{self._holder.pid}/ns/net"

    def command(self, *words: str) -> list[str]:
        """The command that runs a program in here."""
        return ["nsenter", f"--net={self.path}", *words]

    def run(self, *words: str, timeout: float = 30) -> str:
        """Run a program in here; what it printed."""
        done = subprocess.run(self.command(*words), capture_output=True, text=True, timeout=timeout, check=False)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr or done.stdout}"
        return done.stdout

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """What this thread opens meanwhile belongs to the namespace, and stays usable outside."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(self.path, os.O_RDONLY)
        try:
            _enter(there)
            try:
                yield
            finally:
                _enter(home)
        finally:
            os.close(home)
            os.close(there)

    def close(self) -> None:
        """End it."""
        self._holder.communicate(timeout=10)


def _enter(namespace: int) -> None:
    if _LIBC.setns(namespace, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def why_not() -> str:
    """Why no TAP device can be made here; empty if it can."""
    if not Path("/dev/net/tun").exists():
        return "no /dev/net/tun"
    if os.geteuid() != 0:
        return "not root: no network namespace, no TAP device"
    try:
        namespace = Namespace()
    except OSError as error:
        return f"no network namespace: {error}"
    namespace.close()
    return ""


@contextlib.contextmanager
def linux() -> Iterator[Namespace]:
    """A namespace for as long as the block; the test is skipped where there can be none."""
    reason = why_not()
    if reason:
        # A machine that cannot do it is no missing program; NETEMU_REQUIRE_TOOLS=1 stands for CI, which can.
        (pytest.fail if REQUIRE_TOOLS and os.geteuid() == 0 else pytest.skip)(reason)
    namespace = Namespace()
    try:
        yield namespace
    finally:
        namespace.close()
