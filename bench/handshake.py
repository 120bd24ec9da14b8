"""Complete handshakes, both sides, against the bare X25519 operations that they need.

    python bench/handshake.py [--seconds N] [--json FILE]

A handshake needs six exchanges (es, ee and se on each side; static-static is cached) and two key
generations. Both are timed in turns in one process, so that a machine that slows down slows both;
the ratio is taken for each pair of turns. Goal: at most 2.0 times the bare operations.
"""

import argparse
import itertools
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from wgpy.keys import PresharedKey, PrivateKey
from wgpy.protocol.cookie import CookieChecker
from wgpy.protocol.handshake import Local, read_initiation
from wgpy.protocol.messages import parse_initiation, parse_response
from wgpy.protocol.peer import Peer

# Handshakes in one turn: long enough (about 10 ms) for the clock, short enough to alternate often.
TURN = 20
GOAL = 2.0


def make_handshake() -> Callable[[], None]:
    """A function that runs one handshake of ours as the device does: parsing, both macs made and
    checked, replay protection, timers, both roles, keys on both sides."""
    psk = PresharedKey.generate()
    alice, bob = Local(PrivateKey.generate()), Local(PrivateKey.generate())
    to_bob = Peer(alice, bob.public, psk, lambda: 0.0)
    to_alice = Peer(bob, alice.public, psk, lambda: 0.0)
    at_alice, at_bob = (
        CookieChecker(alice.public, os.urandom),
        CookieChecker(bob.public, os.urandom),
    )
    # Handshakes a second apart, so that none is refused as one of a flood.
    clock = itertools.count()

    def run() -> None:
        now = next(clock)
        first = to_bob.initiation(
            index=1, ephemeral=os.urandom(32), wall_ns=now * 10**9, now=float(now)
        )
        right = at_bob.check_mac1(first)
        responder = read_initiation(bob, parse_initiation(first))
        to_alice.accept_initiation(responder, now)
        second, theirs = to_alice.response(
            responder, index=2, ephemeral=os.urandom(32), now=float(now)
        )
        right = right and at_alice.check_mac1(second)
        ours, _ = to_bob.consume_response(parse_response(second), now)
        to_alice.timers.handshake_complete(now)
        if not right or ours.send != theirs.receive or ours.receive != theirs.send:
            raise AssertionError("the two sides derived different keys")

    return run


def make_bare() -> Callable[[], None]:
    """A function that runs the X25519 operations of one handshake and nothing else."""
    own = X25519PrivateKey.generate()
    public = X25519PrivateKey.generate().public_key()
    generate, exchange = X25519PrivateKey.generate, own.exchange

    def run() -> None:
        generate()
        generate()
        for _ in range(6):
            exchange(public)

    return run


def turn(run: Callable[[], None]) -> float:
    """Microseconds of processor time for one run, over a turn: what others run does not count."""
    start = time.thread_time()
    for _ in range(TURN):
        run()
    return (time.thread_time() - start) / TURN * 1e6


def spread(values: list[float]) -> dict[str, float]:
    """Median and the middle half."""
    low, median, high = statistics.quantiles(values, n=4)
    return {"median": round(median, 3), "p25": round(low, 3), "p75": round(high, 3)}


def measure(seconds: float) -> dict[str, object]:
    """Alternate both for so long."""
    handshake, bare = make_handshake(), make_bare()
    turn(handshake)
    turn(bare)
    ours: list[float] = []
    theirs: list[float] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end or len(ours) < 2:
        ours.append(turn(handshake))
        theirs.append(turn(bare))
    return {
        "handshake_us": spread(ours),
        "bare_x25519_us": spread(theirs),
        "ratio": spread([a / b for a, b in zip(ours, theirs, strict=True)]),
        "handshakes_per_second": round(1e6 / statistics.median(ours)),
        "goal": GOAL,
        "turns": len(ours),
        "handshakes_per_turn": TURN,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="handshakes against bare X25519 operations")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long to measure")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the result here")
    arguments = parser.parse_args()
    result = measure(arguments.seconds)
    for name in ("handshake_us", "bare_x25519_us", "ratio"):
        row = result[name]
        assert isinstance(row, dict)
        print(f"{name:16} median {row['median']:>8} middle half {row['p25']} to {row['p75']}")
    print(f"{result['handshakes_per_second']} complete handshakes a second; goal {GOAL}")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
