"""Put the Wireshark plug-in and profile where Wireshark looks for them, and take them away again.

Theory of operation. Two folders matter: the personal folder of Lua plug-ins, and the personal configuration folder with
its profiles; `tshark -G folders` knows both. A record in the profile's folder (``netemu-installed.json``) holds the
SHA-256 of each file as it was written, so that a later run tells its own files, of this version or an earlier one, from
files that somebody else wrote or changed: only the former are ever replaced or removed without force. An installation
that meets a file of somebody else writes nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from netemu.errors import NetemuError

PROFILE = "netemu"
PLUGIN = "virtio_net.lua"
RECORD = "netemu-installed.json"

DEINTERLACING_SINCE = (4, 2)
"""Wireshark warns of preferences it does not know; conversation_deinterlacing_key came with this version."""

_HERE = Path(__file__).resolve().parent


class Outcome(Enum):
    """What became of one file."""

    WRITTEN = "written"
    REPLACED = "replaced"
    UNCHANGED = "already there"
    REMOVED = "removed"
    ABSENT = "not there"
    KEPT = "kept: not written by netemu, or changed since"


@dataclass(frozen=True, slots=True)
class Folders:
    """Where files go: ``plugins`` is a folder of Lua plug-ins, ``configuration`` the folder that holds ``profiles``."""

    plugins: Path
    configuration: Path

    @property
    def profile(self) -> Path:
        """The folder of the profile."""
        return self.configuration / "profiles" / PROFILE

    @property
    def record(self) -> Path:
        """The file that says what was installed."""
        return self.profile / RECORD


def plugin_path() -> Path:
    """The plug-in as it lies in the package, for ``tshark -X lua_script:``."""
    return _HERE / PLUGIN


def profile_path() -> Path:
    """The profile's folder as it lies in the package."""
    return _HERE / "profile"


def ask_tshark(*arguments: str) -> str:
    """What tshark prints to standard output for the arguments; empty where there is no tshark or it fails."""
    program = shutil.which("tshark")
    if program is None:
        return ""
    try:
        run = subprocess.run(  # noqa: S603 - the caller's own tshark, with arguments from this file
            [program, *arguments], capture_output=True, text=True, errors="replace", timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return run.stdout if run.returncode == 0 else ""


def tshark_version() -> tuple[int, int] | None:
    """Major and minor version of tshark; None where there is none."""
    found = re.search(r"^TShark \(Wireshark\) (\d+)\.(\d+)", ask_tshark("--version"), re.MULTILINE)
    return (int(found[1]), int(found[2])) if found else None


def personal_folders() -> Folders:
    """The folders of the calling user as tshark names them, or those that Wireshark uses by default on Linux."""
    answers = dict(re.findall(r"^(Personal [^:\n]+):\s*(\S.*)$", ask_tshark("-G", "folders"), re.MULTILINE))
    home = Path.home()
    configuration = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config") / "wireshark"
    return Folders(
        plugins=Path(answers.get("Personal Lua Plugins", home / ".local/lib/wireshark/plugins")),
        configuration=Path(answers.get("Personal configuration", configuration)),
    )


def folders_under(directory: Path) -> Folders:
    """The folders of a configuration folder that is used with WIRESHARK_CONFIG_DIR."""
    return Folders(plugins=directory / "plugins", configuration=directory)


def contents(version: tuple[int, int] | None) -> dict[str, bytes]:
    """The files to install, by name, for this version of Wireshark (None: not known, taken to be a recent one)."""
    files = {PLUGIN: plugin_path().read_bytes()}
    for path in sorted(profile_path().iterdir()):
        files[path.name] = path.read_bytes()
    if version is not None and version < DEINTERLACING_SINCE:
        lines = files["preferences"].splitlines(keepends=True)
        files["preferences"] = b"".join(line for line in lines if b"conversation_deinterlacing_key:" not in line)
    return files


def install(folders: Folders, *, force: bool = False) -> list[tuple[Path, Outcome]]:
    """Write plug-in and profile; returns each path with its outcome. A second run changes nothing.

    Raises `NetemuError`, and writes nothing, where files stand in the way that netemu did not write (unless ``force``).
    """
    files = contents(tshark_version())
    recorded = _read_record(folders)
    foreign = [
        str(path)
        for name, content in files.items()
        if _exists(path := _target(folders, name)) and not _is_ours(path, content, recorded.get(name))
    ]
    if foreign and not force:
        raise NetemuError(f"not written by netemu, or changed since: {', '.join(foreign)} (--force overwrites)")
    outcomes = []
    try:
        folders.plugins.mkdir(parents=True, exist_ok=True)
        folders.profile.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            path = _target(folders, name)
            outcomes.append((path, _write(path, content)))
        record = {name: _digest(content) for name, content in files.items()}
        folders.record.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise NetemuError(f"{error.filename}: cannot be written: {error.strerror}") from error
    return outcomes


def uninstall(folders: Folders) -> list[tuple[Path, Outcome]]:
    """Remove the files that `install` wrote and nothing else; returns each path with its outcome.

    The profile's folder goes too, once it is empty. Raises `NetemuError` where a file cannot be removed.
    """
    files, recorded = contents(tshark_version()), _read_record(folders)
    outcomes = []
    try:
        for name in [*files, *(recorded.keys() - files.keys())]:  # an earlier version may have had more files
            path = _target(folders, name)
            if not _exists(path):
                outcomes.append((path, Outcome.ABSENT))
            elif path.is_symlink() or not _is_ours(path, files.get(name), recorded.get(name)):
                outcomes.append((path, Outcome.KEPT))
            else:
                path.unlink()
                outcomes.append((path, Outcome.REMOVED))
        folders.record.unlink(missing_ok=True)
        if folders.profile.is_dir() and not any(folders.profile.iterdir()):
            folders.profile.rmdir()
    except OSError as error:
        raise NetemuError(f"{error.filename}: cannot be removed: {error.strerror}") from error
    return outcomes


def _target(folders: Folders, name: str) -> Path:
    return (folders.plugins if name == PLUGIN else folders.profile) / name


def _exists(path: Path) -> bool:
    return path.is_symlink() or path.exists()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _is_ours(path: Path, content: bytes | None, recorded: str | None) -> bool:
    """Whether the file holds what this version installs, or what the record says that an earlier run wrote."""
    try:
        found = path.read_bytes()
    except OSError:
        return False  # a folder, a dangling link, or not readable: nothing that netemu wrote
    return found == content or _digest(found) == recorded


def _write(path: Path, content: bytes) -> Outcome:
    """Write a file anew rather than into it, so that a link in its place is replaced and what it points to stays."""
    existed = _exists(path)
    if existed and path.is_file() and path.read_bytes() == content:
        return Outcome.UNCHANGED
    if existed:
        path.unlink()
    path.write_bytes(content)
    return Outcome.REPLACED if existed else Outcome.WRITTEN


def _read_record(folders: Folders) -> dict[str, str]:
    """Name to SHA-256 of what was installed; empty where there is no record, or one that cannot be read."""
    try:
        record = json.loads(folders.record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(record, dict):
        return {}
    return {name: str(digest) for name, digest in record.items() if Path(name).name == name}
