"""What the DNS server answers: names, their absence, reversed addresses, refusals, and junk."""

from collections import Counter

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgpy.ip import parse_address, parse_prefix
from wgpy.mesh.dns import (
    MAX_QUERY,
    NEGATIVE_TTL,
    PLAIN_LIMIT,
    TTL,
    UDP_LIMIT,
    DnsError,
    Zone,
    absolute,
    answer,
    reverse_zones,
)

NAMES = {
    "laptop.mesh": ("10.9.0.2", "fd09::2"),
    "four.mesh": ("10.9.0.4",),
    "deep.site.mesh": ("10.9.3.1", "fd09::31"),
    # More than a datagram of 512 bytes has room for.
    "many.mesh": tuple(f"10.9.7.{x}" for x in range(1, 60)),
}
ZONE = Zone(
    absolute("mesh"),
    {absolute(k): tuple(map(parse_address, v)) for k, v in NAMES.items()},
    (parse_prefix("10.9.0.0/16"), parse_prefix("fd09::/48")),
    absolute("laptop.mesh"),
    7,
)


def ask(name: str, kind: str, **options: object) -> dns.message.Message:
    query = dns.message.make_query(name, kind, **options)  # type: ignore[arg-type]
    reply = dns.message.from_wire(answer(ZONE, query.to_wire(), counters=Counter()))
    assert query.is_response(reply)
    return reply


def values(reply: dns.message.Message) -> list[str]:
    return [str(item) for rrset in reply.answer for item in rrset]


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("laptop.mesh", "A", ["10.9.0.2"]),
        ("LAPTOP.Mesh", "AAAA", ["fd09::2"]),
        ("laptop.mesh", "ANY", ["10.9.0.2", "fd09::2"]),
        ("deep.site.mesh", "A", ["10.9.3.1"]),
        ("2.0.9.10.in-addr.arpa", "PTR", ["laptop.mesh."]),
        (dns.name.from_text("2." + "0." * 26 + "9.0.d.f.ip6.arpa.").to_text(), "PTR", None),
        ("mesh", "NS", ["laptop.mesh."]),
    ],
)
def test_what_there_is(name: str, kind: str, expected: list[str] | None) -> None:
    reply = ask(name, kind)
    if expected is None:
        # Too few labels by one: a name on the way to an address, and no address.
        assert reply.rcode() == dns.rcode.NXDOMAIN
        return
    assert reply.rcode() == dns.rcode.NOERROR
    assert values(reply) == expected
    assert reply.flags & dns.flags.AA
    assert not reply.flags & dns.flags.RA
    assert {rrset.ttl for rrset in reply.answer} == {TTL}


def test_a_reversed_address_of_ipv6() -> None:
    import dns.reversename

    reply = ask(dns.reversename.from_address("fd09::31").to_text(), "PTR")
    assert values(reply) == ["deep.site.mesh."]


@pytest.mark.parametrize(
    ("name", "kind", "code", "apex"),
    [
        # There is such a name, and it has none of these (NODATA).
        ("laptop.mesh", "MX", "NOERROR", "mesh."),
        ("four.mesh", "AAAA", "NOERROR", "mesh."),
        ("mesh", "A", "NOERROR", "mesh."),
        # Nothing has the name itself, but something is below it (RFC 8020).
        ("site.mesh", "A", "NOERROR", "mesh."),
        ("0.9.10.in-addr.arpa", "PTR", "NOERROR", "9.10.in-addr.arpa."),
        ("2.0.9.10.in-addr.arpa", "A", "NOERROR", "9.10.in-addr.arpa."),
        ("9.10.in-addr.arpa", "PTR", "NOERROR", "9.10.in-addr.arpa."),
        # There is no such name.
        ("nobody.mesh", "A", "NXDOMAIN", "mesh."),
        ("a.laptop.mesh", "A", "NXDOMAIN", "mesh."),
        ("200.0.9.10.in-addr.arpa", "PTR", "NXDOMAIN", "9.10.in-addr.arpa."),
        ("99.9.10.in-addr.arpa", "PTR", "NXDOMAIN", "9.10.in-addr.arpa."),
        ("x.9.10.in-addr.arpa", "PTR", "NXDOMAIN", "9.10.in-addr.arpa."),
        ("1.2.0.9.10.in-addr.arpa", "PTR", "NXDOMAIN", "9.10.in-addr.arpa."),
        ("002.0.9.10.in-addr.arpa", "PTR", "NXDOMAIN", "9.10.in-addr.arpa."),
    ],
)
def test_what_there_is_not(name: str, kind: str, code: str, apex: str) -> None:
    reply = ask(name, kind)
    assert dns.rcode.to_text(reply.rcode()) == code
    assert not reply.answer
    (soa,) = reply.authority
    assert (soa.name.to_text(), soa.rdtype, soa.ttl) == (apex, dns.rdatatype.SOA, NEGATIVE_TTL)
    assert soa[0].minimum == NEGATIVE_TTL
    assert soa[0].serial == 7
    assert reply.flags & dns.flags.AA


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("example.com", "A"),
        ("notmesh", "A"),
        (".", "NS"),
        ("10.in-addr.arpa", "PTR"),
        ("2.0.8.10.in-addr.arpa", "PTR"),
        ("in-addr.arpa", "SOA"),
        ("d.f.ip6.arpa", "PTR"),
        ("mesh", "AXFR"),
        ("mesh", "IXFR"),
    ],
)
def test_what_is_not_ours_is_refused(name: str, kind: str) -> None:
    reply = ask(name, kind)
    assert reply.rcode() == dns.rcode.REFUSED
    assert not reply.answer
    assert not reply.authority
    assert not reply.flags & dns.flags.AA


