"""Look at the machine: everything that the doctor can learn without changing it."""

import contextlib
import ctypes
import importlib
import importlib.util
import os
import platform
import shutil
import socket
import stat
import sys
import time
from pathlib import Path
from typing import Final

from wgpy.doctor.facts import (
    CAPABILITIES,
    Clock,
    DataPaths,
    Facts,
    Ipv6,
    UapiSocket,
)
from wgpy.doctor.probe_net import probe_tun, probe_udp

_SOCKETS: Final = Path("/var/run/wireguard")
_PROGRAMS: Final = ("wgpyd", "wg", "wg-quick", "nft", "ip", "wireguard-go")
# adjtimex(2): what it returns while the clock is not synchronised.
_TIME_ERROR: Final = 5
# sizeof(struct timex) is 208 on 64-bit Linux; modes (the first member) 0 only reads.
_TIMEX_SIZE: Final = 512
# A daemon answers its own socket's connect at once.
_CONNECT_TIMEOUT: Final = 1.0


def probe() -> Facts:
    """Look at this machine."""
    from wgpy.linux.dns import find_resolver

    resolver = find_resolver()
    return Facts(
        kernel=platform.release(),
        is_root=os.geteuid() == 0,
        capabilities=_capabilities(),
        tun=probe_tun(),
        udp=probe_udp(),
        ipv6=_ipv6(),
        resolver=None if resolver is None else resolver.value,
        clock=_clock(),
        data_paths=_data_paths(),
        kernel_wireguard=_kernel_wireguard(),
        programs={name: _find(name) for name in _PROGRAMS},
        sockets=_sockets(),
        sockets_open_to_all=_open_to_all(_SOCKETS),
    )


def read_capabilities(status: str) -> frozenset[str]:
    """The effective capabilities among CAPABILITIES, from the text of /proc/PID/status."""
    for line in status.splitlines():
        name, _, value = line.partition(":")
        if name == "CapEff":
            bits = int(value, 16)
            return frozenset(name for name, number in CAPABILITIES.items() if bits >> number & 1)
    return frozenset()


def _capabilities() -> frozenset[str]:
    return read_capabilities(Path("/proc/self/status").read_text())


def _ipv6() -> Ipv6:
    try:
        text = Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").read_text()
    except OSError:
        return Ipv6.ABSENT
    return Ipv6.ON if text.strip() == "0" else Ipv6.OFF


def _clock() -> Clock:
    timex = ctypes.create_string_buffer(_TIMEX_SIZE)
    state = ctypes.CDLL(None, use_errno=True).adjtimex(timex)
    try:
        time.clock_gettime(time.CLOCK_BOOTTIME)
        has_boottime = True
    except OSError:
        has_boottime = False
    return Clock(
        year=time.gmtime().tm_year,
        synchronised=None if state < 0 else state != _TIME_ERROR,
        has_boottime=has_boottime,
    )


def _data_paths() -> DataPaths:
    try:
        importlib.import_module("wgpy.datapath.portable")
        refusal = ""
    except ImportError as error:
        refusal = str(error)
    return DataPaths(
        native=importlib.util.find_spec("wgpy._native") is not None,
        wanted=os.environ.get("WGPY_DATAPATH", "auto"),
        portable_refusal=refusal,
    )


def _kernel_wireguard() -> str | None:
    if Path("/sys/module/wireguard").exists():
        return "loaded"
    directory = Path("/lib/modules", platform.release())
    for name in ("modules.builtin", "modules.dep"):
        with contextlib.suppress(OSError):  # a kernel without modules has neither file
            text = (directory / name).read_text(errors="replace")
            if "/wireguard.ko" in text:
                return "module"
    return None


def _find(name: str) -> str | None:
    """A program beside this interpreter (where pip puts wgpyd), or on root's PATH."""
    places = [os.path.dirname(sys.executable), os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]
    return shutil.which(name, path=os.pathsep.join(places))


def _sockets() -> tuple[UapiSocket, ...]:
    try:
        paths = sorted(_SOCKETS.glob("*.sock"))
        return tuple(UapiSocket(path.stem, _is_alive(path)) for path in paths)
    except PermissionError:
        return ()


def _is_alive(path: Path) -> bool | None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(_CONNECT_TIMEOUT)
        try:
            client.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return None
    return True


def _open_to_all(directory: Path) -> bool:
    try:
        return bool(directory.stat().st_mode & stat.S_IWOTH)
    except OSError:
        return False
