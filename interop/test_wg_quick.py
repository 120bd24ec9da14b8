"""wg-quick(8) with wgpyd in wireguard-go's place, and `wgpy up` on the same files.

The right side is a plain interface of wireguard-go's; the left one is brought up from a file
(the drawing in tests/support/tunnel.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from interop.checks import OURS, ours
from tests.support.netns import UAPI_DIRECTORY, CommandError, Namespace, Pair, link_name, wait_until
from tests.support.plugin import require
from tests.support.programs import WGPY, WIREGUARD_GO, Implementation, Interface, Keys, new_keys
from tests.support.requirements import find, program
from tests.support.tunnel import PORT, endpoint, interface_section, peer_section, transfer

pytestmark = [
    pytest.mark.root,
    *(pytest.mark.tool(name) for name in ("wg", "wg-quick", "wireguard-go", "nft", "ping")),
]

# An address that only the tunnel leads to (RFC 5737 and RFC 3849 keep both for examples).
BEYOND, BEYOND6 = "198.51.100.1", "2001:db8::1"


@dataclass(frozen=True, slots=True)
class Front:
    """A command that brings interfaces up, and how it is told which daemon to start."""

    tool: str
    variable: str
    daemon: Implementation

    def __str__(self) -> str:
        return f"{self.tool}-{self.daemon}"

    def run(self, space: Namespace, command: str, config: object) -> str:
        """`TOOL COMMAND CONFIG`; returns what it printed on standard output."""
        env = {self.variable: program(self.daemon.tool)}
        return space.run(program(self.tool), command, str(config), env=env, timeout=60).stdout


FRONTS = [
    Front("wg-quick", "WG_QUICK_USERSPACE_IMPLEMENTATION", OURS),
    Front("wgpy", "WGPY_DAEMON", OURS),
]
if OURS is WGPY:
    FRONTS.append(Front("wgpy", "WGPY_DAEMON", WIREGUARD_GO))


@pytest.fixture(params=FRONTS, ids=str)
def front(request: pytest.FixtureRequest, net: Pair) -> Front:
    """Each front; skips what is not here, and wg-quick where the kernel would serve it."""
    chosen = request.param
    assert isinstance(chosen, Front)
    require(chosen.tool)
    require(chosen.daemon.tool)
    name = link_name()
    added = net.left.run("ip", "link", "add", name, "type", "wireguard", check=False)
    if added.returncode == 0:
        net.left.ip("link", "delete", name)
        if chosen.tool == "wg-quick":
            pytest.skip("this kernel has WireGuard, so wg-quick starts no userspace daemon")
    return chosen


@dataclass(frozen=True, slots=True)
class Site:
    """The right side, up, and what a file for the left side needs."""

    net: Pair
    right: Interface
    left_keys: Keys
    right_keys: Keys
    directory: Path

    def write(self, interface: str = "", allowed: str = "10.77.0.2/32, fd77::2/128") -> Path:
        """A configuration for the left side, with more lines for its [Interface]."""
        path = self.directory / f"{link_name()}.conf"
        path.touch(0o600)
        path.write_text(
            interface_section(self.left_keys.private)
            + "Address = 10.77.0.1/24, fd77::1/64\n"
            + interface
            + peer_section(self.right_keys.public, allowed, at=endpoint(self.net.right.v4))
        )
        return path


@pytest.fixture
def site(net: Pair, tmp_path: Path) -> Iterator[Site]:
    """The right side: an interface of wireguard-go's that waits for the left one."""
    left, right = new_keys(), new_keys()
    with Interface(net.right, WIREGUARD_GO) as interface:
        interface.setconf(
            interface_section(right.private) + peer_section(left.public, "10.77.0.1, fd77::1")
        )
        interface.up("10.77.0.2/24", "fd77::2/64")
        net.right.add_address("lo", f"{BEYOND}/32", f"{BEYOND6}/128")
        yield Site(net, interface, left, right, tmp_path)


def snapshot(space: Namespace) -> dict[str, str]:
    """Everything that bringing an interface up may change, as text."""
    return {
        "links": "\n".join(sorted(line.split(":")[1] for line in _lines(space, "link"))),
        "rules": space.ip("-4", "rule") + space.ip("-6", "rule"),
        "routes": "\n".join(
            line
            for family in ("-4", "-6")
            for line in space.ip(family, "route", "show", "table", "all").splitlines()
            # A neighbour of the veth's, or an expiring one, comes and goes by itself.
            if "fe80" not in line and "ff00" not in line
        ),
        "nft": space.run(program("nft"), "list", "ruleset").stdout,
    }


def _lines(space: Namespace, kind: str) -> list[str]:
    return space.ip("-o", kind, "show").splitlines()


