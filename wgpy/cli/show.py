"""`wgpy show`: the configuration and the state of interfaces, as wg(8) shows them.

With a daemon of ours, the pretty form has a few lines more; `--json` has everything.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from wgpy.cli import style
from wgpy.cli.errors import CommandError
from wgpy.cli.show_nat import nat_json, path_json, path_text, way_json, way_lines
from wgpy.device import client
from wgpy.device.uapi import ClaimsSummary, DeviceState, PeerState, UapiError
from wgpy.identity.claims import Kind
from wgpy.identity.settings import AuthoritySettings, Expectation, IdentitySettings
from wgpy.ip import Prefix
from wgpy.keys import PublicKey

NONE: Final = "(none)"
OFF: Final = "off"

Rows = list[tuple[str, ...]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `show`."""
    parser.add_argument(
        "interface",
        nargs="?",
        default="all",
        metavar="INTERFACE",
        help="an interface, `all` (the default), or `interfaces` for their names alone",
    )
    parser.add_argument(
        "field",
        nargs="?",
        choices=sorted(FIELDS),
        metavar="FIELD",
        help="print one thing only, separated by tabs, for scripts: " + ", ".join(FIELDS),
    )
    parser.add_argument("--json", action="store_true", help="print JSON, times in seconds")
    parser.epilog = (
        "Private and pre-shared keys are printed as (hidden), in JSON too, unless WG_HIDE_KEYS is "
        "`never` or the field asked for is private-key, preshared-keys or dump. WG_COLOR_MODE is "
        "always, never or auto."
    )


def run(args: argparse.Namespace) -> int:
    """Show what `args` asks for; returns the exit code."""
    if args.interface == "interfaces":
        if args.field is not None:
            raise CommandError("`show interfaces` takes no field; see `wgpy show --help`")
        names = client.list_interfaces()
        if args.json:
            _print(_json_text(names))
        elif names:
            _print(" ".join(names) + "\n")
        return 0
    every = args.interface == "all"
    names = client.list_interfaces() if every else [args.interface]
    states = {}
    for name in names:
        try:
            states[name] = client.get(name)
        except UapiError as error:
            if not every:
                raise
            # One that is out of reach must not hide the others.
            print(f"wgpy: {error}", file=sys.stderr)
    if args.json:
        _print(_json_text({name: as_json(states[name], args.field) for name in states}))
    elif args.field is not None:
        for name, state in states.items():
            _print(script(state, args.field, name if every else None))
    else:
        now = int(time.time())
        _print(style.finish("\n".join(pretty(name, states[name], now) for name in states)))
    return 1 if names and not states else 0


def _print(text: str) -> None:
    sys.stdout.write(text)


def _json_text(value: object) -> str:
    import json

    return json.dumps(value, indent=2) + "\n"


# --- For people ---


def pretty(name: str, state: DeviceState, now: int) -> str:
    """The coloured text of one interface; `now` in seconds since the epoch."""
    out = [style.RESET, style.heading("interface", name, style.GREEN)]
    public = _public_key(state)
    if state.private_key is not None and public is not None:
        private = style.HIDDEN if style.hides_keys() else state.private_key.base64()
        out.append(style.label("public key", public.base64()))
        out.append(style.label("private key", private))
    if state.listen_port:
        out.append(style.label("listening port", str(state.listen_port)))
    if state.fwmark:
        out.append(style.label("fwmark", hex(state.fwmark)))
    if state.wgpy_version is not None:
        out.append(style.label("daemon", f"wgpy {state.wgpy_version}"))
    if state.datapath is not None:
        out.append(style.label("data path", state.datapath))
    if state.offloads:
        on = ", ".join(name for name, is_on in state.offloads.items() if is_on)
        out.append(style.label("offloads", on or NONE))
    if state.authority is not None:
        accepts = _coloured(state.authority.accept)
        out.append(style.label("network", state.authority.network.hex()))
        out.append(style.label("accepts", f"{accepts} by credential"))
        if state.authority.enrol:
            port = state.authority.enrol_port
            out.append(style.label("enrols", f"by token, at port {port}/tcp"))
    if state.claims is not None:
        out.extend(_claims_lines(state.claims, now, ours=True))
    elif state.identity is not None:
        out.append(
            style.label("identity", state.identity.certificate or state.identity.token or NONE)
        )
    out.extend(way_lines(state.nat_state))
    # The latest handshake first, those that never had one last, otherwise as they come.
    peers = sorted(state.peers, key=lambda peer: peer.last_handshake, reverse=True)
    out.extend("\n" + _pretty_peer(peer, now) for peer in peers)
    return "".join(out)


