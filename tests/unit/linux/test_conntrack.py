"""Tracked connections are forgotten: with real entries, in a namespace of its own."""

import socket
from collections.abc import Iterator

import pytest

from tests.support.netns import Namespace
from wgpy.ip import Prefix, parse_prefix
from wgpy.linux import conntrack, nft
from wgpy.linux.conntrack import ConntrackError, forget

pytestmark = [pytest.mark.root, pytest.mark.tool("nft", "ip")]

LOOP = [f"127.0.0.{number}" for number in range(1, 30)]


@pytest.fixture
def tracked() -> Iterator[Namespace]:
    """A namespace whose loopback tracks connections."""
    with Namespace("ct") as place:
        table = {"family": "inet", "table": "t"}
        match = {"op": "in", "left": {"ct": {"key": "state"}}, "right": ["new"]}
        commands = [
            {"add": {"table": {"family": "inet", "name": "t"}}},
            {"add": {"chain": {**table, "name": "c", "type": "filter", "hook": "input",
                               "prio": 0, "policy": "accept"}}},
            {"add": {"rule": {**table, "chain": "c",
                              "expr": [{"match": match}, {"accept": None}]}}},
        ]  # fmt: skip
        place.inside(lambda: nft.apply(commands))
        yield place


def say(place: Namespace, source: str, target: str) -> None:
    """One datagram, which makes an entry; a port of its own each time."""
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    with place.socket(family, socket.SOCK_DGRAM) as udp:
        udp.bind((source, 0))
        udp.sendto(b"x", (target, 9))


def count(place: Namespace, *prefixes: str) -> int:
    wanted: list[Prefix] = list(map(parse_prefix, prefixes))
    return place.inside(lambda: forget(wanted))


def test_the_entries_of_an_address_go_and_others_stay(tracked: Namespace) -> None:
    say(tracked, LOOP[0], LOOP[1])
    say(tracked, LOOP[1], LOOP[0])
    say(tracked, LOOP[2], LOOP[1])
    say(tracked, LOOP[2], LOOP[3])
    assert count(tracked, "127.0.0.9/32") == 0
    # As source and as destination.
    assert count(tracked, "127.0.0.1/32") == 2
    assert count(tracked, "127.0.0.1/32") == 0
    assert count(tracked, "127.0.0.3/32") == 2


def test_many_addresses_and_wide_prefixes(tracked: Namespace) -> None:
    for one, other in zip(LOOP[::2], LOOP[1::2], strict=False):
        say(tracked, one, other)
    say(tracked, "::1", "::1")
    assert count(tracked, *(f"{text}/32" for text in LOOP[:20])) == 10
    assert count(tracked, "127.0.0.0/24") == 4
    assert count(tracked, "127.0.0.0/8", "::/0") == 1


def test_an_address_of_ipv6(tracked: Namespace) -> None:
    say(tracked, "::1", "::1")
    say(tracked, LOOP[0], LOOP[1])
    assert count(tracked, "::1/128") == 1
    assert count(tracked, "127.0.0.0/8") == 1


def test_where_there_are_many_the_kernel_filters(
    tracked: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conntrack, "_MAX_DUMPED", 0)
    test_the_entries_of_an_address_go_and_others_stay(tracked)
    test_an_address_of_ipv6(tracked)


def test_nothing_asked_for_is_nothing_done() -> None:
    assert forget([]) == 0


def test_a_refusal_is_one_line(tracked: Namespace) -> None:
    say(tracked, LOOP[0], LOOP[1])
    done = tracked.run(
        "setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin", "--",
        "python3", "-c",
        "import sys; sys.path.insert(0, '.')\n"
        "from wgpy.linux.conntrack import ConntrackError, forget\n"
        "from wgpy.ip import parse_prefix\n"
        "try: forget([parse_prefix('10.0.0.1/32')])\n"
        "except ConntrackError as error: print(error)",
    )  # fmt: skip
    assert done.stdout == "connection tracking refuses: Operation not permitted\n"
    assert issubclass(ConntrackError, Exception)
