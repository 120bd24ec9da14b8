"""The joining line: what it says, that it has one text, and what a person is told of a bad one."""

import hashlib
import re
import tomllib
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.support.requirements import ROOT
from tests.support.tokens import HEADER, NETWORK, OTHER, PEER, compact, enrol_payload, made
from wgpy.identity.jose import b64decode, b64encode
from wgpy.ip import parse_address
from wgpy.keys import PublicKey
from wgpy.mesh import line as module
from wgpy.mesh.line import (
    MAX_LENGTH,
    MAX_PASTED,
    PREFIX,
    Coordinator,
    Endpoint,
    JoinLine,
    LineError,
    format_line,
    parse_line,
    qr_text,
)

INSIDE = parse_address("fd09::1")
TOKEN = compact(HEADER, enrol_payload())
GATE = Coordinator(
    PEER,
    (Endpoint("gate.example", 51820), Endpoint("192.0.2.1", 51820), Endpoint("2001:db8::1", 7)),
    (parse_address("10.9.0.1"), INSIDE),
)
LINE = JoinLine(NETWORK, "mesh", (GATE,), TOKEN)
TEXT = format_line(LINE)


def sealed(body: bytes, *, version: int = 1, length: int | None = None) -> str:
    """A text with a right checksum, whatever it says."""
    size = 3 + len(body) + 4 if length is None else length
    whole = bytes([version]) + size.to_bytes(2, "big") + body
    return PREFIX + b64encode(whole + hashlib.sha256(b"wgpy joining line" + whole).digest()[:4])


def refused(text: str) -> str:
    with pytest.raises(LineError) as caught:
        parse_line(text)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def body() -> bytes:
    return b64decode(TEXT.removeprefix(PREFIX))[3:-4]


def test_what_it_says_comes_back() -> None:
    found = parse_line(TEXT)
    assert found == LINE
    assert found.enrolment.jti == "once"
    assert found.enrolment.name == "laptop.mesh"
    assert str(found.coordinators[0].endpoints[2]) == "[2001:db8::1]:7"
    assert "eyJ" not in repr(found), "the token never prints itself"


def test_it_is_no_offer_to_punch() -> None:
    assert not TEXT.startswith("wgpy1:")
    assert refused("wgpy1:" + TEXT) == "this is an offer of `wgpy punch`, and no joining line"


def test_mail_and_terminals_may_break_it() -> None:
    broken = "\n".join(TEXT[i : i + 60] for i in range(0, len(TEXT), 60))
    assert parse_line(f"  \t{broken}\r\n") == LINE


def test_the_form_is_the_one_that_is_documented() -> None:
    """Byte by byte, by another writer."""

    def text(value: bytes) -> bytes:
        return bytes([len(value)]) + value

    wanted = (
        NETWORK
        + text(b"mesh")
        + b"\x01"
        + bytes(PEER)
        + b"\x03"
        + (51820).to_bytes(2, "big")
        + text(b"gate.example")
        + (51820).to_bytes(2, "big")
        + text(b"192.0.2.1")
        + (7).to_bytes(2, "big")
        + text(b"2001:db8::1")
        + b"\x02"
        + text(bytes([10, 9, 0, 1]))
        + text(INSIDE)
        + len(TOKEN).to_bytes(2, "big")
        + TOKEN
    )
    assert sealed(wanted) == TEXT


# --- What a person is told ---


@pytest.mark.parametrize("left", [0, 1, 5, 20, 40, 100, len(TEXT) - len(PREFIX) - 1])
def test_cut_off(left: int) -> None:
    assert "it was cut off" in refused(TEXT[: len(PREFIX) + left])


def test_each_end_is_missed() -> None:
    for left in range(len(PREFIX), len(TEXT)):
        # Spare bits of a last letter may be wrong before anything else is looked at.
        assert re.search("cut off|changed on its way", refused(TEXT[:left]))


def test_each_changed_letter_is_found() -> None:
    for place in range(len(PREFIX), len(TEXT)):
        other = "A" if TEXT[place] != "A" else "B"
        refused(TEXT[:place] + other + TEXT[place + 1 :])


