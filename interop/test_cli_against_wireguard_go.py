"""`wgpy set`, `setconf` and the rest on wireguard-go, beside the real wg on another one.

Whatever both are told, both must then be the same; and the errnos of our own daemon are those that
wireguard-go gives.
"""

import errno
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from interop.test_show_against_wg import FORMS, same
from tests.support.netns import UAPI_DIRECTORY, Namespace, Pair
from tests.support.programs import WIREGUARD_GO, Interface, new_keys, new_psk
from tests.support.requirements import program
from tests.support.tunnel import tunnel
from tests.unit.device.test_uapi_codec import INVALID
from wgpy.device import client
from wgpy.device.uapi import UapiError
from wgpy.device.uapi_codec import parse_errno

pytestmark = [
    pytest.mark.root,
    pytest.mark.tool("wg"),
    pytest.mark.tool("wireguard-go"),
    pytest.mark.tool("wgpy"),
]


def effect(interface: Interface) -> list[str]:
    """What `wg show dump` says, peers sorted: wireguard-go has them in no order, nor the allowed
    IPs of one peer."""
    first, *peers = interface.wg("show", "dump").splitlines()
    return [first, *sorted("\t".join(sorted(p.split("\t")[3].split(","))) + p for p in peers)]


@pytest.fixture
def both(net: Pair) -> Iterator[tuple[Interface, Interface]]:
    """Two wireguard-gos: the first is driven by wgpy, the second by wg."""
    with Interface(net.left, WIREGUARD_GO) as ours, Interface(net.right, WIREGUARD_GO) as theirs:
        yield ours, theirs


def drive(both: tuple[Interface, Interface], command: str, *words: str) -> None:
    """The same command by wgpy on the first and by wg on the second: same code, same effect."""
    codes = []
    for interface, tool in zip(both, ("wgpy", "wg"), strict=True):
        argv = (program(tool), command, interface.name, *words)
        codes.append(interface.namespace.run(*argv, check=False).returncode)
    assert codes[0] == codes[1], f"{command} {words}"
    assert effect(both[0]) == effect(both[1])


@pytest.fixture
def secret(tmp_path: Path) -> str:
    path = tmp_path / "secret"
    path.write_text(new_keys().private + "\n")
    return str(path)


def test_set_has_the_effect_of_wgs(both: tuple[Interface, Interface], secret: str) -> None:
    first, second = new_keys().public, new_keys().public
    one, two = ("peer", first), ("peer", second)
    steps = [
        ("listen-port", "51820"),
        ("private-key", secret),
        ("fwmark", "0xca6c"),
        (*one, "allowed-ips", "10.0.0.0/8,fd00::/8", "endpoint", "192.0.2.1:5"),
        (*two, "preshared-key", secret, "persistent-keepalive", "25", *one, "endpoint", "[::1]:6"),
        # A prefix moves to the peer that is given it last.
        (*two, "allowed-ips", "10.0.0.0/8, 192.168.0.0/16"),
        (*two, "allowed-ips", ""),
        (*two, "preshared-key", "/dev/null", "persistent-keepalive", "off"),
        (*one, "remove"),
        (*one, "remove", *two, "endpoint", "192.0.2.7:domain"),
        ("private-key", "/dev/null", "fwmark", "off"),
        # Refused by both, with nothing changed.
        (*one, "allowed-ips", "10.0.0.0/33"),
        (*one, "endpoint", "192.0.2.1"),
        (*one, "persistent-keepalive", "65536"),
        ("fwmark", "x"),
        ("colour", "blue"),
        ("listen-port",),
        ("remove",),
        (),
    ]
    for step in steps:
        drive(both, "set", *step)


def config(private: str, *peers: str) -> str:
    return f"[Interface]\nPrivateKey = {private}\nListenPort = 51820\n" + "".join(peers)


def section(public: str, *lines: str) -> str:
    return "\n".join(["[Peer]", f"PublicKey = {public}", *lines, ""])


