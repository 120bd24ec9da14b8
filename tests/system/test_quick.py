"""`wgpy up` and `wgpy down` on a real kernel: what is set, and that all of it is taken back."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.netns import Namespace, link_name, wait_until
from tests.support.quick import Quick, addresses, machine, mtu, routes
from tests.support.requirements import program
from wgpy.quick.journal import RUN_DIRECTORY

pytestmark = [pytest.mark.root, pytest.mark.tool("wireguard-go", "nft", "ip")]

FULL = "Address = 10.192.122.1/24, fd42::1/64\nAddress = 10.10.0.1/32"
EVERYWHERE = "AllowedIPs = 0.0.0.0/0, ::/0, 10.55.0.0/16, fd55::/48, 10.192.122.7/32"


@pytest.fixture
def space(clean_machine: None) -> Iterator[Namespace]:
    """A namespace with a way out: a TUN device of its own, with default routes and an MTU."""
    with Namespace() as made:
        made.ip("tuntap", "add", "dev", "out0", "mode", "tun")
        made.ip("link", "set", "out0", "mtu", "1400", "up")
        made.add_address("out0", "192.0.2.10/24", "2001:db8::10/64")
        made.ip("route", "add", "default", "dev", "out0")
        made.ip("-6", "route", "add", "default", "dev", "out0")
        yield made


@pytest.fixture
def quick(space: Namespace, tmp_path: Path) -> Iterator[Quick]:
    made = Quick(space, tmp_path)
    yield made
    made.call("down")


def _ways(space: Namespace, name: str) -> list[tuple[str, str]]:
    return [
        (route["dst"], str(route.get("table", "main")))
        for route in routes(space)
        if route.get("dev") == name and route.get("table") != "local"
    ]


def test_addresses_mtu_and_routes(quick: Quick) -> None:
    before = machine(quick.space)
    quick.write(FULL, "AllowedIPs = 10.55.0.0/16, fd55::/48, 10.192.122.7/32, 10.10.0.1/32")
    printed = quick.up()
    assert addresses(quick.space, quick.name) == [
        ("10.192.122.1", 24),
        ("10.10.0.1", 32),
        ("fd42::1", 64),
    ]
    assert mtu(quick.space, quick.name) == 1320  # the default route's 1,400
    ways = _ways(quick.space, quick.name)
    assert ("10.55.0.0/16", "main") in ways
    assert ("fd55::/48", "main") in ways
    assert ("10.10.0.1", "main") in ways
    assert ("10.192.122.7", "main") not in ways  # the address's own network has it
    assert printed.splitlines()[0] == f"[#] {program('wireguard-go')} {quick.name}"
    assert f"[#] ip -4 address add 10.192.122.1/24 dev {quick.name}" in printed
    quick.down()
    assert machine(quick.space) == before
    assert not quick.journal().exists()
    assert not Path(f"/var/run/wireguard/{quick.name}.sock").exists()


def test_default_routes_and_back(quick: Quick) -> None:
    # Rules, tables and a route that belong to others, and must outlive all this.
    quick.space.ip("rule", "add", "from", "192.0.2.99", "table", "77", "priority", "1000")
    quick.space.ip("route", "add", "198.51.100.0/24", "dev", "out0", "table", "51820")
    nft = "add table ip mine; add chain ip mine c { type filter hook input priority 0; }"
    quick.space.run(program("nft"), nft)
    before = machine(quick.space)
    quick.write(FULL, EVERYWHERE + "\nEndpoint = 192.0.2.1:5555")
    quick.up()
    during = machine(quick.space)
    for version in ("-4", "-6"):
        rules = json.loads(quick.space.ip("-j", version, "rule"))
        ours = {rule["priority"]: rule for rule in rules if rule not in before["rules"]}
        to_main, to_table = sorted(ours)
        assert ours[to_table]["table"] == "51821"  # 51820 holds another's route
        assert ours[to_table]["fwmark"] == "0xca6d"
        assert "not" in ours[to_table]
        assert ours[to_main]["table"] == "main"
        assert ours[to_main]["suppress_prefixlen"] == 0
    assert _ways(quick.space, quick.name).count(("default", "51821")) == 2
    tables = {entry["table"]["family"] for entry in during["nft"] if "table" in entry}
    assert tables == {"ip", "ip6"}
    assert during["src_valid_mark"] == "1"
    # Packets go into the tunnel, the tunnel's own (by their mark) do not.
    assert f"dev {quick.name}" in quick.space.ip("route", "get", "8.8.8.8")
    assert "dev out0" in quick.space.ip("route", "get", "8.8.8.8", "mark", "51821")
    assert "dev out0" in quick.space.ip("route", "get", "192.0.2.77")
    assert f"dev {quick.name}" in quick.space.ip("-6", "route", "get", "2001:db8:1::1")
    quick.down()
    assert machine(quick.space) == before


def test_two_default_routes_share_and_the_last_restores(quick: Quick, tmp_path: Path) -> None:
    before = machine(quick.space)
    (tmp_path / "second").mkdir()
    second = Quick(quick.space, tmp_path / "second")
    second.run_directory = quick.run_directory
    quick.write("Address = 10.1.0.1/24", "AllowedIPs = 0.0.0.0/0")
    second.write("Address = 10.2.0.1/24", "AllowedIPs = 0.0.0.0/0")
    quick.up()
    alone = machine(quick.space)
    second.up()
    quick.down()
    assert machine(quick.space)["src_valid_mark"] == "1"
    assert f"dev {second.name}" in quick.space.ip("route", "get", "8.8.8.8")
    quick.up()
    second.down()
    assert machine(quick.space)["src_valid_mark"] == alone["src_valid_mark"] == "1"
    quick.down()
    assert machine(quick.space) == before


@pytest.mark.parametrize("value", ["0", "1"])
def test_the_sysctl_is_left_as_it_was(quick: Quick, value: str) -> None:
    quick.space.run("sh", "-c", f"echo {value} > /proc/sys/net/ipv4/conf/all/src_valid_mark")
    quick.write("Address = 10.1.0.1/24", "AllowedIPs = 0.0.0.0/0")
    assert ("src_valid_mark=1" in quick.up()) == (value == "0")
    quick.down()
    assert machine(quick.space)["src_valid_mark"] == value


@pytest.mark.parametrize(
    ("endpoints", "expected"),
    [
        (["192.0.2.1:5"], 1320),
        (["198.51.100.1:5"], 1220),  # a route with an MTU of its own
        (["192.0.2.1:5", "198.51.100.1:5"], 1220),
        (["127.0.0.1:5"], 65456),
        (["[2001:db8::1]:5"], 1320),
        ([], 1320),
    ],
)
def test_mtu_of_the_way_to_the_endpoints(quick: Quick, endpoints: list[str], expected: int) -> None:
    quick.space.ip("route", "add", "198.51.100.0/24", "dev", "out0", "mtu", "1300")
    key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA{}A="
    peers = "".join(
        f"[Peer]\nPublicKey = {key.format(letter)}\nEndpoint = {endpoint}\n"
        for letter, endpoint in zip("BCD", endpoints, strict=False)
    )
    quick.write("Address = 10.1.0.1/24", peers)
    quick.up()
    assert mtu(quick.space, quick.name) == expected


def test_a_given_mtu_and_a_table_of_ones_own(quick: Quick) -> None:
    before = machine(quick.space)
    quick.write("Address = 10.1.0.1/24\nMTU = 1337\nTable = 1234", "AllowedIPs = 0.0.0.0/0, ::/0")
    quick.up()
    assert mtu(quick.space, quick.name) == 1337
    ways = _ways(quick.space, quick.name)
    assert ways.count(("default", "1234")) == 2
    during = machine(quick.space)
    assert (during["rules"], during["nft"]) == (before["rules"], before["nft"])
    quick.down()
    assert machine(quick.space) == before


def test_table_off(quick: Quick) -> None:
    quick.write("Address = 10.1.0.1/24\nTable = off", EVERYWHERE)
    quick.up()
    assert ("default", "51820") not in _ways(quick.space, quick.name)
    assert ("10.55.0.0/16", "main") not in _ways(quick.space, quick.name)


def _resolvconf(quick: Quick, tmp_path: Path, script: str = "") -> Path:
    """A stand-in for resolvconf, which writes down how it is called."""
    log = tmp_path / "calls"
    quick.stand_in(
        "resolvconf", f'echo "resolvconf $*" >> {log}; [ "$1" = -d ] || cat >> {log}\n{script}'
    )
    return log


def test_dns_through_resolvconf(quick: Quick, tmp_path: Path) -> None:
    log = _resolvconf(quick, tmp_path)
    quick.write("Address = 10.1.0.1/24\nDNS = 10.1.0.53, fd00::53, corp\nDNS = lan", "")
    printed = quick.up()
    assert f"[#] resolvconf -a {quick.name} -m 0 -x" in printed
    added = (
        f"resolvconf -a {quick.name} -m 0 -x\n"
        "nameserver 10.1.0.53\nnameserver fd00::53\nsearch corp lan\n"
    )
    assert log.read_text() == added
    quick.down()
    assert log.read_text() == added + f"resolvconf -d {quick.name} -f\n"


def test_dns_that_fails_undoes_everything(quick: Quick, tmp_path: Path) -> None:
    before = machine(quick.space)
    _resolvconf(quick, tmp_path, '[ "$1" = -d ] || { echo no resolver >&2; exit 9; }')
    quick.write("Address = 10.1.0.1/24\nDNS = 10.1.0.53", "")
    said = quick.fail("up")
    assert "exited with 9: no resolver; everything was undone" in said
    assert machine(quick.space) == before


def test_dns_without_a_tool_is_refused_before_anything_starts(quick: Quick) -> None:
    before = machine(quick.space)
    # Only what is needed to run in the namespace: no resolvconf, no resolvectl.
    for name in ("ip", "setpriv"):
        found = shutil.which(name)
        assert found is not None
        (quick.bin / name).symlink_to(found)
    quick.environment["PATH"] = str(quick.bin)
    quick.write("DNS = 10.1.0.53\nPreUp = touch /nonexistent/never", "")
    said = quick.fail("up")
    assert "install openresolv" in said
    assert machine(quick.space) == before
    assert not quick.journal().exists()


def test_hooks_run_in_their_phases(quick: Quick, tmp_path: Path) -> None:
    log = tmp_path / "hooks"
    hooks = "\n".join(
        f"{key} = echo {key} %i $(ip link show %i 2>/dev/null | grep -c mtu) # {number} >> {log}"
        f"; echo {key} %i $(ip link show %i 2>/dev/null | grep -c mtu) >> {log}"
        for number, key in enumerate(("PreUp", "PostUp", "PreDown", "PostDown"))
    )
    hooks = hooks.replace(" # ", " '#' ")
    quick.write(hooks, "")
    quick.up()
    quick.down()
    phases = [line.split()[0] for line in log.read_text().splitlines()]
    assert phases == [
        phase for phase in ("PreUp", "PostUp", "PreDown", "PostDown") for _ in range(2)
    ]
    links = {line.split()[0]: line.split()[2] for line in log.read_text().splitlines()}
    assert links == {"PreUp": "1", "PostUp": "1", "PreDown": "1", "PostDown": "0"}


def test_a_predown_hook_that_fails_keeps_it_up(quick: Quick) -> None:
    quick.write("Address = 10.1.0.1/24\nPreDown = test -e /nonexistent", "AllowedIPs = 0.0.0.0/0")
    quick.up()
    during = machine(quick.space)
    assert "the PreDown hook `test -e /nonexistent` failed" in quick.fail("down")
    assert machine(quick.space) == during
    quick.config.write_text(quick.config.read_text().replace("/nonexistent", "/"))
    quick.down()


def test_up_twice_and_down_twice_are_refused(quick: Quick) -> None:
    quick.write("Address = 10.1.0.1/24", "")
    assert quick.fail("down") == f"{quick.name} is not up"
    quick.up()
    assert f"`wgpy down {quick.name}`" in quick.fail("up")
    quick.down()
    assert quick.fail("down") == f"{quick.name} is not up"


def test_a_link_of_others_is_left_alone(quick: Quick) -> None:
    quick.space.ip("tuntap", "add", "dev", quick.name, "mode", "tun")
    quick.write("Address = 10.1.0.1/24", "")
    assert "exists already" in quick.fail("up")
    assert "was not brought up by `wgpy up`" in quick.fail("down")
    assert quick.name in machine(quick.space)["links"]


def test_another_namespace_is_refused(quick: Quick) -> None:
    quick.write("Address = 10.1.0.1/24", "")
    quick.up()
    home, during = quick.space, machine(quick.space)
    with Namespace("other") as other:
        quick.space = other
        assert "another network namespace" in quick.fail("down")
        assert "another network namespace" in quick.fail("up")
    quick.space = home
    assert machine(home) == during


def test_attached_leaves_the_daemon_to_others(quick: Quick) -> None:
    before = machine(quick.space)
    quick.write("Address = 10.1.0.1/24, fd01::1/64", EVERYWHERE)
    assert f"start `wgpyd {quick.name}` first" in quick.fail("up", "--attach")
    quick.space.run(program("wireguard-go"), quick.name)
    try:
        quick.up("--attach")
        assert f"dev {quick.name}" in quick.space.ip("route", "get", "8.8.8.8")
        quick.down("--attach")
        after = machine(quick.space)
        assert quick.name in after["links"]
        assert addresses(quick.space, quick.name) == []
        ours = [
            way for way in _ways(quick.space, quick.name) if not way[0].startswith(("fe80", "ff"))
        ]
        assert ours == []
        assert (after["rules"], after["nft"]) == (before["rules"], before["nft"])
        quick.down("--attach")  # once more, as the unit does: nothing to do is no failure
    finally:
        quick.space.ip("link", "delete", "dev", quick.name)
    wait_until(lambda: machine(quick.space) == before, "the daemon's end")


def test_a_host_name_with_a_daemon_that_keeps_none_is_said(quick: Quick) -> None:
    quick.write("Address = 10.1.0.1/24", "Endpoint = localhost:5555")
    assert "this daemon keeps no host names: localhost is looked up now" in quick.up()


def test_save_writes_what_there_is(quick: Quick) -> None:
    quick.write(
        "Address = 10.1.0.1/24\nMTU = 1400\nPostUp = true # %i\nListenPort = 40404",
        "AllowedIPs = 0.0.0.0/0\nEndpoint = 192.0.2.1:5555",
    )
    original = quick.config.read_text()
    quick.up()
    quick.space.ip("address", "add", "10.3.0.1/24", "dev", quick.name)
    quick.space.run(program("wg"), "set", quick.name, "listen-port", "40405")
    assert quick.call("save").returncode == 0
    text = quick.config.read_text()
    assert "Address = 10.1.0.1/24\nAddress = 10.3.0.1/24\n" in text
    assert "ListenPort = 40405" in text
    assert "PostUp = true # %i" in text
    assert "FwMark" not in text  # `up` chose it
    for line in original.splitlines():
        if line and "ListenPort" not in line:
            assert line in text
    assert quick.config.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in quick.config.parent.glob("*.conf*")] == [quick.config.name]
    quick.down()
    quick.up()
    assert ("10.3.0.1", 24) in addresses(quick.space, quick.name)


def test_saveconfig_saves_on_the_way_down(quick: Quick) -> None:
    quick.write("Address = 10.1.0.1/24\nSaveConfig = true", "")
    quick.up()
    quick.space.run(program("wg"), "set", quick.name, "fwmark", "0x99")
    quick.down()
    assert "FwMark = 0x99" in quick.config.read_text()
    assert "SaveConfig = true" in quick.config.read_text()


def test_the_command_line(space: Namespace, tmp_path: Path) -> None:
    """`wgpy` itself, with /run/wgpy: what it says, and its exit codes."""
    name = link_name()
    path = tmp_path / f"{name}.conf"
    quick = Quick(space, tmp_path)
    quick.config = path
    quick.write("Address = 10.1.0.1/24", "AllowedIPs = 0.0.0.0/0")
    before = machine(space)

    def wgpy(*words: str) -> subprocess.CompletedProcess[str]:
        return space.run(program("wgpy"), *words, check=False, env=quick.environment)

    path.chmod(0o644)
    done = wgpy("up", str(path))
    try:
        assert done.returncode == 0, done.stderr
        assert "chmod 600" in done.stderr.splitlines()[0] or not _passable(path.parent)
        path.chmod(0o600)
        saved = wgpy("save", str(path))
        assert saved.returncode == 0, saved.stderr
        path.unlink()  # the journal is enough
    finally:
        done = wgpy("down", name)
    assert done.returncode == 0, done.stderr
    assert machine(space) == before
    done = wgpy("down", name)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, f"wgpy: {name} is not up")
    (RUN_DIRECTORY / f"quick@{name}.lock").unlink()


def _passable(directory: Path) -> bool:
    return bool(directory.stat().st_mode & 0o001)


@pytest.mark.tool("wgpyd")
def test_with_our_own_daemon_a_name_stays_a_name(space: Namespace, tmp_path: Path) -> None:
    before = machine(space)
    quick = Quick(space, tmp_path, daemon="wgpyd")
    quick.write("Address = 10.1.0.1/24", EVERYWHERE + "\nEndpoint = localhost:5555")
    try:
        printed = quick.up()
        assert "keeps no host names" not in printed
        assert mtu(space, quick.name) == 65456
        assert f"dev {quick.name}" in space.ip("route", "get", "8.8.8.8")
        assert quick.call("save").returncode == 0
        assert "Endpoint = localhost:5555" in quick.config.read_text()
    finally:
        quick.down()
    assert machine(space) == before
    assert not Path(f"/var/run/wireguard/{quick.name}.sock").exists()
