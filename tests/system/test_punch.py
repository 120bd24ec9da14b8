"""Two daemons that share nothing but what two people carry: `wgpy up`, `punch`, `show`, `down`.

left ──── veth ──── right        each has a TOML file with [nat], and no endpoint of the other
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.netns import Namespace, Pair, link_name, pair
from wgpy.keys import PrivateKey

pytestmark = [pytest.mark.root, pytest.mark.tool("ip", "ping")]

RELAY_ONLY = 'relay_only = true\n[[nat.turn]]\nuris = "turn:192.0.2.1"\nsecret_file = "secret"\n'


class End:
    """One side: its namespace, its file, and the commands on it."""

    def __init__(self, space: Namespace, directory: Path, number: int) -> None:
        self.space = space
        self.name = link_name()
        self.private = PrivateKey.generate()
        self.inner = f"10.99.0.{number}"
        self.file = directory / f"{self.name}.toml"
        (directory / "secret").write_text("north\n")
        (directory / "secret").chmod(0o600)

    @property
    def key(self) -> str:
        return self.private.public().base64()

    def write(self, other: "End", nat: str = "portmap = false\n") -> None:
        self.file.write_text(
            f'[interface]\nprivate_key = "{self.private.base64()}"\n'
            f'address = "{self.inner}/24"\n'
            f'[[peer]]\npublic_key = "{other.key}"\nnat = true\n'
            f'allowed_ips = "{other.inner}/32"\n[nat]\n{nat}'
        )
        self.file.chmod(0o600)

    def run(self, *words: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return self.space.run(
            str(Path(sys.executable).with_name("wgpy")), *words, check=False, stdin=stdin
        )

    def well(self, *words: str) -> str:
        done = self.run(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def path(self, other: "End") -> dict[str, object]:
        found: dict[str, object] = json.loads(self.well("show", self.name, "--json"))[self.name][
            "peers"
        ][other.key]["path"]
        return found


@pytest.fixture
def net(clean_machine: None) -> Iterator[Pair]:
    with pair() as made:
        yield made


@pytest.fixture
def ends(net: Pair, tmp_path: Path) -> Iterator[tuple[End, End]]:
    left, right = End(net.left, tmp_path, 1), End(net.right, tmp_path, 2)
    left.write(right)
    right.write(left)
    for end in (left, right):
        end.well("up", str(end.file))
    yield left, right
    for end in (left, right):
        end.run("down", str(end.file))


def test_two_people_find_a_way(ends: tuple[End, End], tmp_path: Path) -> None:
    left, right = ends
    assert left.path(right)["kind"] == "none"
    offers = {
        end: end.well("punch", end.name, other.key[:12], "--offer")
        for end, other in ((left, right), (right, left))
    }

    def answer(end: End, other: End) -> subprocess.CompletedProcess[str]:
        words = ("punch", end.name, other.key, "--answer", "-", "--wait", "20")
        return end.run(*words, stdin=offers[other])

    with ThreadPoolExecutor(2) as people:
        results = list(people.map(answer, (left, right), (right, left)))
    for done, other in zip(results, (right, left), strict=True):
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(("direct 10.91.0.", "direct [fd91::"))
        assert other.name not in done.stdout
    left.space.ping(right.inner, 3)
    shown = left.well("show", left.name)
    assert "\n  found at: " in shown
    assert "\n  path: direct " in shown
    # There is nothing to do any more, and what the file says disturbs nothing.
    done = left.run("punch", left.name, right.key)
    assert (done.returncode, done.stdout) == (0, "")
    assert "The way is direct already: direct " in done.stderr
    before = left.path(right)["place"]
    left.well("syncconf", "--strip", left.name, str(left.file))
    assert left.path(right)["place"] == before
    left.space.ping(right.inner)


def test_a_line_that_is_no_offer_of_the_peer(ends: tuple[End, End]) -> None:
    left, right = ends
    own = left.well("punch", left.name, right.key, "--offer")
    for line in (own, "hello\n", own[:-5] + "\n"):
        done = left.run("punch", left.name, right.key, "--answer", "-", stdin=line)
        assert (done.returncode, done.stdout) == (1, "")
        (reason,) = done.stderr.splitlines()
        assert reason.startswith(f"wgpy: Unable to modify interface {left.name}: ")
    assert left.path(right)["kind"] == "searching"


def test_settings_come_and_go_while_it_runs(ends: tuple[End, End]) -> None:
    left, right = ends
    left.write(right, RELAY_ONLY)
    left.well("syncconf", "--strip", left.name, str(left.file))
    settings = json.loads(left.well("show", left.name, "--json"))[left.name]["nat"]
    assert settings["relayOnly"]
    assert settings["turn"][0]["uris"] == ["turn:192.0.2.1:3478"]
    left.file.write_text(left.file.read_text().partition("[nat]")[0].replace("nat = true\n", ""))
    left.well("syncconf", "--strip", left.name, str(left.file))
    whole = json.loads(left.well("show", left.name, "--json"))[left.name]
    assert (whole["nat"], whole["way"]) == (None, None)
    assert whole["peers"][right.key]["nat"] is False
    done = left.run("punch", left.name, right.key)
    assert done.returncode == 1
    assert f"{left.name} has no [nat]" in done.stderr
