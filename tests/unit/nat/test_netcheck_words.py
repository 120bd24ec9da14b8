"""What a person reads: a picture, facts, and one sentence for each case."""

import re
from dataclasses import replace

import pytest

from wgpy.nat.behaviour import Allocation, Behaviour
from wgpy.nat.lifetime import Bracket
from wgpy.nat.netcheck_report import Family, PortMapping, Report, Server, Status
from wgpy.nat.netcheck_words import picture, sentence, text

EIM, ADM, APDM, NONE, UNKNOWN = (
    Behaviour.ENDPOINT_INDEPENDENT,
    Behaviour.ADDRESS_DEPENDENT,
    Behaviour.ADDRESS_AND_PORT_DEPENDENT,
    Behaviour.NONE,
    Behaviour.UNKNOWN,
)
LOCAL, SEEN = ("192.168.1.23", 40000), ("203.0.113.9", 40000)
NOT_ASKED = Family(Status.NOT_ASKED)
NO_ROUTE = Family(Status.NO_ROUTE)
SILENT = Family(Status.SILENT, local=LOCAL)
PORT = Family(Status.ANSWERED, LOCAL, SEEN, EIM, APDM, True, Allocation.KEPT, hairpin=False)
SYM = replace(PORT, mapping=APDM, keeps_ports=False, allocation=Allocation.RANDOM)
SYMSEQ = replace(SYM, allocation=Allocation.SEQUENTIAL, step=2)
OPEN = Family(Status.ANSWERED, SEEN, SEEN, NONE, EIM, True, Allocation.KEPT)
FIREWALL = replace(OPEN, filtering=APDM)
V6 = ("2001:db8:5::1", 40000)
FIREWALL_V6 = replace(FIREWALL, local=V6, seen=V6)
LONG = ("2001:db8:1234:5678:1234:56ff:fe78:9abc", 40000)
LONG_V6 = replace(FIREWALL, local=LONG, seen=LONG)
NEAR = Server("stun.example.com:3478", "192.0.2.1:3478", 0.0123)
FAR = Server("far.example.com:3478", "198.51.100.1:3478", 0.25)
AWAY = Server("away.example.com:3478", "198.51.100.2:3478", None, "no answer")
LOST = Server("no.example.com:3478", "", None, "the name has no address")


def report(v4: Family = PORT, v6: Family = NOT_ASKED, *servers: Server, **rest: object) -> Report:
    return replace(Report(v4, v6, servers or (NEAR,)), **rest)


# --- Pictures ---


def test_a_nat() -> None:
    assert picture(PORT, 1, 2, 0.0123) == [
        "+-- this machine --+      +-- NAT ------+      +-- servers ------+",
        "| 192.168.1.23     |------| 203.0.113.9 |------| 1 of 2 answered |",
        "| port 40000       |      | port 40000  |      | nearest 12.3 ms |",
        "+------------------+      +-------------+      +-----------------+",
    ]


def test_a_symmetric_nat_has_many_ports() -> None:
    assert "| one port is 40000 |" in picture(SYM, 1, 1, 0.1)[2]


def test_nothing_in_between() -> None:
    assert picture(OPEN, 1, 1, 0.0123) == [
        "+-- this machine --+      +-- servers ------+",
        "| 203.0.113.9      |------| 1 of 1 answered |",
        "| port 40000       |      | nearest 12.3 ms |",
        "+------------------+      +-----------------+",
    ]


def test_a_firewall() -> None:
    assert picture(FIREWALL, 1, 1, 0.0123)[:2] == [
        "+-- this machine --+      +-- firewall -----+      +-- servers ------+",
        "| 203.0.113.9      |------| lets answers in |------| 1 of 1 answered |",
    ]


def test_a_way_that_is_cut() -> None:
    assert picture(SILENT, 0, 2, None) == [
        "+-- this machine --+      +-- servers ------+",
        "| 192.168.1.23     |--X   | 0 of 2 answered |",
        "| port 40000       |      |                 |",
        "+------------------+      +-----------------+",
    ]


