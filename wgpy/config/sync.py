"""From a configuration to the request that brings it about. Pure: nothing is asked or sent here.

A private key of zeros clears the key, a mark of 0 the mark, a pre-shared key of zeros the
pre-shared key: that is how the userspace API spells "none".
"""

from collections.abc import Callable

from wgpy.config.model import Config, EndpointSpec, PeerConfig
from wgpy.device.uapi import (
    Address,
    AllowedIpChange,
    Cleared,
    DeviceChange,
    DeviceState,
    PeerChange,
    PeerState,
)
from wgpy.ip import address_text, parse_address
from wgpy.keys import KEY_LENGTH, PresharedKey, PrivateKey

# Looks a host name up. Whatever it raises goes through to the caller.
Resolve = Callable[[EndpointSpec], Address]


def set_change(config: Config, resolve: Resolve, *, names: bool = False) -> DeviceChange:
    """What `setconf` asks for: the interface is as the file says, and has nothing else.

    Peers that came in by their credentials stay, as long as the authority lets them. What a .conf
    file cannot say, which is everything about credentials and ways through NATs, stays as it is.

    `resolve` is called for each endpoint that is not an address. With `names` the daemon is
    wgpy's, and is told the name as well, to look it up again later.
    """
    interface = config.interface
    return DeviceChange(
        private_key=interface.private_key or _no_private_key(),
        listen_port=interface.listen_port or 0,
        fwmark=interface.fwmark or 0,
        authority=config.authority or _cleared(config),
        identity=config.identity or _cleared(config),
        nat=config.nat or _cleared(config),
        replace_peers=True,
        peers=[_whole_peer(peer, resolve, names=names) for peer in config.peers],
        firewall=config.firewall,
    )


def add_change(config: Config, resolve: Resolve, *, names: bool = False) -> DeviceChange:
    """What `addconf` asks for: what the file mentions is set, everything else stays."""
    interface = config.interface
    return DeviceChange(
        private_key=interface.private_key,
        listen_port=interface.listen_port,
        fwmark=interface.fwmark,
        authority=config.authority,
        identity=config.identity,
        nat=config.nat,
        peers=[_whole_peer(peer, resolve, names=names) for peer in config.peers],
        firewall=config.firewall if config.firewall and config.firewall.rules else None,
    )


def sync_change(
    config: Config,
    state: DeviceState,
    resolve: Resolve,
    *,
    names: bool = False,
    keep_fwmark: bool = False,
) -> DeviceChange:
    """What `syncconf` asks for: the least that makes the interface as the file says.

    What is the same already is not sent, so that no session is disturbed. A pre-shared key or a
    keepalive that the file lacks is cleared. A file without a listen port asks for any port, which
    the interface has. Peers that came in by their credentials stay, but one that the file now has
    is made a configured one. `keep_fwmark` leaves the mark alone if the file has none: `up` chooses
    one for a default route, and the tunnel would carry itself without it.
    """
    interface = config.interface
    change = DeviceChange()
    private_key = interface.private_key or _no_private_key()
    if private_key != (state.private_key or _no_private_key()):
        change.private_key = private_key
    if interface.listen_port is not None and interface.listen_port != state.listen_port:
        change.listen_port = interface.listen_port
    fwmark = interface.fwmark or 0
    if fwmark != state.fwmark and not (keep_fwmark and interface.fwmark is None):
        change.fwmark = fwmark
    if config.authority != state.authority:
        change.authority = config.authority or _cleared(config)
    if config.identity != state.identity:
        change.identity = config.identity or _cleared(config)
    # The same again has the files of passwords read again, which may hold others by now.
    if config.nat != state.nat or (config.nat is not None and config.nat.turn):
        change.nat = config.nat or _cleared(config)
    if config.firewall is not None and config.firewall != state.firewall:
        change.firewall = config.firewall
    wanted = {peer.public_key for peer in config.peers}
    # A configured peer goes when the file lacks it; one that was admitted, when the file has it.
    change.peers = [
        PeerChange(peer.public_key, remove=True)
        for peer in state.peers
        if peer.admitted == (peer.public_key in wanted)
    ]
    present = {peer.public_key: peer for peer in state.peers if not peer.admitted}
    for peer in config.peers:
        now = present.get(peer.public_key)
        if now is None:
            change.peers.append(_whole_peer(peer, resolve, names=names))
            continue
        difference = _peer_difference(peer, now, resolve, names=names)
        if peer.expectation != now.expectation:
            difference.expectation = peer.expectation or _cleared(config)
        if peer.nat != now.nat and (peer.nat or config.says_all):
            difference.nat = peer.nat
        if difference != PeerChange(peer.public_key, update_only=True):
            change.peers.append(difference)
    return change


