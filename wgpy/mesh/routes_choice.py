"""Which of the routes that others offer are taken: pure, of what is offered, chosen and local.

Nothing is taken that was not chosen here. The machine's own networks always win, and so do the
mesh's own addresses; what is not taken is said, with its reason, and so is what stays local of what
is taken.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from wgpy.ip import Prefix, mask, parse_address, parse_prefix

# RFC 6890: what no route of others may lead to, and what routers do not forward.
_SPECIAL: Final = (
    *map(parse_prefix, ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3")),
    *map(parse_prefix, ("::/127", "fe80::/10", "ff00::/8")),
)
# RFC 1918, RFC 6598, RFC 4193: numbers that are used within networks and not between them.
_PRIVATE: Final = (
    *map(parse_prefix, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")),
    parse_prefix("fc00::/7"),
)
# The widest that a subnet is: 10.0.0.0/8, and what a whole provider is given. What is wider is an
# exit by another name, without an exit's guard.
WIDEST: Final = {4: 8, 6: 32}
# The widest link with public addresses that an exit leaves alone. A network may call itself
# whatever it likes (CVE-2023-36672): what it takes from the exit so is bounded, and said.
WIDEST_PUBLIC_LINK: Final = {4: 16, 6: 64}
EXITS: Final = (parse_prefix("0.0.0.0/0"), parse_prefix("::/0"))


@dataclass(frozen=True, slots=True)
class Offer:
    """What a node offers, as the operator approved it; /0 is an exit. `reachable`: it is there now,
    or may be."""

    name: str
    prefixes: tuple[Prefix, ...]
    reachable: bool = True


@dataclass(frozen=True, slots=True)
class Network:
    """A network that the machine itself reaches by another link, there or behind a gateway."""

    prefix: Prefix
    link: str
    gateway: bool = False

    def __str__(self) -> str:
        return (
            f"{self.prefix} on {self.link}" if not self.gateway else f"{self.prefix} by {self.link}"
        )


@dataclass(frozen=True, slots=True)
class Choice:
    """What is chosen here: prefixes and names of nodes to take routes from, and an exit's name."""

    accept: tuple[str, ...] = ()
    exit: str | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What is taken: prefixes, each by a node; by the exit these IP versions, maybe none.

    `past` are the local prefixes that an exit leaves alone. `said` is for people, a line each.
    """

    taken: tuple[tuple[Prefix, str], ...] = ()
    exit: str | None = None
    versions: tuple[int, ...] = ()
    past: tuple[Prefix, ...] = ()
    said: tuple[str, ...] = ()

    def allowed(self) -> dict[str, tuple[Prefix, ...]]:
        """By node, the prefixes that its packets may come from, and that go to it."""
        found: dict[str, tuple[Prefix, ...]] = {}
        for prefix, name in self.taken:
            found[name] = (*found.get(name, ()), prefix)
        if self.exit is not None:
            exits = tuple(x for x in EXITS if x.version in self.versions)
            found[self.exit] = (*found.get(self.exit, ()), *exits)
        return {name: prefixes for name, prefixes in found.items() if prefixes}


def covers(outer: Prefix, inner: Prefix) -> bool:
    """Whether one prefix holds all of another."""
    return (
        len(outer.address) == len(inner.address)
        and outer.length <= inner.length
        and mask(inner.address, outer.length) == outer.address
    )


def meets(one: Prefix, other: Prefix) -> bool:
    """Whether two prefixes have any address in common."""
    return covers(one, other) or covers(other, one)


def is_private(prefix: Prefix) -> bool:
    """Whether all of it is numbers that mean something else in each network."""
    return any(covers(x, prefix) for x in _PRIVATE)


def names_node(written: str, name: str) -> bool:
    """Whether a person means this node: by its whole name, or by the first labels of it."""
    return written == name or name.startswith(f"{written}.")


def as_prefix(written: str) -> Prefix | None:
    """The prefix or address that was written, or None: then it is a node's name."""
    try:
        return parse_prefix(written)
    except ValueError:
        return None


