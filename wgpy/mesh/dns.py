"""The names of a mesh as DNS has them: one question's bytes in, one answer's bytes out (RFC 1035).

The zone is the mesh's domain, with A and AAAA of each node, and PTR for the mesh's ranges. Nothing
is forwarded and nothing is looked up: what is not of the zone is refused. What a name has none of
is told from what there is not (RFC 2308, RFC 8020), each with the SOA that says for how long.
dnspython reads and writes the messages; what comes in is bounded before it does.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from wgpy.ip import Prefix, address_text, mask

# A node that joins or goes is to be seen at once, and who asks is on this machine: an answer may be
# kept just long enough that a page with a hundred parts asks once.
TTL: Final = 10
# Somebody asks for a node a moment before it joins: others know a new node within 1 s.
NEGATIVE_TTL: Final = 1
# What a UDP answer may have where the asker says nothing of EDNS (RFC 1035, 4.2.1), and what it may
# have at most: no datagram within the mesh is cut into fragments (RFC 9715 says 1,400).
PLAIN_LIMIT: Final = 512
UDP_LIMIT: Final = 1232
# One name of 255 bytes, its type and class, and EDNS with a cookie, an address and padding.
MAX_QUERY: Final = 1024
TCP_LIMIT: Final = 65_535
# Of a range of IPv4 at most 16 zones, which those of /12 and longer have, to tell a resolver of.
MAX_CUTS: Final = 16
_HEADER: Final = 12
# SOA's times, of which secondaries would live: there are none.
_REFRESH, _RETRY, _EXPIRE = 3600, 600, 86_400

_IN = dns.rdataclass.IN
_A, _AAAA, _PTR = dns.rdatatype.A, dns.rdatatype.AAAA, dns.rdatatype.PTR
_SOA, _NS, _ANY = dns.rdatatype.SOA, dns.rdatatype.NS, dns.rdatatype.ANY
# The trees of reversed addresses: how many bits a label has, and how many bits there are.
_REVERSE: Final = (
    (dns.name.from_text("in-addr.arpa."), 8, 32),
    (dns.name.from_text("ip6.arpa."), 4, 128),
)


class DnsError(Exception):
    """What came is no question that can be answered, not even by a refusal."""


@dataclass(frozen=True, slots=True)
class Zone:
    """What is known: absolute names with their addresses (4 or 16 bytes), and the mesh's ranges.

    `server` is the name of this node, if it has one. `serial` rises with each change (RFC 1982).
    """

    domain: dns.name.Name
    names: Mapping[dns.name.Name, tuple[bytes, ...]]
    ranges: tuple[Prefix, ...]
    server: dns.name.Name
    serial: int
    # Made of the above: every name that is there because something below it is, and the reverse.
    above: frozenset[dns.name.Name] = field(init=False)
    pointers: Mapping[bytes, tuple[dns.name.Name, ...]] = field(init=False)
    # By their size, in order.
    addresses: Mapping[int, tuple[bytes, ...]] = field(init=False)

    def __post_init__(self) -> None:
        above = {self.domain}
        pointers: dict[bytes, tuple[dns.name.Name, ...]] = {}
        for name, addresses in sorted(self.names.items()):
            above.update(_between(name, self.domain))
            for address in addresses:
                pointers[address] = (*pointers.get(address, ()), name)
        object.__setattr__(self, "above", frozenset(above))
        object.__setattr__(self, "pointers", pointers)
        ordered = {size: tuple(sorted(x for x in pointers if len(x) == size)) for size in (4, 16)}
        object.__setattr__(self, "addresses", ordered)

    def has_within(self, prefix: Prefix) -> bool:
        """Whether any address with a name is within a prefix."""
        ordered = self.addresses[len(prefix.address)]
        at = bisect_left(ordered, prefix.address)
        return at < len(ordered) and mask(ordered[at], prefix.length) == prefix.address


def _between(name: dns.name.Name, top: dns.name.Name) -> Iterator[dns.name.Name]:
    """The names above a name, below `top`."""
    while len(name.labels) > len(top.labels) + 1:
        name = name.parent()
        yield name


def absolute(text: str) -> dns.name.Name:
    """A name of the mesh as DNS has it. Raises DnsError."""
    try:
        return dns.name.from_text(text, dns.name.root)
    except dns.exception.DNSException:
        raise DnsError(f"{text!r} is no name of DNS") from None


def reverse_zones(ranges: Iterable[Prefix]) -> list[str]:
    """The names of the reverse zones of ranges, without the last dot, each cut where a label ends.

    A range that takes more than MAX_CUTS of them is left out: they are for telling resolvers.
    """
    found = []
    for tree, width, bits in _REVERSE:
        for range_ in ranges:
            cut = -(-range_.length // width)
            count = 1 << (cut * width - range_.length)
            if len(range_.address) * 8 != bits or not cut or count > MAX_CUTS:
                continue
            first = int.from_bytes(range_.address, "big") >> bits - cut * width
            for number in range(first, first + count):
                digits = [number >> width * at & (1 << width) - 1 for at in range(cut)]
                labels = [f"{x:x}" if width == 4 else str(x) for x in digits]
                found.append(".".join([*labels, tree.to_text(omit_final_dot=True)]))
    return found


def answer(zone: Zone, query: bytes, *, tcp: bool = False, counters: Counter[str]) -> bytes:
    """The answer to one question. `counters` counts it by its result.

    Raises DnsError for what gets no answer: an answer itself, and what is too short or too long.
    """
    if not _HEADER <= len(query) <= MAX_QUERY:
        raise DnsError(f"a question has {_HEADER} to {MAX_QUERY} bytes")
    flags = int.from_bytes(query[2:4], "big")
    if flags & dns.flags.QR:
        raise DnsError("that is an answer, and no question")
    if dns.opcode.from_flags(flags) != dns.opcode.QUERY:
        return _bare(query, dns.rcode.NOTIMP, counters)
    # One question, nothing that answers it, and EDNS at most, before anything else is read.
    counts = [int.from_bytes(query[at : at + 2], "big") for at in (4, 6, 8, 10)]
    if counts[:3] != [1, 0, 0] or counts[3] > 1:
        return _bare(query, dns.rcode.FORMERR, counters)
    try:
        asked = dns.message.from_wire(query)
    except (dns.exception.DNSException, ValueError, KeyError):
        return _bare(query, dns.rcode.FORMERR, counters)
    if asked.had_tsig or len(asked.question) != 1:
        return _bare(query, dns.rcode.FORMERR, counters)
    reply = dns.message.make_response(asked, our_payload=UDP_LIMIT)
    if asked.edns > 0:
        reply.use_edns(0, payload=UDP_LIMIT)
        reply.set_rcode(dns.rcode.BADVERS)
    else:
        reply.set_rcode(_resolve(zone, asked.question[0], reply))
    counters[dns.rcode.to_text(reply.rcode())] += 1
    limit = TCP_LIMIT
    if not tcp:
        limit = min(max(asked.payload, PLAIN_LIMIT), UDP_LIMIT) if asked.edns >= 0 else PLAIN_LIMIT
    wire = reply.to_wire(max_size=limit, prefer_truncation=True)
    if wire[2] & (dns.flags.TC >> 8):
        counters["truncated"] += 1
    return wire


def _bare(query: bytes, code: dns.rcode.Rcode, counters: Counter[str]) -> bytes:
    """A header that says no more than why: of what was asked, the identifier, opcode and RD."""
    counters[dns.rcode.to_text(code)] += 1
    kept = int.from_bytes(query[2:4], "big") & (0x7800 | dns.flags.RD)
    return query[:2] + (dns.flags.QR | kept | code).to_bytes(2, "big") + bytes(8)


def _resolve(zone: Zone, question: dns.rrset.RRset, reply: dns.message.Message) -> dns.rcode.Rcode:
    """Fill in the answer, and say how it ends."""
    name, kind = question.name, question.rdtype
    transfer = kind in (dns.rdatatype.AXFR, dns.rdatatype.IXFR)
    if question.rdclass != _IN or transfer or (dns.rdatatype.is_metatype(kind) and kind != _ANY):
        return dns.rcode.REFUSED
    if name.is_subdomain(zone.domain):
        return _forward(zone, name, kind, reply)
    for tree, width, bits in _REVERSE:
        if name.is_subdomain(tree):
            below = name.relativize(tree).labels[::-1]
            found = _reversed_prefix(below, width, bits, zone.ranges)
            if found is not None:
                return _backward(zone, name, kind, reply, found, tree, width)
    return dns.rcode.REFUSED


def _forward(
    zone: Zone, name: dns.name.Name, kind: dns.rdatatype.RdataType, reply: dns.message.Message
) -> dns.rcode.Rcode:
    reply.flags |= dns.flags.AA
    addresses = zone.names.get(name)
    if addresses is not None:
        for wanted, size in ((_A, 4), (_AAAA, 16)):
            if kind in (wanted, _ANY):
                _add(reply, name, wanted, [address_text(x) for x in addresses if len(x) == size])
    if name == zone.domain:
        if kind in (_SOA, _ANY):
            reply.answer.append(_soa(zone, zone.domain))
        if kind in (_NS, _ANY) and zone.server != zone.domain:
            _add(reply, name, _NS, [zone.server.to_text()])
    if not reply.answer:
        reply.authority.append(_soa(zone, zone.domain))
        if addresses is None and name not in zone.above:
            return dns.rcode.NXDOMAIN
    return dns.rcode.NOERROR


@dataclass(frozen=True, slots=True)
class _Reversed:
    """What a reversed name says: a prefix, or none if its labels are no numbers, and its range."""

    prefix: Prefix | None
    range: Prefix


def _reversed_prefix(
    labels: tuple[bytes, ...], width: int, bits: int, ranges: tuple[Prefix, ...]
) -> _Reversed | None:
    """Which range a reversed name is in, None if in none. `labels` begin with the highest."""
    value, length = 0, 0
    whole = True
    for label in labels[: bits // width]:
        number = _label_number(label, width)
        if number is None:
            whole = False
            break
        value = value << width | number
        length += width
    whole = whole and len(labels) <= bits // width
    prefix = Prefix((value << bits - length).to_bytes(bits // 8, "big"), length)
    for range_ in ranges:
        if (
            len(range_.address) * 8 == bits
            and length >= range_.length
            and mask(prefix.address, range_.length) == range_.address
        ):
            return _Reversed(prefix if whole else None, range_)
    return None


def _label_number(label: bytes, width: int) -> int | None:
    """A label of `in-addr.arpa` (0 to 255) or of `ip6.arpa` (one hexadecimal digit)."""
    if width == 4:
        digit = label.lower()
        return int(digit, 16) if len(digit) == 1 and digit in b"0123456789abcdef" else None
    if not (label.isdigit() and len(label) <= 3 and (len(label) == 1 or label[:1] != b"0")):
        return None
    return int(label) if int(label) < 256 else None


def _backward(
    zone: Zone,
    name: dns.name.Name,
    kind: dns.rdatatype.RdataType,
    reply: dns.message.Message,
    found: _Reversed,
    tree: dns.name.Name,
    width: int,
) -> dns.rcode.Rcode:
    reply.flags |= dns.flags.AA
    # The zone is cut where the range's bits fill a label: of a /12, each /16 of it is one.
    cut = -(-found.range.length // width)
    apex = dns.name.Name(name.labels[len(name.labels) - len(tree.labels) - cut :])
    if name == apex and kind in (_SOA, _ANY):
        reply.answer.append(_soa(zone, apex))
        return dns.rcode.NOERROR
    prefix, known = found.prefix, name == apex
    if prefix is not None:
        full = prefix.length == len(prefix.address) * 8
        names = zone.pointers.get(prefix.address, ()) if full else ()
        if names and kind in (_PTR, _ANY):
            _add(reply, name, _PTR, [x.to_text() for x in names])
            return dns.rcode.NOERROR
        known = known or zone.has_within(prefix)
    reply.authority.append(_soa(zone, apex))
    return dns.rcode.NOERROR if known else dns.rcode.NXDOMAIN


def _soa(zone: Zone, apex: dns.name.Name) -> dns.rrset.RRset:
    """The zone's SOA: its minimum, and its own TTL, say how long a "no" is kept (RFC 2308, 5)."""
    times = f"{_REFRESH} {_RETRY} {_EXPIRE} {NEGATIVE_TTL}"
    text = f"{zone.server.to_text()} hostmaster.{zone.domain.to_text()} {zone.serial} {times}"
    return dns.rrset.from_text(apex, NEGATIVE_TTL, _IN, _SOA, text)


def _add(
    reply: dns.message.Message, name: dns.name.Name, kind: dns.rdatatype.RdataType, texts: list[str]
) -> None:
    if texts:
        reply.answer.append(dns.rrset.from_text_list(name, TTL, _IN, kind, texts))
