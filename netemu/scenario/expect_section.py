"""``[[expect]]`` in a scenario: expectations as texts, with what they are about and why."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator

from netemu.scenario.topology import Section
from netemu.scenario.values import listed_or_one


class ExpectSection(Section):
    """``[[expect]]``: what has to be true when the run is over."""

    that: Annotated[list[str], BeforeValidator(listed_or_one)]
    """An expectation, or several: "loss <= 1 %"."""
    of: str = ""
    """What they are about, if they do not say it themselves: traffic, a guest, a link."""
    why: str = ""
    """A reason, printed where one does not hold."""