def _pretty_peer(peer: PeerState, now: int) -> str:
    out = [style.heading("peer", peer.public_key.base64(), style.YELLOW)]
    if peer.claims is not None:
        out.extend(_claims_lines(peer.claims, now))
    elif peer.expectation is not None:
        out.append(style.label("expected", _expected(peer.expectation)))
    if peer.preshared_key is not None:
        psk = style.HIDDEN if style.hides_keys() else peer.preshared_key.base64()
        out.append(style.label("preshared key", psk))
    if peer.endpoint is not None:
        out.append(style.label("endpoint", str(peer.endpoint)))
    if peer.endpoint_name is not None:
        host, port = peer.endpoint_name
        out.append(style.label("endpoint name", f"{host}:{port}"))
    if peer.path is not None:
        out.append(style.label("path", path_text(peer.path)))
    out.append(style.label("allowed ips", _coloured(peer.allowed_ips) or NONE))
    if peer.last_handshake[0]:
        out.append(style.label("latest handshake", style.ago(peer.last_handshake[0], now)))
    if peer.rx_bytes or peer.tx_bytes:
        received, sent = style.size(peer.rx_bytes), style.size(peer.tx_bytes)
        out.append(style.label("transfer", f"{received} received, {sent} sent"))
    if peer.persistent_keepalive:
        interval = style.duration(peer.persistent_keepalive)
        out.append(style.label("persistent keepalive", f"every {interval}"))
    return "".join(out)


def _claims_lines(claims: ClaimsSummary, now: int, *, ours: bool = False) -> list[str]:
    serial = f"serial {claims.serial}, " if claims.serial else ""
    if claims.expiry > now:
        ends = f"expires in {style.leading(claims.expiry - now)}"
    else:
        ends = f"{style.RED}expired{style.RESET}"
    if claims.kind is Kind.ENROLMENT:
        asked = claims.name or "any name"
        word = "enrols" if ours else "quarantine"
        return [style.label(word, f"as {asked}, by the token {claims.serial}")]
    return [
        style.label("name", claims.name),
        style.label("groups", ", ".join(claims.groups) or NONE),
        style.label(claims.kind.value, serial + ends),
    ]


def _expected(expectation: Expectation) -> str:
    """What a configured peer must prove, while no session rests on it."""
    if expectation.key_suffices:
        return "the key, or a credential"
    return f"a credential of {expectation.name}"


def _coloured(prefixes: Iterable[Prefix]) -> str:
    slash = f"{style.CYAN}/{style.RESET}"
    return ", ".join(str(prefix).replace("/", slash) for prefix in prefixes)


def _public_key(state: DeviceState) -> PublicKey | None:
    if state.own_public_key is not None or state.private_key is None:
        return state.own_public_key
    return state.private_key.public()


# --- For scripts ---


def script(state: DeviceState, field: str, interface: str | None) -> str:
    """One field in lines of columns between tabs; with `interface`, that is the first column."""
    first = () if interface is None else (interface,)
    return "".join("\t".join(first + row) + "\n" for row in FIELDS[field](state))


def _each_peer(columns: Callable[[PeerState], tuple[str, ...]]) -> Callable[[DeviceState], Rows]:
    def rows(state: DeviceState) -> Rows:
        return [(peer.public_key.base64(), *columns(peer)) for peer in state.peers]

    return rows


def _public_text(state: DeviceState) -> str:
    public = _public_key(state)
    return NONE if public is None else public.base64()


def _private_text(state: DeviceState) -> str:
    return NONE if state.private_key is None else state.private_key.base64()


def _fwmark_text(state: DeviceState) -> str:
    return hex(state.fwmark) if state.fwmark else OFF


def _psk_text(peer: PeerState) -> str:
    return NONE if peer.preshared_key is None else peer.preshared_key.base64()


def _endpoint_text(peer: PeerState) -> str:
    return NONE if peer.endpoint is None else str(peer.endpoint)


def _prefixes_text(peer: PeerState, separator: str) -> str:
    return separator.join(map(str, peer.allowed_ips)) or NONE


def _keepalive_text(peer: PeerState) -> str:
    return str(peer.persistent_keepalive or OFF)


def _dump(state: DeviceState) -> Rows:
    device = (
        _private_text(state),
        _public_text(state),
        str(state.listen_port),
        _fwmark_text(state),
    )
    return [device, *_each_peer(_dump_peer)(state)]


def _dump_peer(peer: PeerState) -> tuple[str, ...]:
    return (
        _psk_text(peer),
        _endpoint_text(peer),
        _prefixes_text(peer, ","),
        str(peer.last_handshake[0]),
        str(peer.rx_bytes),
        str(peer.tx_bytes),
        _keepalive_text(peer),
    )


FIELDS: Final[dict[str, Callable[[DeviceState], Rows]]] = {
    "public-key": lambda state: [(_public_text(state),)],
    "private-key": lambda state: [(_private_text(state),)],
    "listen-port": lambda state: [(str(state.listen_port),)],
    "fwmark": lambda state: [(_fwmark_text(state),)],
    "peers": _each_peer(lambda peer: ()),
    "preshared-keys": _each_peer(lambda peer: (_psk_text(peer),)),
    "endpoints": _each_peer(lambda peer: (_endpoint_text(peer),)),
    "allowed-ips": _each_peer(lambda peer: (_prefixes_text(peer, " "),)),
    "latest-handshakes": _each_peer(lambda peer: (str(peer.last_handshake[0]),)),
    "transfer": _each_peer(lambda peer: (str(peer.rx_bytes), str(peer.tx_bytes))),
    "persistent-keepalive": _each_peer(lambda peer: (_keepalive_text(peer),)),
    "dump": _dump,
}