def test_a_long_address_has_two_lines() -> None:
    assert picture(LONG_V6, 1, 1, 0.0123) == [
        "+-- this machine -----+      +-- firewall -----+      +-- servers ------+",
        "| 2001:db8:1234:5678: |------| lets answers in |------| 1 of 1 answered |",
        "| 1234:56ff:fe78:9abc |      |                 |      | nearest 12.3 ms |",
        "| port 40000          |      |                 |      |                 |",
        "+---------------------+      +-----------------+      +-----------------+",
    ]


@pytest.mark.parametrize("family", [PORT, SYM, OPEN, FIREWALL, FIREWALL_V6, LONG_V6, SILENT])
def test_pictures_fit_a_terminal_and_are_square(family: Family) -> None:
    lines = picture(family, 10, 10, 1.2345)
    assert len({len(line) for line in lines}) == 1
    assert len(lines[0]) <= 78
    assert all(line.isascii() for line in lines)


# --- Everything ---


def test_the_whole() -> None:
    found = report(
        SYMSEQ,
        NO_ROUTE,
        NEAR,
        FAR,
        AWAY,
        LOST,
        lifetime=Bracket(60, 90),
        port_mappings=(PortMapping("PCP", "192.168.1.1", "100.64.0.9"),),
        is_portal=False,
    )
    assert text(found) == (
        """\
IPv4
  +-- this machine --+      +-- NAT ------------+      +-- servers ------+
  | 192.168.1.23     |------| 203.0.113.9       |------| 2 of 3 answered |
  | port 40000       |      | one port is 40000 |      | nearest 12.3 ms |
  +------------------+      +-------------------+      +-----------------+
  mapping       address and port dependent: another port for each destination
  filtering     address and port dependent: only what was sent to gets in
  ports         sequential: each new one is +2 from the last
  hairpin       no: machines behind it reach each other by their addresses
                inside only

  UDP           yes
  IPv4          yes
  IPv6          no route
  servers       stun.example.com:3478   12.3 ms  preferred  192.0.2.1:3478
                far.example.com:3478   250.0 ms  198.51.100.1:3478
                away.example.com:3478  no answer  198.51.100.2:3478
                no.example.com:3478    the name has no address
  lifetime      a silence of 60 s is survived, one of 90 s is not: a keepalive
                every 27.5 s
  port mapping  PCP at 192.168.1.1
  login page    no

The NAT here is symmetric, but its next port can be guessed: other machines
can reach this one directly, unless their NAT is symmetric too: then traffic
goes through the relay."""
    )
    assert max(map(len, text(found).splitlines())) <= 78


@pytest.mark.parametrize("behaviour", Behaviour)
def test_every_behaviour_has_words(behaviour: Behaviour) -> None:
    family = replace(PORT, mapping=behaviour)
    assert "mapping  " in text(report(family)) or behaviour is NONE
    if behaviour is not NONE:
        assert "filtering  " in text(report(replace(PORT, filtering=behaviour)))


def test_ports_in_words() -> None:
    assert "ports         kept" in text(report(PORT))
    assert "ports         random\n" in text(report(SYM))
    unknown = replace(SYM, allocation=Allocation.UNKNOWN)
    assert "ports         not kept\n" in text(report(unknown))
    backwards = replace(SYMSEQ, step=-1)
    assert "each new one is -1 from the last" in text(report(backwards))


def test_a_hairpin_that_was_not_tried_is_not_spoken_of() -> None:
    assert "hairpin" in text(report(PORT))
    assert "hairpin" not in text(report(replace(PORT, hairpin=None)))
    assert "hairpin" not in text(report(OPEN))


@pytest.mark.parametrize(
    ("known", "told"),
    [
        (None, "not measured; --lifetime does, in six minutes"),
        (Bracket(), "not known: no server can tell"),
        (Bracket(0, 10), "less than 10 s: a keepalive every 5 s"),
        (Bracket(180), "a silence of 180 s is survived: a keepalive every 87.5 s"),
    ],
)
def test_lifetimes(known: Bracket | None, told: str) -> None:
    assert f"lifetime      {told}\n" in text(report(lifetime=known))


