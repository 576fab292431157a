"""Whether the options of a guest's card go together."""

from __future__ import annotations

from netemu.errors import ConfigError
from netemu.scenario.mistakes import Mistakes
from netemu.scenario.positions import Path
from netemu.scenario.topology import GuestSection


def check_card(name: str, guest: GuestSection, where: Path, mistakes: Mistakes) -> None:
    """Add what a card of these options would say when it is made."""
    from netemu.driver.features import SUPPORTED  # noqa: PLC0415 - loads NumPy
    from netemu.nic.control import Settings, parse_coalesce  # noqa: PLC0415
    from netemu.nic.plan import plan  # noqa: PLC0415
    from netemu.nic.quirk_list import by_side  # noqa: PLC0415
    from netemu.offer import RssOptions  # noqa: PLC0415
    from netemu.pressure import parse_pressure  # noqa: PLC0415

    for key, texts, reads in (
        ("quirks", guest.quirks, lambda text: by_side([text])),
        ("pressure", guest.pressure, parse_pressure),
    ):
        for number, text in enumerate(texts):
            try:
                reads(text)
            except ConfigError as error:
                mistakes.add((*where, key, number), f"guest.{name}.{key}: {error}")
    key = "coalesce"
    try:
        coalesce = parse_coalesce(guest.coalesce)
        key = "rss"
        rss = RssOptions.parse(guest.rss) if guest.rss else None
        key = "features" if guest.features else "queue_size"
        plan(
            guest.mode,  # type: ignore[arg-type]
            guest.queue_size,
            guest.queues,
            guest.driver,
            features=guest.features,
            ring=guest.ring,  # type: ignore[arg-type]
            mtu=None if guest.mtu == 1500 else guest.mtu,
            mac=guest.mac,
            offer=None,
            accept=SUPPORTED,
            settings=Settings(coalesce=coalesce),
            rss=rss is not None,
            hash_report=False,
            xdp=False,
        )
    except ConfigError as error:
        mistakes.add((*where, key), f"guest.{name}: {error}")
