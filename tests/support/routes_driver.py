"""Runs the routes of a mesh in a process of its own, so that it can be killed.

    python routes_driver.py IF RUN_DIRECTORY SITE CALLS [MOMENT]

SITE is {"addresses": [...], "ranges": [...]}, CALLS a list of calls, each with its arguments:

    ["update", {"offers": {NODE: [PREFIX..]}, "accept": [..], "exit": NODE, ...}]
    ["stop", {}]  ["restore", {}]  ["hold", {}]

After each call its outcome is printed, a line of JSON. With MOMENT the process kills itself at that
number of the moments at which a crash could come; `hold` waits to be killed.
"""

import itertools
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from wgpy.ip import parse_prefix
from wgpy.mesh.routes import Offer, Outcome, Routes, RoutesError, restore
from wgpy.quick.steps import Step

LIFE = 120.0


def shown(outcome: Outcome) -> dict[str, Any]:
    allowed = {name: list(map(str, prefixes)) for name, prefixes in outcome.allowed.items()}
    return {"allowed": allowed, "said": list(outcome.said)}


def main(interface: str, run: str, site: str, calls: str, moment: str = "") -> None:
    numbers = itertools.count(1)

    def observe(when: str, step: Step) -> None:
        if next(numbers) == int(moment or 0):
            print(json.dumps({"killed": f"{when} {type(step).__name__}"}), flush=True)
            os.kill(os.getpid(), signal.SIGKILL)

    place = json.loads(site)
    routes = Routes(
        interface,
        place["addresses"],
        map(parse_prefix, place["ranges"]),
        run_directory=Path(run),
        observe=observe,
    )
    routes.on_change = lambda outcome: print(json.dumps(shown(outcome)), flush=True)
    for name, arguments in json.loads(calls):
        try:
            answer = _call(routes, name, arguments, interface, Path(run))
        except RoutesError as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)
        if name == "hold":
            time.sleep(LIFE)
    print(json.dumps({"moments": next(numbers) - 1}), flush=True)


def _call(
    routes: Routes, name: str, arguments: dict[str, Any], interface: str, run: Path
) -> dict[str, Any]:
    if name == "update":
        offers = [Offer(x, tuple(map(parse_prefix, y))) for x, y in arguments["offers"].items()]
        return shown(
            routes.update(
                offers,
                arguments.get("accept", ()),
                arguments.get("exit"),
                tuple(map(parse_prefix, arguments.get("offered", ()))),
                masquerade=arguments.get("masquerade", False),
            )
        )
    if name == "stop":
        routes.stop(hold_exit=arguments.get("hold_exit", False))
    if name == "restore":
        restore(interface, run)
    return routes.status() if name != "restore" else {}


if __name__ == "__main__":
    main(*sys.argv[1:])
