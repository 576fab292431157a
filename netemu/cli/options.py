"""Options under headings: a command with many of them lists them by what they are about, each heading short."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

_REST = "Help"
"""What has no heading comes last."""
Decorator = Callable[[Any], Any]


class HeadedOption(click.Option):
    """An option that is listed under a heading of its command's help."""

    def __init__(self, *args: Any, heading: str, **more: Any) -> None:
        """An option as click has it, under ``heading``."""
        super().__init__(*args, **more)
        self.heading = heading


class HeadedCommand(click.Command):
    """A command that lists its options under their headings, in the order in which these come up."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a section for each heading, and one for what has none."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                heading = parameter.heading if isinstance(parameter, HeadedOption) else _REST
                sections.setdefault(heading, []).append(record)
        for heading, records in sorted(sections.items(), key=lambda item: item[0] == _REST):
            with formatter.section(heading):
                formatter.write_dl(records)


def under(heading: str) -> Callable[..., Decorator]:
    """What makes options under a heading, as `click.option` makes others."""

    def option(*names: str, **more: Any) -> Decorator:
        return click.option(*names, cls=HeadedOption, heading=heading, **more)

    return option
