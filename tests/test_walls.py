"""The walls between the parts of netemu, as docs/architecture.md draws them: who may import whom."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support import REPO

SOURCE = REPO / "netemu"

# A part is a folder or a file at the top of netemu. Of the package it may import itself and what stands here.
MAY_IMPORT = {
    "errors": "",
    "reasons": "",
    "jit": "",  # knows Numba, and nothing of networks
    "memory": "errors jit",
    "offer": "errors virtio",
    "chance": "jit",
    "pressure": "chance errors jit",
    "pages": "jit memory pressure",
    "checksum": "jit",
    "frame": "jit",
    "quirks": "chance errors jit",
    "offload": "checksum errors frame jit virtio",  # frames as bytes: nothing of rings, skbs or files
    "skb": "checksum jit memory pages pressure",
    "fates": "jit outstanding",
    "outstanding": "jit",
    "xdp": "errors jit pages skb",  # what a user's program sees
    "gro": "checksum fates jit pages skb",  # TCP segments over skbs: nothing of virtio
    "trace": "jit skb",
    "ways": "fates reasons trace",
    "virtio": "errors jit",  # the specification: no packet, no Linux, no I/O
    "device": "errors frame jit memory offload quirks virtio",  # the host: never the driver
    "driver": "checksum errors fates jit memory pages pressure quirks reasons skb virtio xdp",  # never the device
    "timers": "errors jit",
    "net": "capture chance checksum errors frame jit offload skb stack timers",  # links: nothing of rings
    "stack": "chance checksum errors jit skb timers",  # protocols over skbs: nothing of virtio
    "samples": "",
    "services": "aio chance errors jit stack traffic",  # what guests offer each other
    "traffic": "aio chance errors jit net samples skb stack timers",  # sources and sinks in kernels
    "aio": "errors jit net samples stack timers",  # sockets in asyncio's manner
    "peers": "aio errors frame jit net stack timers",  # what is not netemu: the only part beside capture with I/O
    "capture": "errors frame jit",  # files of frames: nothing of virtio or skbs
    "expect": "errors samples",  # expectations in words: nothing of how a run is done
    "job": "capture errors",  # what the jobs over files share
    "wireshark": "errors",
}

# These join the parts, and may import all that does not import them.
JOINTS = {"__init__", "__main__", "cli", "engine", "explain", "lab", "nic", "replay", "scenario", "wire"}

# Packages that only one part may import.
ONLY_IN = {"numba": "jit", "llvmlite": "jit", "click": "cli", "pydantic": "scenario", "pydantic_core": "scenario"}

# Packages that take long to load: imported by the function that needs them, never with a module.
ONLY_WHEN_USED = {"scapy", "rich"}

# The host, the guest and their protocols are fed bytes and time: files, sockets, clocks and threads are for others.
NO_IO = {"checksum", "device", "driver", "engine", "memory", "offload", "pages", "skb", "stack", "trace", "virtio"}
NO_IO |= {"chance", "fates", "gro", "net", "nic", "outstanding", "pressure", "timers", "ways", "xdp"}
IO = {"asyncio", "io", "os", "pathlib", "random", "select", "socket", "subprocess", "threading", "time"}

# What a start of the command line must not load.
NOT_AT_START = ["numpy", "numba", "llvmlite", "scapy", "rich", "pydantic"]


class Import(NamedTuple):
    """One import: the part that has it, the module it names, whether it stands outside all functions, and where."""

    part: str
    module: str
    at_top: bool
    where: str

    @property
    def target(self) -> str | None:
        """The part of netemu that is imported, or None for a package from outside."""
        names = self.module.split(".")
        return None if names[0] != "netemu" else names[1] if len(names) > 1 else "__init__"


def imports_of(source: str, part: str, where: str) -> Iterator[Import]:
    """All imports in a source text, those inside functions included; `from netemu import x` counts as netemu.x."""

    def walk(node: ast.AST, *, at_top: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            place = f"{where}:{getattr(child, 'lineno', 0)}"
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(part, alias.name, at_top, place)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{place}: a relative import"
                assert child.module is not None
                if child.module == "netemu":
                    for alias in child.names:
                        yield Import(part, f"netemu.{alias.name}", at_top, place)
                else:
                    yield Import(part, child.module, at_top, place)
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from walk(child, at_top=at_top and not inside)

    return walk(ast.parse(source), at_top=True)


def part_of(path: Path) -> str:
    top = path.relative_to(SOURCE).parts[0]
    return top.removesuffix(".py")


FILES = sorted(SOURCE.rglob("*.py"))
ALL = [one for path in FILES for one in imports_of(path.read_text(), part_of(path), str(path.relative_to(REPO)))]


def trespasses(imports: list[Import]) -> list[str]:
    """Where an import crosses a wall."""
    return [
        f"{one.where}: {one.part} imports {one.module}"
        for one in imports
        if one.target is not None
        and one.part in MAY_IMPORT
        and one.target not in {one.part, *MAY_IMPORT[one.part].split()}
    ]


def test_every_part_has_its_line() -> None:
    parts = {part_of(path) for path in FILES}
    assert parts - MAY_IMPORT.keys() - JOINTS == set()
    assert MAY_IMPORT.keys() | JOINTS == parts


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_a_part_imports_no_more_than_its_line_says(part: str) -> None:
    assert trespasses([one for one in ALL if one.part == part]) == []


@pytest.mark.parametrize("package", ONLY_IN)
def test_a_package_is_imported_by_one_part_alone(package: str) -> None:
    users = {one.part for one in ALL if one.module.split(".")[0] == package}
    assert users == {ONLY_IN[package]}


@pytest.mark.parametrize("part", sorted(NO_IO))
def test_a_state_machine_does_no_input_and_output(part: str) -> None:
    assert [one.where for one in ALL if one.part == part and one.module.split(".")[0] in IO] == []


@pytest.mark.parametrize("package", sorted(ONLY_WHEN_USED))
def test_a_heavy_package_is_imported_when_it_is_used(package: str) -> None:
    assert [one.where for one in ALL if one.module.split(".")[0] == package and one.at_top] == []


def test_parts_do_not_import_each_other_in_a_circle() -> None:
    """Imports inside functions count too. The package itself and its command are left out: nobody below names them."""
    needs: dict[str, set[str]] = {}
    for one in ALL:
        if one.target is not None and one.target != one.part and one.part not in {"__init__", "__main__"}:
            assert one.target != "cli", one.where
            needs.setdefault(one.part, set()).add(one.target)
    done: set[str] = set()

    def visit(part: str, path: tuple[str, ...]) -> None:
        assert part not in path, " imports ".join([*path[path.index(part) :], part])
        if part not in done:
            for target in sorted(needs.get(part, ())):
                visit(target, (*path, part))
            done.add(part)

    for part in sorted(needs):
        visit(part, ())


@pytest.mark.parametrize(
    ("part", "source"),
    [
        ("device", "import netemu.driver.probe"),
        ("driver", "from netemu.device import net"),
        ("virtio", "from netemu import skb"),
        ("stack", "def late():\n    from netemu.virtio.net import GSO_NONE"),
        ("capture", "if True:\n    import netemu.stack"),
        ("jit", "class A:\n    from netemu.errors import NetemuError"),
    ],
)
def test_a_hole_in_a_wall_is_seen(part: str, source: str) -> None:
    assert len(trespasses(list(imports_of(source, part, "here")))) == 1


# What really gets loaded.


def loaded_by(code: str) -> set[str]:
    """The modules that are there after running ``code`` in a fresh Python."""
    code += "\nimport sys; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPO)
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("import netemu", id="the-package"),
        pytest.param("import netemu.cli", id="the-command-line"),
        pytest.param(
            "import sys, netemu.cli\nsys.argv = ['netemu', '--help']\n"
            "try: netemu.cli.main()\nexcept SystemExit as stop: assert stop.code == 0",
            id="netemu-help",
        ),
    ],
)
def test_a_start_loads_nothing_heavy(code: str) -> None:
    assert loaded_by(code) & set(NOT_AT_START) == set()


def test_without_compilation_numba_is_not_loaded() -> None:
    code = "import os; os.environ['NETEMU_JIT'] = '0'\nimport netemu.nic"
    assert loaded_by(code) & {"numba", "llvmlite"} == set()


def test_the_device_lives_without_a_driver_and_the_driver_without_a_device() -> None:
    """The device's own tests, too, bring it up by hand."""
    device = loaded_by("import netemu.device.net, netemu.device.receive, netemu.device.transmit, tests.device_kit")
    assert not any(name.startswith("netemu.driver") for name in device)
    driver = loaded_by("import netemu.driver.probe, netemu.driver.receive, netemu.driver.transmit")
    assert not any(name.startswith("netemu.device") for name in driver)
