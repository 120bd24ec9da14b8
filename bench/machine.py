"""The facts of a machine without which its numbers say nothing."""

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from tests.support.requirements import find


def describe() -> dict[str, Any]:
    """Processor, kernel and the versions of what measures; nothing that names the machine."""
    from importlib.metadata import version

    return {
        "cpu": _cpu_model(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", "unknown"),
        "python": platform.python_version(),
        "cryptography": version("cryptography"),
        "iperf3": _first_line("iperf3", "--version"),
        "mitigations": _mitigated(),
        "wg": _first_line("wg", "--version"),
        "load_before": os.getloadavg()[0],
    }


def _mitigated() -> list[str]:
    """The flaws of the processor that the kernel works around, at a cost to each system call."""
    places = sorted(Path("/sys/devices/system/cpu/vulnerabilities").glob("*"))
    return [place.name for place in places if place.read_text().startswith("Mitigation")]


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model"):
            return value.strip()
    return "unknown"


def _first_line(tool: str, *arguments: str) -> str:
    place = find(tool)
    if place is None:
        return "not installed"
    done = subprocess.run(
        [str(place), *arguments], capture_output=True, text=True, timeout=10, check=False
    )
    return (done.stdout.strip().splitlines() or ["unknown"])[0]
