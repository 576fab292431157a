"""Where compiled kernels are kept between runs.

A compiled entry point depends on every kernel it calls, wherever that stands. So the folder's name carries a hash
of all of the package's source that kernels can come from, and a few old folders are kept.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent
_KEEP = 6
_NO_KERNELS = {"cli", "expect", "scenario"}
"""Folders on which no kernel depends."""


def _root() -> Path:
    """The folder of all caches: ``NETEMU_CACHE_DIR``, else netemu's place under ``XDG_CACHE_HOME``."""
    own = os.environ.get("NETEMU_CACHE_DIR")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "netemu"


def _source_hash() -> str:
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(_PACKAGE.rglob("*.py")):
        if path.parent.name not in _NO_KERNELS:
            digest.update(path.name.encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


@functools.cache
def folder() -> Path | None:
    """This source's cache folder, made if need be; None where none can be written."""
    try:
        root = _root()
        mine = root / f"kernels-{_source_hash()}"
        mine.mkdir(parents=True, exist_ok=True)
        if not os.access(mine, os.W_OK):
            return None
        os.utime(mine)
        _forget_old(root, mine)
    except (OSError, RuntimeError):
        return None
    return mine


def _forget_old(root: Path, mine: Path) -> None:
    """Remove all but the newest folders of other sources."""
    others = sorted(root.glob("kernels-*"), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in others[_KEEP:]:
        if old != mine:
            shutil.rmtree(old, ignore_errors=True)


def is_warm() -> bool:
    """Whether this source has been compiled before on this machine."""
    mine = folder()
    return mine is not None and any(mine.glob("*.o"))