def test_up_and_down(front: Front, site: Site) -> None:
    """Addresses, MTU, routes and hooks as the file has them; a tunnel; and no trace after."""
    left, marks = site.net.left, site.directory
    config = site.write(
        interface="MTU = 1380\n"
        f"PreUp = echo one two # three > {marks}/pre-%i\n"
        f"PostUp = ip link show %i > {marks}/up-%i\n"
        f"PostDown = touch {marks}/down-%i\n",
        allowed="10.77.0.2/32, fd77::2/128, 198.51.100.0/24",
    )
    name = config.stem
    before = snapshot(left)
    front.run(left, "up", config)
    assert (UAPI_DIRECTORY / f"{name}.sock").exists()
    shown = left.ip("address", "show", "dev", name)
    for wanted in ("mtu 1380", "inet 10.77.0.1/24", "inet6 fd77::1/64"):
        assert wanted in shown
    assert f"198.51.100.0/24 dev {name}" in left.ip("route")
    # The text after # is the shell's to leave out, as a comment: so nothing is written.
    assert not (marks / f"pre-{name}").exists()
    assert name in (marks / f"up-{name}").read_text()
    for target in (site.right.address, site.right.address6, BEYOND):
        left.ping(target)
    site.net.right.ping("10.77.0.1")
    transfer(left, site.net.right, site.right.address, 1_000_000)
    daemons = left.pids()
    assert daemons
    assert not (marks / f"down-{name}").exists()
    front.run(left, "down", config)
    assert (marks / f"down-{name}").exists()
    wait_until(lambda: not left.pids(), "the end of the daemon")
    assert not (UAPI_DIRECTORY / f"{name}.sock").exists()
    assert snapshot(left) == before


def test_default_route(front: Front, site: Site) -> None:
    """With 0.0.0.0/0 and ::/0 all traffic goes through the tunnel, but for the tunnel's own."""
    left = site.net.left
    left.ip("route", "add", "default", "via", site.net.right.v4)
    left.ip("-6", "route", "add", "default", "via", site.net.right.v6)
    before = snapshot(left)
    config = site.write(allowed="0.0.0.0/0, ::/0")
    front.run(left, "up", config)
    for target in (BEYOND, BEYOND6, site.right.address, site.right.address6):
        left.ping(target)
    # What is on a network of its own still goes there directly.
    assert f"dev {left.link}" in left.ip("route", "get", site.net.right.v4)
    assert f"dev {config.stem}" in left.ip("route", "get", BEYOND)
    fwmark = left.run("wg", "show", config.stem, "fwmark").stdout.strip()
    assert fwmark not in ("", "off")
    assert f"dev {left.link}" in left.ip("route", "get", BEYOND, "mark", fwmark)
    assert snapshot(left)["nft"] != before["nft"], "no rule keeps strangers from our addresses"
    front.run(left, "down", config)
    wait_until(lambda: not left.pids(), "the end of the daemon")
    assert snapshot(left) == before


def test_failed_hook_undoes_everything(front: Front, site: Site) -> None:
    """A PostUp that fails: the command fails, and the machine is as before."""
    left = site.net.left
    before = snapshot(left)
    config = site.write(interface="PostUp = exit 7\n", allowed="0.0.0.0/0, ::/0")
    with pytest.raises(CommandError):
        front.run(left, "up", config)
    wait_until(lambda: not left.pids(), "the end of the daemon")
    assert snapshot(left) == before


def test_second_up_is_refused(front: Front, site: Site) -> None:
    """An interface that is up is not brought up again; the first one is not disturbed."""
    left, config = site.net.left, site.write()
    front.run(left, "up", config)
    left.ping(site.right.address)
    with pytest.raises(CommandError, match=r"exists|is up|already"):
        front.run(left, "up", config)
    left.ping(site.right.address)
    front.run(left, "down", config)


def test_save(front: Front, site: Site) -> None:
    """`save` writes what wg(8) changed into the file, and keeps what it does not know."""
    left = site.net.left
    config = site.write(interface="MTU = 1390\nPostUp = true\n")
    front.run(left, "up", config)
    change = ("peer", site.right_keys.public, "persistent-keepalive", "17")
    left.run("wg", "set", config.stem, *change)
    front.run(left, "save", config)
    front.run(left, "down", config)
    saved = config.read_text()
    assert config.stat().st_mode & 0o777 == 0o600
    for line in ("PersistentKeepalive = 17", "MTU = 1390", "PostUp = true"):
        assert line in saved
    front.run(left, "up", config)
    left.ping(site.right.address)
    front.run(left, "down", config)


def test_strip_is_the_same(front: Front, site: Site) -> None:
    """What `strip` leaves is what wg-quick's leaves, and wg(8) takes it."""
    config = site.write(interface="MTU = 1390\nDNS = 10.0.0.1\nPostUp = true # a # b\n")
    theirs = site.net.left.run(program("wg-quick"), "strip", str(config)).stdout
    stripped = front.run(site.net.left, "strip", config)
    assert _settings(stripped) == _settings(theirs)
    with Interface(site.net.left, ours()) as interface:
        interface.setconf(stripped)
        assert interface.peer(site.right_keys.public).endpoint == endpoint(site.net.right.v4, PORT)


def _settings(text: str) -> list[str]:
    return [line.replace(" ", "") for line in text.splitlines() if line.strip()]


def test_up_after_the_daemon_was_killed(site: Site) -> None:
    """wgpyd killed with -9 leaves nothing that stops `wgpy up`, or wg-quick, from starting it."""
    if find("wgpy") is None or OURS is not WGPY:
        pytest.skip("wgpy's own commands are tested here")
    require("wgpyd")
    left, config = site.net.left, site.write()
    front = FRONTS[1]
    for _ in range(2):
        front.run(left, "up", config)
        left.ping(site.right.address)
        (daemon,) = left.pids()
        left.run("kill", "-KILL", str(daemon))
        wait_until(lambda: not left.pids(), "the end of the daemon")
        front.run(left, "down", config)
