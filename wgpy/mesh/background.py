"""Starting the agent of an interface so that it stays: by systemd, or as a process of its own.

Where systemd runs and knows wgpy-mesh@.service, the agent is that unit, and is back after a reboot.
Elsewhere it is a process that belongs to no terminal, and whoever keeps that machine starts `wgpy
mesh run IF` at boot.
"""

import os
import shutil
import subprocess
import sys
from enum import Enum
from pathlib import Path
from typing import Final

_SYSTEMD: Final = Path("/run/systemd/system")
_UNIT: Final = "wgpy-mesh@.service"
_TIMEOUT: Final = 30.0


class StartError(Exception):
    """The agent cannot be started: one line."""


class How(Enum):
    """What keeps the agent running."""

    SYSTEMD = "systemd"
    PROCESS = "process"


def unit(interface: str) -> str:
    """The systemd unit of an interface's agent."""
    return _UNIT.replace("@", f"@{interface}")


def program_words() -> list[str]:
    """The words that run this very `wgpy`: PATH may find another one. Raises StartError."""
    program = os.path.abspath(sys.argv[0])
    if os.path.basename(program) == "wgpy" and os.path.exists(program):
        return [sys.executable, program]
    beside = str(Path(sys.executable).parent)
    found = shutil.which("wgpy", path=os.pathsep.join([beside, os.environ.get("PATH", os.defpath)]))
    if found is None:
        raise StartError("there is no wgpy beside this Python or on PATH; install wgpy again")
    return [found]


def how() -> How:
    """What would keep an agent running here. A namespace of its own has no manager of its own."""
    if not _SYSTEMD.is_dir() or shutil.which("systemctl") is None:
        return How.PROCESS
    try:
        if os.readlink("/proc/1/ns/net") != os.readlink("/proc/self/ns/net"):
            return How.PROCESS
    except OSError:
        return How.PROCESS
    done = _systemctl("cat", _UNIT)
    return How.SYSTEMD if done.returncode == 0 else How.PROCESS


def start(interface: str) -> How:
    """Start the agent, and have it start at boot where something can do that. Raises StartError."""
    found = how()
    if found is How.SYSTEMD:
        done = _systemctl("enable", "--now", unit(interface))
        if done.returncode != 0:
            raise StartError(f"systemctl: {_last_line(done.stderr)}")
        return found
    try:
        # It ends with nobody: whoever started it may log out.
        subprocess.Popen(
            [*program_words(), "mesh", "run", "--background", interface],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=None if "LOG_LEVEL" in os.environ else subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        raise StartError(f"the agent cannot be started: {error.strerror}") from None
    return found


def forget(interface: str) -> None:
    """Have it start at boot no more; the agent ends by itself. Raises StartError."""
    if how() is How.SYSTEMD:
        done = _systemctl("disable", unit(interface))
        if done.returncode != 0:
            raise StartError(f"systemctl: {_last_line(done.stderr)}")


def _systemctl(*words: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            ["systemctl", *words], capture_output=True, text=True, timeout=_TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StartError(f"systemctl: {error}") from None


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "it failed and said nothing"
