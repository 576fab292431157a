"""What the figures were taken on: processor, kernel, versions. Facts that make no difference to them stay out."""

from __future__ import annotations

import os
import platform
import re
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from bench.errors import BenchError
from bench.measure import run

VERSION = re.compile(r"\d+\.\d+[\w.]*")
RIVALS = {
    "editcap": ["editcap", "--version"],
    "tcpreplay": ["tcpreplay", "--version"],
    "ns-3": ["pkg-config", "--modversion", "ns3-core"],
    "DPDK": ["dpdk-testpmd", "-v", "--no-huge", "-m", "64", "--no-pci", "--no-shconf", "--", "--help"],
}


def facts(folder: Path) -> dict[str, str]:
    """Return what is worth knowing beside the figures, by name; ``folder`` is where the captures lie."""
    found = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "processor": processor(),
        "processors": str(len(os.sched_getaffinity(0))),
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 1e9:.0f} GB",
        "kernel": f"{platform.system()} {platform.release()}",
        "file system": filesystem(folder),
        "load at the start": f"{os.getloadavg()[0]:.2f}",
        "Python": platform.python_version(),
    }
    for package in ("numba", "numpy", "virtio-netemu", "ns.py"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found | {name: version(command, folder) for name, command in RIVALS.items()}


def processor() -> str:
    """Return the model of the processor as Linux names it."""
    with Path("/proc/cpuinfo").open(encoding="utf-8") as file:
        models = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    return models[0] if models else platform.machine()


def filesystem(folder: Path) -> str:
    """Return the kind of file system that a folder is on."""
    try:
        return run(["findmnt", "--noheadings", "--output", "FSTYPE", "--target", folder, "--first-only"]).output.strip()
    except BenchError:
        return "unknown"


def version(command: list[str], folder: Path) -> str:
    """Return the version a program tells of itself, or that it is absent."""
    try:
        told = run(["sh", "-c", '"$@" 2>&1', "sh", *command], cwd=folder, env={"RUNTIME_DIRECTORY": "."}).output
    except BenchError:
        return "not installed"
    found = VERSION.search(told)
    return found[0] if found else "unknown"
