"""STUN servers as people write them, and URIs of TURN servers (RFC 7065)."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgpy.device.paths import Transport, TurnUri
from wgpy.device.servers import (
    format_server,
    format_turn_uri,
    parse_stun_server,
    parse_turn_uri,
)

UDP, TCP, TLS = Transport.UDP, Transport.TCP, Transport.TLS

hosts = st.sampled_from(
    ["turn.example", "a", "x_y.example.", "192.0.2.7", "2001:db8::7", "n" * 253, "7up.example"]
)
ports = st.integers(1, 65_535)
uris = st.builds(TurnUri, hosts, ports, st.sampled_from(Transport))


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        # The kinds that RFC 7065, appendix A, gives examples of.
        ("turn:example.org", TurnUri("example.org", 3478, UDP)),
        ("turns:example.org", TurnUri("example.org", 5349, TLS)),
        ("turn:example.org:8000", TurnUri("example.org", 8000, UDP)),
        ("turn:example.org?transport=udp", TurnUri("example.org", 3478, UDP)),
        ("turn:example.org?transport=tcp", TurnUri("example.org", 3478, TCP)),
        ("turns:example.org?transport=tcp", TurnUri("example.org", 5349, TLS)),
        # What the grammar says besides.
        ("TURN:example.org:?Transport=TCP", TurnUri("example.org", 3478, TCP)),
        ("turns:192.0.2.1:443", TurnUri("192.0.2.1", 443, TLS)),
        ("turn:[2001:DB8:0::1]", TurnUri("2001:db8::1", 3478, UDP)),
        ("turn:[2001:db8::1]:5?transport=tcp", TurnUri("2001:db8::1", 5, TCP)),
    ],
)
def test_a_uri_is_read(text: str, uri: TurnUri) -> None:
    assert parse_turn_uri(text) == uri


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "begins neither"),
        ("turn.example:3478", "begins neither"),
        ("stun:example.org", "begins neither"),
        ("turn", "begins neither"),
        ("turn://example.org", "has slashes"),
        ("turn:", "is no host name"),
        ("turn::3478", "is no host name"),
        ("turn:user@example.org", "is no host name"),
        ("turn:ex%61mple.org", "is no host name"),
        ("turn:-a.example", "is no host name"),
        ("turn:example.org/a", "is no host name"),
        ("turn:" + "n" * 254, "is no host name"),
        ("turn:example.org:0", "is no port"),
        ("turn:example.org:65536", "is no port"),
        ("turn:example.org:+80", "is no port"),
        ("turn:example.org:٣", "is no port"),
        ("turn:example.org:80/", "is no port"),
        ("turn:192.0.2.999", "is not an IP address"),
        ("turn:10.1", "is not an IP address"),
        ("turn:2001:db8::1", "needs [brackets]"),
        ("turn:[2001:db8::1", "brackets"),
        ("turn:[2001:db8::1]3478", "brackets"),
        ("turn:[192.0.2.1]", "brackets"),
        ("turn:[fe80::1%25eth0]", "is not an IP address"),
        ("turn:example.org?", "something else than transport"),
        ("turn:example.org?protocol=tcp", "something else than transport"),
        ("turn:example.org?transport=tcp&a=b", "neither udp nor tcp"),
        ("turn:example.org?transport=", "neither udp nor tcp"),
        ("turn:example.org?transport=sctp", "neither udp nor tcp"),
        ("turns:example.org?transport=udp", "DTLS"),
    ],
)
def test_what_is_no_uri_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)) as caught:
        parse_turn_uri(text)
    assert len(str(caught.value)) < 140


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("stun.example", ("stun.example", 3478)),
        ("stun.example:19302", ("stun.example", 19302)),
        ("192.0.2.1", ("192.0.2.1", 3478)),
        ("[2001:DB8::1]", ("2001:db8::1", 3478)),
        ("[2001:db8::1]:80", ("2001:db8::1", 80)),
    ],
)
def test_a_stun_server_is_read(text: str, server: tuple[str, int]) -> None:
    assert parse_stun_server(text) == server


@given(uris)
def test_a_uri_means_what_was_written(uri: TurnUri) -> None:
    assert parse_turn_uri(format_turn_uri(uri)) == uri


@given(hosts, ports)
def test_a_server_means_what_was_written(host: str, port: int) -> None:
    assert parse_stun_server(format_server(host, port)) == (host, port)


words = st.sampled_from(["turn:", "turns:", "a.example", "[", "]", "::1", ":", "80", "?", "//"])
text = st.text() | st.lists(words | st.text(max_size=2), max_size=8).map("".join)


@given(text)
def test_any_text_is_a_server_or_a_refusal(text: str) -> None:
    for read in (parse_turn_uri, parse_stun_server):
        try:
            found = read(text)
        except ValueError as error:
            assert str(error).isprintable()  # noqa: PT017
            continue
        if isinstance(found, TurnUri):
            assert parse_turn_uri(format_turn_uri(found)) == found
        else:
            assert parse_stun_server(format_server(*found)) == found
