"""Which data path serves: `WGPY_DATAPATH` chooses `native`, `portable`, or `auto`, the default.

`auto` takes the native one wherever this installation has it.
"""

import importlib.util
import os
from collections.abc import Callable

from wgpy.datapath.contract import DataPath, DataPathError

VARIABLE = "WGPY_DATAPATH"
CHOICES = ("auto", "native", "portable")


def has_native() -> bool:
    """Whether this installation was built with the native data path."""
    return importlib.util.find_spec("wgpy._native") is not None


def chosen_name() -> str:
    """The name of the data path that will serve. Raises DataPathError if it cannot be had."""
    choice = os.environ.get(VARIABLE, "auto")
    if choice not in CHOICES:
        raise DataPathError(f"{VARIABLE}={choice}: choose one of {', '.join(CHOICES)}")
    if choice == "portable" or (choice == "auto" and not has_native()):
        return "portable"
    if not has_native():
        raise DataPathError(
            f"{VARIABLE}=native: this installation has no native data path; choose auto, or "
            "install again where cargo is"
        )
    return "native"


def open_datapath(tun: int, *, vnet_header: bool, mtu: int, clock: Callable[[], float]) -> DataPath:
    """The data path that serves a TUN. Raises DataPathError.

    `clock` is CLOCK_BOOTTIME in seconds, which the native data path reads by itself.
    """
    # Each is loaded where it serves: the other one is half a megabyte.
    if chosen_name() == "portable":
        from wgpy.datapath.portable import Portable

        return Portable(tun, vnet_header=vnet_header, mtu=mtu, clock=clock)
    # A module that is there and does not load is a broken installation, and says so.
    from wgpy.datapath.native import Native

    return Native(tun, vnet_header=vnet_header, mtu=mtu)
