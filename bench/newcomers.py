"""Newcomers that come while strangers flood the gate: who gets in, and when.

    python -m bench.newcomers [--steady] [--rounds N] [--newcomers N] [--rate N] [--json FILE]

Real daemons in network namespaces, as root. The gate admits peers by certificate. Once the flood
(tests/support/flood.py: initiations of type 0x10 with a right mac1, from made-up addresses) is
under way, all newcomers want in, and go on wanting: each has a packet a second, and begins a
handshake each 5 s, for 90 s. Looked at twice a second is whom the gate has admitted. Each round has
daemons of its own.

A generator that shares its processors with others pauses now and then, which lets newcomers through
that a flood without pauses would not. `--steady` has that one: devices in memory, with the native
data path, on a clock of their own, and the forged ones come evenly.

A try of a newcomer is worth what the share of the flood is that is heard: taken to the exchange, or
in a daemon under load answered with a cookie, with which the next try is heard. So that share is
printed too, beside what the newcomers themselves met.
"""

import argparse
import importlib
import json
import sys
import tempfile
import time
from pathlib import Path

from bench.machine import describe
from tests.support import fake_network
from tests.support.flood import datagram
from tests.support.mesh import GATE, Authority, Bearer, Machine, Site
from tests.support.netns import Process
from tests.support.office import Office
from tests.support.tunnel import PORT
from wgpy.ip import address_text
from wgpy.keys import PublicKey
from wgpy.protocol.cookie import mac1_key

# Between two tries of a handshake, and for how long they are made (whitepaper 6.4).
TRY, SECONDS = 5.0, 90.0
TRIES = int(SECONDS / TRY)
# Before the newcomers come: the flood makes its datagrams, and what bounds had saved is used up.
AHEAD = 6.0
# In memory, forged ones come in parcels this far apart.
TICK = 0.001
LOOK = 0.5


def measure(rounds: int, newcomers: int, rate: int, *, steady: bool) -> dict[str, object]:
    """All rounds together."""
    found = [(_steady if steady else _round)(newcomers, rate) for _ in range(rounds)]
    came = sorted(when for each, _flood, _heard in found for when in each)
    tries = sum(when / TRY + 1 for when in came) + TRIES * (rounds * newcomers - len(came))
    return {
        "newcomers": rounds * newcomers,
        "tries_each_at_most": TRIES,
        "rate": rate,
        "steady": steady,
        "came_in_after_s": [round(when, 1) for when in came],
        "share_in_within_90_s": round(len(came) / rounds / newcomers, 3),
        # Of who was asked for a cookie, the last try is the one with it.
        "tries_to_be_heard": round(tries / len(came) - (not steady), 1) if came else None,
        "flood_per_s": [round(flood) for _came, flood, _heard in found],
        "heard_of_it_per_s": [round(heard, 1) for _came, _flood, heard in found],
    }


def _round(newcomers: int, rate: int) -> tuple[list[float], float, float]:
    """When who came in, and of a second of the flood how much came, and how much was heard."""
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

    heard = of("credential_cookie_replies_sent") + of("credential_unauthenticated")
    shed = sum(of(f"shed_{why}") for why in ("queue", "unproven", "source"))
    return list(came.values()), shed + heard, heard


def _steady(newcomers: int, rate: int) -> tuple[list[float], float, float]:
    """The same in memory."""
    # Looked up: these classes of the tests are no contract.DataPath to a type checker.
    native = importlib.import_module("tests.support.native_path").NativeFakeDataPath
    setattr(fake_network, "FakeDataPath", native)  # noqa: B010
    with tempfile.TemporaryDirectory() as place:
        world = fake_network.World(seed=time.time_ns())
        office = Office(world, Path(place))
        gate, sources = office.gate, world.random
        forged = datagram(mac1_key(gate.private.public()))

        def pass_time(seconds: float) -> None:
            for _ in range(int(seconds / TICK)):
                for _ in range(int(rate * TICK)):
                    source = address_text((0x0A800000 | sources.getrandbits(23)).to_bytes(4, "big"))
                    gate.datapath.arrive(fake_network.Sent(0.0, source, gate.address, forged))
                world.log.clear()
                world.run(TICK)

        pass_time(AHEAD)
        before = gate.device.state().counters
        wanted: dict[PublicKey, float] = {}
        came: dict[PublicKey, float] = {}
        begun = world.now
        machines = [office.machine(f"192.0.2.{x + 10}", f"n{x}.mesh") for x in range(newcomers)]
        while not wanted or world.now < max(wanted.values()) + SECONDS:
            if len(wanted) < newcomers:
                machine = machines[len(wanted)]
                office.knows_gate(machine)
                wanted[machine.private.public()] = world.now
            for machine in machines[: len(wanted)]:
                machine.send(gate)
            pass_time(1.0 + sources.random() * 0.1)
            for peer in gate.device.state().peers:
                came.setdefault(peer.public_key, world.now - wanted[peer.public_key])
        after, lasted = gate.device.state().counters, world.now - begun

    def of(name: str) -> float:
        return (after.get(name, 0) - before.get(name, 0)) / lasted

    heard = of("credential_cookie_replies_sent") + of("credential_unauthenticated")
    shed = sum(of(f"shed_{why}") for why in ("queue", "unproven", "source"))
    return [when for when in came.values() if when <= SECONDS], shed + heard, heard


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
    parser.add_argument("--steady", action="store_true", help="in memory, and without pauses")
    parser.add_argument("--rate", type=int, default=10_000, help="datagrams a second")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the result here")
    arguments = parser.parse_args()
    result = measure(arguments.rounds, arguments.newcomers, arguments.rate, steady=arguments.steady)
    for name, value in result.items():
        print(f"{name:24} {value}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": describe(), **result}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
