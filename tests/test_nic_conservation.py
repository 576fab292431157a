"""Whatever a card is told to do, and in whatever order: nothing is lost, and no foreign memory is touched."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conservation import KINDS, Step, run
from tests.support import REPO

SETUPS = st.fixed_dictionaries(
    {
        "mode": st.sampled_from(["mergeable", "big", "small"]),
        "driver": st.sampled_from(["linux-4.19", "linux-6.1", "linux-7.0"]),
        "ring": st.sampled_from(["split", "packed"]),
        "queues": st.sampled_from([1, 2]),
        "gro": st.booleans(),
        "wait": st.booleans(),
        "pressure": st.sampled_from([[], ["skbs:p=0.2,seed=1"], ["pages:every=3"], ["tables:p=0.5,seed=1"]]),
    }
)
STEPS: st.SearchStrategy[list[Step]] = st.lists(
    st.tuples(st.sampled_from(KINDS), st.integers(0, 40), st.integers(20, 3000)), max_size=12
)


@given(SETUPS, STEPS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_everything_comes_back(setup: dict[str, Any], steps: list[Step]) -> None:
    """Pages, skbs, indirect tables, descriptors, the senders' accounts; and every frame is accounted for."""
    run(steps, queue_size=64, **setup)


SCRIPT = """
from tests.conservation import run
steps = [
    ("receive", 5, 60), ("attach", 0, 0), ("exchange", 9, 300), ("resize", 1, 2), ("exchange", 9, 2900),
    ("send", 5, 200), ("resize", 3, 3), ("detach", 0, 0), ("receive", 6, 1500), ("sleep", 0, 0), ("exchange", 4, 70),
    ("break", 0, 7),
    ("bounce", 0, 0), ("break", 1, 7), ("link", 0, 0), ("send", 2, 100), ("link", 1, 0), ("send", 2, 90),
]
run(steps, queue_size=32, mode={mode!r}, ring={ring!r}, driver={driver!r})
"""


@pytest.mark.parametrize(
    ("mode", "ring", "driver"),
    [("small", "split", "linux-4.19"), ("big", "packed", "linux-6.1"), ("mergeable", "split", "linux-7.0")],
)
def test_no_other_memory_is_touched(mode: str, ring: str, driver: str) -> None:
    """The same as plain Python, which checks each load and store against the memory that was handed out."""
    script = SCRIPT.format(mode=mode, ring=ring, driver=driver)
    environment = os.environ | {"NETEMU_JIT": "0"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=REPO, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
