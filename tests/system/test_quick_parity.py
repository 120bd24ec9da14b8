"""The same configuration by wg-quick(8) and by `wgpy up`, both over wireguard-go: same effects."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.netns import Namespace
from tests.support.quick import Quick, addresses, machine, mtu, routes
from tests.support.requirements import program

pytestmark = [pytest.mark.root, pytest.mark.tool("wireguard-go", "wg-quick", "nft", "ip")]

CONFIGURATIONS = {
    "site to site": (
        "Address = 10.192.122.1/24, fd42::1/64\nAddress = 10.10.0.1/16\nListenPort = 40001",
        "AllowedIPs = 10.192.122.3/32, 10.192.124.1/24, fd77::/48, 10.55.0.0/16\n"
        "Endpoint = 192.0.2.1:5555\nPersistentKeepalive = 25",
    ),
    "everything, both families": (
        "Address = 10.200.100.8/24, fd99::8/64",
        "AllowedIPs = 0.0.0.0/0, ::/0, 10.1.0.0/16\nEndpoint = 192.0.2.1:5555",
    ),
    "everything, IPv4, a mark": (
        "Address = 10.200.100.8/32\nFwMark = 0x1234",
        "AllowedIPs = 0.0.0.0/0",
    ),
    "everything, IPv6": ("Address = fd99::8/128", "AllowedIPs = ::/0"),
    "a table": (
        "Address = 10.192.122.1/24\nTable = 1234\nMTU = 1380",
        "AllowedIPs = 0.0.0.0/0, fd77::/48, 10.192.122.0/24",
    ),
    "no routes": ("Address = 10.192.122.1\nTable = off", "AllowedIPs = 0.0.0.0/0, ::/0"),
}


@pytest.fixture
def space(clean_machine: None) -> Iterator[Namespace]:
    with Namespace() as made:
        made.ip("tuntap", "add", "dev", "out0", "mode", "tun")
        made.ip("link", "set", "out0", "mtu", "1400", "up")
        made.add_address("out0", "192.0.2.10/24")
        made.ip("route", "add", "default", "dev", "out0")
        yield made


def _without_noise(routes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without the link-local address that the kernel draws at random for each TUN."""
    return [route for route in routes if not str(route["dst"]).startswith("fe80:")]


def _effects(space: Namespace, name: str) -> dict[str, Any]:
    seen = machine(space)
    rules = []
    for entry in seen["nft"]:
        rule = json.loads(
            re.sub(r"\b(wgpy|wg-quick)-", "", json.dumps(entry)).replace(f'"{name}"', '"IF"')
        )
        for kind in rule.values():
            kind.pop("handle", None)
        rules.append(rule)
    return {
        **seen,
        "nft": sorted((r for r in rules if "fe80:" not in json.dumps(r)), key=json.dumps),
        "routes": _without_noise(routes(space)),
        "addresses": addresses(space, name),
        "mtu": mtu(space, name),
        "wg": space.run(program("wg"), "showconf", name).stdout,
        "fwmark": space.run(program("wg"), "show", name, "fwmark").stdout,
    }


@pytest.mark.parametrize("which", CONFIGURATIONS)
def test_the_same_effects(space: Namespace, tmp_path: Path, which: str) -> None:
    quick = Quick(space, tmp_path)
    # A port of its own choice differs each time.
    interface, peer = CONFIGURATIONS[which]
    if "ListenPort" not in interface:
        interface += "\nListenPort = 40002"
    quick.write(interface, peer)
    theirs_environment = {"WG_QUICK_USERSPACE_IMPLEMENTATION": program("wireguard-go")}
    before = machine(space)
    space.run(program("wg-quick"), "up", str(quick.config), env=theirs_environment)
    theirs = _effects(space, quick.name)
    space.run(program("wg-quick"), "down", str(quick.config), env=theirs_environment)
    # wg-quick(8) leaves this sysctl behind.
    space.run("sh", "-c", "echo 0 > /proc/sys/net/ipv4/conf/all/src_valid_mark")
    assert machine(space) == before
    quick.up()
    ours = _effects(space, quick.name)
    quick.down()
    assert ours == theirs
    assert machine(space) == before
