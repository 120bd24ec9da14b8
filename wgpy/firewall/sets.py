"""Which addresses stand in which nftables set, now: the sets of all members, of groups, of names.

Whole addresses (/32, /128) stand in sets that are hash tables, in which a change costs the same
however many there are. Wider prefixes stand in interval sets, which nft reads back whole at each
change. Intervals of one set may not overlap, and the longest prefix owns an address, as in
WireGuard: so what belongs to a longer prefix is cut out of a wider one.
"""

from collections.abc import Iterable, Iterator, Mapping

from wgpy.firewall.rules import Kind, Rule
from wgpy.firewall.verdict import Member
from wgpy.ip import Prefix, address_text

# The first and the last address of a range, both in it. Equal for a single address.
Range = tuple[bytes, bytes]
# Set name -> what stands in it.
Contents = dict[str, set[Range]]

MEMBERS = "members"


class Names:
    """The names of the sets, by what a rule calls the members in them."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.groups: dict[str, str] = {}
        self.names: dict[str, str] = {}
        for rule in rules:
            for selector in (*rule.sources, *rule.destinations):
                if selector.kind is Kind.GROUP:
                    self.groups.setdefault(selector.name, f"group-{selector.name}")
                elif selector.kind is Kind.NAME:
                    # A configured peer's name may be any text, which nft does not take.
                    self.names.setdefault(selector.name, f"name-{len(self.names) + 1}")

    def bases(self) -> list[str]:
        """Every set's name, without what `variants` adds."""
        return [MEMBERS, *self.groups.values(), *self.names.values()]

    def of(self, member: Member) -> Iterator[str]:
        """The sets that a member stands in."""
        if not member.judged:
            return
        yield MEMBERS
        for group in sorted(member.groups & self.groups.keys()):
            yield self.groups[group]
        if member.name in self.names:
            yield self.names[member.name]


def set_name(base: str, version: int, *, wide: bool) -> str:
    """The name of the set of one IP version, of whole addresses or of wider prefixes."""
    return f"{base}-{version}{'-nets' if wide else ''}"


def is_wide(prefix: Prefix) -> bool:
    """Whether the prefix is more than one address."""
    return prefix.length < len(prefix.address) * 8


def contents(names: Names, members: Iterable[Member]) -> Contents:
    """Everything that stands in the sets for these members."""
    members = list(members)
    found: Contents = {}
    shares = carve((prefix, member.key) for member in members for prefix in member.addresses)
    for member in members:
        for base in names.of(member):
            for prefix in member.addresses:
                wide = is_wide(prefix)
                target = found.setdefault(set_name(base, prefix.version, wide=wide), set())
                target.update(shares[prefix] if wide else ((prefix.address, prefix.address),))
    return found


def carve(owned: Iterable[tuple[Prefix, str]]) -> Mapping[Prefix, list[Range]]:
    """For each wide prefix the ranges that no longer prefix of another owner takes from it.

    A longer prefix of the same owner stands for itself, too: no address is in two ranges. Each
    prefix has one owner, as allowed IPs have.
    """
    result: dict[Prefix, list[Range]] = {}
    # A prefix comes after what encloses it, so the enclosing ones are a stack.
    order = sorted({prefix for prefix, _ in owned}, key=lambda p: (len(p.address), p))
    stack: list[tuple[Prefix, int, list[tuple[int, int]]]] = []

    def close(depth: int) -> None:
        while len(stack) > depth:
            prefix, start, ranges = stack.pop()
            last = _last(prefix)
            if start <= last:
                ranges.append((start, last))
            size = len(prefix.address)
            if is_wide(prefix):
                result[prefix] = [
                    (first.to_bytes(size, "big"), end.to_bytes(size, "big"))
                    for first, end in ranges
                ]

    for prefix in order:
        first = int.from_bytes(prefix.address, "big")
        while stack and not _encloses(stack[-1][0], prefix):
            close(len(stack) - 1)
        if stack:
            outer, start, ranges = stack[-1]
            if start < first:
                ranges.append((start, first - 1))
            stack[-1] = outer, _last(prefix) + 1, ranges
        stack.append((prefix, first, []))
    close(0)
    return result


def _last(prefix: Prefix) -> int:
    bits = len(prefix.address) * 8 - prefix.length
    return int.from_bytes(prefix.address, "big") | ((1 << bits) - 1)


def _encloses(outer: Prefix, inner: Prefix) -> bool:
    if len(outer.address) != len(inner.address) or outer.length > inner.length:
        return False
    shift = len(outer.address) * 8 - outer.length
    ours, theirs = (int.from_bytes(prefix.address, "big") >> shift for prefix in (outer, inner))
    return ours == theirs


def overlap(one: Prefix, other: Prefix) -> bool:
    """Whether two prefixes have an address in common."""
    return _encloses(one, other) or _encloses(other, one)


def element(part: Range) -> object:
    """A range as nft's JSON has elements of a set."""
    first, last = map(address_text, part)
    return first if first == last else {"range": [first, last]}
