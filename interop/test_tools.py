"""wg(8) and wgpy's commands, side by side, on wgpyd and on wireguard-go.

What the one prints the other prints; what the one sets the other shows.
"""

import re
from collections.abc import Iterator

import pytest

from interop.checks import OURS, ours
from tests.support.netns import CommandError, Pair
from tests.support.plugin import require
from tests.support.programs import WGPY, WIREGUARD_GO, Interface, new_keys, new_psk
from tests.support.requirements import program
from tests.support.tunnel import Tunnel, peer_section, tunnel

pytestmark = [
    pytest.mark.root,
    *(pytest.mark.tool(name) for name in ("wg", "wireguard-go", "ping")),
]

FIELDS = (
    *("public-key", "private-key", "listen-port", "fwmark", "peers", "preshared-keys"),
    *("endpoints", "allowed-ips", "latest-handshakes", "persistent-keepalive", "transfer", "dump"),
)
DAEMONS = [OURS, WIREGUARD_GO] if OURS is WGPY else [WIREGUARD_GO]
PLAIN = {"WG_COLOR_MODE": "never"}


@pytest.fixture(params=DAEMONS, ids=str)
def made(request: pytest.FixtureRequest, net: Pair) -> Iterator[Tunnel]:
    """A tunnel with a session and a second peer that has nothing, the left side by each daemon."""
    require("wgpy")
    ours()
    with tunnel(net, request.param, WIREGUARD_GO, psk=True, keepalive=25) as tunnel_:
        tunnel_.left.wg(
            *("set", "fwmark", "0x1234", "peer", new_keys().public),
            *("allowed-ips", "10.79.0.0/16,fd79::/64", "endpoint", "[2001:db8::7]:7777"),
        )
        tunnel_.ping_both_ways(1)
        yield tunnel_


def wgpy(interface: Interface, *arguments: str, stdin: str = "") -> str:
    """`wgpy ARGUMENTS` in the interface's namespace; returns what it printed."""
    space = interface.namespace
    return space.run(program("wgpy"), *arguments, stdin=stdin, env=PLAIN).stdout


def wg(interface: Interface, *arguments: str) -> str:
    """`wg ARGUMENTS` in the interface's namespace."""
    return interface.namespace.run("wg", *arguments, env=PLAIN).stdout


def _without_ages(shown: str) -> str:
    """`latest handshake: 3 seconds ago` tells the time of asking, too."""
    return re.sub(r"(?m)(latest handshake:) .*", r"\1 -", shown)


def _without_our_own(shown: str) -> str:
    """Of a wgpyd `wgpy show` tells version, data path and offloads, which wg(8) cannot know."""
    return re.sub(r"(?m)^  (daemon|data path|offloads): .*\n", "", shown)


def test_show_prints_the_same(made: Tunnel) -> None:
    """Every field and the dump, line by line, and the form for people, byte for byte.

    wireguard-go tells its peers in another order each time; the form for people sorts them.
    """
    left = made.left
    for field in FIELDS:
        ours_, theirs = (ask(left, "show", left.name, field) for ask in (wgpy, wg))
        assert sorted(ours_.splitlines()) == sorted(theirs.splitlines()), field
    shown = _without_ages(wg(left, "show", left.name))
    assert _without_our_own(_without_ages(wgpy(left, "show", left.name))) == shown
    assert left.name in wgpy(left, "show", "interfaces").split()


def test_showconf_prints_the_same(made: Tunnel) -> None:
    """The configuration as a file: byte for byte when there is one peer, whose order is known."""
    left = made.left
    ours_, theirs = (ask(left, "showconf", left.name) for ask in (wgpy, wg))
    assert sorted(ours_.splitlines()) == sorted(theirs.splitlines())
    left.setconf(left.config)
    assert wgpy(left, "showconf", left.name) == wg(left, "showconf", left.name)


def test_set_is_what_wg_shows(made: Tunnel) -> None:
    """`wgpy set`: each thing it can set, added, changed and taken away."""
    left, peer = made.left, made.right_keys.public
    psk = new_psk()
    inside = ("allowed-ips", "10.77.0.2/32,fd77::2/128,192.0.2.0/24")
    change = ("preshared-key", "/dev/stdin", "persistent-keepalive", "9", *inside)
    wgpy(left, "set", left.name, "peer", peer, *change, stdin=psk + "\n")
    shown = left.peer(peer)
    assert (shown.psk, shown.keepalive) == (psk, "9")
    assert set(shown.allowed_ips.split(",")) == {"10.77.0.2/32", "fd77::2/128", "192.0.2.0/24"}
    wgpy(left, "set", left.name, "peer", peer, "preshared-key", "/dev/null")
    wgpy(left, "set", left.name, "listen-port", "51999", "fwmark", "off")
    wgpy(left, "set", left.name, "peer", peer, "endpoint", "10.91.0.2:1", "allowed-ips", "")
    shown = left.peer(peer)
    assert (shown.psk, shown.endpoint, shown.allowed_ips) == ("(none)", "10.91.0.2:1", "(none)")
    assert wg(left, "show", left.name, "listen-port") == "51999\n"
    assert wg(left, "show", left.name, "fwmark") == "off\n"
    wgpy(left, "set", left.name, "peer", peer, "remove")
    assert peer not in left.peers()
    with pytest.raises(CommandError):
        wgpy(left, "set", left.name, "peer", "not-a-key", "remove")


def test_setconf_addconf_syncconf(made: Tunnel) -> None:
    """The three ways of taking a file; syncconf leaves a session alone, setconf ends it."""
    left = made.left
    another = new_keys().public
    extra = peer_section(another, "10.80.0.0/16")
    wgpy(left, "addconf", left.name, "/dev/stdin", stdin=extra)
    assert len(left.peers()) == 3
    before = left.peer(made.right_keys.public)
    assert before.handshake > 0
    wgpy(left, "syncconf", left.name, "/dev/stdin", stdin=left.config)
    after = left.peers()
    assert set(after) == {made.right_keys.public}
    assert after[made.right_keys.public].handshake == before.handshake
    made.ping_both_ways(1)
    wgpy(left, "setconf", left.name, "/dev/stdin", stdin=left.config + extra)
    peers = left.peers()
    assert set(peers) == {made.right_keys.public, another}
    # The keepalive makes a new session at once; the counters tell that the old one went.
    assert peers[made.right_keys.public].rx < before.rx
    made.left.namespace.ping(made.right.address)
    made.ping_both_ways(1)
