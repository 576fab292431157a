"""A real Linux host for a lab to talk to: a network namespace of its own, and a TAP device in it.

The namespace belongs to a process that ends when its standard input does: nothing is left behind, however a test ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from netemu.aio import EmulatedLoop
from netemu.net.link import Link
from netemu.net.options import LinkOptions
from netemu.net.world import World
from netemu.peers.tap import TapPort
from netemu.peers.tun import Tun
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
        self._programs: list[subprocess.Popen[bytes]] = []

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

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """Start a program in here; it is killed at the end."""
        program = subprocess.Popen(self.command(*words), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self._programs.append(program)
        return program

    def wait_for_port(self, port: int) -> None:
        """Until a program in here listens on a TCP port."""
        for _ in range(200):
            if f":{port} " in self.run("ss", "--listening", "--tcp", "--numeric"):
                return
            time.sleep(0.05)
        raise AssertionError(f"nothing listens on port {port}")

    def close(self) -> None:
        """End it, and the programs that run in it."""
        for program in self._programs:
            program.kill()
            program.wait()
            assert program.stdout is not None
            program.stdout.close()
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


class Joined:
    """Two Linux hosts, 10.7.0.1 and 10.7.0.2, each behind a TAP device, and a link between these."""

    def __init__(self, left: Namespace, right: Namespace, options: LinkOptions | None = None, mtu: int = 1500) -> None:
        self.world = World()
        self.ports = []
        for number, namespace in enumerate((left, right), 1):
            with namespace.inside():
                device = Tun("tap7")
                device.bring_up(mtu)
            namespace.run("ip", "address", "add", f"10.7.0.{number}/24", "dev", "tap7")
            self.ports.append(TapPort(self.world, device, mtu=mtu))
        a, b = (each.port for each in self.ports)
        self.link = Link(self.world.timers, self.world.wires, a, b, options)
        self.world.run_until(0)  # compiled now, before time counts

    def run(self, namespace: Namespace, *words: str) -> str:
        """Run a program in one of the hosts while frames are carried; what it printed."""
        loop = EmulatedLoop(self.world, realtime=True)

        async def main() -> str:
            for port in self.ports:
                port.serve(loop)
            return await asyncio.to_thread(namespace.run, *words)

        try:
            return loop.run_until_complete(main())
        finally:
            for port in self.ports:
                port.close()
            loop.close()

    def all_buffers_are_back(self) -> bool:
        """Whether no frame was forgotten somewhere."""
        self.link.unplug()
        self.world.run_until(self.world.now + 10**9)  # some are on their way still
        for port in self.ports:
            port.drop_all()
        pool = self.world.wires.pool
        return [pool.small_count, pool.large_count] == self.world.wires.total
