"""The rows of the benchmark, in the order of the table."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass

from bench import dpdk, files, lab, offload, process, veth
from bench.errors import AbsentError, BenchError
from bench.results import Line, Unmeasured
from bench.session import Session


@dataclass(frozen=True)
class Row:
    """A row: its name on the command line, the function that measures it, and the programs this needs."""

    name: str
    measure: Callable[[Session], list[Line]]
    needs: tuple[str, ...] = ()

    @property
    def meaning(self) -> str:
        """What the row does, in a sentence."""
        return (self.measure.__doc__ or "").strip().splitlines()[0]


ROWS = (
    Row("editcap-64", files.editcap_64, ("editcap",)),
    Row("editcap-1500", files.editcap_1500, ("editcap",)),
    Row("tcpreplay", veth.tcpreplay, ("tcpreplay", "ip", "unshare")),
    Row("dpdk", dpdk.dpdk, ("dpdk-testpmd", "stdbuf", "taskset")),
    Row("memory", process.memory),
    Row("start-help", process.start_help),
    Row("start-warm", process.start_warm),
    Row("start-first", process.start_first),
    Row("to-wire", offload.to_wire, ("editcap",)),
    Row("modes", files.modes),
    Row("rings", files.rings),
    Row("indirect", files.indirect),
    Row("threads", files.threads),
    Row("lab-bulk", lab.lab_bulk, ("g++", "pkg-config")),
    Row("lab-flood", lab.lab_flood, ("g++", "pkg-config")),
    Row("lab-pings", lab.lab_pings, ("g++", "pkg-config")),
    Row("floor", files.floor, ("cat",)),
)


def measure(row: Row, session: Session) -> list[Line | Unmeasured]:
    """Measure a row; a rival that is absent skips it, or fails it where NETEMU_REQUIRE_TOOLS=1 is set."""
    try:
        need(row.needs)
        return [*row.measure(session)]
    except AbsentError as error:
        required = os.environ.get("NETEMU_REQUIRE_TOOLS") == "1"
        return [Unmeasured(row.name, "failed" if required else "skipped", str(error))]
    except (BenchError, OSError) as error:
        return [Unmeasured(row.name, "failed", str(error))]


def need(programs: tuple[str, ...]) -> None:
    """Raise AbsentError where one of the programs is not installed."""
    absent = [program for program in programs if shutil.which(program) is None]
    if absent:
        raise AbsentError(f"not installed: {', '.join(absent)}")
