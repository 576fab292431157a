"""What is expected of a run, in words: quantities that were measured, and frames that were seen or not.

`parse_expectation` reads one; `judge` says whether it held, and what was measured. Frames are described by a
`Predicate` (`parse_predicate`), in the manner of Wireshark's display filters. Nothing here knows how a run is done.
"""

from __future__ import annotations

from netemu.expect.expectation import Expectation, Quantity, Sighting, parse_expectation
from netemu.expect.measured import Measured
from netemu.expect.predicate import Predicate, parse_predicate
from netemu.expect.verdict import Verdict, judge

__all__ = [
    "Expectation",
    "Quantity",
    "Sighting",
    "parse_expectation",
    "Predicate",
    "parse_predicate",
    "Measured",
    "Verdict",
    "judge",
]
