"""What `wgpy netcheck` says to a person: pictures of the path, facts, and one sentence."""

import textwrap
from collections.abc import Sequence
from typing import Final

from wgpy.nat.behaviour import SYMMETRIC, Allocation, Behaviour, Endpoint
from wgpy.nat.lifetime import keepalive
from wgpy.nat.netcheck_report import Family, PortMapping, Reach, Report, Status

_INDENT: Final = "  "
_LABEL: Final = 14
_LINK: Final = "------"
_CUT: Final = "--X   "
# What an address has room for in a box, so that three of them fit in a line.
_BOX: Final = 20
# Of a terminal with 80 columns.
_WIDTH: Final = 78


def text(report: Report) -> str:
    """All of it, in lines of a terminal's usual width, without a newline at the end."""
    parts = [
        _family(name, family, report)
        for name, family in _families(report)
        if family.status in (Status.ANSWERED, Status.SILENT)
    ]
    parts += [_rest(report), textwrap.wrap(sentence(report), _WIDTH)]
    return "\n\n".join("\n".join(lines) for lines in parts)


def _families(report: Report) -> tuple[tuple[str, Family], ...]:
    return ("IPv4", report.v4), ("IPv6", report.v6)


# --- One version of IP ---


def _family(name: str, family: Family, report: Report) -> list[str]:
    lines = [name, *(_INDENT + line for line in picture(family, *_answers(name, report)))]
    if family.status is Status.ANSWERED:
        if family.is_translated:
            lines.append(_fact("mapping", _MAPPINGS[family.mapping]))
        lines.append(_fact("filtering", _FILTERS[family.filtering]))
        if family.is_translated:
            lines.append(_fact("ports", _ports(family)))
            if family.hairpin is not None:
                lines.append(_fact("hairpin", _HAIRPIN[family.hairpin]))
    return lines


def _answers(name: str, report: Report) -> tuple[int, int, float | None]:
    """Servers of one version of IP: how many answered, of how many, and the least round trip."""
    asked = [x for x in report.servers if x.address.startswith("[") == (name == "IPv6")]
    times = [x.round_trip for x in asked if x.round_trip is not None]
    return len(times), sum(bool(x.address) for x in asked), min(times, default=None)


def picture(family: Family, answered: int, asked: int, nearest: float | None) -> list[str]:
    """This machine, what stands in between, and the servers: lines of ASCII."""
    ours = ("this machine", _place(family.local, "port"))
    told = [f"{answered} of {asked} answered"]
    servers = ("servers", told if nearest is None else [*told, f"nearest {_time(nearest)}"])
    if family.status is not Status.ANSWERED:
        return _draw([ours, servers], _CUT)
    between = _between(family)
    return _draw([ours, servers] if between is None else [ours, between, servers], _LINK)


def _between(family: Family) -> tuple[str, list[str]] | None:
    if family.is_translated:
        many = family.mapping in SYMMETRIC
        return "NAT", _place(family.seen, "one port is" if many else "port")
    if family.filtering in (Behaviour.ENDPOINT_INDEPENDENT, Behaviour.UNKNOWN):
        return None
    return "firewall", ["lets answers in"]


def _place(found: Endpoint | None, port_is: str) -> list[str]:
    """An address, in two lines if it is long, and a port."""
    if found is None:
        return []
    host, port = found
    lines = [host]
    if len(host) > _BOX:
        # A full address of IPv6 has 39 characters, and a colon near the middle.
        cut = host.rindex(":", 0, _BOX) + 1
        lines = [host[:cut], host[cut:]]
    return [*lines, f"{port_is} {port}"]


def _draw(boxes: Sequence[tuple[str, list[str]]], link: str) -> list[str]:
    height = max(len(content) for _, content in boxes)
    rows = [""] * (height + 2)
    for number, (title, content) in enumerate(boxes):
        width = max(len(title) + 4, *map(len, content), 0)
        head = f"+-- {title} "
        box = [head + "-" * (width + 3 - len(head)) + "+"]
        box += (f"| {line:<{width}} |" for line in content)
        box += [f"| {'':<{width}} |"] * (height - len(content))
        box.append("+" + "-" * (width + 2) + "+")
        for row, line in enumerate(box):
            joint = link if row == 1 else " " * len(link)
            rows[row] += line if number == 0 else joint + line
    return rows


_MAPPINGS: Final = {
    Behaviour.ENDPOINT_INDEPENDENT: "endpoint independent: the same port for every destination",
    Behaviour.ADDRESS_DEPENDENT: "address dependent: another port for each address",
    Behaviour.ADDRESS_AND_PORT_DEPENDENT: (
        "address and port dependent: another port for each destination"
    ),
    Behaviour.PORT_INDEPENDENT: (
        "the same for two ports of one address; a second server would tell more"
    ),
    Behaviour.DEPENDENT: "another port for another address, or for another port as well",
    Behaviour.UNKNOWN: "not known: a second server would tell",
}

_FILTERS: Final = {
    Behaviour.ENDPOINT_INDEPENDENT: "none: whoever knows the port gets in",
    Behaviour.ADDRESS_DEPENDENT: "address dependent: addresses that were sent to get in",
    Behaviour.ADDRESS_AND_PORT_DEPENDENT: (
        "address and port dependent: only what was sent to gets in"
    ),
    Behaviour.PORT_INDEPENDENT: "other ports of an address that was sent to get in",
    Behaviour.DEPENDENT: "other addresses do not get in",
    Behaviour.UNKNOWN: "not known: no server can tell",
}

_HAIRPIN: Final = {
    True: "yes: machines behind it reach each other by their addresses outside",
    False: "no: machines behind it reach each other by their addresses inside only",
}


