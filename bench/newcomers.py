"""Newcomers that come while strangers flood the gate: who gets in, and when.

    python -m bench.newcomers [--newcomers N] [--seconds N] [--rate N] [--json FILE]

Real daemons in network namespaces, as root. The gate admits peers by certificate. Once the flood
(tests/support/flood.py: initiations of type 0x10 with a right mac1, from made-up addresses) is
under way, all newcomers want in at the same time, and go on wanting: each has a packet a second.
Looked at twice a second is whom the gate has admitted.

A newcomer that is let in needs two things: one of its tries has to be among the few that are
answered with a cookie, and the next, 5 s later, carries that and is heard. So what a try is worth
is estimated from the newcomers as well: those who came in did so with the try before the last.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from tests.support.mesh import GATE, Authority, Machine, Site
from tests.support.netns import Process
from tests.support.tunnel import PORT

# Between two tries of a handshake (whitepaper 6.4).
TRY = 5.0
# Before the newcomers come: the flood makes its datagrams, and what bounds had saved is used up.
AHEAD = 6.0
LOOK = 0.5


def measure(newcomers: int, seconds: float, rate: int) -> dict[str, object]:
    """Let them come for so long."""
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        ca = Authority(directory)
        with Site(ca.certificate, directory) as site:
            gate = site.gate(ca.issue("gate.mesh", GATE))
            space, at = site.wire("flood")
            # The addresses that it makes up lead back to it, so that answers go out.
            site.space.run("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0")
            site.space.ip("route", "add", "10.128.0.0/9", "via", space.v4)
            key = gate.bearer.public.base64()
            words = ("-m", "tests.support.flood", key, at, str(PORT), str(rate))
            lasts = AHEAD + seconds + newcomers + 10
            flood = space.popen(sys.executable, *words, str(lasts), life=lasts + 30)
            time.sleep(AHEAD)
            before, begun = gate.state().counters, time.monotonic()
            came, wanting = _come(site, ca, gate, newcomers, seconds)
            lasted = time.monotonic() - begun
            after = gate.state().counters
            for process in (*wanting, flood):
                process.stop()

    def of(name: str) -> float:
        return (after.get(name, 0) - before.get(name, 0)) / lasted

    waited = [min(when, seconds) for when in came.values()]
    waited += [seconds] * (newcomers - len(came))
    return {
        "newcomers": newcomers,
        "seconds": seconds,
        "rate": rate,
        "came_in_after_s": sorted(round(when, 1) for when in came.values()),
        # As of a try: how often one is answered, from all that were made until somebody was in.
        "chance_of_a_try": len(came) * TRY / sum(waited) if waited else 0.0,
        "in_within_90_s": sum(when <= 90 for when in came.values()) / newcomers,
        "flood_heard_per_s": sum(of(f"shed_{why}") for why in ("queue", "unproven", "source")),
        "cookie_replies_per_s": of("credential_cookie_replies_sent"),
        "admitted": len(came),
    }


def _come(
    site: Site, ca: Authority, gate: Machine, newcomers: int, seconds: float
) -> tuple[dict[str, float], list[Process]]:
    """When each came in, in seconds since it wanted to."""
    wanted: dict[str, float] = {}
    came: dict[str, float] = {}
    wanting = []
    for number in range(newcomers):
        bearer = ca.issue(f"n{number}.mesh", f"10.7.1.{number + 1}")
        machine = site.machine(bearer, gate.bearer)
        wanted[bearer.name] = time.monotonic()
        life = seconds + 2 * newcomers + 60
        wanting.append(machine.space.popen("ping", "-qn", "-i", "1", GATE, life=life))
    end = time.monotonic() + seconds
    while time.monotonic() < end and len(came) < newcomers:
        for name in gate.admitted() - came.keys():
            came[name] = time.monotonic() - wanted[name]
        time.sleep(LOOK)
    return came, wanting


def main() -> int:
    parser = argparse.ArgumentParser(description="newcomers in a flood of strangers")
    parser.add_argument("--newcomers", type=int, default=8, help="at most 8")
    parser.add_argument("--seconds", type=float, default=180.0, help="how long each may try")
    parser.add_argument("--rate", type=int, default=10_000, help="datagrams a second")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the result here")
    arguments = parser.parse_args()
    result = measure(arguments.newcomers, arguments.seconds, arguments.rate)
    for name, value in result.items():
        print(f"{name:24} {value}")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
