"""PCP on the wire, byte by byte after the drawings of RFC 6887, and as a real server wrote it."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgpy.ip import parse_address
from wgpy.nat import pcp
from wgpy.nat.mapping import Granted, Present, Refused, Removed
from wgpy.nat.place import Place
from wgpy.protocol.messages import ParseError

NONCE = b"abcdefghijkl"
OWN, PORT = "192.168.77.2", 40_002
# What miniupnpd 2.3.1 answered to the requests below: an ANNOUNCE, a MAP for 7,200 s, its removal,
# a MAP from an address that the packet did not have, and versions 1 and 3.
ANNOUNCED = "028000000000000000000002000000000000000000000000"
MAPPED = (
    "0281000000001c20000000020000000000000000000000006162636465666768696a6b6c"
    "110000009c429ca400000000000000000000ffff0b4d0001"
)
REMOVED = (
    "0281000000000000000000030000000000000000000000006162636465666768696a6b6c"
    "110000009c42000000000000000000000000ffff0b4d0001"
)
MISMATCH = (
    "0281000c00000000000000020000000000000000000000006162636465666768696a6b6c"
    "110000009c42000000000000000000000000ffff00000000"
)
VERSION_3 = (
    "0281000100000000000000030000000000000000000000006162636465666768696a6b6c"
    "110000000000000000000000000000000000ffff00000000"
)
MAPPED_V6 = (
    "0281000000001c20000000030000000000000000000000006162636465666768696a6b6c"
    "110000009c439c43fd770000000000000000000000000002"
)


@pytest.fixture
def client() -> pcp.PcpClient:
    return pcp.PcpClient(OWN, PORT, NONCE)


# --- Requests ---


def test_an_announce_is_drawn_in_section_7_1() -> None:
    assert pcp.pack_announce(parse_address(OWN)).hex() == (
        "02"  # version
        "00"  # R = 0, opcode ANNOUNCE
        "0000"  # reserved
        "00000000"  # lifetime
        "00000000000000000000ffffc0a84d02"  # client's address
    )


def test_a_map_is_drawn_in_section_11_1(client: pcp.PcpClient) -> None:
    assert client.ask(7_200, Place("", 40_100)).hex() == (
        "02010000"
        "00001c20"
        "00000000000000000000ffffc0a84d02"
        "6162636465666768696a6b6c"  # nonce
        "11"  # UDP
        "000000"  # reserved
        "9c42"  # internal port
        "9ca4"  # suggested external port
        "00000000000000000000ffff00000000"  # suggested external address: any of IPv4
    )


def test_a_renewal_suggests_what_is_held(client: pcp.PcpClient) -> None:
    data = client.ask(7_200, Place("11.77.0.1", 40_100))
    assert data[42:].hex() == "9ca400000000000000000000ffff0b4d0001"


def test_a_removal_has_zeros_of_its_family(client: pcp.PcpClient) -> None:
    """Section 15.1 with erratum 3621."""
    assert client.remove()[4:8] == bytes(4)
    assert client.remove()[42:].hex() == "0000" + "00000000000000000000ffff00000000"
    v6 = pcp.PcpClient("2a00:77::2", PORT, NONCE)
    assert v6.remove()[8:24] == parse_address("2a00:77::2")
    assert v6.remove()[42:] == bytes(18)


def test_a_nonce_is_found_again_and_tells_networks_and_ports_apart() -> None:
    secret = bytes(range(32))
    made = pcp.make_nonce(secret, "192.168.1.1", OWN, "1")
    assert len(made) == 12
    assert made == pcp.make_nonce(secret, "192.168.1.1", OWN, "1")
    others = {
        pcp.make_nonce(secret, "192.168.1.1", OWN, "2"),
        pcp.make_nonce(secret, "192.168.1.11", "92.168.77.2", "1"),
        pcp.make_nonce(secret, "192.168.1.2", OWN, "1"),
        pcp.make_nonce(bytes(32), "192.168.1.1", OWN, "1"),
    }
    assert len(others | {made}) == 5


# --- Responses ---


def test_what_a_real_server_answers(client: pcp.PcpClient) -> None:
    answers = [client.read(bytes.fromhex(text)) for text in (ANNOUNCED, MAPPED, REMOVED)]
    assert [answer.content for answer in answers] == [
        Present(),
        Granted("11.77.0.1", 40_100, 7_200),
        Removed(),
    ]
    assert [answer.epoch for answer in answers] == [2, 2, 3]
    v6 = pcp.PcpClient("fd77::2", 40_003, NONCE)
    assert v6.read(bytes.fromhex(MAPPED_V6)).content == Granted("fd77::2", 40_003, 7_200)


def test_what_a_real_server_refuses(client: pcp.PcpClient) -> None:
    answer = client.read(bytes.fromhex(MISMATCH))
    assert answer.content == Refused("there is a NAT between the router and us")
    # A server that knows no version of ours has read no port either.
    mute = pcp.PcpClient(OWN, 0, NONCE)
    assert mute.read(bytes.fromhex(VERSION_3)).content == Refused(
        "the router speaks no PCP", absent=True
    )


def head(result: int, lifetime: int = 0, opcode: int = 0x81, version: int = 2) -> bytes:
    """A response that ends after its first part."""
    return struct.pack("!BBBBII12x", version, opcode, 0, result, lifetime, 77)


@pytest.mark.parametrize("result", range(1, 256))
def test_each_error_is_a_refusal_in_words(client: pcp.PcpClient, result: int) -> None:
    answer = client.read(head(result, 60))
    assert answer.epoch == 77
    assert isinstance(answer.content, Refused)
    assert answer.content.absent == (result == 1)
    assert answer.content.reason
    assert answer.content.pause == (0 if result == 1 else 60)


def test_a_refusal_for_years_holds_for_half_an_hour(client: pcp.PcpClient) -> None:
    answer = client.read(head(8, 4_000_000_000))
    assert answer.content == Refused("the router has no port left", 1_800)


def test_a_server_that_cannot_announce_is_there_all_the_same(client: pcp.PcpClient) -> None:
    assert client.read(head(4, 1_800, opcode=0x80)).content == Present()


def test_a_server_of_the_draft_says_so_in_its_own_version(client: pcp.PcpClient) -> None:
    answer = client.read(head(1, version=1))
    assert isinstance(answer.content, Refused)
    assert answer.content.absent


def test_options_behind_a_mapping_are_passed_over(client: pcp.PcpClient) -> None:
    option = bytes.fromhex("02000000")
    answer = client.read(bytes.fromhex(MAPPED) + option)
    assert answer.content == Granted("11.77.0.1", 40_100, 7_200)


WRONG = {
    "empty": b"",
    "one byte": b"\x02",
    "cut off": bytes.fromhex(MAPPED)[:22],
    "no multiple of four": bytes.fromhex(MAPPED) + b"\0",
    "over 1,100 bytes": bytes.fromhex(MAPPED) + bytes(1_044),
    "a mapping without its second half": bytes.fromhex(MAPPED)[:56],
    "a request": pcp.pack_announce(parse_address(OWN)),
    "version 3": head(0, version=3),
    "version 1 that grants": b"\x01" + bytes.fromhex(MAPPED)[1:],
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_response_is_refused(client: pcp.PcpClient, name: str) -> None:
    with pytest.raises(ParseError) as caught:
        client.read(WRONG[name])
    assert caught.value.reason == "malformed"


def test_1100_bytes_are_not_too_many() -> None:
    assert pcp.parse_response(bytes.fromhex(MAPPED) + bytes(1_040)).lifetime == 7_200


@pytest.mark.parametrize("at", [24, 35, 36, 40, 41], ids=lambda at: f"byte {at}")
@pytest.mark.parametrize("text", [MAPPED, MISMATCH], ids=["granted", "refused"])
def test_an_answer_about_another_mapping_is_foreign(
    client: pcp.PcpClient, text: str, at: int
) -> None:
    data = bytearray.fromhex(text)
    data[at] ^= 1
    with pytest.raises(ParseError) as caught:
        client.read(bytes(data))
    assert caught.value.reason == "foreign"


@given(st.binary(max_size=1_200), st.sampled_from([b"", b"\x02\x81\x00\x00", b"\x02\x80\x00"]))
def test_any_bytes_are_read_or_refused(data: bytes, start: bytes) -> None:
    client = pcp.PcpClient(OWN, PORT, NONCE)
    try:
        client.read(start + data)
    except ParseError:
        return


@given(
    st.binary(min_size=12, max_size=12),
    st.integers(0, 65_535),
    st.integers(0, 65_535),
    st.one_of(st.binary(min_size=4, max_size=4), st.binary(min_size=16, max_size=16)),
    st.integers(1, 86_400),
)
def test_what_is_packed_comes_back(
    nonce: bytes, internal: int, external: int, address: bytes, lifetime: int
) -> None:
    mapped = pcp.Mapped(nonce, pcp.UDP, internal, external, pcp.from_16(pcp.to_16(address)))
    request = pcp.pack_map(address, lifetime, mapped)
    response = struct.pack("!BBBBII12x", 2, 0x81, 0, 0, lifetime, 5) + request[24:]
    assert pcp.parse_response(response) == pcp.Response(1, 0, lifetime, 5, mapped)