def _ports(family: Family) -> str:
    if family.allocation is Allocation.KEPT or family.keeps_ports:
        return "kept: the port outside is that of the socket"
    if family.allocation is Allocation.SEQUENTIAL:
        return f"sequential: each new one is {family.step:+d} from the last"
    if family.allocation is Allocation.RANDOM:
        return "random"
    return "not kept"


# --- The rest ---


def _rest(report: Report) -> list[str]:
    lines = [_fact("UDP", "yes" if report.udp else "no")]
    for name, family in _families(report):
        answered = family.status is Status.ANSWERED
        lines.append(_fact(name, "yes" if answered else family.status.value))
    if report.tcp_works is not None:
        lines.append(_fact("TCP", "yes" if report.tcp_works else "no"))
    width = max((len(x.name) for x in report.servers), default=0)
    label = "servers"
    for server in report.servers:
        if server.round_trip is None:
            told = server.problem
        else:
            told = f"{_time(server.round_trip):>8}"
            if server == report.preferred and len(report.servers) > 1:
                told += "  preferred"
        address = "" if server.address == server.name else server.address
        lines.append(_fact(label, f"{server.name:<{width}}  {told}  {address}".rstrip()))
        label = ""
    lines.append(_fact("lifetime", _lifetime(report)))
    lines.append(_fact("port mapping", _services(report.port_mappings)))
    if report.is_portal is not None:
        lines.append(_fact("login page", "yes" if report.is_portal else "no"))
    return lines


def _lifetime(report: Report) -> str:
    known = report.lifetime
    if known is None:
        return "not measured; --lifetime does, in six minutes"
    if known.dead is None and not known.alive:
        return "not known: no server can tell"
    survived = f"a silence of {known.alive} s is survived" if known.alive else ""
    lost = f"one of {known.dead} s is not" if known.dead else ""
    told = ", ".join(x for x in (survived, lost) if x) if survived else f"less than {known.dead} s"
    return f"{told}: a keepalive every {keepalive(known):g} s"


def _services(found: Sequence[PortMapping] | None) -> str:
    if found is None:
        return "not looked for"
    told = ", ".join(f"{x.protocol} at {x.gateway}" for x in found)
    return told or "none"


def _fact(label: str, told: str) -> str:
    """A label and what is told, in as many lines as that needs."""
    return textwrap.fill(
        told,
        _WIDTH,
        initial_indent=f"{_INDENT}{label:<{_LABEL}}",
        subsequent_indent=" " * (len(_INDENT) + _LABEL),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _time(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


# --- What it means ---

_DIRECT: Final = "other machines can reach this one directly"
_MEANINGS: Final = {
    Reach.OPEN: f"{_DIRECT}, whatever NAT they are behind",
    Reach.EASY: f"{_DIRECT}, whatever NAT they are behind, once both sides have sent",
    Reach.USUAL: (
        f"{_DIRECT}, unless they are behind a symmetric NAT: then traffic goes through the relay"
    ),
    Reach.GUESSABLE: (
        "the NAT here is symmetric, but its next port can be guessed: "
        f"{_DIRECT}, unless their NAT is symmetric too: then traffic goes through the relay"
    ),
    Reach.HARD: (
        "the NAT here is symmetric: other machines can reach this one directly if they have no NAT "
        "or one that lets in other ports of an address; else traffic goes through the relay"
    ),
    Reach.UNKNOWN: (
        "UDP gets through, but these servers cannot tell how the NAT behaves: name one more"
    ),
}
# What is good enough for IPv6 to be worth a word where IPv4 is worse.
_GOOD: Final = (Reach.OPEN, Reach.EASY, Reach.USUAL)


def sentence(report: Report) -> str:
    """What it means, in one sentence."""
    if report.is_portal:
        meaning = (
            "a login page stands between this machine and the Internet: "
            "log in with a browser, and look again"
        )
    elif not report.udp:
        meaning = _without_udp(report)
    elif service := _service_that_helps(report):
        meaning = (
            f"the router forwards a port when asked ({service.protocol}): " + _MEANINGS[Reach.OPEN]
        )
    else:
        meaning = _by_reach(report)
    return meaning[0].upper() + meaning[1:] + "."


def _without_udp(report: Report) -> str:
    if report.tcp_works:
        return "UDP does not get through here, but TCP does: traffic goes through a relay by TCP"
    if Status.SILENT not in (report.v4.status, report.v6.status):
        return "this machine has no way to any of the servers: see whether it is connected at all"
    return (
        "nothing came back by UDP, and no server takes TCP on its port: "
        "either UDP is blocked here, or the servers are down"
    )


def _service_that_helps(report: Report) -> PortMapping | None:
    """One that forwards a port of the address that others see, and not of one NAT of two."""
    seen = report.v4.seen
    for service in report.port_mappings or ():
        # A router's IPv6 address has only to do with IPv6, where nothing is translated.
        if seen is not None and ":" not in service.gateway and service.outside in ("", seen[0]):
            return service
    return None


def _by_reach(report: Report) -> str:
    v4, v6 = report.v4, report.v6
    if v4.status is not Status.ANSWERED:
        return "over IPv6, " + _meaning(v6)
    meaning = _meaning(v4)
    if v6.status is Status.ANSWERED and v6.reach in _GOOD and v4.reach not in _GOOD:
        meaning += "; those that have IPv6 can reach it directly by that"
    return meaning


def _meaning(family: Family) -> str:
    meaning = _MEANINGS[family.reach]
    if family.is_translated:
        return meaning
    if family.reach is Reach.OPEN:
        return f"nothing stands between this machine and the Internet: {meaning}"
    if family.filtering is not Behaviour.UNKNOWN:
        return f"there is no NAT, but a firewall that lets answers in: {meaning}"
    return f"there is no NAT: {meaning}"