def test_changed() -> None:
    place = len(PREFIX) + 200
    other = "A" if TEXT[place] != "A" else "B"
    assert "changed on its way" in refused(TEXT[:place] + other + TEXT[place + 1 :])
    assert "changed on its way" in refused(TEXT + "AAAA")
    assert "changed on its way" in refused(TEXT.replace(TEXT[place], "="))


def test_versions() -> None:
    assert "a newer wgpy made this line: update wgpy here" in refused(sealed(body(), version=2))
    assert "too old a wgpy made this line" in refused(sealed(body(), version=0))


BAD: dict[str, tuple[str, str]] = {
    "nothing": ("", "begins with wgpy-join:"),
    "something else": ("https://example.com/", "begins with wgpy-join:"),
    "a book": ("a" * (MAX_PASTED + 1), "that is no joining line"),
    "too long": (PREFIX + "A" * 4000, "longer than any line"),
    "more behind it": (sealed(body() + b"\0"), "has no meaning"),
    "less than it says": (sealed(body()[:-1]), "has no meaning"),
    "another network's token": (sealed(bytes(16) + body()[16:]), "token is for another network"),
    "a peer's token": (
        sealed(body()[: -len(TOKEN) - 2] + len(made()).to_bytes(2, "big") + made()),
        "its token cannot be used: its use is not 'enrol'",
    ),
    "no token": (sealed(body()[: -len(TOKEN) - 2] + b"\0\0"), "its token cannot be used"),
    "no coordinator": (
        sealed(body()[:21] + b"\0" + len(TOKEN).to_bytes(2, "big") + TOKEN),
        "not 1 to 3 coordinators",
    ),
    "many coordinators": (sealed(body()[:21] + b"\xff" + body()[22:]), "has no meaning"),
    "a domain in capitals": (sealed(body().replace(b"\x04mesh", b"\x04MESH")), "in lower case"),
    "a domain that is no text": (
        sealed(body().replace(b"\x04mesh", b"\x04me\xffh")),
        "in lower case",
    ),
    "a key of low order": (sealed(body().replace(bytes(PEER), bytes(32))), "key cannot be"),
    "a second spelling of a key": (
        sealed(body().replace(bytes(PEER), bytes(31) + b"\x80")),
        "key cannot be",
    ),
    "no port": (
        sealed(body().replace((7).to_bytes(2, "big") + b"\x0b2001", b"\0\0\x0b2001")),
        "has no port",
    ),
    "a second spelling of an address": (
        sealed(body().replace(b"2001:db8::1", b"2001:DB8::1")),
        "usual spelling",
    ),
    "everybody's address": (sealed(body().replace(b"192.0.2.1", b"224.0.0.1")), "usual spelling"),
    "no host": (sealed(body().replace(b"gate.example", b"gate example")), "neither a name"),
    "a number for a host": (sealed(body().replace(b"gate.example", b"gate.xampl.7")), "neither"),
    "one endpoint twice": (
        sealed(body().replace(b"192.0.2.1", b"192.0.2.2").replace(b"gate.example", b"gate.example")
               .replace(b"\xca\x6c\x0cgate.example\xca\x6c\x09192.0.2.2",
                        b"\xca\x6c\x09192.0.2.2\xca\x6c\x09192.0.2.2")),
        "not 1 to 4 endpoints, each once",
    ),
    "an address of 15 bytes": (
        sealed(body().replace(b"\x10" + INSIDE, b"\x0f" + INSIDE[1:])),
        "none that a machine can have",
    ),
    "no IPv6": (
        sealed(body().replace(b"\x02\x04\x0a\x09\0\x01\x10" + INSIDE, b"\x01\x04\x0a\x09\0\x01")),
        "no IPv6 address",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_what_a_person_is_told(what: str) -> None:
    text, words = BAD[what]
    assert text != TEXT
    assert words in refused(text)


def test_what_cannot_be_written() -> None:
    for wrong in (
        {"network": bytes(15)},
        {"coordinators": (GATE, GATE)},
        {"coordinators": ()},
        {"domain": ""},
        {"token": b"x"},
    ):
        with pytest.raises(LineError):
            replace(LINE, **wrong)


# --- Its size, and the code to scan ---


def test_the_longest_fits_a_code_and_more_is_refused() -> None:
    name = "-".join(["a" * 50] * 2)[:60]
    endpoints = tuple(Endpoint(f"{name}{i}.{name}.example", 51820) for i in range(4))
    keys = [PEER, OTHER, PublicKey(bytes([9]) + bytes(31))]
    token = compact(HEADER, enrol_payload() | {"jti": "j" * 64, "x": "y" * 180})
    assert 600 < len(token) <= 700
    full = tuple(Coordinator(key, endpoints, GATE.addresses) for key in keys[:2])
    line = JoinLine(NETWORK, "mesh", full, token)
    text = format_line(line)
    assert parse_line(text) == line
    assert MAX_LENGTH * 0.8 < len(b64decode(text.removeprefix(PREFIX))) <= MAX_LENGTH
    assert qr_text(text)
    with pytest.raises(LineError, match="leave out an endpoint"):
        format_line(replace(line, coordinators=(*full, replace(full[0], key=keys[2]))))
    # What is the most in bytes is the most in letters, and a code holds it.
    most = PREFIX + "A" * (MAX_LENGTH * 4 // 3 + 1)
    assert len(most) <= 2953
    assert qr_text(most)


def test_the_code_is_drawn_module_by_module() -> None:
    segno = pytest.importorskip("segno")
    rows = [list(row) for row in segno.make_qr(TEXT, error="l").matrix_iter(border=4)]
    drawn = []
    for each in qr_text(TEXT).splitlines():
        inside = re.fullmatch("\x1b\\[30;107m([ ▀▄█]+)\x1b\\[0m", each)
        assert inside is not None
        drawn.append([glyph in "▀█" for glyph in inside[1]])
        drawn.append([glyph in "▄█" for glyph in inside[1]])
    assert [[bool(x & 1) for x in row] for row in rows] == drawn[: len(rows)]
    assert not any(any(row) for row in drawn[len(rows) :])


def test_who_draws_it_is_loaded_late() -> None:
    assert "segno" not in vars(module)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert any(x.startswith("segno") for x in extras["optional-dependencies"]["coordinator"])


# --- Whatever comes ---

hosts = st.sampled_from(["gate.example", "a", "192.0.2.1", "2001:db8::1", "x-1.mesh"])
endpoints = st.builds(Endpoint, hosts, st.integers(1, 65535))
keys = st.binary(min_size=31, max_size=31).map(lambda raw: PublicKey(raw + b"\x11"))
coordinators = st.builds(
    Coordinator,
    keys,
    st.lists(endpoints, min_size=1, max_size=4, unique=True).map(tuple),
    st.sampled_from([(INSIDE,), GATE.addresses, GATE.addresses[::-1]]),
)
lines = st.builds(
    JoinLine,
    st.just(NETWORK),
    st.sampled_from(["mesh", "a.b", "xn--x"]),
    st.lists(coordinators, min_size=1, max_size=3, unique_by=lambda x: bytes(x.key)).map(tuple),
    st.just(TOKEN),
)


@given(lines)
def test_there_and_back(line: JoinLine) -> None:
    assert parse_line(format_line(line)) == line


@given(st.one_of(st.text(), st.text(alphabet="AQz09-_ ").map(PREFIX.__add__)))
def test_any_text_is_a_line_or_an_error(text: str) -> None:
    with pytest.raises(LineError):
        parse_line(text)


@given(st.data())
def test_a_body_with_bytes_changed_has_one_text_or_none(data: st.DataObject) -> None:
    raw = bytearray(body())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    text = sealed(bytes(raw))
    try:
        found = parse_line(text)
    except LineError:
        assume(False)
        return
    assert format_line(found) == text
