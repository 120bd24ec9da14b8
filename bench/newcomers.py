"""Newcomers that come while strangers flood the gate: who gets in, and when.

    python -m bench.newcomers [--rounds N] [--newcomers N] [--rate N] [--json FILE]

Real daemons in network namespaces, as root. The gate admits peers by certificate. Once the flood
(tests/support/flood.py: initiations of type 0x10 with a right mac1, from made-up addresses) is
under way, all newcomers want in, and go on wanting: each has a packet a second, and begins a
handshake each 5 s, for 90 s. Looked at twice a second is whom the gate has admitted. Each round has
daemons of its own.

A try of a newcomer is worth what the share of the flood is that is answered with a cookie, for with
the cookie it is heard. So that share is printed too, beside what the newcomers themselves met.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from tests.support.mesh import GATE, Authority, Bearer, Machine, Site
from tests.support.netns import Process
from tests.support.tunnel import PORT

# Between two tries of a handshake, and for how long they are made (whitepaper 6.4).
TRY, SECONDS = 5.0, 90.0
TRIES = int(SECONDS / TRY)
# Before the newcomers come: the flood makes its datagrams, and what bounds had saved is used up.
AHEAD = 6.0
LOOK = 0.5


def measure(rounds: int, newcomers: int, rate: int) -> dict[str, object]:
    """All rounds together."""
    found = [_round(newcomers, rate) for _ in range(rounds)]
    came = sorted(when for each, _heard, _asked in found for when in each)
    tries = sum(when / TRY + 1 for when in came) + TRIES * (rounds * newcomers - len(came))
    return {
        "newcomers": rounds * newcomers,
        "tries_each_at_most": TRIES,
        "rate": rate,
        "came_in_after_s": [round(when, 1) for when in came],
        "share_in_within_90_s": round(len(came) / rounds / newcomers, 3),
        # The last try of who came in is the one with the cookie.
        "tries_for_one_cookie": round((tries - len(came)) / len(came), 1) if came else None,
        "flood_per_s": [round(heard) for _came, heard, _asked in found],
        "cookie_replies_per_s": [round(asked, 1) for _came, _heard, asked in found],
    }


def _round(newcomers: int, rate: int) -> tuple[list[float], float, float]:
    """When who came in, and a second of the flood: what came of it, and how much had an answer."""
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        ca = Authority(directory)
        bearers = [ca.issue(f"n{x}.mesh", f"10.7.1.{x + 1}") for x in range(newcomers)]
        with Site(ca.certificate, directory) as site:
            gate = site.gate(ca.issue("gate.mesh", GATE))
            space, at = site.wire("flood")
            # The addresses that it makes up lead back to it, so that answers go out.
            site.space.run("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0")
            site.space.ip("route", "add", "10.128.0.0/9", "via", space.v4)
            key = gate.bearer.public.base64()
            words = ("-m", "tests.support.flood", key, at, str(PORT), str(rate))
            lasts = AHEAD + SECONDS + newcomers
            flood = space.popen(sys.executable, *words, str(lasts), life=lasts + 30)
            time.sleep(AHEAD)
            before, begun = gate.state().counters, time.monotonic()
            came, wanting = _come(site, gate, bearers)
            after, lasted = gate.state().counters, time.monotonic() - begun
            for process in (*wanting, flood):
                process.stop()

    def of(name: str) -> float:
        return (after.get(name, 0) - before.get(name, 0)) / lasted

    asked = of("credential_cookie_replies_sent")
    shed = sum(of(f"shed_{why}") for why in ("queue", "unproven", "source"))
    return list(came.values()), shed + asked, asked


def _come(
    site: Site, gate: Machine, bearers: list[Bearer]
) -> tuple[dict[str, float], list[Process]]:
    """When each came in, in seconds since it wanted to."""
    wanted: dict[str, float] = {}
    came: dict[str, float] = {}
    wanting = []
    for bearer in bearers:
        machine = site.machine(bearer, gate.bearer)
        wanted[bearer.name] = time.monotonic()
        wanting.append(machine.space.popen("ping", "-qn", "-i", "1", GATE))
    while time.monotonic() < max(wanted.values()) + SECONDS and len(came) < len(bearers):
        for name in gate.admitted() - came.keys():
            came[name] = time.monotonic() - wanted[name]
        time.sleep(LOOK)
    return {name: when for name, when in came.items() if when <= SECONDS}, wanting


def main() -> int:
    parser = argparse.ArgumentParser(description="newcomers in a flood of strangers")
    parser.add_argument("--rounds", type=int, default=3, help="each takes about two minutes")
    parser.add_argument("--newcomers", type=int, default=8, help="at most 8 in a round")
    parser.add_argument("--rate", type=int, default=10_000, help="datagrams a second")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the result here")
    arguments = parser.parse_args()
    result = measure(arguments.rounds, arguments.newcomers, arguments.rate)
    for name, value in result.items():
        print(f"{name:24} {value}")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
