"""All quirks there are, of device and driver: what `netemu quirks` lists and ``--quirk`` takes."""

from __future__ import annotations

from collections.abc import Iterable

from netemu.device.quirks import QUIRKS as DEVICE_QUIRKS
from netemu.driver.quirks import QUIRKS as DRIVER_QUIRKS
from netemu.quirks import parse_quirk

ALL_QUIRKS = (*DEVICE_QUIRKS, *DRIVER_QUIRKS)


def by_side(texts: Iterable[str]) -> tuple[list[str], list[str]]:
    """The rules for the device and those for the driver; raises `ConfigError` for a text that is no rule."""
    sides: dict[str, list[str]] = {"device": [], "driver": []}
    for text in texts:
        quirk, _ = parse_quirk(text, ALL_QUIRKS)
        sides[quirk.side].append(text)
    return sides["device"], sides["driver"]