def endpoint_address(spec: EndpointSpec) -> Address | None:
    """The address of an endpoint that needs no looking up, in its usual text; else None."""
    host, percent, scope = spec.host.partition("%")
    try:
        text = address_text(parse_address(host))
    except ValueError:
        return None
    return Address(f"{text}%{scope}" if percent else text, spec.port)


def _whole_peer(peer: PeerConfig, resolve: Resolve, *, names: bool) -> PeerChange:
    """Everything that the file says of a peer."""
    change = PeerChange(
        peer.public_key,
        preshared_key=peer.preshared_key,
        persistent_keepalive=peer.persistent_keepalive,
        expectation=peer.expectation,
        nat=peer.nat or None,
    )
    _set_endpoint(change, peer, resolve, names=names)
    if peer.incremental is None:
        change.replace_allowed_ips = True
        change.allowed_ips = [AllowedIpChange(prefix) for prefix in peer.allowed_ips]
    else:
        change.allowed_ips = list(peer.incremental)
    return change


def _peer_difference(
    peer: PeerConfig, now: PeerState, resolve: Resolve, *, names: bool
) -> PeerChange:
    """What differs for a peer that is there. `update_only`: should it vanish meanwhile, half a
    peer must not come up in its place."""
    change = PeerChange(peer.public_key, update_only=True)
    preshared_key = peer.preshared_key or _no_preshared_key()
    if preshared_key != (now.preshared_key or _no_preshared_key()):
        change.preshared_key = preshared_key
    keepalive = peer.persistent_keepalive or 0
    if keepalive != now.persistent_keepalive:
        change.persistent_keepalive = keepalive
    # A name that the daemon has is its own to look up, and it may know better by now.
    if not (names and peer.endpoint is not None and now.endpoint_name == tuple(peer.endpoint)):
        _set_endpoint(change, peer, resolve, names=names)
        if change.endpoint_name == now.endpoint_name and change.endpoint == _usual(now.endpoint):
            change.endpoint = change.endpoint_name = None
    _set_allowed_ips(change, peer, now)
    return change


def _set_endpoint(change: PeerChange, peer: PeerConfig, resolve: Resolve, *, names: bool) -> None:
    if peer.endpoint is None:
        return
    change.endpoint = endpoint_address(peer.endpoint)
    if change.endpoint is None:
        change.endpoint = resolve(peer.endpoint)
        if names:
            change.endpoint_name = (peer.endpoint.host, peer.endpoint.port)


def _usual(endpoint: Address | None) -> Address | None:
    """An endpoint in its usual text, to be compared."""
    return None if endpoint is None else endpoint_address(EndpointSpec(*endpoint)) or endpoint


def _set_allowed_ips(change: PeerChange, peer: PeerConfig, now: PeerState) -> None:
    has = set(now.allowed_ips)
    if peer.incremental is not None:
        wanted = set(has)
        for prefix, remove in peer.incremental:
            (wanted.discard if remove else wanted.add)(prefix)
        if wanted != has:
            change.allowed_ips = list(peer.incremental)
        return
    wanted = set(peer.allowed_ips)
    if has <= wanted:
        change.allowed_ips = [AllowedIpChange(p) for p in peer.allowed_ips if p not in has]
        return
    # To take one away alone (`allowed_ip=-CIDR`) is not understood by older daemons.
    change.replace_allowed_ips = True
    change.allowed_ips = [AllowedIpChange(prefix) for prefix in peer.allowed_ips]


def _cleared(config: Config) -> Cleared | None:
    """What is said of credentials, and of NATs, by a file that does not mention them."""
    return Cleared.CLEARED if config.says_all else None


def _no_private_key() -> PrivateKey:
    return PrivateKey(bytes(KEY_LENGTH))


def _no_preshared_key() -> PresharedKey:
    return PresharedKey(bytes(KEY_LENGTH))
