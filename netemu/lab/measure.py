"""What everything in a lab has counted, under the names that expectations use.

A guest has the counters of its driver (``ethtool -S``), its interface (``ip -s link``) and its protocols (``nstat``),
what is known of its queues besides (`queue_counters`), how often each quirk has happened, how long its processor was
busy, and ``dropped`` in all and by reason. A link has those of `netemu.net.stats.LinkStats` for each direction and for
both, with ``dropped`` in all and by reason, and ``queue_delay_ns``, the average time in its queue.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from netemu.expect.measured import Value
from netemu.lab.guest import Guest
from netemu.lab.router import Router
from netemu.net.link import Link
from netemu.net.stats import REASONS, LinkStats
from netemu.net.switch import Switch
from netemu.reasons import DropReason

_MOST = {"queued_most"}
"""Counters of which both directions have the greater one, not the sum."""


def guest_counters(guest: Guest) -> dict[str, Value]:
    """All counters of a guest."""
    nic = guest.nic
    reasons = {f"dropped_{reason.key}": 0 for reason in DropReason if reason is not DropReason.NONE}
    dropped = {f"dropped_{key}": count for key, count in nic.dropped.items()}
    quirks = {f"quirk_{name.replace('-', '_')}": count for name, count in nic.quirks_fired.items()}
    return {
        **guest.stack.snmp(),
        **queue_counters("rx", nic.queue_counters()),
        **queue_counters("tx", nic.send_counters()),
        **nic.netdev,
        **nic.ethtool,
        "cpu_busy_ns": guest.node.busy,
        **quirks,
        "dropped": sum(dropped.values()),
        **reasons,
        **dropped,
    }


def queue_counters(way: str, rows: Sequence[Mapping[str, int]]) -> dict[str, Value]:
    """What queues have counted, as rx0_polls for each and as rx_polls for all of them; ``way`` is rx or tx."""
    found: dict[str, Value] = {}
    for number, row in enumerate(rows):
        for name, count in row.items():
            bare = name.removeprefix(f"{way}_")
            found[f"{way}{number}_{bare}"] = count
            found[f"{way}_{bare}"] = _sum(found.get(f"{way}_{bare}", 0), count)
    return found


def router_counters(router: Router) -> dict[str, Value]:
    """All counters of a router."""
    return dict(router.stack.snmp())


def switch_counters(switch: Switch) -> dict[str, Value]:
    """All counters of a switch, summed over its ports."""
    total: dict[str, Value] = {}
    for number in range(len(switch.ports)):
        for name, count in switch.counters(number).items():
            total[name] = _sum(total.get(name, 0), count)
    return total


def link_counters(link: Link) -> dict[str, dict[str, Value]]:
    """All counters of a link: both directions under "", then forward and backward."""
    ways = {"forward": _direction(link.forward.stats()), "backward": _direction(link.backward.stats())}
    both: dict[str, Value] = {}
    for name in ways["forward"]:
        values = [way[name] for way in ways.values()]
        both[name] = max(values, key=_number) if name in _MOST else _sum(*values)
    frames = _number(both["sent"])
    both["queue_delay_ns"] = Fraction(_number(both["queued_ns"]), frames) if frames else None
    return {"": both, **ways}


def _direction(stats: LinkStats) -> dict[str, Value]:
    told = stats.to_dict()
    told.pop("dropped")
    return {
        **{name: value for name, value in told.items() if isinstance(value, int)},
        "dropped": stats.dropped_total,
        **{f"dropped_{reason}": stats.dropped.get(reason, 0) for reason in REASONS},
        "queue_delay_ns": Fraction(stats.queued_ns, stats.sent) if stats.sent else None,
    }


def _number(value: Value) -> int:
    return value if isinstance(value, int) else 0


def _sum(*values: Value) -> int:
    return sum(_number(value) for value in values)


def lab_counters(nodes: Mapping[str, Any], links: Mapping[str, Link]) -> dict[str, dict[str, Value]]:
    """All counters by scope: guest.NAME, router.NAME, switch.NAME, link.NAME and its directions."""
    found: dict[str, dict[str, Value]] = {}
    for name, node in nodes.items():
        if isinstance(node, Guest):
            found[f"guest.{name}"] = guest_counters(node)
        elif isinstance(node, Router):
            found[f"router.{name}"] = router_counters(node)
        elif isinstance(node, Switch):
            found[f"switch.{name}"] = switch_counters(node)
    for name, link in links.items():
        for way, counters in link_counters(link).items():
            found[f"link.{name}.{way}".rstrip(".")] = counters
    return found
