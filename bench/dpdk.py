"""The rows against DPDK: pcap -> vhost -> virtio-user -> pcap, two testpmd processes on a core each.

The first process reads a capture and gives it to its vhost device; what the device has no room for is dropped. The
second has the virtio-user driver at the other end and writes what it receives with the pcap driver. The rate is that
of frames written, over a window of time. Three ways: from the file that netemu replays to a file, which is netemu's
work and is judged; from a few frames held in memory, in an endless round, to a file; and from these to nowhere. The
last two leave out what netemu does too, and tell where DPDK's time goes. No process needs huge pages or PCI, and none
does anything outside the windows, so that they do not disturb netemu's turns.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from bench.errors import BenchError
from bench.files import work
from bench.inputs import Capture
from bench.measure import in_turn, kill
from bench.results import Limit, Line
from bench.session import Session, cores

LOOPED_FRAMES = 2048
"""The whole capture must fit testpmd's buffers."""
SETTLE_SECONDS = 0.3
START_SECONDS = 60.0
PROMPT = b"testpmd> "
FASTEST_BYTES_A_SECOND = 1_000_000_000
"""More than DPDK's pcap driver can write, for the check of free space."""


def dpdk(session: Session) -> list[Line]:
    """Compare frames a second with DPDK's vhost and virtio-user from pcap to pcap: netemu on one core, DPDK on two."""
    capture, looped = session.capture(session.frames, 64), session.capture(LOOPED_FRAMES, 64)
    core, other = cores(2)
    session.need_space(int(FASTEST_BYTES_A_SECOND * (session.window + 2 * SETTLE_SECONDS)))
    turns = count()
    both = (core, other)

    def from_the_file() -> float:
        # A capture ends, so each turn has processes of its own.
        with chain(session.folder / f"turn{next(turns)}", capture, "received.pcap", both, endless=False) as started:
            return started.mpps(session.window)

    with contextlib.ExitStack() as stack:
        to_file, to_null = (
            stack.enter_context(chain(session.folder / name, looped, sink, both, endless=True))
            for name, sink in (("to-file", "received.pcap"), ("to-null", os.devnull))
        )
        mpps = in_turn(
            session.turns,
            {
                "netemu": lambda: session.replay(capture, before=["taskset", "-c", str(other)]).mpps,
                "file to file": from_the_file,
                "to file": lambda: to_file.mpps(session.window),
                "to null": lambda: to_null.mpps(session.window),
            },
        )
    judged = Line(
        "dpdk",
        f"{work(capture)}, netemu on one core, DPDK on two",
        "Mpps",
        ours=mpps["netemu"],
        rival="DPDK, file to file",
        theirs=mpps["file to file"],
        limit=Limit("at least", 3.0, "x"),
        judged=session.full,
    )
    return [
        judged,
        replace(judged, rival="DPDK, memory to file", theirs=mpps["to file"], limit=None),
        replace(judged, rival="DPDK, memory to /dev/null", theirs=mpps["to null"], limit=None),
    ]


class Testpmd:
    """A testpmd process at its prompt, with its threads on one processor and ``devices`` as its virtual devices."""

    __test__ = False  # the name begins with Test, and pytest is not meant

    def __init__(self, folder: Path, name: str, core: int, devices: Sequence[str]) -> None:
        command = ["stdbuf", "-oL", "dpdk-testpmd", "--no-huge", "-m", "256", "--no-pci", "--no-shconf"]
        command += ["--file-prefix", name, "--lcores", f"0@{core},1@{core}"]
        for device in devices:
            command += ["--vdev", device]
        command += ["--", "-i", "--total-num-mbufs=32768", "--mbuf-size=2176", "--forward-mode=io"]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=folder,  # paths below are relative to it: a socket's path may have 107 bytes, no more
            env={**os.environ, "RUNTIME_DIRECTORY": "."},  # or it leaves folders behind in /var/run
            start_new_session=True,
        )

    def ask(self, command: str) -> str:
        """Give a command, and return what is said up to the next prompt."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # its last words follow
            self.process.stdin.write(command.encode() + b"\n")
            self.process.stdin.flush()
        return self.until_prompt()

    def until_prompt(self) -> str:
        """Return what is said up to the next prompt, or raise BenchError where none comes."""
        assert self.process.stdout is not None
        said, deadline = b"", time.monotonic() + START_SECONDS
        while not said.endswith(PROMPT):
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            more = os.read(self.process.stdout.fileno(), 65536) if ready else b""
            if not more:
                last = said.decode(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
                raise BenchError(f"dpdk-testpmd {'ended' if ready else 'does not answer'}: {last[0]}")
            said += more
        return said.decode(errors="replace")

    def close(self) -> None:
        """Kill the process."""
        kill(self.process)
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


@contextlib.contextmanager
def chain(folder: Path, capture: Capture, sink: str, on_cores: tuple[int, int], *, endless: bool) -> Iterator[Chain]:
    """Start two testpmd processes in a row, taking frames from ``capture`` to the file ``sink`` in a new ``folder``.

    ``endless`` holds the frames in memory and goes round; else they are read from the file, once.
    """
    folder.mkdir()
    again = ",infinite_rx=1" if endless else ""
    source = f"net_pcap0,rx_pcap={os.path.relpath(capture.path, folder)}{again},tx_pcap={os.devnull}"
    device = "net_vhost0,iface=vhost.sock,queues=1"
    driver = "net_virtio_user0,path=vhost.sock,queues=1,queue_size=256,mrg_rxbuf=1"
    with contextlib.ExitStack() as stack:

        def testpmd(name: str, core: int, *devices: str) -> Testpmd:
            started = Testpmd(folder, name, core, devices)
            stack.callback(started.close)
            started.until_prompt()
            return started

        first = testpmd("device", on_cores[0], source, device)
        yield Chain(first, testpmd("driver", on_cores[1], driver, f"net_pcap1,tx_pcap={sink}"), folder / sink)


@dataclass(frozen=True)
class Chain:
    """The process with the device, the one with the driver, and the file that frames are written to."""

    device: Testpmd
    driver: Testpmd
    sink: Path

    def mpps(self, window: float) -> float:
        """Let frames flow for ``window`` seconds and return how many million a second were written."""
        self.driver.ask("start")
        self.device.ask("start")
        time.sleep(SETTLE_SECONDS)
        first, start = self._written(), time.perf_counter()
        time.sleep(window)
        last, end = self._written(), time.perf_counter()
        self.device.ask("stop")
        self.driver.ask("stop")
        if self.sink.is_file():  # and not /dev/null
            os.truncate(self.sink, 0)
        if last == first:
            raise BenchError("no frame came through DPDK's vhost and virtio-user")
        return (last - first) / (end - start) / 1e6

    def _written(self) -> int:
        counted = re.search(r"TX-packets:\s+(\d+)", self.driver.ask("show port stats 1"))
        if not counted:
            raise BenchError("dpdk-testpmd shows no statistics of its pcap port")
        return int(counted[1])
