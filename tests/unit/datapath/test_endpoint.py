"""Endpoints and what the socket calls take, there and back."""

import socket
import struct

import pytest

from wgpy.datapath.contract import Endpoint
from wgpy.datapath.endpoint import IP_PKTINFO, Route, to_endpoint, to_route

V4_SOURCE = bytes((192, 0, 2, 1))
V6_SOURCE = bytes.fromhex("20010db8" + "00" * 11 + "01")


@pytest.mark.parametrize(
    "endpoint",
    [
        Endpoint("192.0.2.7", 51820),
        Endpoint("192.0.2.7", 51820, source=V4_SOURCE, ifindex=4),
        Endpoint("2001:db8::7", 51820),
        Endpoint("2001:db8::7", 51820, source=V6_SOURCE, ifindex=4),
        Endpoint("fe80::7", 51820, scope=3),
        Endpoint("fe80::7", 51820, scope=3, source=V6_SOURCE, ifindex=3),
    ],
)
def test_there_and_back(endpoint):
    assert to_endpoint(to_route(endpoint)) == endpoint


def test_a_route_names_its_family():
    assert not to_route(Endpoint("192.0.2.7", 1)).is_v6
    assert to_route(Endpoint("::1", 1)).is_v6


def test_control_messages_carry_the_source():
    assert to_route(Endpoint("192.0.2.7", 1)).control() == []
    ((level, kind, data),) = to_route(Endpoint("192.0.2.7", 1, 0, V4_SOURCE, 9)).control()
    assert (level, kind) == (socket.IPPROTO_IP, IP_PKTINFO)
    assert struct.unpack("@i4s", data[:8]) == (9, V4_SOURCE)
    ((level, kind, data),) = to_route(Endpoint("::1", 1, 0, V6_SOURCE, 9)).control()
    assert (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO)
    assert struct.unpack("@16si", data) == (V6_SOURCE, 9)


def test_a_link_local_address_is_read_without_its_link():
    assert to_endpoint(Route(("fe80::7%eth0", 5, 0, 3))) == Endpoint("fe80::7", 5, 3)
