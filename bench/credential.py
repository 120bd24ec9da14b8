"""What the handshake with credentials costs: both sides, and what a stranger can make us spend.

    python -m bench.credential [--seconds N] [--json FILE]

The handshake runs as the device runs it, through every check of the intake, with a certificate of
the usual size in both messages and a verdict that is known: a renewal of keys. It is timed in
turns with the plain handshake in one process, and the ratio is taken for each pair of turns. Goal:
at most 1.1 times the plain one. Verifying a certificate for the first time comes on top.

The rest is the responder's cost of one datagram, by how far it gets.
"""

import argparse
import itertools
import json
import os
import statistics
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench.handshake import make_handshake, spread, turn
from wgpy.keys import PresharedKey, PrivateKey
from wgpy.protocol.cookie import CookieChecker, CookieGenerator
from wgpy.protocol.credential import parse_credential_response
from wgpy.protocol.credential_handshake import initiate
from wgpy.protocol.credential_intake import Intake, Ours, Standing
from wgpy.protocol.credential_payload import (
    InitiationPayload,
    Offer,
    OfferKind,
    ResponsePayload,
    prepared,
)
from wgpy.protocol.handshake import Local, Remote
from wgpy.protocol.peer import Peer
from wgpy.protocol.tai64n import stamp

GOAL = 1.1
# A leaf with its name, two addresses and a few groups.
LEAF_LENGTH = 523
NETWORK = bytes(range(16))
# Datagrams of each kind in one go, all different.
DATAGRAMS = 50


def make_renewal() -> Callable[[], None]:
    """A function that runs one credential handshake whose verdict is known, both sides."""
    psk = PresharedKey.generate()
    alice, bob = Local(PrivateKey.generate()), Local(PrivateKey.generate())
    to_bob = Peer(alice, bob.public, psk, lambda: 0.0)
    to_alice = Peer(bob, alice.public, psk, lambda: 0.0)
    at_alice = CookieChecker(alice.public, os.urandom)
    leaf = prepared(Offer(OfferKind.CERTIFICATE, os.urandom(LEAF_LENGTH), None, os.urandom(32)))
    answer = ResponsePayload(NETWORK, leaf)
    intake: Intake[None, None] = Intake(
        lambda key: Standing(to_alice.remote, to_alice.greatest_stamp), lambda key, offer: True
    )
    at_bob = CookieChecker(bob.public, os.urandom)
    intake.set_ours(Ours(bob, at_bob, NETWORK, "bob.mesh"))
    clock = itertools.count()

    def run() -> None:
        now = float(next(clock))
        wall_ns = int(now) * 10**9
        first = to_bob.credential_initiation(
            index=1,
            network=NETWORK,
            wanted="bob.mesh",
            offer=leaf,
            random=os.urandom,
            wall_ns=wall_ns,
            now=now,
        )
        # The data path does this, as for the plain handshake.
        right = at_bob.check_mac1(first)
        intake.arrive(first, b"\xc0\0\2\1", b"\xc0\0\2\1\xca\x6c", None, under_load=False, now=now)
        presented = intake.take(now, wall_ns)
        if presented is None:
            raise AssertionError(f"refused: {intake.counts()}")
        intake.accept(presented, None, now)
        to_alice.raise_stamp(presented.stamp)
        second, theirs = to_alice.credential_response(
            presented.responder, index=2, payload=answer, random=os.urandom, now=now
        )
        right = right and at_alice.check_mac1(second)
        ours, _, _ = to_bob.consume_credential_response(parse_credential_response(second))
        to_bob.credential_accepted(now)
        intake.pending.remove(alice.public)
        to_alice.timers.handshake_complete(now)
        if not right or ours.send != theirs.receive or ours.receive != theirs.send:
            raise AssertionError("the two sides derived different keys")

    return run


