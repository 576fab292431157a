"""Fixtures for all tests."""

from __future__ import annotations

import pytest


@pytest.fixture
def absent_programs_fail() -> None:
    """Fail a test whose outside program is absent, where NETEMU_REQUIRE_TOOLS=1 says that none may be."""
    pytest.fail("an outside program is absent, and NETEMU_REQUIRE_TOOLS=1 demands all of them (see tests/support.py)")
