"""Fixtures for all tests."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

# No test is about time, and machines are shared: slow examples are no fault.
settings.register_profile("netemu", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("netemu")


@pytest.fixture
def absent_programs_fail() -> None:
    """Fail a test whose outside program is absent, where NETEMU_REQUIRE_TOOLS=1 says that none may be."""
    pytest.fail("an outside program is absent, and NETEMU_REQUIRE_TOOLS=1 demands all of them (see tests/support.py)")
