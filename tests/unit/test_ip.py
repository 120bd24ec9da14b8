"""Addresses and prefixes, held against the standard library's ipaddress."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgpy.ip import Prefix, address_text, mask, parse_address, parse_prefix

ADDRESS = st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16)


@given(ADDRESS)
def test_address_text_round_trip(address: bytes) -> None:
    text = address_text(address)
    assert ipaddress.ip_address(text).packed == address
    assert parse_address(text) == address


@given(ADDRESS, st.integers(0, 128))
def test_mask_agrees_with_ipaddress(address: bytes, length: int) -> None:
    length = min(length, len(address) * 8)
    network = ipaddress.ip_network((address, length), strict=False)
    assert mask(address, length) == network.network_address.packed


@given(ADDRESS, st.integers(0, 128))
def test_prefix_round_trip(address: bytes, length: int) -> None:
    length = min(length, len(address) * 8)
    prefix = parse_prefix(f"{address_text(address)}/{length}")
    assert prefix == Prefix(mask(address, length), length)
    assert parse_prefix(str(prefix)) == prefix
    assert prefix.version == (4 if len(address) == 4 else 6)


@given(st.text(max_size=60))
def test_any_text_is_a_prefix_or_a_value_error(text: str) -> None:
    try:
        prefix = parse_prefix(text)
    except ValueError:
        return
    assert prefix.address == mask(prefix.address, prefix.length)


def test_a_bare_address_is_the_whole_of_it() -> None:
    assert parse_prefix("192.0.2.1") == Prefix(bytes([192, 0, 2, 1]), 32)
    assert parse_prefix("2001:db8::").length == 128
    assert parse_prefix("0.0.0.0/0") == Prefix(bytes(4), 0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "/24",
        "10.0.0.1/",
        "10.0.0.1/33",
        "10.0.0.1/-1",
        "10.0.0.1/+8",
        "10.0.0.1/ 8",
        "10.0.0.1/٨",
        "10.0.0.1/8/8",
        "10.0.0.1/255.0.0.0",
        "::1/129",
        "::1/1000",
        "fe80::1%eth0/64",
        "10.0.0",
        "010.0.0.1/8",
        "10.0.0.1\0",
        "\udcff",
        "1:2",
    ],
)
def test_what_is_no_prefix(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not an IP address|prefix length"):
        parse_prefix(text)
