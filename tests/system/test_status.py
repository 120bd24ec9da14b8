"""`wgpy status` and `wgpy ping` between real daemons: what is so, and how each failure is told."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.natlab import Host, Lab, Nat, Router
from tests.support.natlab.site import Site
from tests.support.netns import pair
from tests.support.programs import WGPY, WIREGUARD_GO
from tests.support.requirements import program
from tests.support.tunnel import Tunnel, tunnel

pytestmark = [
    pytest.mark.root,
    pytest.mark.tool("ip"),
    pytest.mark.tool("ping"),
    pytest.mark.tool("wg"),
    pytest.mark.tool("wgpy"),
    pytest.mark.tool("wgpyd"),
    pytest.mark.tool("wireguard-go"),
    pytest.mark.usefixtures("clean_machine"),
]


@pytest.fixture
def ends() -> Iterator[Tunnel]:
    """Ours on the left, another on the right."""
    with pair() as net, tunnel(net, WGPY, WIREGUARD_GO) as made:
        yield made


def ping(ends: Tunnel, *words: str) -> tuple[int, str, str]:
    """`wgpy ping` on the left: its exit code and what it printed."""
    left = ends.left
    done = left.namespace.run(
        *(program("wgpy"), "ping", "--interface", left.name, *words), check=False, timeout=30
    )
    return done.returncode, done.stdout, done.stderr


def test_echoes_by_address_and_by_key_and_what_status_says_of_them(ends: Tunnel) -> None:
    key = ends.right_keys.public
    code, out, _ = ping(ends, "-c", "2", "10.77.0.2")
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == f"{key} (10.77.0.2) through {ends.left.name}"
    assert lines[1].startswith(f"{key} (10.77.0.2): 1, ")
    assert lines[1].endswith(f" ms, direct {ends.right.namespace.v4}:51820")
    assert "2 sent, 2 answered, 0% lost, 2 by a direct path" in lines
    # To the other family, as JSON, and no more than are needed.
    code, out, _ = ping(ends, "-6", "-c", "5", "--until-direct", "--json", key)
    assert code == 0
    first, last = map(json.loads, out.splitlines())
    assert first["path"]["kind"] == "direct"
    assert 0 < first["time"] < 5
    assert last["sent"] == last["received"] == last["direct"] == 1

    for end in (ends.left, ends.right):
        shown = end.namespace.run(program("wgpy"), "status", "--json", end.name).stdout
        node = json.loads(shown)[end.name]["nodes"][0]
        assert node["path"]["kind"] == "direct"
        assert node["received"] > 0 < node["sent"]
        text = end.namespace.run(program("wgpy"), "status", end.name).stdout
        assert "1 node, 1 direct" in text


def test_the_echoes_go_through_the_tunnel_and_nowhere_else(ends: Tunnel) -> None:
    """An address that another route has too: what the tunnel does not carry is not answered."""
    ends.left.namespace.ip("route", "add", "10.77.0.2/32", "via", ends.right.namespace.v4)
    ends.right.namespace.add_address("lo", "10.77.0.2/32")
    ends.left.namespace.ping("10.77.0.2")
    ends.right.stop()
    ends.left.namespace.ping("10.77.0.2")
    code, out, _ = ping(ends, "-c", "1", "10.77.0.2")
    assert code == 1
    assert "1 sent, 0 answered, 100% lost" in out
    assert ": 1, no answer" in out


def test_what_cannot_begin_exits_with_2(ends: Tunnel) -> None:
    code, out, error = ping(ends, "-c", "1", "nobody.mesh")
    assert (code, out) == (2, "")
    assert error == "wgpy: there is no node nobody.mesh; `wgpy status` lists them\n"
    done = ends.left.namespace.run(
        *(program("wgpy"), "ping", "--interface", "wg-none", "10.77.0.2"), check=False
    )
    assert done.returncode == 2
    assert "No such device" in done.stderr


@pytest.mark.tool("turnserver")
@pytest.mark.tool("nft")
@pytest.mark.tool("openssl")
def test_until_the_path_is_direct(tmp_path: Path) -> None:
    """Two homes: the relay carries the first echoes, and the last one came by a direct path."""
    routers = [Router("home", Nat.PORT), Router("office", Nat.PORT)]
    hosts = [Host("server", addresses=2), Host("home", "home"), Host("office", "office")]
    with Lab(routers, hosts) as lab, Site(lab, tmp_path) as site:
        home, office = site.stations("home", "office")
        site.introduce(home, office, turn="any")
        done = home.host.namespace.run(
            *(program("wgpy"), "ping", "--interface", home.interface.name),
            *("-c", "40", "--until-direct", "--json", office.inner),
            timeout=60,
        )
    *answers, last = map(json.loads, done.stdout.splitlines())
    assert [x["path"]["kind"] for x in answers][-1] == "direct"
    assert all(x["path"]["kind"] != "direct" for x in answers[:-1])
    assert last["direct"] == 1
