"""What a tunnel makes of host names that nobody can look up."""

from wgpy.config.model import Config, EndpointSpec, InterfaceConfig, PeerConfig
from wgpy.device.uapi import Address, DeviceState, PeerState
from wgpy.keys import PublicKey
from wgpy.mesh.line import Endpoint
from wgpy.mesh.tunnel import without_names

NAME = EndpointSpec("gate.example", 51820)
NUMBER = EndpointSpec("2001:db8::7", 51820)
PLACE = Endpoint("192.0.2.1", 51820)


def key(number: int) -> PublicKey:
    return PublicKey(bytes([number]) * 32)


def endpoints(state: DeviceState, places: dict[PublicKey, Endpoint]) -> list[EndpointSpec | None]:
    wanted = (NAME, NUMBER, None)
    peers = tuple(PeerConfig(key(n), endpoint=x) for n, x in enumerate(wanted, 1))
    config = Config(interface=InterfaceConfig(), peers=peers)
    return [peer.endpoint for peer in without_names(config, state, places).peers]


def test_who_has_a_name_is_where_it_was() -> None:
    places = dict.fromkeys((key(1), key(2), key(3)), PLACE)
    assert endpoints(DeviceState(), places) == [EndpointSpec(*PLACE), NUMBER, None]
    assert endpoints(DeviceState(), {}) == [None, NUMBER, None]


def test_where_it_is_the_daemon_knows_best() -> None:
    there = PeerState(key(1), endpoint=Address("198.51.100.1", 1))
    state = DeviceState(peers=[there])
    assert endpoints(state, {key(1): PLACE}) == [None, NUMBER, None]
    state.peers[0].endpoint = None
    assert endpoints(state, {key(1): PLACE}) == [EndpointSpec(*PLACE), NUMBER, None]
