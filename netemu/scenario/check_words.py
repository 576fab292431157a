"""Whether the words of a link are words, and go together, from the start and after each change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from netemu.errors import ConfigError
from netemu.scenario.mistakes import Mistakes
from netemu.scenario.positions import Path
from netemu.scenario.topology import LinkSection

if TYPE_CHECKING:
    from netemu.net.options import LinkOptions

_WAYS = ("forward", "backward")


def check_words(where: Path, link: LinkSection, mistakes: Mistakes) -> None:
    """Add what is wrong with the words of the link at ``where``."""
    from netemu.net.netem_words import parse_value  # noqa: PLC0415 - loads NumPy
    from netemu.net.options import LinkOptions  # noqa: PLC0415

    ways = _Ways(dict.fromkeys(_WAYS, LinkOptions()), mistakes)
    ways.change((*where, "netem"), "link.netem", "", link.netem)
    right: dict[str, Any] = {}
    for key, text in link.arguments().items():
        try:
            right[key] = parse_value(key, text)
        except ConfigError as error:
            mistakes.add((*where, key), f"link.{error}")
    ways.change(where, "link", "", "", right)
    for way in _WAYS:
        ways.change((*where, way), f"link.{way}", way, getattr(link, way))
    for number, change in sorted(enumerate(link.at), key=lambda one: one[1].time):
        place = (*where, "at", number)
        ways.change((*place, "set"), "link.at.set", "", change.set)
        for way in _WAYS:
            ways.change((*place, way), f"link.at.{way}", way, getattr(change, way))
        if change.up and change.down:
            mistakes.add(place, "link.at: a link goes up or down, not both at a time")
        if not any((change.set, change.forward, change.backward, change.up, change.down)):
            mistakes.add(place, "link.at: nothing changes: expected set, forward, backward, up or down")


class _Ways:
    """What each direction of a link is like, while words change it."""

    def __init__(self, options: dict[str, LinkOptions], mistakes: Mistakes) -> None:
        self._options, self._mistakes = options, mistakes

    def change(self, where: Path, key: str, way: str, text: str, words: dict[str, Any] | None = None) -> None:
        """Change one direction, or without its name both; or tell why that cannot be."""
        try:
            for each in [way] if way else _WAYS:
                self._options[each] = self._options[each].changed(text, **(words or {}))
        except ConfigError as error:
            self._mistakes.add(where, f"{key}: {error}")
