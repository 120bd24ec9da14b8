"""aioice's STUN codec, loaded without the rest of aioice.

Importing any of the package runs all of it: ICE, mDNS, and a list of interfaces for which ctypes
starts a C compiler and writes a temporary file. That takes a good part of a second, and a daemon
that may write nowhere cannot do it. The codec needs none of it, so its package is entered by its
directory, under a name of our own.
"""

import importlib
import importlib.util
import sys
import types
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aioice import stun
else:
    _NAME = "wgpy_aioice"

    def _load() -> types.ModuleType:
        found = importlib.util.find_spec("aioice")  # finds it, and runs nothing
        if found is None or found.submodule_search_locations is None:
            raise ImportError("aioice is not installed; install wgpy with its dependencies")
        package = types.ModuleType(_NAME)
        package.__path__ = list(found.submodule_search_locations)
        sys.modules[_NAME] = package
        return importlib.import_module(f"{_NAME}.stun")

    stun = _load()

__all__ = ["stun"]