def test_services() -> None:
    assert "port mapping  not looked for" in text(report())
    assert "port mapping  none" in text(report(port_mappings=()))


def test_both_versions_of_ip_have_their_own_servers() -> None:
    six = Server("six.example.com:3478", "[2001:db8::1]:3478", 0.001)
    found = text(report(PORT, FIREWALL_V6, NEAR, FAR, six))
    assert found.count("2 of 2 answered") == 1
    assert found.count("1 of 1 answered") == 1
    assert "nearest 12.3 ms" in found
    assert "nearest 1.0 ms" in found


# --- One sentence ---


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (report(OPEN), ("Nothing stands between", "whatever NAT they are behind")),
        (report(replace(PORT, filtering=EIM)), ("reach this one directly, whatever NAT",)),
        (report(replace(PORT, filtering=ADM)), ("whatever NAT", "once both sides have sent")),
        (report(PORT), ("unless they are behind a symmetric NAT", "through the relay")),
        (report(replace(PORT, filtering=UNKNOWN)), ("unless they are behind a symmetric NAT",)),
        (report(FIREWALL), ("There is no NAT, but a firewall", "unless they are behind a symm")),
        (report(replace(OPEN, filtering=UNKNOWN)), ("There is no NAT: other machines", "unless")),
        (report(SYM), ("The NAT here is symmetric: ", "if they have no NAT or", "the relay")),
        (report(replace(SYM, mapping=ADM)), ("The NAT here is symmetric: ",)),
        (report(SYMSEQ), ("next port can be guessed", "unless their NAT is symmetric too")),
        (report(replace(PORT, mapping=UNKNOWN)), ("UDP gets through", "name one more")),
        (report(SYM, FIREWALL_V6), ("symmetric", "those that have IPv6 can reach it directly")),
        (report(NO_ROUTE, FIREWALL_V6), ("Over IPv6, there is no NAT, but a firewall",)),
        (report(SILENT, replace(FIREWALL_V6, filtering=EIM)), ("Over IPv6, nothing stands",)),
        (report(SILENT, tcp_works=True), ("UDP does not get through here, but TCP does",)),
        (report(SILENT, tcp_works=False), ("Nothing came back by UDP", "no server takes TCP")),
        (report(NO_ROUTE, tcp_works=False), ("This machine has no way to any",)),
        (report(SILENT, is_portal=True), ("A login page stands between", "look again")),
        (report(PORT, is_portal=True), ("A login page stands between",)),
        (
            report(SYM, port_mappings=(PortMapping("UPnP", "192.168.1.1", SEEN[0]),)),
            ("The router forwards a port when asked (UPnP)", "whatever NAT"),
        ),
        (
            report(SYM, port_mappings=(PortMapping("PCP", "192.168.1.1"),)),
            ("The router forwards a port when asked (PCP)",),
        ),
        (
            # It opens a port of IPv6, where this machine has no address.
            report(SYM, port_mappings=(PortMapping("PCP", "fe80::1"),)),
            ("The NAT here is symmetric: ",),
        ),
        (
            # It stands behind another NAT, which does not know of it.
            report(SYM, port_mappings=(PortMapping("UPnP", "192.168.1.1", "100.64.0.9"),)),
            ("The NAT here is symmetric: ",),
        ),
    ],
)
def test_one_sentence(found: Report, words: tuple[str, ...]) -> None:
    said = sentence(found)
    for word in words:
        assert word in said
    assert said[0].isupper()
    assert said.endswith(".")
    # One sentence: no full stop but the last.
    assert not re.search(r"\.\s", said)


def test_good_ipv6_is_not_spoken_of_where_ipv4_is_as_good() -> None:
    assert "IPv6" not in sentence(report(PORT, FIREWALL_V6))
