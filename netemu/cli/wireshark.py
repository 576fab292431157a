"""``netemu wireshark``: install, remove or locate the Wireshark plug-in and profile for ring captures."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from netemu.wireshark import install as installer

if TYPE_CHECKING:
    from netemu.wireshark.install import Folders, Outcome

_NO_LUA_FOR_ROOT_SINCE = (4, 4)


def _example(*lines: str) -> str:
    """The end of a --help page, with its lines kept as they are."""
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)


_directory_option = click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="A configuration folder of its own, for use with WIRESHARK_CONFIG_DIR, instead of the personal folders.",
)


@click.group(epilog=_example("netemu wireshark install", "wireshark -C netemu ring.pcapng"))
def wireshark() -> None:
    """Look at ring captures in Wireshark: plug-in and profile.

    Ring captures are what `netemu replay --encap virtio` writes: each frame with the virtio-net header it travelled in.
    """


@wireshark.command(
    epilog=_example(
        "netemu wireshark install",
        "netemu wireshark install --dir ./ws",
        "WIRESHARK_CONFIG_DIR=./ws wireshark -C netemu ring.pcapng",
    )
)
@_directory_option
@click.option("--force", is_flag=True, help="Overwrite files that netemu did not write, or that were changed since.")
def install(directory: Path | None, force: bool) -> None:
    """Install the plug-in and the profile "netemu" for the calling user.

    Running it again changes nothing, or brings the files up to date. It overwrites no file that netemu did not write.
    """
    _report(installer.install(_folders(directory), force=force))
    setting = f"WIRESHARK_CONFIG_DIR={directory.resolve()} " if directory else ""
    click.echo(f"Use it with:  {setting}wireshark -C {installer.PROFILE} FILE   (or tshark)")
    version = installer.tshark_version()
    if version and version >= _NO_LUA_FOR_ROOT_SINCE and os.geteuid() == 0:
        name = f"Wireshark {version[0]}.{version[1]}"
        click.echo(f"{name} runs no Lua plug-ins for root: start it as another user.", err=True)


@wireshark.command(epilog=_example("netemu wireshark uninstall"))
@_directory_option
def uninstall(directory: Path | None) -> None:
    """Remove the files that `install` wrote, and nothing else.

    A file that was changed since, such as preferences that Wireshark saved, is kept and named.
    """
    _report(installer.uninstall(_folders(directory)))


@wireshark.command(epilog=_example("tshark -X lua_script:$(netemu wireshark path) -r ring.pcapng"))
@click.option("--profile", is_flag=True, help="Print the folder of the profile instead.")
def path(profile: bool) -> None:
    """Print where the plug-in lies, to use it without installing."""
    click.echo(installer.profile_path() if profile else installer.plugin_path())


def _folders(directory: Path | None) -> Folders:
    return installer.folders_under(directory.resolve()) if directory else installer.personal_folders()


def _report(outcomes: list[tuple[Path, Outcome]]) -> None:
    width = max(len(outcome.value) for _, outcome in outcomes)
    for file, outcome in outcomes:
        click.echo(f"{outcome.value:<{width}}  {file}")