def test_another_class_is_refused() -> None:
    assert ask("laptop.mesh", "A", rdclass="CH").rcode() == dns.rcode.REFUSED


def test_a_version_of_edns_that_nobody_has() -> None:
    reply = ask("laptop.mesh", "A", use_edns=3)
    assert reply.rcode() == dns.rcode.BADVERS
    assert reply.edns == 0


@pytest.mark.parametrize(
    ("payload", "limit"), [(None, PLAIN_LIMIT), (100, PLAIN_LIMIT), (900, 900), (9000, UDP_LIMIT)]
)
def test_a_long_answer_is_cut_for_udp_and_whole_for_tcp(payload: int | None, limit: int) -> None:
    query = dns.message.make_query("many.mesh", "A", payload=payload)
    counters: Counter[str] = Counter()
    short = answer(ZONE, query.to_wire(), counters=counters)
    assert len(short) <= limit
    cut = bool(dns.message.from_wire(short).flags & dns.flags.TC)
    assert cut == (limit < UDP_LIMIT)
    assert counters["truncated"] == cut
    whole = dns.message.from_wire(answer(ZONE, query.to_wire(), tcp=True, counters=counters))
    assert len(values(whole)) == 59
    assert not whole.flags & dns.flags.TC


def test_what_is_no_plain_question() -> None:
    good = dns.message.make_query("laptop.mesh", "A").to_wire()

    def changed(at: int, value: int) -> int:
        wire = bytearray(good)
        wire[at] = value
        reply = answer(ZONE, bytes(wire), counters=Counter())
        assert reply[:2] == good[:2]
        assert reply[2] & 0x80
        return reply[3] & 15

    assert changed(2, 5 << 3) == dns.rcode.NOTIMP  # an update
    assert changed(2, 4 << 3) == dns.rcode.NOTIMP  # a notification
    assert changed(5, 2) == dns.rcode.FORMERR  # two questions
    assert changed(5, 0) == dns.rcode.FORMERR
    assert changed(7, 1) == dns.rcode.FORMERR  # an answer within a question
    assert changed(11, 7) == dns.rcode.FORMERR
    assert changed(12, 63) == dns.rcode.FORMERR  # a label longer than the rest


@pytest.mark.parametrize("wire", [b"", bytes(11), bytes(MAX_QUERY + 1), b"\0\1\x80" + bytes(9)])
def test_what_gets_no_answer(wire: bytes) -> None:
    with pytest.raises(DnsError):
        answer(ZONE, wire, counters=Counter())


@given(st.binary(max_size=300), st.booleans())
def test_whatever_comes_is_answered_or_left(wire: bytes, tcp: bool) -> None:
    for query in (wire, b"\x12\x34\x01\x00\0\1\0\0\0\0\0\0" + wire):
        counters: Counter[str] = Counter()
        try:
            reply = answer(ZONE, query, tcp=tcp, counters=counters)
        except DnsError:
            assert counters == {}
            continue
        read = dns.message.from_wire(reply)
        assert reply[:2] == query[:2]
        assert read.flags & dns.flags.QR
        assert sum(counters.values()) - counters["truncated"] == 1


@given(
    st.dictionaries(
        st.from_regex(r"[a-z]{1,3}(\.[a-z]{1,2})?", fullmatch=True), st.integers(0, 2**16 - 1)
    )
)
def test_each_name_leads_to_its_address_and_back(found: dict[str, int]) -> None:
    names = {
        absolute(f"{name}.mesh"): (bytes((10, 9)) + number.to_bytes(2, "big"),)
        for name, number in found.items()
    }
    zone = Zone(absolute("mesh"), names, ZONE.ranges, absolute("mesh"), 1)
    for name, (address,) in names.items():
        query = dns.message.make_query(name, "A")
        reply = dns.message.from_wire(answer(zone, query.to_wire(), counters=Counter()))
        assert values(reply) == [".".join(map(str, address))]
        back = ".".join(map(str, reversed(address))) + ".in-addr.arpa."
        query = dns.message.make_query(back, "PTR")
        wire = answer(zone, query.to_wire(), tcp=True, counters=Counter())
        assert name.to_text() in values(dns.message.from_wire(wire))


def test_the_reverse_zones_of_ranges() -> None:
    assert reverse_zones([parse_prefix("10.9.0.0/16")]) == ["9.10.in-addr.arpa"]
    assert reverse_zones([parse_prefix("10.8.0.0/15")]) == [
        "8.10.in-addr.arpa",
        "9.10.in-addr.arpa",
    ]
    assert reverse_zones([parse_prefix("fd09::/48")]) == ["0.0.0.0.0.0.0.0.9.0.d.f.ip6.arpa"]
    # 64 zones: too many to tell a resolver.
    assert reverse_zones([parse_prefix("100.64.0.0/10")]) == []
