"""wgpyd: the daemon of one interface, by the contract of WireGuard's userspace implementations.

    wgpyd [-f | --foreground] [--keylog FILE] [--signal DIRECTORY] INTERFACE

It makes the TUN and the control socket, goes to the background, and serves until a signal, or
until the link or the socket is removed. Environment: LOG_LEVEL (verbose, debug, error, silent),
WG_PROCESS_FOREGROUND=1, WG_TUN_FD and WG_UAPI_FD (descriptors to use), WGPY_DATAPATH.
"""

import argparse
import asyncio
import fcntl
import logging
import os
import re
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import wgpy
from wgpy.datapath.choose import chosen_name
from wgpy.datapath.contract import DataPathError
from wgpy.device.keylog import KeyLog
from wgpy.device.roads import Roads
from wgpy.device.server import SocketInUseError, UapiServer, socket_path
from wgpy.device.service import OpenWays, Service
from wgpy.device.uapi import SOCKET_DIRECTORY
from wgpy.device.wallclock import STATE_DIRECTORY, WallClock, make_state_directory
from wgpy.device.ways import Ways
from wgpy.linux.notify import Notifier
from wgpy.linux.sandbox import forbid_writing, keep_capabilities, no_core_dumps
from wgpy.linux.tun import Tun, TunError, open_tun

_log = logging.getLogger("wgpy")

RUN_DIRECTORY = Path("/run/wgpy")

_NAME = re.compile(r"[a-zA-Z0-9_=+.-]{1,15}")
_LEVELS = {
    "verbose": logging.DEBUG,
    "debug": logging.DEBUG,
    "error": logging.ERROR,
    "silent": logging.CRITICAL + 1,
}


class StartError(Exception):
    """Why the daemon cannot start: one line, with what to do."""


def main() -> int:
    """The command. Returns the exit status."""
    arguments = _parse(sys.argv[1:])
    name: str = arguments.interface
    if arguments.signal is not None and not arguments.signal.is_dir():
        print(f"wgpyd: {name}: {arguments.signal} is no directory", file=sys.stderr)
        return 1
    os.umask(0o077)
    try:
        no_core_dumps()
        lock = _lock(name)
        make_state_directory()
        clock = WallClock(STATE_DIRECTORY / f"{name}.clock")
        keylog = _open_keylog(arguments.keylog)
        service = Service(
            _open_tun(name), stamp_ns=clock, keylog=keylog, open_ways=_way_opener(clock)
        )
        _open_socket(service.server, name)
        foreground = arguments.foreground or os.environ.get("WG_PROCESS_FOREGROUND") == "1"
        if not foreground and os.fork():
            # The parent leaves the TUN, the socket and the lock to the child.
            os._exit(0)
        _set_logging(name, foreground)
        _restrict(arguments.signal)
    except (StartError, TunError, DataPathError) as error:
        print(f"wgpyd: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"wgpyd: {name}: {error.strerror}: {error.filename or error}", file=sys.stderr)
        return 1
    asyncio.run(_serve(service, name))
    clock.close()
    os.close(lock)
    return 0


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="wgpyd", description="Serve one WireGuard interface.")
    parser.add_argument("-f", "--foreground", action="store_true", help="stay in the foreground")
    parser.add_argument(
        "--keylog",
        metavar="FILE",
        type=Path,
        help="write every session's keys for Wireshark: whoever has FILE reads the traffic",
    )
    parser.add_argument(
        "--signal",
        metavar="DIRECTORY",
        type=Path,
        help="a directory that it may write to: `signal` under [nat]",
    )
    parser.add_argument("--version", action="version", version=f"wgpyd {wgpy.__version__}")
    parser.add_argument("interface", metavar="INTERFACE")
    arguments = parser.parse_args(argv)
    if not _NAME.fullmatch(arguments.interface):
        parser.error("an interface is 1 to 15 letters, digits and _=+.-")
    return arguments


def _lock(name: str) -> int:
    """Hold the interface's lock, which ends with the process however that ends."""
    try:
        RUN_DIRECTORY.mkdir(mode=0o755, parents=True, exist_ok=True)
        path = RUN_DIRECTORY / f"{name}.daemon.lock"
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except PermissionError:
        raise StartError(f"{name}: {RUN_DIRECTORY} cannot be written: run as root") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StartError(f"{name}: another wgpyd serves this interface") from None
    return lock


def _descriptor(variable: str) -> int | None:
    """The descriptor that the environment hands over, if any."""
    text = os.environ.pop(variable, "")
    if not text:
        return None
    # No process has a billion descriptors, and a C int holds no more.
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise StartError(f"{variable}={text}: a descriptor's number is wanted")
    return int(text)


def _open_tun(name: str) -> Tun:
    fd = _descriptor("WG_TUN_FD")
    if fd is None:
        return open_tun(name)
    try:
        return Tun(fd)
    except OSError as error:
        raise StartError(f"WG_TUN_FD={fd}: {error.strerror}") from None


def _open_socket(server: UapiServer, name: str) -> None:
    fd = _descriptor("WG_UAPI_FD")
    if fd is not None:
        try:
            server.from_fd(fd)
        except OSError as error:
            raise StartError(f"WG_UAPI_FD={fd}: {error.strerror}") from None
        return
    try:
        server.listen(socket_path(name))
    except SocketInUseError as error:
        raise StartError(str(error)) from None


def _open_keylog(path: Path | None) -> KeyLog | None:
    if path is None:
        return None
    print(f"wgpyd: every session's keys are written to {path}", file=sys.stderr)
    return KeyLog(path)


def _way_opener(clock: WallClock) -> OpenWays:
    def open_ways(
        roads: Roads, link: Callable[[], str], wake: Callable[[], None]
    ) -> tuple[Ways, Callable[[], Awaitable[None]]]:
        # The process is put together here. These parts are loaded with the first `[nat]`.
        from wgpy.nat.office import open_ways as make

        return make(roads, link=link, wall_ns=clock, wake=wake)

    return open_ways


def _set_logging(name: str, foreground: bool) -> None:
    """Log to standard error; in the background only if LOG_LEVEL asks for it."""
    chosen = os.environ.get("LOG_LEVEL", "")
    if not foreground:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1) if chosen else (0, 1, 2):
            os.dup2(null, fd)
        os.close(null)
    level = _LEVELS.get(chosen, logging.INFO)
    logging.basicConfig(level=level, format=f"{name}: %(levelname)s: %(message)s")


def _restrict(signal_directory: Path | None) -> None:
    """Keep the privileges that serving needs, and no others."""
    keep_capabilities()
    writable = [Path(SOCKET_DIRECTORY), RUN_DIRECTORY, STATE_DIRECTORY]
    if signal_directory is not None:
        writable.append(signal_directory)
    if not forbid_writing([directory for directory in writable if directory.is_dir()]):
        _log.info("this kernel has no Landlock: the daemon could write files outside its own")


async def _serve(service: Service, name: str) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, service.stop, f"signal {number.name}")
    notifier = Notifier()
    _log.info("wgpyd %s serves %s, data path %s", wgpy.__version__, name, chosen_name())
    watchdog = loop.create_task(_watchdog(notifier))
    loop.call_soon(notifier.send, "READY=1")
    reason = await service.run()
    watchdog.cancel()
    notifier.send("STOPPING=1")
    _log.info("%s ends: %s", name, reason)


async def _watchdog(notifier: Notifier) -> None:
    """Tell the manager that the loop turns."""
    interval = notifier.watchdog_interval()
    while interval is not None:
        notifier.send("WATCHDOG=1")
        await asyncio.sleep(interval)


if __name__ == "__main__":
    sys.exit(main())
