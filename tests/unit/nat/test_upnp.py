"""Searching for a gateway of UPnP, and orders and outcomes as text."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgpy.nat.upnp import (
    MAX_ANSWER,
    TARGETS,
    Deed,
    Order,
    Outcome,
    order_text,
    outcome_text,
    pack_search,
    parse_answer,
    parse_order,
    parse_outcome,
)
from wgpy.protocol.messages import ParseError

GATEWAY = "192.168.77.1"
URL = "http://192.168.77.1:35139/rootDesc.xml"
# As miniupnpd 2.3.1 writes it.
ANSWER = (
    "HTTP/1.1 200 OK\r\n"
    "CACHE-CONTROL: max-age=120\r\n"
    "ST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n"
    "USN: uuid:5f1a9a4e::urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n"
    "EXT:\r\n"
    "SERVER: Debian/6.1 UPnP/1.1 MiniUPnPd/2.3.1\r\n"
    "LOCATION: {url}\r\n"
    'OPT: "http://schemas.upnp.org/upnp/1/0/"; ns=01\r\n'
    "\r\n"
)


def answer(url: str = URL) -> bytes:
    return ANSWER.format(url=url).encode("latin-1")


def test_a_search_is_as_the_architecture_has_it() -> None:
    assert pack_search(TARGETS[0]).decode() == (
        "M-SEARCH * HTTP/1.1\r\n"
        "HOST: 239.255.255.250:1900\r\n"
        'MAN: "ssdp:discover"\r\n'
        "MX: 1\r\n"
        "ST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n"
        "\r\n"
    )
    assert b"HOST: 192.168.77.1:1900\r\n" in pack_search(TARGETS[0], GATEWAY)


def test_a_real_answer_is_read() -> None:
    assert parse_answer(answer(), GATEWAY) == URL


@pytest.mark.parametrize(
    "url", ["http://192.168.77.1/", "http://192.168.77.1:80/a?b=c", "http://192.168.77.1:1/x"]
)
def test_other_urls_of_the_gateway(url: str) -> None:
    assert parse_answer(answer(url), GATEWAY) == url


def test_headers_are_written_in_many_ways() -> None:
    for line in (f"Location:{URL}", f"location: \t {URL}  ", f"LoCaTiOn: {URL}"):
        data = f"HTTP/1.0 200\r\nX: y\r\n{line}\r\n\r\n".encode()
        assert parse_answer(data, GATEWAY) == URL


@pytest.mark.parametrize(
    "url",
    [
        "http://192.168.77.2:80/",
        "http://127.0.0.1:631/",
        "http://router.lan/",
        "http://0xc0a84d01/",
        "http://3232255233/",
        "http://[fe80::1]/",
        "http:///rootDesc.xml",
    ],
)
def test_a_description_elsewhere_is_refused(url: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse_answer(answer(url), GATEWAY)
    assert caught.value.reason == "elsewhere"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "https://192.168.77.1/",
        "file:///etc/passwd",
        "http://192.168.77.1",
        "http://192.168.77.1:0/",
        "http://192.168.77.1:99999/",
        "http://192.168.77.1:x/",
        "http://user@192.168.77.1/",
        "http://192.168.77.1@127.0.0.1/",
        "http://192.168.77.1/a b",
        "http://192.168.77.1/\x00",
        "http://192.168.77.1/\xe9",
        "http://[192.168.77.1/",
        "http://192.168.77.1/" + "a" * 500,
        "//192.168.77.1/",
    ],
)
def test_what_is_no_url_for_us_is_refused(url: str) -> None:
    with pytest.raises(ParseError):
        parse_answer(answer(url), GATEWAY)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"NOTIFY * HTTP/1.1\r\nLOCATION: http://192.168.77.1/\r\n\r\n",
        b"M-SEARCH * HTTP/1.1\r\nLOCATION: http://192.168.77.1/\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\nLOCATION: http://192.168.77.1/\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-LOCATION: http://192.168.77.1/\r\n\r\n",
        answer() + bytes(MAX_ANSWER),
    ],
)
def test_what_is_no_answer_is_refused(data: bytes) -> None:
    with pytest.raises(ParseError):
        parse_answer(data, GATEWAY)


@given(st.binary(max_size=400), st.text(max_size=60))
def test_any_bytes_are_read_or_refused(data: bytes, text: str) -> None:
    starts = (b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nLOCATION: http://192.168.77.1")
    for start in starts:
        for rest in (data, text.encode(errors="replace")):
            try:
                found = parse_answer(start + rest, GATEWAY)
            except ParseError:
                continue
            assert found.startswith("http://192.168.77.1")


# --- Orders and outcomes ---

ORDER = Order(Deed.MAP, URL, GATEWAY, "192.168.77.2", 41_000, (41_000, 9_999), 41_000, 7_200)


def test_an_order_comes_back() -> None:
    assert parse_order(order_text(ORDER)) == ORDER
    assert "\n" not in order_text(ORDER)


def test_an_outcome_comes_back() -> None:
    for outcome in (Outcome(), Outcome("no", "11.0.0.1", 65_535, 2**32 - 1)):
        assert parse_outcome(outcome_text(outcome).encode()) == outcome


GOOD = {"refusal": "", "host": "11.0.0.1", "port": 1, "lifetime": 0}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{}",
        "[" * 100_000,
        "9" * 5_000,
        json.dumps(GOOD) + "x" * 5_000,
        json.dumps(GOOD | {"more": 1}),
        json.dumps(GOOD | {"port": "1"}),
        json.dumps(GOOD | {"port": True}),
        json.dumps(GOOD | {"port": 1.5}),
        json.dumps(GOOD | {"port": -1}),
        json.dumps(GOOD | {"port": 65_536}),
        json.dumps(GOOD | {"lifetime": 2**32}),
        json.dumps(GOOD | {"host": "router"}),
        json.dumps(GOOD | {"host": "::1"}),
        json.dumps(GOOD | {"host": None}),
        json.dumps(GOOD | {"refusal": "a\x1b[2J"}),
        json.dumps(GOOD | {"refusal": "a" * 201}),
        json.dumps(GOOD).replace("}", ""),
        "\xff",
    ],
)
def test_what_is_no_outcome_is_refused(text: str) -> None:
    with pytest.raises(ParseError):
        parse_outcome(text.encode("latin-1"))


@given(st.binary(max_size=200))
def test_any_outcome_is_read_or_refused(data: bytes) -> None:
    try:
        parse_outcome(data)
    except ParseError:
        return
