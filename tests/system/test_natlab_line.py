"""What lines of the lab do to packets: as much as they are told, from when they are told."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.natlab import Host, Lab, LabHost, Line, Nat, PlanError, Router, two_homes
from tests.support.natlab.carried import Counts
from tests.support.natlab.link import CarriedLink
from tests.support.natlab.punching import punch
from tests.support.natlab.reflector import Reflector
from tests.support.netns import CommandError, remove_leftovers, wait_until
from tests.support.requirements import ROOT

pytestmark = [
    pytest.mark.root,
    pytest.mark.tool("ip"),
    pytest.mark.tool("nft"),
    pytest.mark.tool("ping"),
    pytest.mark.tool("carrier"),
    pytest.mark.usefixtures("clean_machine"),
]

# Into a receive buffer of the usual size go so many small datagrams.
BURST = 200
SIZE = 100
# How long the last of them is waited for.
SILENCE = 0.5


@pytest.fixture
def lab() -> Iterator[Lab]:
    """Two hosts on the internet: the line of "near" can be changed, "far" has none."""
    with Lab(hosts=[Host("near", line=Line()), Host("far")]) as made:
        meet(made.hosts["near"], made.hosts["far"])
        yield made


def meet(one: LabHost, other: LabHost) -> None:
    """Send one packet, and have one back: what waits for a neighbour to be found is overtaken."""
    one.namespace.run("ping", "-n", "-c1", "-W10", other.v4)


def numbers_through(source: LabHost, target: LabHost, count: int = BURST) -> list[int]:
    """Send numbered datagrams; those that came, in the order in which they came."""
    with (
        target.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        source.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        receiver.bind((target.v4, 0))
        receiver.settimeout(SILENCE)
        for number in range(count):
            sender.sendto(number.to_bytes(4, "big").ljust(SIZE), receiver.getsockname())
        found = []
        while True:
            try:
                found.append(int.from_bytes(receiver.recv(SIZE)[:4], "big"))
            except TimeoutError:
                return found


def out(lab: Lab) -> Counts:
    return lab.hosts["near"].link.counts()[0]


def test_a_line_without_conditions_carries_all_in_order(lab: Lab) -> None:
    assert numbers_through(lab.hosts["near"], lab.hosts["far"]) == list(range(BURST))
    assert numbers_through(lab.hosts["far"], lab.hosts["near"]) == list(range(BURST))
    for counts in lab.hosts["near"].link.counts():
        assert counts.carried >= BURST
        assert (counts.lost, counts.dropped, counts.expired, counts.overflow) == (0, 0, 0, 0)


def test_nothing_comes_earlier_than_the_delay_of_its_way(lab: Lab) -> None:
    near, far = lab.hosts["near"], lab.hosts["far"]
    near.link.set(Line(delay=0.2), Line(delay=0.1))
    with (
        near.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
        far.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
    ):
        for made, host in ((one, near), (other, far)):
            made.bind((host.v4, 0))
            made.settimeout(5)
        start = time.monotonic()
        one.sendto(b"there", other.getsockname())
        other.recv(SIZE)
        there = time.monotonic()
        other.sendto(b"back", one.getsockname())
        one.recv(SIZE)
        # A stamp is of the moment of arrival, in another clock, which is set now and then.
        assert there - start > 0.19
        assert time.monotonic() - there > 0.09


def test_neighbours_are_found_without_delay_or_loss(lab: Lab) -> None:
    near = lab.hosts["near"]
    near.link.set(Line(loss=1.0))
    assert not near.namespace.can_ping(lab.hosts["far"].v4)
    assert "lladdr" in near.namespace.ip("neighbour", "show", "11.77.0.254")


def test_loss_is_what_is_counted_and_about_what_was_asked(lab: Lab) -> None:
    near, far = lab.hosts["near"], lab.hosts["far"]
    near.link.set(Line(loss=0.25), Line())
    came = numbers_through(near, far)
    assert came == sorted(set(came))
    assert len(came) == BURST - out(lab).lost
    # 50 are expected; chance is drawn from a seed.
    assert 30 <= out(lab).lost <= 70
    assert len(numbers_through(far, near)) == BURST
    near.link.set(Line(loss=1.0), Line())
    assert numbers_through(near, far) == []
    near.link.set(Line())
    assert len(numbers_through(near, far)) == BURST


def test_what_is_reordered_or_doubled_is_counted(lab: Lab) -> None:
    near, far = lab.hosts["near"], lab.hosts["far"]
    near.link.set(Line(reordering=0.1, reorder_by=0.1), Line())
    came = numbers_through(near, far)
    assert came != sorted(came)
    assert sorted(came) == list(range(BURST))
    assert 5 <= out(lab).reordered <= 40
    near.link.set(Line(duplication=0.1), Line())
    came = numbers_through(near, far)
    assert came == sorted(came)
    assert len(came) == BURST + out(lab).repeated
    assert set(came) == set(range(BURST))
    assert 5 <= out(lab).repeated <= 40


def test_a_rate_drops_what_would_wait_too_long(lab: Lab) -> None:
    near, far = lab.hosts["near"], lab.hosts["far"]
    # A frame is of 142 bytes: 100 of them in a tenth of a second.
    near.link.set(Line(rate=1000 * 142 * 8, queue=0.1), Line())
    came = numbers_through(near, far)
    assert len(came) + out(lab).dropped == BURST
    assert came[:100] == list(range(100))
    assert out(lab).dropped > 0


def test_hops_end_packets_that_may_not_go_so_far(lab: Lab) -> None:
    near, far = lab.hosts["near"].namespace, lab.hosts["far"]
    lab.hosts["near"].link.set(Line(hops=3), Line())
    # Three, and the internet itself.
    near.run("ping", "-n", "-c1", "-W5", "-t5", far.v4)
    with pytest.raises(CommandError):
        near.run("ping", "-n", "-c1", "-W1", "-t3", far.v4)
    assert out(lab).expired == 1


def test_a_black_hole_takes_long_packets_and_tells_nobody(lab: Lab) -> None:
    near, far = lab.hosts["near"].namespace, lab.hosts["far"]
    lab.hosts["near"].link.set(Line(mtu=1400), Line())
    # With the headers of IPv4 and ICMP.
    near.run("ping", "-n", "-c1", "-W5", "-Mdo", "-s", str(1400 - 28), far.v4)
    said = near.run("ping", "-n", "-c1", "-W1", "-Mdo", "-s", str(1401 - 28), far.v4, check=False)
    assert said.returncode == 1
    assert "needed" not in said.stdout
    assert out(lab).oversize == 1


def test_a_line_is_of_the_way_that_it_was_laid_for() -> None:
    slow = Line(loss=1.0)
    hosts = [
        Host("away", line=slow, back=Line()),
        Host("back", line=Line(), back=slow),
        Host("other"),
    ]
    with Lab(hosts=hosts) as lab:
        away, back, other = lab.hosts["away"], lab.hosts["back"], lab.hosts["other"]
        assert numbers_through(other, away, 3) == [0, 1, 2]
        assert numbers_through(away, other, 3) == []
        assert numbers_through(back, other, 3) == [0, 1, 2]
        assert numbers_through(other, back, 3) == []


def test_chance_is_the_same_in_another_lab() -> None:
    def some() -> list[int]:
        with Lab(hosts=[Host("near", line=Line()), Host("far")]) as lab:
            meet(lab.hosts["near"], lab.hosts["far"])
            lab.hosts["near"].link.set(Line(loss=0.5))
            return numbers_through(lab.hosts["near"], lab.hosts["far"])

    first = some()
    assert some() == first


def test_only_a_cable_that_was_laid_with_a_line_can_have_another() -> None:
    with Lab(hosts=[Host("plain")]) as lab:
        with pytest.raises(PlanError, match="no line to change"):
            lab.hosts["plain"].link.set(Line(delay=1.0))
        with pytest.raises(PlanError, match="no line that counts"):
            lab.hosts["plain"].link.counts()


def test_a_line_goes_with_its_cable() -> None:
    routers = [Router("home"), Router("lte")]
    with Lab(routers, [Host("laptop", "home", line=Line()), Host("far")]) as lab:
        laptop = lab.hosts["laptop"]
        laptop.namespace.ping(lab.hosts["far"].v4)
        old = laptop.link
        laptop.move("lte", "wwan0", line=Line(hops=9))
        laptop.namespace.ping(lab.hosts["far"].v4)
        said = laptop.namespace.run("ping", "-n", "-c1", lab.hosts["far"].v4).stdout
        # Nine hops, the internet, and the router.
        assert "ttl=53 " in said
        with pytest.raises(AssertionError, match="the carrier does not answer"):
            old.counts()


def test_a_cut_cable_with_a_line_is_silent(lab: Lab) -> None:
    near, far = lab.hosts["near"], lab.hosts["far"]
    near.cut()
    assert numbers_through(near, far, 3) == []
    near.heal()
    assert numbers_through(near, far, 3) == [0, 1, 2]


def test_an_interface_that_was_down_carries_again(lab: Lab) -> None:
    near, far = lab.hosts["near"], lab.hosts["far"]
    near.down()
    near.up()
    wait_until(lambda: numbers_through(near, far, 3) == [0, 1, 2], "the line to carry again")


def test_a_carrier_that_ended_is_told(lab: Lab) -> None:
    link = lab.hosts["near"].link
    assert isinstance(link, CarriedLink)
    os.kill(link.pid, signal.SIGKILL)
    with pytest.raises(AssertionError, match="the carrier does not answer"):
        link.counts()


# A process that builds a lab with a line, tells its carrier's number, and waits.
FORGETFUL = """
import time
from tests.support.natlab import Host, Lab, Line
lab = Lab(hosts=[Host("near", line=Line())])
lab.__enter__()
print(lab.hosts["near"].link.pid, flush=True)
time.sleep(1000)
"""


def test_a_carrier_does_not_outlive_who_started_it() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", FORGETFUL], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as forgetful:
        assert forgetful.stdout is not None
        place = Path("/proc", forgetful.stdout.readline().strip())
        assert (place / "comm").read_text() == "carrier\n"
        forgetful.kill()
    wait_until(lambda: not (place / "stat").exists(), "the carrier to end")
    # And its namespaces are found by the next run, or by one that is beside us.
    remove_leftovers()
    assert list(Path("/run/netns").glob(f"wgpyt-{forgetful.pid}-*")) == []


def test_two_homes_are_as_far_apart_as_each_is_from_the_server() -> None:
    with two_homes(Nat.OPEN, Nat.OPEN, delay=0.04) as lab:
        alice = lab.hosts["alice"].namespace
        for name, routers in (("bob", 2), ("server", 1)):
            said = alice.run("ping", "-n", "-c2", lab.hosts[name].v4).stdout
            # From 64: three hops on each line, the internet, and the routers.
            assert f"ttl={64 - 3 * 2 - 1 - routers} " in said
            shortest = float(said.split("rtt min/avg/max/mdev = ")[1].split("/")[0])
            assert shortest > 79


def test_naive_routers_let_through_who_sends_within_the_way_of_a_packet() -> None:
    """What comes to a naive router before its own host has sent spoils the mapping."""
    line = Line(delay=0.1)
    routers = [Router(name, Nat.NAIVE, line=line) for name in ("one", "other")]
    hosts = [Host("alice", "one"), Host("bob", "other"), Host("server", addresses=2)]
    with Lab(routers, hosts) as lab, Reflector(lab.hosts["server"]) as reflector:
        pair = (lab.hosts["alice"], lab.hosts["bob"])
        # A way of 0.2 s between the two.
        assert punch([pair], reflector, skew=0.0) == [True]
        assert punch([pair], reflector, skew=0.6) == [False]
