"""The command line: one file a command, each imported only when it is called for."""

from __future__ import annotations

import difflib
import importlib
import os
import re
import sys
from io import TextIOWrapper
from typing import TextIO

import click

from netemu.errors import NetemuError

COMMANDS = {
    "replay": "Play captures through the virtio-net receive path.",
    "run": "Run a scenario, and say whether what it expects held.",
    "tap": "Put a guest behind a TAP device of this machine.",
    "show": "Print the frames of a capture, with the way each took.",
    "to-wire": "Finish what a host left to its hardware.",
    "to-host": "Merge the segments of a flow, as a host's receive offload does.",
    "features": "Explain feature bits: what they mean, require and lead to.",
    "quirks": "List what device and driver can do wrong on purpose.",
    "wireshark": "Look at ring captures in Wireshark: plug-in and profile.",
}
"""The commands with the first sentence of their help, so that listing them loads none."""

_OBEYED = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Characters that steer a terminal: controls, line separators, and those that change the direction of writing."""


class LazyGroup(click.Group):
    """A group whose commands are modules of this package, loaded when they run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of `COMMANDS`."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, loaded now; None for a name there is not."""
        if cmd_name not in COMMANDS:
            return None
        module = cmd_name.replace("-", "_")
        command = getattr(importlib.import_module(f"netemu.cli.{module}"), module)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is meant; a name there is not is answered with the nearest one."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            near = difflib.get_close_matches(name, COMMANDS, n=1)
            ctx.fail(f"No such command {name!r}{f'; did you mean {near[0]}?' if near else ''}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without loading them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="\b\nExample:\n  netemu replay pcaps/web.pcapng -o out.pcapng\n  netemu show out.pcapng",
)
@click.version_option(None, "-V", "--version", package_name="virtio-netemu", prog_name="netemu")
def cli() -> None:
    """A virtio-net link you can hold in your hand: a host device and a Linux-like driver over real rings."""


def harmless(text: str) -> str:
    """The text with a question mark for each character that a terminal would obey and not show."""
    return _OBEYED.sub("?", text)


def is_terminal(stream: TextIO | None) -> bool:
    """Whether somebody is watching ``stream``, which is None where the process was started without it."""
    return stream is not None and stream.isatty()


def fail(message: str) -> int:
    """Print one line on standard error; the exit status of a failure."""
    click.echo(f"netemu: {harmless(' '.join(message.split()))}", err=True)
    return 1


def main() -> None:
    """Run the command line: errors are one line on standard error, never a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        status = cli.main(prog_name="netemu", standalone_mode=False)
    except click.exceptions.Exit as stop:
        status = stop.exit_code
    except click.Abort:
        status = 130
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        status = 2
    except click.ClickException as error:
        hint = f" (try '{error.ctx.command_path} --help')" if isinstance(error, click.UsageError) and error.ctx else ""
        fail(error.format_message().rstrip(".") + hint)
        status = error.exit_code
    except NetemuError as error:
        status = fail(str(error))
    except OSError as error:
        # Errors of files are NetemuErrors by now, and a reader that went away is click's: this is, say, a full disk.
        status = fail(f"{error.filename or 'standard output'}: {error.strerror or error}")
        if sys.stdout is not None:  # what is left in its buffer goes nowhere
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        status = 130
    except MemoryError:
        status = fail("out of memory: fewer --queues or a smaller --queue-size need less")
    sys.exit(status if isinstance(status, int) else 0)
