"""NAT-PMP on the wire, byte by byte after RFC 6886, and as a real server wrote it."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgpy.nat import natpmp
from wgpy.nat.mapping import Granted, Present, Refused, Removed
from wgpy.nat.place import Place
from wgpy.protocol.messages import ParseError

PORT = 40_001
# What miniupnpd 2.3.1 answered: its address, a mapping of another external port, the removal.
ADDRESS = "00800000000000020b4d0001"
MAPPED = "00810000000000029c41c35100000258"
REMOVED = "00810000000000029c41000000000000"


@pytest.fixture
def client() -> natpmp.NatPmpClient:
    return natpmp.NatPmpClient(PORT)


def test_requests_are_drawn_in_section_3(client: natpmp.NatPmpClient) -> None:
    assert client.check() == b"\0\0"
    assert client.ask(7_200, Place("", 50_001)).hex() == (
        "00"  # version
        "01"  # map UDP
        "0000"  # reserved
        "9c41"  # internal port
        "c351"  # suggested external port
        "00001c20"  # lifetime
    )


def test_a_removal_names_no_external_port(client: natpmp.NatPmpClient) -> None:
    """Section 3.4. An old miniupnpd took it for the port to be removed."""
    assert client.remove().hex() == "000100009c41000000000000"


def test_what_a_real_server_answers(client: natpmp.NatPmpClient) -> None:
    answers = [client.read(bytes.fromhex(text)) for text in (ADDRESS, MAPPED, REMOVED)]
    assert [answer.content for answer in answers] == [
        Present("11.77.0.1"),
        Granted("", 50_001, 600),
        Removed(),
    ]
    assert {answer.epoch for answer in answers} == {2}


@pytest.mark.parametrize("length", [8, 12, 16])
@pytest.mark.parametrize("result", [*range(1, 10), 65_535])
def test_each_error_is_a_refusal_in_words(
    client: natpmp.NatPmpClient, result: int, length: int
) -> None:
    """Also where the error ends early, or copies the request."""
    for opcode in (128, 129, 130):
        data = struct.pack("!BBHI", 0, opcode, result, 77) + bytes(length - 8)
        answer = client.read(data)
        assert answer.epoch == 77
        assert isinstance(answer.content, Refused)
        assert answer.content.absent == (result == 1)
        assert answer.content.reason


WRONG = {
    "empty": "",
    "one byte": "00",
    "a request for a mapping": "000100009c41c35100000258",
    "seven bytes": "00800000000000",
    "seventeen bytes": MAPPED + "00",
    "an address without itself": "0080000000000002",
    "an address with more": ADDRESS + "00",
    "a mapping cut off": MAPPED[:-2],
    "a mapping as short as an address": "008100000000000200000000",
    "an address as long as a mapping": "0080" + MAPPED[4:],
    "TCP": "0082" + MAPPED[4:],
    "version 1": "01" + MAPPED[2:],
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_response_is_refused(client: natpmp.NatPmpClient, name: str) -> None:
    with pytest.raises(ParseError) as caught:
        client.read(bytes.fromhex(WRONG[name]))
    assert caught.value.reason == "malformed"


def test_an_answer_about_another_port_is_foreign() -> None:
    with pytest.raises(ParseError) as caught:
        natpmp.NatPmpClient(PORT + 1).read(bytes.fromhex(MAPPED))
    assert caught.value.reason == "foreign"


@given(st.binary(max_size=40), st.sampled_from([b"", b"\0\x80\0\0", b"\0\x81\0\0"]))
def test_any_bytes_are_read_or_refused(data: bytes, start: bytes) -> None:
    try:
        natpmp.NatPmpClient(PORT).read(start + data)
    except ParseError:
        return


def test_the_two_protocols_of_one_port_are_told_apart() -> None:
    assert natpmp.is_natpmp(bytes.fromhex(ADDRESS))
    assert not natpmp.is_natpmp(b"\x02\x80")
    assert not natpmp.is_natpmp(b"")
