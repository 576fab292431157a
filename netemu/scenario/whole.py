"""A scenario as a whole: its tables, and where in the file they stand."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path as FilePath

from netemu.expect import Expectation
from netemu.scenario.positions import Path
from netemu.scenario.topology import (
    CaptureSection,
    GuestSection,
    LabSection,
    LinkSection,
    RouterSection,
    SwitchSection,
)
from netemu.scenario.traffic_kinds import Traffic


@dataclass(frozen=True, slots=True)
class Expected:
    """An expectation as it stands in a file."""

    expectation: Expectation
    why: str
    where: Path


@dataclass
class Scenario:
    """A scenario that was read. Lists are in the order of the file; ``where`` finds lines for later mistakes."""

    path: str
    lines: dict[Path, int]
    lab: LabSection = field(default_factory=LabSection)
    guests: dict[str, GuestSection] = field(default_factory=dict)
    switches: dict[str, SwitchSection] = field(default_factory=dict)
    routers: dict[str, RouterSection] = field(default_factory=dict)
    links: list[tuple[Path, LinkSection]] = field(default_factory=list)
    traffic: list[tuple[Path, str, Traffic]] = field(default_factory=list)
    """With the name that each goes by."""
    captures: list[tuple[Path, CaptureSection]] = field(default_factory=list)
    expected: list[Expected] = field(default_factory=list)
    faulty: set[Path] = field(default_factory=set)
    """Tables that have mistakes of their own: what is missing there need not be missed."""

    @property
    def folder(self) -> FilePath:
        """Where the files lie that the scenario names."""
        return FilePath(self.path).parent