def decide(
    offers: Iterable[Offer],
    choice: Choice,
    networks: Iterable[Network],
    own: Iterable[Prefix],
) -> Decision:
    """What is taken. `own` are the mesh's ranges and this node's addresses in it."""
    found = sorted(offers, key=lambda offer: (not offer.reachable, offer.name))
    known = sorted(set(networks), key=lambda x: (x.prefix, x.link, x.gateway))
    mesh = tuple(own)
    said: list[str] = []
    taken: dict[Prefix, str] = {}
    for prefix, name in _wanted(found, choice, said):
        if prefix in taken:
            continue
        reason = why_not(prefix, known, mesh)
        if reason is not None:
            said.append(f"{prefix} of {name} is not taken: {reason}")
            continue
        taken[prefix] = name
        said += [
            f"{prefix} goes to {name}, but of it {network} stays local"
            for network in known
            if network.prefix.length and covers(prefix, network.prefix)
        ]
    exit_, versions = _exit(found, choice, said)
    past = _past(known, said) if exit_ is not None else ()
    return Decision(tuple(sorted(taken.items())), exit_, versions, past, tuple(said))


def _wanted(offers: list[Offer], choice: Choice, said: list[str]) -> list[tuple[Prefix, str]]:
    """Each offered prefix that was chosen, by which node; those chosen by their node come first,
    and of several nodes who is reachable, then the first by name."""
    by_node: list[tuple[Prefix, str]] = []
    by_prefix: list[tuple[Prefix, str]] = []
    for written in choice.accept:
        prefix = as_prefix(written)
        if prefix is None:
            nodes = [x for x in offers if names_node(written, x.name)]
            pairs = [(p, x.name) for x in nodes for p in sorted(x.prefixes) if p.length]
            by_node += pairs
            if not pairs:
                said.append(f"{written} offers no route now")
        else:
            pairs = [(prefix, x.name) for x in offers if prefix in x.prefixes and prefix.length]
            by_prefix += pairs
            if not prefix.length:
                said.append(f"{prefix} is an exit; `wgpy mesh routes exit NODE` chooses one")
            elif not pairs:
                said.append(f"nobody offers {prefix} now")
    return by_node + by_prefix


def why_not(prefix: Prefix, networks: Iterable[Network], mesh: Iterable[Prefix]) -> str | None:
    """Why a prefix is not taken from anybody; None if it may be."""
    if prefix.length < WIDEST[prefix.version]:
        exit_ = "0.0.0.0/0" if prefix.version == 4 else "::/0"
        return f"it is wider than a subnet may be (/{WIDEST[prefix.version]}); an exit is {exit_}"
    if any(meets(prefix, x) for x in _SPECIAL):
        return "its addresses have a meaning of their own"
    for ours in mesh:
        if meets(prefix, ours):
            return f"it meets the mesh's own {ours}"
    for network in networks:
        if network.prefix.length and covers(network.prefix, prefix):
            return f"this machine's own network {network} is the same or holds it, and wins"
    return None


def _exit(
    offers: list[Offer], choice: Choice, said: list[str]
) -> tuple[str | None, tuple[int, ...]]:
    """The exit that was chosen, offered or not, and the IP versions that it carries."""
    if choice.exit is None:
        return None, ()
    nodes = [x for x in offers if names_node(choice.exit, x.name)]
    versions: tuple[int, ...] = ()
    name = choice.exit
    for node in nodes:
        versions = tuple(x.version for x in EXITS if x in node.prefixes)
        name = node.name
        if versions:
            break
    if not versions:
        said.append(
            f"{name} is the exit that was chosen and offers none now: nothing leaves this machine "
            "but to its own networks, until it does, or until `wgpy mesh routes exit off`"
        )
    for version in (4, 6):
        if versions and version not in versions:
            said.append(f"the exit {name} has no IPv{version}: IPv{version} is blocked")
    return name, versions


def _past(networks: Iterable[Network], said: list[str]) -> tuple[Prefix, ...]:
    """The machine's own networks that an exit leaves alone.

    A network's own router may hand out routes too (CVE-2024-3661): behind a gateway only private
    numbers pass, for whatever else it names belongs to somebody on the Internet.
    """
    past: list[Prefix] = []
    for network in networks:
        prefix = network.prefix
        if not prefix.length:
            continue
        if is_private(prefix):
            past.append(prefix)
        elif any(covers(x, prefix) for x in _SPECIAL):
            continue
        elif network.gateway:
            said.append(f"{network} is a route to public addresses: with an exit it is blocked")
        elif prefix.length < WIDEST_PUBLIC_LINK[prefix.version]:
            said.append(f"{network} is too wide for a link: with an exit it is blocked")
        else:
            past.append(prefix)
            said.append(f"{network} has public addresses, and does not take the exit")
    return tuple(sorted(set(past)))


def parse_own(addresses: Iterable[str | bytes]) -> tuple[Prefix, ...]:
    """Whole addresses as prefixes."""
    raw = [x if isinstance(x, bytes) else parse_address(x) for x in addresses]
    return tuple(Prefix(x, len(x) * 8) for x in raw)
