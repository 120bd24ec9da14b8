"""Configurations that several tests read: keys made for the tests, and used for nothing else."""

import base64

from hypothesis import strategies as st

from wgpy.config.model import (
    Config,
    EndpointSpec,
    InterfaceAddress,
    InterfaceConfig,
    PeerConfig,
)
from wgpy.ip import Prefix, mask
from wgpy.keys import PresharedKey, PrivateKey, PublicKey


def key(number: int) -> str:
    """A public or pre-shared key in base64, told apart by its first byte."""
    return base64.b64encode(bytes([number]) + b"\x55" * 31).decode()


PRIVATE = PrivateKey(bytes([0x50, *range(1, 31), 0x41])).base64()
PEER, OTHER, PSK = key(1), key(2), key(3)

# Everything that a .conf file can say, spelled as people spell it.
FULL = f"""\
# The office.
[Interface]
Address = 10.7.0.2/24, fd07::2/64
Address=192.0.2.9
DNS = 10.7.0.1, fd07::1, corp.example
MTU = 1400
Table = off
ListenPort = 51820
FwMark = 0xca6c
PrivateKey = {PRIVATE}   # mine
PreUp = echo "before # not a comment"
PostUp = iptables -A FORWARD -i %i -j ACCEPT; echo a=b
PostUp = true
PreDown = false || true
PostDown = echo gone
SaveConfig = false

  [peer]
publickey={PEER}
P r e s h a r e d K e y = {PSK}
AllowedIPs = 10.7.0.0/24, fd07::/64
AllowedIPs = 0.0.0.0/0
Endpoint = gate.example.com:51820
PersistentKeepalive = 25

[Peer]
PublicKey = {OTHER}
AllowedIPs = 10.8.0.1
Endpoint = [2001:db8::1]:1
PersistentKeepalive = off
"""

RAW = st.binary(min_size=32, max_size=32)
ADDRESS = st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16)


@st.composite
def _networks(draw: st.DrawFn) -> tuple[bytes, int]:
    address = draw(ADDRESS)
    return address, draw(st.integers(0, len(address) * 8))


INTERFACE_ADDRESSES = _networks().map(lambda pair: InterfaceAddress(*pair))
PREFIXES = _networks().map(lambda pair: Prefix(mask(*pair), pair[1]))
HOSTS = st.sampled_from(["192.0.2.7", "2001:db8::7", "fe80::1%eth0", "a.example", "x_y.example."])
ENDPOINTS = st.builds(EndpointSpec, HOSTS, st.integers(1, 65_535))
# What a hook may be in one line of a file: no line end, no white space around it.
HOOKS = st.lists(
    st.text(st.characters(exclude_characters="\n\0", codec="utf-8"), min_size=1, max_size=20)
    .map(lambda text: text.strip(" \t\n\v\f\r"))
    .filter(bool),
    max_size=2,
).map(tuple)


@st.composite
def configs(draw: st.DrawFn, *, quick: bool = True) -> Config:
    """Any configuration that a file can spell; None where a file cannot tell it from zero."""
    extra = {}
    if quick:
        extra = {
            "addresses": tuple(
                draw(st.lists(INTERFACE_ADDRESSES, max_size=3, unique_by=lambda a: a.address))
            ),
            "dns": draw(st.sampled_from([(), ("10.0.0.1", "fd00::1")])),
            "dns_search": draw(st.sampled_from([(), ("corp.example", "~lan")])),
            "mtu": draw(st.none() | st.integers(68, 65_475)),
            "table": draw(st.sampled_from(["auto", "off", 1, 254, 0xFFFF_FFFF])),
            **{name: draw(HOOKS) for name in ("pre_up", "post_up", "pre_down", "post_down")},
            "save_config": draw(st.booleans()),
        }
    interface = InterfaceConfig(
        private_key=draw(st.none() | RAW.filter(any).map(PrivateKey)),
        listen_port=draw(st.none() | st.integers(1, 65_535)),
        fwmark=draw(st.none() | st.integers(1, 0xFFFF_FFFF)),
        **extra,
    )
    keys = draw(st.lists(RAW, max_size=3, unique=True))
    prefixes = draw(st.lists(PREFIXES, max_size=9, unique=True))
    peers = tuple(
        PeerConfig(
            public_key=PublicKey(raw),
            preshared_key=draw(st.none() | RAW.filter(any).map(PresharedKey)),
            allowed_ips=tuple(prefixes[index :: len(keys)]),
            endpoint=draw(st.none() | ENDPOINTS),
            persistent_keepalive=draw(st.none() | st.integers(1, 65_535)),
        )
        for index, raw in enumerate(keys)
    )
    return Config(interface, peers)