class Strangers:
    """A responder, and datagrams of those who know its public key and nothing else."""

    def __init__(self) -> None:
        self.bob = Local(PrivateKey.generate())
        self.to_bob = CookieGenerator(self.bob.public)
        self.numbers = itertools.count(1)
        self.wall_ns = time.time_ns()

    def intake(self) -> Intake[None, None]:
        """A new one, which refuses nobody yet."""
        intake: Intake[None, None] = Intake(
            lambda key: Standing(Remote(self.bob, key, None)), lambda key, offer: True
        )
        checker = CookieChecker(self.bob.public, os.urandom)
        intake.set_ours(Ours(self.bob, checker, NETWORK, "bob.mesh"))
        return intake

    def knock(self, wanted: str) -> bytes:
        """From a new key, which it holds."""
        local = Local(PrivateKey.generate())
        leaf = Offer(OfferKind.CERTIFICATE, os.urandom(LEAF_LENGTH))
        asked = InitiationPayload(stamp(self.wall_ns), NETWORK, wanted, leaf)
        remote = Remote(local, self.bob.public, None)
        first = initiate(remote, sender=1, payload=asked, random=os.urandom)
        return self.to_bob.add_macs(first.message, 0.0)

    def claimed(self) -> bytes:
        """A new key that is not the sender's: the payload does not open."""
        data = bytearray(self.knock("bob.mesh")[:-32])
        data[-1] ^= 1
        return self.to_bob.add_macs(bytes(data), 0.0)

    def junk(self) -> bytes:
        """A right mac1 and nothing else."""
        data = struct.pack("<II", 0x10, 1) + os.urandom(1160)
        return self.to_bob.add_macs(data, 0.0)

    def cost(self, make: Callable[[], bytes]) -> float:
        """Microseconds of processor time for each of some datagrams, each from its own source."""
        intake = self.intake()
        made = [make() for _ in range(DATAGRAMS)]
        start = time.thread_time()
        for number, data in enumerate(made):
            self._show(intake, data, float(number))
        return (time.thread_time() - start) / DATAGRAMS * 1e6

    def _show(self, intake: Intake[None, None], data: bytes, now: float) -> None:
        address = next(self.numbers).to_bytes(4, "big")
        intake.arrive(data, address, address + b"\0\7", None, under_load=False, now=now)
        intake.take(now, self.wall_ns)


def measure(seconds: float) -> dict[str, object]:
    """Alternate everything for so long."""
    renewal, plain, strangers = make_renewal(), make_handshake(), Strangers()
    kinds: dict[str, Callable[[], bytes]] = {
        "wrong_mac1_us": lambda: os.urandom(1200),
        "junk_us": strangers.junk,
        "claimed_key_us": strangers.claimed,
        "opens_wrong_name_us": lambda: strangers.knock("carol.mesh"),
        "opens_us": lambda: strangers.knock("bob.mesh"),
    }
    turn(renewal)
    turn(plain)
    ours: list[float] = []
    theirs: list[float] = []
    costs: dict[str, list[float]] = {name: [] for name in kinds}
    end = time.monotonic() + seconds
    while time.monotonic() < end or len(ours) < 2:
        ours.append(turn(renewal))
        theirs.append(turn(plain))
        for name, make in kinds.items():
            costs[name].append(strangers.cost(make))
    return {
        "renewal_us": spread(ours),
        "plain_us": spread(theirs),
        "ratio": spread([a / b for a, b in zip(ours, theirs, strict=True)]),
        **{name: spread(values) for name, values in costs.items()},
        "renewals_per_second": round(1e6 / statistics.median(ours)),
        "goal": GOAL,
        "turns": len(ours),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="the cost of handshakes with credentials")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long to measure")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the result here")
    arguments = parser.parse_args()
    result = measure(arguments.seconds)
    for name, row in result.items():
        if isinstance(row, dict):
            print(f"{name:20} median {row['median']:>8} middle half {row['p25']} to {row['p75']}")
    print(f"{result['renewals_per_second']} renewals a second, both sides; goal {GOAL} times plain")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