# --- For programs ---

# The fields by name; what a field leaves out of the whole document is everything else. The names
# are those of the wg-json script that comes with wireguard-tools.
_DEVICE_KEYS: Final = {
    "public-key": "publicKey",
    "private-key": "privateKey",
    "listen-port": "listenPort",
    "fwmark": "fwmark",
}
_PEER_KEYS: Final = {
    "peers": (),
    "preshared-keys": ("presharedKey",),
    "endpoints": ("endpoint", "endpointName"),
    "allowed-ips": ("allowedIps",),
    "latest-handshakes": ("latestHandshake",),
    "transfer": ("transferRx", "transferTx"),
    "persistent-keepalive": ("persistentKeepalive",),
}
_SECRET_FIELDS: Final = ("private-key", "preshared-keys", "dump")


def as_json(state: DeviceState, field: str | None = None) -> dict[str, Any]:
    """One interface as a JSON object, or with `field` that part of it. What is not set is null."""
    hide = style.hides_keys() and field not in _SECRET_FIELDS
    if field in _DEVICE_KEYS:
        key = _DEVICE_KEYS[field]
        return {key: _device_json(state, hide)[key]}
    peers = {peer.public_key.base64(): _peer_json(peer, hide) for peer in state.peers}
    if field in _PEER_KEYS:
        keys = _PEER_KEYS[field]
        peers = {name: {key: peer[key] for key in keys} for name, peer in peers.items()}
        return {"peers": peers}
    return {**_device_json(state, hide), "peers": peers}


def _device_json(state: DeviceState, hide: bool) -> dict[str, Any]:
    private = None if state.private_key is None else state.private_key.base64()
    public = _public_key(state)
    return {
        "publicKey": None if public is None else public.base64(),
        "privateKey": style.HIDDEN if private and hide else private,
        "listenPort": state.listen_port,
        "fwmark": state.fwmark or None,
        "version": state.wgpy_version,
        "datapath": state.datapath,
        "counters": state.counters,
        "offloads": state.offloads,
        "authority": _authority_json(state.authority),
        "identity": _identity_json(state.identity),
        "nat": nat_json(state.nat),
        "way": way_json(state.nat_state),
        **_claims_json(state.claims),
    }


def _peer_json(peer: PeerState, hide: bool) -> dict[str, Any]:
    psk = None if peer.preshared_key is None else peer.preshared_key.base64()
    name = peer.endpoint_name
    return {
        "presharedKey": style.HIDDEN if psk and hide else psk,
        "endpoint": None if peer.endpoint is None else str(peer.endpoint),
        "endpointName": None if name is None else f"{name[0]}:{name[1]}",
        "latestHandshake": peer.last_handshake[0] or None,
        "transferRx": peer.rx_bytes,
        "transferTx": peer.tx_bytes,
        "persistentKeepalive": peer.persistent_keepalive or None,
        "allowedIps": [str(prefix) for prefix in peer.allowed_ips],
        "admitted": peer.admitted,
        "expects": _expectation_json(peer.expectation),
        "nat": peer.nat,
        "path": path_json(peer.path),
        "offer": peer.offer,
        "quarantine": peer.claims is not None and peer.claims.kind is Kind.ENROLMENT,
        **_claims_json(peer.claims),
    }


def _authority_json(authority: AuthoritySettings | None) -> dict[str, Any] | None:
    if authority is None:
        return None
    return {
        "network": authority.network.hex(),
        "accept": [str(prefix) for prefix in authority.accept],
        "ca": [anchor.path for anchor in authority.anchors],
        "intermediates": list(authority.intermediates),
        "crl": list(authority.revocations),
        "tokenIssuers": [issuer.jwks for issuer in authority.issuers],
        "requireGroups": list(authority.require_groups),
        "strict": authority.strict,
        "enrolPort": authority.enrol_port if authority.enrol else None,
    }


def _identity_json(identity: IdentitySettings | None) -> dict[str, Any] | None:
    if identity is None:
        return None
    return {
        "certificate": identity.certificate,
        "intermediate": identity.intermediate,
        "token": identity.token,
    }


def _expectation_json(expectation: Expectation | None) -> dict[str, Any] | None:
    if expectation is None:
        return None
    expect = "key" if expectation.key_suffices else "certificate"
    return {"name": expectation.name, "expect": expect}


def _claims_json(claims: ClaimsSummary | None) -> dict[str, Any]:
    if claims is None:
        return {"name": None, "groups": None, "credential": None}
    return {
        "name": claims.name or None,
        "groups": list(claims.groups),
        "credential": {
            "kind": claims.kind.value,
            "serial": claims.serial or None,
            "issuer": None if claims.issuer is None else claims.issuer.hex(),
            "expires": claims.expiry,
        },
    }
