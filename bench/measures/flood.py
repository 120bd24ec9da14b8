"""Throughput of a tunnel whose one end is flooded with forged initiations with a credential."""

import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.contenders import Contender
from bench.iperf import transfer
from bench.lab import pid_of
from bench.measures.measure import Figure, Measure
from bench.procstat import memory
from bench.session import Session
from tests.support.certificates import DAY, NETWORK, Authority
from tests.support.netns import Pair
from tests.support.tunnel import PORT, Tunnel
from wgpy.device import client
from wgpy.device.uapi import Cleared, DeviceChange
from wgpy.identity.settings import Anchor, AuthoritySettings
from wgpy.ip import parse_prefix

RATE = 10_000
SECONDS = 3.0
# Before the transfer the flood runs for so long: it makes its datagrams first, and then the bounds
# that save something up are used up.
AHEAD = 2.0
# Nobody listens there: what the generator and the kernel alone take from the tunnel.
NOBODY = 9
GOAL = 0.8


def take(contender: Contender, session: Session) -> dict[str, float]:
    """Transfers in turns: alone, beside a flood at nobody, beside the flood, and back again."""
    with session.tunnel(contender) as (net, made), _authority(net, made):
        link, pid = made.right.name, pid_of(made.right)
        before = client.get(link)
        speeds: dict[int | None, list[float]] = {None: [], NOBODY: [], PORT: []}
        held: list[int] = []
        lasted = 0.0
        for target in (None, NOBODY, PORT, PORT, NOBODY, None):
            begin = time.monotonic()
            with _flood(net, made, target):
                made.left.namespace.ping(made.right.address)
                done = transfer(net.left, net.right, made.right.address, SECONDS)
                if target == PORT:
                    held.append(memory(pid).rss)
                    lasted += time.monotonic() - begin
            speeds[target].append(done.gigabits_per_second)
        after = client.get(link)
    if len(after.peers) != len(before.peers):
        raise RuntimeError("somebody was let in")

    def rate(name: str) -> float:
        return (after.counters.get(name, 0) - before.counters.get(name, 0)) / lasted

    shed = sum(rate(f"shed_{why}") for why in ("queue", "unproven", "source"))
    if shed < RATE / 2:
        raise RuntimeError(f"the flood came to no more than {shed:.0f} a second")
    alone, nobody, flooded = (statistics.mean(each) for each in speeds.values())
    return {
        "alone": alone,
        "flooded": flooded,
        "share": flooded / alone,
        "generator": nobody / alone,
        "cookies": rate("credential_cookie_replies_sent"),
        "grown": (held[-1] - held[0]) / 1e6,
    }


@contextlib.contextmanager
def _authority(net: Pair, made: Tunnel) -> Iterator[None]:
    """The right end admits peers by credential, and has a way back to whoever seems to flood it."""
    end = made.right
    net.right.ip("route", "replace", "10.128.0.0/9", "via", net.left.v4)
    net.left.ip("route", "replace", "blackhole", "10.128.0.0/9")
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "root.pem")
        now = time.time()
        path.write_bytes(Authority(not_before=now - DAY, not_after=now + DAY).pem())
        settings = AuthoritySettings(
            NETWORK, (parse_prefix("10.7.0.0/16"),), anchors=(Anchor(str(path)),)
        )
        client.apply(end.name, DeviceChange(authority=settings))
        try:
            yield
        finally:
            client.apply(end.name, DeviceChange(authority=Cleared.CLEARED))


@contextlib.contextmanager
def _flood(net: Pair, made: Tunnel, port: int | None) -> Iterator[None]:
    if port is None:
        yield
        return
    seconds = AHEAD + SECONDS + 10
    process = net.left.popen(
        *(sys.executable, "-m", "tests.support.flood", made.right_keys.public, net.right.v4),
        *(str(port), str(RATE), str(seconds)),
        life=seconds + 10,
    )
    try:
        time.sleep(AHEAD)
        yield
    finally:
        process.stop()


MEASURE = Measure(
    name="flood",
    what=f"one TCP flow of {SECONDS:g} s through a tunnel, alone, and while its receiving end, "
    f"which admits peers by credential, gets {RATE:,} initiations (type 0x10) a second with a "
    "right mac1 from made-up addresses; and while a closed port of the same machine gets them, "
    "which is what the generator and the kernel take",
    figures={
        "alone": Figure("TCP, 1 flow, alone", "Gbit/s", higher_is_better=True),
        "flooded": Figure("TCP, 1 flow, in a flood", "Gbit/s", higher_is_better=True),
        "share": Figure("the latter over the former", "times", higher_is_better=True),
        "generator": Figure("the same of a flood at nobody", "times", higher_is_better=True),
        "cookies": Figure("cookie replies in the flood", "1/s"),
        "grown": Figure("resident memory from one flood to the next", "MB"),
    },
    take=take,
    ours_only=True,
    seconds=6 * SECONDS + 4 * AHEAD + 4.0,
    section="Handshakes and commands",
)
