"""What tests share: marks for outside programs and captures, and where things lie."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent
PCAPS = REPO / "pcaps"
SHARED_PCAPS = REPO.parent / "shared" / "pcaps"

REQUIRE_TOOLS = os.environ.get("NETEMU_REQUIRE_TOOLS") == "1"
"""Under this switch a program that is absent fails its tests instead of skipping them."""


def needs(*programs: str) -> pytest.MarkDecorator:
    """Mark a test that runs outside programs: skipped, with the reason, where one is absent."""
    absent = [program for program in programs if shutil.which(program) is None]
    if absent and REQUIRE_TOOLS:
        return pytest.mark.usefixtures("absent_programs_fail")
    return pytest.mark.skipif(bool(absent), reason=f"not installed: {', '.join(absent)}")


def own_captures() -> list[Path]:
    """The captures of the project, sorted by name."""
    return sorted(path for path in PCAPS.glob("*.pcap*") if path.is_file())


def shared_captures() -> list[Path]:
    """Captures that nobody here made, where they are present beside the checkout."""
    return sorted(SHARED_PCAPS.rglob("*.pcap*")) if SHARED_PCAPS.is_dir() else []


needs_shared_pcaps = pytest.mark.skipif(not SHARED_PCAPS.is_dir(), reason="no ../shared/pcaps beside the checkout")