def test_files_have_the_effect_of_wgs(both: tuple[Interface, Interface], tmp_path: Path) -> None:
    keys = new_keys()
    first, second, third = (new_keys().public for _ in range(3))
    psk = f"PresharedKey = {new_psk()}"
    full = section(
        first, psk, "AllowedIPs = 10.0.0.0/8, ::/0", "PersistentKeepalive = 25", "Endpoint=[::1]:7"
    )
    bare = section(first, "AllowedIPs = 10.0.0.0/8")
    steps = [
        ("setconf", config(keys.private, full, section(second, "allowedips=10.1.0.0/16"))),
        ("addconf", section(third, "AllowedIPs = 10.1.0.0/24", "Endpoint = 192.0.2.1:5")),
        ("addconf", section(first, "AllowedIPs = 10.2.0.0/16")),
        ("setconf", config(new_keys().private, full)),
        ("setconf", config(keys.private, bare)),
        ("setconf", "# nothing at all\n"),
        # Refused by both, with nothing changed.
        ("setconf", config(keys.private, full) + "Colour = blue\n"),
        ("addconf", "[Peer]\nAllowedIPs = 10.0.0.0/8\n"),
    ]
    for command, text in steps:
        path = tmp_path / "wg.conf"
        # The port of an empty file is chosen by each daemon, and the two would differ.
        path.write_text(text if "[" in text else "[Interface]\nListenPort = 9\n")
        drive(both, command, str(path))


def test_syncconf_clears_what_the_file_dropped(net: Pair, tmp_path: Path) -> None:
    keys, (first, second) = new_keys(), (new_keys().public for _ in range(2))
    psk = new_psk()
    path = tmp_path / "wg.conf"
    with Interface(net.left, WIREGUARD_GO) as interface:

        def sync(text: str) -> dict[str, tuple[str, ...]]:
            path.write_text(text)
            net.left.run(program("wgpy"), "syncconf", interface.name, str(path))
            return {
                key: (p.psk, p.endpoint, p.allowed_ips, p.keepalive)
                for key, p in interface.peers().items()
            }

        full = ("AllowedIPs = 10.0.0.0/8", f"PresharedKey = {psk}", "PersistentKeepalive = 5")
        seen = sync(config(keys.private, section(first, *full, "Endpoint = 192.0.2.1:5")))
        assert seen == {first: (psk, "192.0.2.1:5", "10.0.0.0/8", "5")}
        seen = sync(
            config(keys.private, section(first, "AllowedIPs = 10.1.0.0/16"), section(second))
        )
        assert seen == {
            first: ("(none)", "192.0.2.1:5", "10.1.0.0/16", "off"),
            second: ("(none)", "(none)", "(none)", "off"),
        }
        assert sync(config(keys.private, section(second))).keys() == {second}


def test_syncconf_leaves_sessions_alone(net: Pair, tmp_path: Path) -> None:
    path = tmp_path / "wg.conf"
    with tunnel(net, WIREGUARD_GO, WIREGUARD_GO, psk=True) as made:
        made.ping_both_ways(1)
        before = made.left_sees()
        path.write_text(made.left.config + section(new_keys().public, "AllowedIPs = 10.9.0.0/16"))
        net.left.run(program("wgpy"), "syncconf", made.left.name, str(path))
        assert len(made.left.peers()) == 2
        made.ping_both_ways(1)
        assert made.left_sees()[0] == before[0]
        assert made.left_sees()[1] > before[1]


def test_show_after_traffic_is_that_of_wg(net: Pair) -> None:
    with tunnel(net, WIREGUARD_GO, WIREGUARD_GO, psk=True) as made:
        made.ping_both_ways(1)
        text = same("show", made.left.name)
        assert "latest handshake: " in text
        assert "KiB received" in text or "B received" in text
        for form in FORMS:
            same("show", made.left.name, *form)
        same("showconf", made.left.name)
        mine = client.get(made.left.name)
    assert mine.wgpy_version is None
    assert (mine.peers[0].rx_bytes > 0, mine.peers[0].tx_bytes > 0) == (True, True)


@pytest.mark.parametrize("lines", INVALID, ids="|".join)
def test_bad_requests_get_the_errno_that_ours_gives(
    wireguard_go: Interface, lines: list[str]
) -> None:
    assert answer_to(wireguard_go.name, lines) == errno.EINVAL


@pytest.mark.parametrize("line", ["foo", "public_key"])
def test_lines_that_are_no_pairs_get_the_errno_that_ours_gives(
    wireguard_go: Interface, line: str
) -> None:
    assert answer_to(wireguard_go.name, [line]) == errno.EPROTO


@pytest.fixture(scope="module")
def wireguard_go(clean_machine: None) -> Iterator[Interface]:
    """One wireguard-go for many requests that change nothing of note."""
    with Namespace("errno") as namespace, Interface(namespace, WIREGUARD_GO) as interface:
        yield interface


def answer_to(name: str, lines: list[str]) -> int:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(UAPI_DIRECTORY / f"{name}.sock"))
        connection.sendall("\n".join(["set=1", *lines, "", ""]).encode())
        answer = b""
        while not answer.endswith(b"\n\n"):
            answer += connection.recv(4096)
    with pytest.raises(UapiError) as caught:
        parse_errno(answer.decode())
    return caught.value.code
