"""Which data path serves: `WGPY_DATAPATH` chooses `native`, `portable`, or `auto`, the default.

This installation has the portable one alone, so `auto` takes it.
"""

import os
from collections.abc import Callable

from wgpy.datapath.contract import DataPath, DataPathError
from wgpy.datapath.portable import Portable

VARIABLE = "WGPY_DATAPATH"
CHOICES = ("auto", "native", "portable")


def chosen_name() -> str:
    """The name of the data path that will serve. Raises DataPathError if it cannot be had."""
    choice = os.environ.get(VARIABLE, "auto")
    if choice not in CHOICES:
        raise DataPathError(f"{VARIABLE}={choice}: choose one of {', '.join(CHOICES)}")
    if choice == "native":
        raise DataPathError(
            f"{VARIABLE}=native: this installation has no native data path; choose auto"
        )
    return Portable.name


def open_datapath(tun: int, *, vnet_header: bool, mtu: int, clock: Callable[[], float]) -> DataPath:
    """The data path that serves a TUN. Raises DataPathError."""
    chosen_name()
    return Portable(tun, vnet_header=vnet_header, mtu=mtu, clock=clock)
