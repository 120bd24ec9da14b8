"""Interfaces with many peers: memory, and the time of setconf and of show."""

import functools

from bench import command
from bench.contenders import Contender
from bench.lab import config_file, lonely_interface, pid_of
from bench.measures.measure import Figure, Measure
from bench.procstat import memory
from bench.session import Session
from tests.support.requirements import program

# `wgpy` promises these, in seconds and milliseconds.
SETCONF_LIMIT = {10_000: 5.0}
SHOW_LIMIT = {1_000: 150.0}


def take(contender: Contender, session: Session, count: int) -> dict[str, float]:
    """A fresh interface that is given so many peers by one setconf, then shown."""
    del session  # an interface of its own, for the memory of a daemon that did nothing else
    tool = program(contender.tool)
    with lonely_interface(contender) as interface, config_file(count) as path:
        # Not from inside the namespace: the socket is a file, and ip-netns(8) would take its time.
        configured, _ = command.run(tool, "setconf", interface.name, str(path))
        held = memory(pid_of(interface))
        _, shown = command.run(tool, "show", interface.name)
        told = command.typical(tool, "show", interface.name)
    if shown.count("peer: ") != count:
        raise RuntimeError(f"{contender.name} shows {shown.count('peer: ')} of {count} peers")
    return {
        "setconf": configured,
        "show": told,
        "rss": held.rss / 1e6,
        "pss": held.pss / 1e6,
    }


def _measure(count: int) -> Measure:
    peers = "1 peer" if count == 1 else f"{count:,} peers"
    return Measure(
        name=f"peers-{count}",
        what=f"an interface with {peers} and no traffic; the command is `wgpy` for wgpy, `wg` "
        "for the others",
        figures={
            "rss": Figure(f"resident memory of an idle daemon, {peers}", "MB"),
            "pss": Figure(f"proportional memory of it, {peers}", "MB"),
            "setconf": Figure(f"setconf, {peers}", "s", limit=SETCONF_LIMIT.get(count)),
            "show": Figure(f"show, {peers}", "ms", limit=SHOW_LIMIT.get(count)),
        },
        take=functools.partial(take, count=count),
        group="peers",
        seconds=4.0 if count > 1_000 else 1.0,
        section="Many peers",
    )


MEASURES = tuple(_measure(count) for count in (1, 1_000, 10_000))
