"""What the kernel counts of a process: processor time and memory (proc(5))."""

import os
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory in bytes; the proportional one shares out what several processes map."""

    rss: int
    pss: int


def cpu_seconds(pid: int) -> float:
    """User and system time of all its threads so far, in steps of 10 ms. Raises OSError."""
    return parse_cpu(Path(f"/proc/{pid}/stat").read_text())


def parse_cpu(stat: str) -> float:
    """utime and stime of a line of /proc/PID/stat, in seconds."""
    # The name in parentheses may hold spaces and parentheses: fields are counted after the last.
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND


def memory(pid: int) -> Memory:
    """What it holds now. Raises OSError."""
    return parse_memory(Path(f"/proc/{pid}/smaps_rollup").read_text())


def parse_memory(rollup: str) -> Memory:
    """Rss and Pss of /proc/PID/smaps_rollup, in bytes."""
    sizes = {}
    for line in rollup.splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if name in ("Rss", "Pss") and len(words) == 2:
            sizes[name] = int(words[0]) * 1024
    return Memory(sizes["Rss"], sizes["Pss"])
