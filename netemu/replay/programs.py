"""XDP programs from files: ``FILE.py``, or ``FILE.py:NAME`` where there are several."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from netemu.errors import ConfigError
from netemu.xdp import XdpProgram


def load_program(text: str) -> XdpProgram:
    """Run a Python file and take the program in it; raises `ConfigError` where there is none, or no such one."""
    path, _, name = text.partition(":") if not Path(text).is_file() else (text, "", "")
    if not Path(path).is_file():
        raise ConfigError(f"{path}: there is no such file with an XDP program")
    found = _programs_of(path)
    if name:
        if name not in found:
            raise ConfigError(f"{path}: no XDP program is called {name!r}; there are {', '.join(found) or 'none'}")
        return found[name]
    if len(found) != 1:
        which = f"say which: {', '.join(found)}" if found else "mark a function with netemu.xdp.xdp_program"
        raise ConfigError(f"{path}: holds {len(found)} XDP programs; {which}")
    return next(iter(found.values()))


def _programs_of(path: str) -> dict[str, XdpProgram]:
    """Name and program of each that a file defines."""
    spec = importlib.util.spec_from_file_location(f"xdp_{Path(path).stem}", path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path}: is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as fault:
        raise ConfigError(f"{path}: {type(fault).__name__}: {fault}") from fault
    return {name: value for name, value in vars(module).items() if isinstance(value, XdpProgram)}
