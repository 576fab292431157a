"""``netemu quirks``: what device and driver can do wrong on purpose."""

from __future__ import annotations

import json
import textwrap

import click

_WIDTH = 79
_COLUMNS = 24
"""Characters before the words of a quirk."""


@click.command(
    epilog="\b\nExamples:\n"
    "  netemu replay pcaps/web.pcapng --quirk num-buffers-more:p=0.1,seed=7\n"
    "  netemu replay pcaps/web.pcapng --quirk used-id-twice:at=100,count=1"
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def quirks(as_json: bool) -> None:
    """List what device and driver can do wrong on purpose.

    Behind each stand the clauses of the specification that it breaks. `netemu replay --quirk NAME` switches one on,
    for every frame (device) or buffer (driver), or, with options behind a colon, for some: p is a probability, at the
    number of the first frame or buffer, after a time in seconds, count how often at most, seed chooses which. Each
    queue follows the rules by itself.
    """
    from netemu.nic.quirk_list import ALL_QUIRKS  # noqa: PLC0415 - loads NumPy

    if as_json:
        rows = [{"name": q.name, "side": q.side, "clauses": q.clause.split(", "), "words": q.words} for q in ALL_QUIRKS]
        click.echo(json.dumps({"quirks": rows}, indent=2))
        return
    lines = []
    for side in ("device", "driver"):
        lines.append(f"{side}:")
        for quirk in ALL_QUIRKS:
            if quirk.side == side:
                text = f"{quirk.words} ({quirk.clause})"
                first, *rest = textwrap.wrap(text, _WIDTH - _COLUMNS, break_on_hyphens=False)
                lines.append(f"  {quirk.name:<{_COLUMNS - 2}}{first}")
                lines += [" " * _COLUMNS + line for line in rest]
    click.echo("\n".join(lines))
