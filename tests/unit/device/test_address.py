"""Endpoints as the UAPI writes them."""

import errno
import socket

import pytest

from wgpy.datapath.contract import Endpoint
from wgpy.device.address import to_address, to_endpoint
from wgpy.device.uapi import Address, UapiError


@pytest.mark.parametrize("address", [Address("192.0.2.1", 51820), Address("2001:db8::1", 1)])
def test_there_and_back(address):
    endpoint = to_endpoint(address)
    assert endpoint == Endpoint(*address)
    assert to_address(endpoint) == address


def test_a_scope_is_a_link_by_name_or_number():
    index = socket.if_nametoindex("lo")
    assert to_endpoint(Address("fe80::1%lo", 5)) == Endpoint("fe80::1", 5, index)
    assert to_endpoint(Address(f"fe80::1%{index}", 5)) == Endpoint("fe80::1", 5, index)
    assert to_address(Endpoint("fe80::1", 5, index)) == Address("fe80::1%lo", 5)


def test_a_link_that_went_is_shown_by_its_number():
    assert to_address(Endpoint("fe80::1", 5, 999_999)) == Address("fe80::1%999999", 5)


@pytest.mark.parametrize("scope", ["nolink", "", "x" * 40, "a/b", "\u0663", "a\0b", "\udc80"])
def test_a_link_that_is_not_there_is_refused(scope):
    with pytest.raises(UapiError) as caught:
        to_endpoint(Address(f"fe80::1%{scope}", 5))
    assert caught.value.code == errno.EINVAL


@pytest.mark.parametrize("scope", ["2147483648", "4294967296", "9" * 20, "9" * 5000])
def test_a_number_that_no_link_can_have_is_refused(scope):
    with pytest.raises(UapiError):
        to_endpoint(Address(f"fe80::1%{scope}", 5))


def test_what_is_shown_leaves_the_source_out():
    shown = to_address(Endpoint("192.0.2.1", 5, source=bytes(4), ifindex=3))
    assert shown == Address("192.0.2.1", 5)
