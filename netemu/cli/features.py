"""``netemu features``: what a set of feature bits means, and what a driver makes of it."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from netemu.virtio.features import FeatureSet

_WIDTH = 79
_COLUMNS = 13
"""Characters before the text of a line that has a title."""


class _Deltas(click.Command):
    """A command whose arguments may start with a minus sign: -GUEST_UFO is no option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Hide the minus of what is longer than an option of one letter."""
        return super().parse_args(ctx, [f",{arg}" if _is_delta(arg) else arg for arg in args])


def _is_delta(argument: str) -> bool:
    return len(argument) > 2 and argument[0] == "-" and argument[1] != "-"


@click.command(
    cls=_Deltas,
    epilog="\b\nExamples:\n"
    "  netemu features\n"
    "  netemu features +MQ,+RSS,-GUEST_UFO\n"
    "  netemu features --offer small +HASH_REPORT --driver linux-6.1\n"
    "  netemu features --offer VERSION_1,MRG_RXBUF,GUEST_CSUM --accept VERSION_1",
)
@click.argument("delta", metavar="[+X,-Y...]", nargs=-1)
@click.option("--offer", metavar="SET", help="What the device offers. A SET is names or bit numbers, with commas.")
@click.option("--accept", metavar="SET", help="What the driver accepts: would the device agree?")
@click.option(
    "--driver",
    type=click.Choice(["linux-4.19", "linux-6.1", "linux-7.0"]),
    help="The kernel to ask; all of them without.",
)
@click.option("--mtu", metavar="N", type=int, default=1500, show_default=True, help="The device's MTU.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def features(
    delta: tuple[str, ...], offer: str | None, accept: str | None, driver: str | None, mtu: int, as_json: bool
) -> None:
    """Explain feature bits: what they mean, require and lead to.

    Without arguments all bits are listed. With a change, such as +MQ,-GUEST_UFO, the set that `netemu replay` offers
    is changed like that, and it is told which header, rings and receive mode follow, and what each kernel takes of it.
    In a SET, the words mergeable, small and big stand for what replay offers in that mode. A change brings along what
    an added feature requires, and takes along what requires one that is taken away; a SET is taken as it is.
    """
    from netemu.driver.eras import ERAS  # noqa: PLC0415 - loads NumPy
    from netemu.explain import explain, explain_bit  # noqa: PLC0415
    from netemu.offer import offered_features  # noqa: PLC0415
    from netemu.virtio.features import NAMES  # noqa: PLC0415

    if not delta and offer is None and accept is None:
        bits = [explain_bit(bit) for bit in sorted(NAMES)]
        click.echo(json.dumps({"features": bits}, indent=2) if as_json else "\n".join(_list(bits)))
        return
    offered = (offered_features() if offer is None else _set(offer)).changed(",".join(delta))
    accepted = None if accept is None else _set(accept)
    told = explain(offered, accepted, tuple(ERAS) if driver is None else (driver,), mtu)
    click.echo(json.dumps(told, indent=2) if as_json else "\n".join(_in_words(told)))


def _set(text: str) -> FeatureSet:
    """The set of a list of names, numbers and modes."""
    from netemu.offer import MODES, offered_features  # noqa: PLC0415 - loads NumPy
    from netemu.virtio.features import FeatureSet  # noqa: PLC0415

    words = text.replace(",", " ").split()
    whole = FeatureSet.parse(word.removeprefix("+") for word in words if word not in MODES)
    for mode in MODES:
        if mode in words:
            whole |= offered_features(mode)
    return whole


def _list(bits: list[dict[str, Any]]) -> Iterator[str]:
    """One line a feature, and one for what it requires."""
    yield f"{'bit':>3} {'feature':<25} meaning"
    for one in bits:
        yield f"{one['bit']:>3} {one['name']:<25} {one['meaning']}"
        if one["requires"]:
            yield from _wrapped(" " * 30 + "requires " + _groups(one["requires"]), 32)
        if one["should_have"]:
            yield from _wrapped(" " * 30 + "should come with " + _groups(one["should_have"]), 32)
        if one["interface"] != "any":
            yield " " * 30 + {"legacy": "legacy devices only", "pci": "PCI only", "none": "of nobody"}[one["interface"]]


def _groups(groups: list[list[str]]) -> str:
    return " and ".join(" or ".join(group) for group in groups)


def _in_words(told: dict[str, Any]) -> Iterator[str]:
    """The whole explanation, in lines of 79 characters at most."""
    yield from _set_in_words("offer", told["offer"])
    if "accept" in told:
        yield ""
        yield from _set_in_words("accept", told["accept"])
        refused = told["accept"]["refused"]
        if not refused:
            yield _titled("device", "sets FEATURES_OK")[0]
        for fault in refused:
            yield from _titled("device", f"leaves FEATURES_OK clear: {fault}")
    for driver in told["drivers"]:
        yield ""
        if driver["refuses"] is not None:
            yield from _titled(driver["driver"], f"refuses the device: {driver['refuses']}")
            continue
        shape = f"{driver['mode']} buffers, header of {driver['header_length']} bytes"
        yield from _titled(driver["driver"], shape)
        yield from _titled("  ring", driver["ring"])
        yield from _titled("  takes", ", ".join(driver["takes"]) or "nothing")
        if driver["leaves"]:
            yield from _titled("  leaves", ", ".join(driver["leaves"]))
        if driver["not_here"]:
            yield from _titled("  not here", ", ".join(driver["not_here"]) + " (netemu's driver does without)")


def _set_in_words(title: str, told: dict[str, Any]) -> Iterator[str]:
    count = len(told["features"])
    yield from _titled(title, f"{count} feature{'' if count == 1 else 's'}, mask {told['mask']}")
    for one in told["features"]:
        yield f"{one['bit']:>5} {one['name']:<25} {one['meaning']}"
    for fault in told["unmet"]:
        yield from _titled("wrong", fault)
    if told["undescribed"]:
        yield from _titled("wrong", f"nobody may offer or take {', '.join(told['undescribed'])}")
    for advice in told["advice"]:
        yield from _titled("advice", advice)
    yield from _titled("interface", told["interface"])
    yield from _titled("ring", told["ring"])
    fields = ", ".join(f"{field['field']}@{field['offset']}" for field in told["header"])
    yield from _titled("header", f"{told['header_length']} bytes: {fields}")


def _titled(title: str, text: str) -> list[str]:
    """A line that starts with a title, in pieces."""
    return _wrapped(f"{title:<{_COLUMNS - 1}} {text}", _COLUMNS)


def _wrapped(line: str, indent: int) -> list[str]:
    return textwrap.wrap(
        line, _WIDTH, subsequent_indent=" " * indent, drop_whitespace=True, break_on_hyphens=False
    ) or [line]
