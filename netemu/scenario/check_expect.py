"""Whether the expectations of a scenario are about what is there."""

from __future__ import annotations

from collections.abc import Iterable

from netemu.expect import Quantity
from netemu.expect.metrics import METRICS, OF_KIND
from netemu.expect.words import did_you_mean, listed
from netemu.scenario.mistakes import Mistakes
from netemu.scenario.positions import Path
from netemu.scenario.whole import Scenario


def scopes(scenario: Scenario) -> list[str]:
    """Everything that an expectation can be about, by its full name."""
    links = [link.label for _, link in scenario.links]
    named = {
        "traffic": [name for _, name, _ in scenario.traffic],
        "guest": scenario.guests,
        "switch": scenario.switches,
        "router": scenario.routers,
        "link": [*links, *(f"{link}.{way}" for link in links for way in ("forward", "backward"))],
    }
    return [f"{kind}.{name}" for kind, names in named.items() for name in names]


def check_expectations(scenario: Scenario, mistakes: Mistakes) -> None:
    """Add every expectation that cannot be judged to ``mistakes``. Counters are looked up when the lab is built."""
    known = scopes(scenario)
    places = [scope for scope in known if scope.startswith(("guest.", "link.")) and scope.count(".") == 1]
    kinds = {name: one.kind for _, name, one in scenario.traffic}
    for expected in scenario.expected:
        wanted = expected.expectation
        if isinstance(wanted, Quantity):
            scope = _only(wanted.scope, known, expected.where, mistakes) if wanted.scope else None
            if wanted.scope is None or scope is not None:
                _check_metric(wanted, scope, kinds, expected.where, mistakes)
        else:
            _only(wanted.place, places, expected.where, mistakes)


def _only(name: str, known: Iterable[str], where: Path, mistakes: Mistakes) -> str | None:
    """The one thing that a name means; None if there is none, or more than one, which is told."""
    full = list(known)
    meant = [scope for scope in full if name in {scope, scope.partition(".")[2]}]
    if len(meant) == 1:
        return meant[0]
    if meant:
        mistakes.add(where, f"{name!r} can be {listed(meant, 'or')}: say which")
    else:
        words = full if "." in name else [scope.partition(".")[2] for scope in full]
        mistakes.add(where, f"nothing to look at is called {name!r}{did_you_mean(name, words)}")
    return None


def _check_metric(wanted: Quantity, scope: str | None, kinds: dict[str, str], where: Path, mistakes: Mistakes) -> None:
    """A metric of traffic is one that its kind has; without a scope, there is traffic that has it."""
    metric = wanted.metric
    if scope is not None and scope.startswith("traffic."):
        name = scope.removeprefix("traffic.")
        has = OF_KIND[kinds[name]]
        if metric not in has:
            near = did_you_mean(metric, has)
            words = f"traffic {name} ({kinds[name]}) has no {metric!r}{near or '; it has ' + listed(has)}"
            mistakes.add(where, words)
    elif scope is None and metric in METRICS and not any(metric in OF_KIND[kind] for kind in kinds.values()):
        having = listed([kind for kind, metrics in OF_KIND.items() if metric in metrics], "or")
        mistakes.add(where, f"there is no traffic that has {metric!r}: {having}")
    elif scope is None and metric not in METRICS:
        near = did_you_mean(metric, METRICS)
        if "did" in near and metric.isalpha() and metric.islower():  # else it may be a counter
            mistakes.add(where, f"nothing is called {metric!r}{near}")
