"""Whom the DNS server answers, how often, and its sockets, on the loopback."""

import socket
from collections.abc import Iterator

import dns.message
import dns.query
import pytest

from tests.unit.mesh.test_dns import ZONE
from wgpy.ip import parse_address, parse_prefix
from wgpy.mesh.dns import MAX_QUERY
from wgpy.mesh.dns_server import (
    MAX_CONNECTIONS,
    MAX_QUESTIONS,
    OTHERS_BURST,
    OTHERS_RATE,
    OWN_BURST,
    DnsServer,
    Responder,
)

OWN, OTHER = parse_address("10.9.0.1"), parse_address("10.9.200.1")
QUERY = dns.message.make_query("laptop.mesh", "A").to_wire()


def responder() -> Responder:
    made = Responder([OWN], [parse_prefix("10.9.0.0/16")])
    made.zone = ZONE
    return made


def test_who_is_answered() -> None:
    made = responder()
    for source in (OWN, OTHER, parse_address("127.0.0.1"), parse_address("::1")):
        assert made.respond(QUERY, source, 0.0, tcp=False)
    for source in (parse_address("192.0.2.1"), parse_address("fd09::1")):
        assert made.respond(QUERY, source, 0.0, tcp=False) is None
    assert made.counters == {"NOERROR": 4, "stranger": 2}


def test_others_have_a_small_rate_and_never_take_ours() -> None:
    made = responder()
    answered = [made.respond(QUERY, OTHER, 1.0, tcp=False) for _ in range(300)]
    assert sum(x is not None for x in answered) == OTHERS_BURST
    assert made.counters["rate"] == 300 - OTHERS_BURST
    assert made.respond(QUERY, OWN, 1.0, tcp=False)
    assert made.respond(QUERY, OTHER, 1.0 + 2 / OTHERS_RATE, tcp=False)
    own = [made.respond(QUERY, OWN, 1.0, tcp=False) for _ in range(700)]
    assert sum(x is not None for x in own) == OWN_BURST - 1


def test_before_the_first_names_nothing_is_said() -> None:
    made = Responder([OWN], [])
    assert made.respond(QUERY, OWN, 0.0, tcp=False) is None
    assert made.respond(b"", OWN, 0.0, tcp=False) is None
    assert made.counters == {"early": 2}


@pytest.fixture
def server() -> Iterator[tuple[DnsServer, int]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    made = DnsServer([parse_address("127.0.0.1")], [], port=port)
    made.responder.zone = ZONE
    made.start()
    yield made, port
    made.stop()
    made.stop()  # a second time is nothing


def test_udp_and_tcp(server: tuple[DnsServer, int]) -> None:
    _, port = server
    query = dns.message.make_query("many.mesh", "A")
    assert len(dns.query.tcp(query, "127.0.0.1", 5, port).answer[0]) == 59
    reply, by_tcp = dns.query.udp_with_fallback(query, "127.0.0.1", 5, port)
    assert by_tcp
    assert len(reply.answer[0]) == 59
    query = dns.message.make_query("laptop.mesh", "A")
    assert dns.query.udp(query, "127.0.0.1", 5, port).answer


def test_a_port_that_is_taken_leaves_nothing_open(server: tuple[DnsServer, int]) -> None:
    _, port = server
    second = DnsServer([parse_address("127.0.0.1")], [], port=port)
    with pytest.raises(OSError, match="in use"):
        second.start()
    second.stop()


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def framed(message: bytes) -> bytes:
    return len(message).to_bytes(2, "big") + message


def test_connections_are_bounded(server: tuple[DnsServer, int]) -> None:
    made, port = server
    held = []
    for _ in range(MAX_CONNECTIONS):
        held.append(connect(port))
        held[-1].sendall(framed(QUERY))
        assert held[-1].recv(2)
    with connect(port) as more:
        # Closed at once: with a reset, if the question came first.
        assert _receive(more) == b""
    assert made.responder.counters["connections"] == 1
    for sock in held:
        sock.close()


def test_a_connection_ends_with_junk_and_after_many_questions(
    server: tuple[DnsServer, int],
) -> None:
    made, port = server
    with connect(port) as sock:
        sock.sendall((MAX_QUERY + 1).to_bytes(2, "big"))
        assert sock.recv(1) == b""
    with connect(port) as sock:
        sock.sendall(framed(QUERY) * (MAX_QUESTIONS + 5))
        data = b""
        while piece := _receive(sock):
            data += piece
    count = 0
    while data:
        length = int.from_bytes(data[:2], "big")
        assert dns.message.from_wire(data[2 : 2 + length]).answer
        data = data[2 + length :]
        count += 1
    # What came after the last is lost with the connection, and so may be the last answers.
    assert count <= MAX_QUESTIONS
    assert made.responder.counters["NOERROR"] == MAX_QUESTIONS
    assert made.responder.counters["malformed"] == 1


def _receive(sock: socket.socket) -> bytes:
    try:
        return sock.recv(65536)
    except ConnectionResetError:
        return b""
