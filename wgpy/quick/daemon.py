"""Starting the userspace daemon of an interface, and seeing it gone."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from wgpy.linux.netlink import Netlink
from wgpy.linux.sandbox import ended_with_parent
from wgpy.quick.steps import QuickError, StartDaemon

# The variable that names another implementation, run as `PROGRAM IF` like our own.
VARIABLE = "WGPY_DAEMON"
UAPI_DIRECTORY = Path("/var/run/wireguard")
# The daemon opens a TUN and sockets, which takes well under a second on any machine.
_START_TIMEOUT = 30.0
# It sees its TUN go and closes; after this long it never will.
_STOP_TIMEOUT = 5.0
# How long a daemon whose start was cut short has to show its link before there will be none.
_LATE_LINK = 1.0
_POLL = 0.02


def find_program() -> str:
    """The daemon to start: $WGPY_DAEMON, or `wgpyd` beside the running `wgpy` or on PATH.

    Raises QuickError.
    """
    named = os.environ.get(VARIABLE)
    if named:
        found = shutil.which(named)
        if found is None:
            raise QuickError(f"{VARIABLE} names {named}, and there is no such program")
        return os.path.abspath(found)
    beside = [Path(sys.argv[0]).resolve().parent, Path(sys.executable).parent]
    path = os.pathsep.join([*map(str, beside), os.environ.get("PATH", os.defpath)])
    found = shutil.which("wgpyd", path=path)
    if found is None:
        raise QuickError("there is no wgpyd beside wgpy or on PATH; install wgpy again")
    return found


def socket_path(interface: str) -> Path:
    """The UAPI socket of an interface."""
    return UAPI_DIRECTORY / f"{interface}.sock"


def start(step: StartDaemon) -> None:
    """Run the daemon until it has gone to the background. Raises QuickError if it fails."""
    # Until the daemon is in the background it is part of us: were we killed, it would go on
    # to make a link after `wgpy down` found none.
    die_with_us = ended_with_parent(signal.SIGKILL)
    # A file and not a pipe: the daemon may keep its standard error open for ever. Where logging was
    # asked for, the daemon has our own, as under wg-quick(8): a file that has no name would grow.
    logs = "LOG_LEVEL" in os.environ
    with tempfile.TemporaryFile() as output:
        try:
            done = subprocess.run(
                step.words(),
                stdin=subprocess.DEVNULL,
                stdout=None if logs else output,
                stderr=None if logs else output,
                timeout=_START_TIMEOUT,
                cwd="/",
                start_new_session=True,  # the terminal's Ctrl-C is for `up`, which then ends it
                preexec_fn=die_with_us,
                check=False,
            )
        except OSError as error:
            raise QuickError(f"{step.program}: {error.strerror}") from None
        except subprocess.TimeoutExpired:
            raise QuickError(f"it did not go to the background in {_START_TIMEOUT:.0f} s") from None
        if done.returncode != 0:
            output.seek(0)
            lines = output.read().decode(errors="replace").strip().splitlines()
            said = f": {lines[-1].strip()}" if lines else ""
            raise QuickError(f"it exited with {done.returncode}{said}")


def stop(net: Netlink, step: StartDaemon, link_index: int | None) -> None:
    """Delete the link, which ends the daemon, and the socket of one that was killed.

    A link of that name with another index than ours stays. Raises QuickError, NetlinkError.
    """
    link = net.link(step.interface)
    if link is None and link_index is None:
        _wait(lambda: net.link(step.interface) is not None, _LATE_LINK)
        link = net.link(step.interface)
    if link is not None:
        if link_index not in (None, link.index):
            return
        net.delete_link(link)
    path = socket_path(step.interface)
    if not _wait(lambda: not _answers(path), _STOP_TIMEOUT):
        raise QuickError(
            f"the daemon of {step.interface} still listens at {path}; end it, then "
            f"`wgpy down {step.interface}` again"
        )
    path.unlink(missing_ok=True)


def _answers(path: Path) -> bool:
    """Whether a process listens at the socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(_POLL)
        with contextlib.suppress(TimeoutError):  # a full backlog is still a listener
            try:
                client.connect(str(path))
            except (FileNotFoundError, ConnectionRefusedError):
                return False
    return True


def _wait(done: Callable[[], bool], timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL)
    return True
