"""The codec of the userspace API: `set=1` requests and `get=1` answers, between text and values.

A request or an answer is lines of `key=value`, each ended by a single line feed; an empty line
ends it. The keys are those of https://www.wireguard.com/xplatform/ and some of wgpy's own, which
other programs ignore because they do not know them: `endpoint_name=HOST:PORT` of a peer, and in
answers `own_public_key=HEX`, `wgpy_version=TEXT`, `datapath=NAME`, `wgpy_offload=NAME on|off` and
`wgpy_counter=NAME N` of the device. Those about credentials are lines of JSON
(`uapi_credentials.py`): `wgpy_authority` and `wgpy_identity` of the device and `wgpy_credential` of
a peer, each `off` to clear it, and `wgpy_firewall` (firewall/rules.py) of the device; in answers
also `wgpy_claims` of both and `wgpy_admitted=true` of a peer. Those about ways through NATs
(`uapi_nat.py`) are `wgpy_nat` of the device, also `off`, and of a peer `wgpy_nat_peer=true|false`,
`wgpy_offer=new` and `wgpy_answer=TEXT`; in answers `wgpy_nat` and `wgpy_way` of the device and of a
peer `wgpy_nat_peer=true`, `wgpy_path` and `wgpy_offer=TEXT`. After `get=1` one line,
`wgpy_peer=HEX`, asks for that peer and no other. A `set=1` request with a key that begins with
`wgpy_` and that is refused is answered with the reason after the errno, `wgpy_error=TEXT`; nobody
else ever meets that line.

Refusals carry the errno that wireguard-go answers with: EINVAL for an unknown key or a value that
does not fit its key, EPROTO for a line that is no `key=value`, EIO for one that is too long.
"""

import errno
import os
from collections.abc import Iterable
from typing import Final

from wgpy.device.paths import NatSettings
from wgpy.device.uapi import (
    AllowedIpChange,
    Cleared,
    DeviceChange,
    DeviceState,
    PeerChange,
    PeerState,
    UapiError,
)
from wgpy.device.uapi_credentials import (
    format_authority,
    format_claims,
    format_expectation,
    format_identity,
    parse_authority,
    parse_claims,
    parse_expectation,
    parse_identity,
)
from wgpy.device.uapi_nat import (
    format_nat,
    format_path,
    format_way,
    parse_nat,
    parse_offer,
    parse_path,
    parse_way,
)
from wgpy.device.uapi_values import (
    MAX_U16,
    MAX_U32,
    MAX_U64,
    format_name,
    parse_bool,
    parse_endpoint,
    parse_name,
    parse_number,
    parse_prefix,
    parse_true,
)
from wgpy.firewall import rules as firewall_rules
from wgpy.identity.settings import AuthoritySettings, Expectation, IdentitySettings
from wgpy.keys import PresharedKey, PrivateKey, PublicKey

# wireguard-go's own bound. The longest line that means anything is a wgpy_authority or a
# wgpy_firewall, whose JSON has at most 60,000 characters.
MAX_LINE_LENGTH: Final = 64 << 10
# What is told of a refusal: a path of 4,096 bytes cannot fill a terminal with it.
_MAX_REASON: Final = 1000
_OWN_PREFIX: Final = "wgpy_"
_CLEARED: Final = Cleared.CLEARED.value
_NEW: Final = "new"
# 130,560 IPv6 prefixes take 7 MB, 100,000 peers with three prefixes each some 40 MB.
MAX_REQUEST_LENGTH: Final = 64 << 20


class _UnknownKeyError(Exception):
    """A key that the protocol lacks in this place."""


class ChangeParser:
    """Reads one `set=1` request piece by piece, so that a long one never holds up the daemon."""

    __slots__ = ("_change", "_length", "_number", "_peer", "own")

    def __init__(self) -> None:
        # Whether there was a key of wgpy's own: then the client understands `wgpy_error`.
        self.own = False
        self._change = DeviceChange()
        self._peer: PeerChange | None = None
        # The operation itself is line 1.
        self._number = 1
        self._length = 0

    def feed(self, lines: Iterable[str]) -> None:
        """Read some more lines, without their line feeds. Raises UapiError, after which it ends."""
        key = ""
        try:
            for line in lines:
                self._number += 1
                self._length += len(line) + 1
                if len(line) > MAX_LINE_LENGTH:
                    raise UapiError(
                        errno.EIO, f"line {self._number} is over {MAX_LINE_LENGTH} characters"
                    )
                if self._length > MAX_REQUEST_LENGTH:
                    raise UapiError(
                        errno.EMSGSIZE, f"the request is over {MAX_REQUEST_LENGTH} bytes"
                    )
                key, equals, value = line.partition("=")
                if not equals:
                    # It may be half of a key line: nothing of it is repeated.
                    raise UapiError(errno.EPROTO, f"line {self._number} is no key=value")
                self.own = self.own or key.startswith(_OWN_PREFIX)
                if key == "public_key":
                    self._peer = PeerChange(PublicKey.from_hex(value))
                    self._change.peers.append(self._peer)
                elif self._peer is not None:
                    _read_peer_line(self._peer, key, value)
                else:
                    _read_device_line(self._change, key, value)
        except _UnknownKeyError:
            scope = "a peer" if self._peer else "the device"
            raise UapiError(
                errno.EINVAL, f"line {self._number}: {key[:40]!r} is no key of {scope}"
            ) from None
        except ValueError as error:
            raise UapiError(errno.EINVAL, f"line {self._number}: {key}: {error}") from None

    def finish(self) -> DeviceChange:
        """The whole request's meaning."""
        return self._change


def parse_change(lines: Iterable[str]) -> DeviceChange:
    """Read the lines of a request between `set=1` and the empty line. Raises UapiError."""
    parser = ChangeParser()
    parser.feed(lines)
    return parser.finish()


def _read_device_line(change: DeviceChange, key: str, value: str) -> None:
    match key:
        case "private_key":
            change.private_key = PrivateKey.from_hex(value)
        case "listen_port":
            change.listen_port = parse_number(value, MAX_U16)
        case "fwmark":
            change.fwmark = parse_number(value, MAX_U32)
        case "replace_peers":
            change.replace_peers = parse_true(value)
        case "wgpy_authority":
            cleared = value == _CLEARED
            change.authority = Cleared.CLEARED if cleared else parse_authority(value)
        case "wgpy_identity":
            cleared = value == _CLEARED
            change.identity = Cleared.CLEARED if cleared else parse_identity(value)
        case "wgpy_nat":
            change.nat = Cleared.CLEARED if value == _CLEARED else parse_nat(value)
        case "wgpy_firewall":
            change.firewall = firewall_rules.from_json(value)
        case _:
            raise _UnknownKeyError


def _read_peer_line(peer: PeerChange, key: str, value: str) -> None:
    match key:
        case "allowed_ip":
            if value.startswith("-"):
                peer.allowed_ips.append(AllowedIpChange(parse_prefix(value[1:]), remove=True))
            else:
                peer.allowed_ips.append(AllowedIpChange(parse_prefix(value)))
        case "preshared_key":
            peer.preshared_key = PresharedKey.from_hex(value)
        case "endpoint":
            peer.endpoint = parse_endpoint(value)
        case "endpoint_name":
            peer.endpoint_name = parse_name(value)
        case "persistent_keepalive_interval":
            peer.persistent_keepalive = parse_number(value, MAX_U16)
        case "replace_allowed_ips":
            peer.replace_allowed_ips = parse_true(value)
            # What the same request gave before this line goes too.
            peer.allowed_ips.clear()
        case "remove":
            peer.remove = parse_true(value)
        case "update_only":
            peer.update_only = parse_true(value)
        case "wgpy_credential":
            cleared = value == _CLEARED
            peer.expectation = Cleared.CLEARED if cleared else parse_expectation(value)
        case "wgpy_nat_peer":
            peer.nat = parse_bool(value)
        case "wgpy_offer":
            if value != _NEW:
                raise ValueError(f"the only thing to ask for is `{_NEW}`")
            peer.offer = True
        case "wgpy_answer":
            peer.answer = parse_offer(value)
        case "protocol_version":
            if value != "1":
                raise ValueError("the only version there is, is 1")
        case _:
            raise _UnknownKeyError


def format_change(change: DeviceChange) -> str:
    """The whole request, from `set=1` to the empty line. Raises UapiError for a name that is none.

    Keys stand in the order in which wg(8) writes them; `update_only` comes before what it limits.
    """
    out = ["set=1"]
    if change.private_key is not None:
        out.append(f"private_key={change.private_key.hex()}")
    if change.listen_port is not None:
        out.append(f"listen_port={change.listen_port}")
    if change.fwmark is not None:
        out.append(f"fwmark={change.fwmark}")
    match change.authority:
        case Cleared():
            out.append(f"wgpy_authority={_CLEARED}")
        case AuthoritySettings() as authority:
            out.append(f"wgpy_authority={format_authority(authority)}")
    match change.identity:
        case Cleared():
            out.append(f"wgpy_identity={_CLEARED}")
        case IdentitySettings() as identity:
            out.append(f"wgpy_identity={format_identity(identity)}")
    match change.nat:
        case Cleared():
            out.append(f"wgpy_nat={_CLEARED}")
        case NatSettings() as nat:
            out.append(f"wgpy_nat={format_nat(nat)}")
    if change.replace_peers:
        out.append("replace_peers=true")
    if change.firewall is not None:
        out.append(f"wgpy_firewall={firewall_rules.to_json(change.firewall)}")
    for peer in change.peers:
        out.append(f"public_key={peer.public_key.hex()}")
        if peer.remove:
            out.append("remove=true")
        if peer.update_only:
            out.append("update_only=true")
        if peer.preshared_key is not None:
            out.append(f"preshared_key={peer.preshared_key.hex()}")
        if peer.endpoint is not None:
            out.append(f"endpoint={peer.endpoint}")
        if peer.endpoint_name is not None:
            out.append(f"endpoint_name={format_name(peer.endpoint_name)}")
        if peer.persistent_keepalive is not None:
            out.append(f"persistent_keepalive_interval={peer.persistent_keepalive}")
        match peer.expectation:
            case Cleared():
                out.append(f"wgpy_credential={_CLEARED}")
            case Expectation() as expectation:
                out.append(f"wgpy_credential={format_expectation(expectation)}")
        if peer.nat is not None:
            out.append(f"wgpy_nat_peer={'true' if peer.nat else 'false'}")
        if peer.offer:
            out.append(f"wgpy_offer={_NEW}")
        if peer.answer is not None:
            out.append(f"wgpy_answer={_checked_offer(peer.answer)}")
        if peer.replace_allowed_ips:
            out.append("replace_allowed_ips=true")
        out.extend(
            f"allowed_ip=-{prefix}" if remove else f"allowed_ip={prefix}"
            for prefix, remove in peer.allowed_ips
        )
    return "\n".join(out) + "\n\n"


def format_state(state: DeviceState) -> str:
    """The lines of a `get=1` answer, without the `errno` line that ends it."""
    out = []
    if state.private_key is not None and not state.private_key.is_zero():
        out.append(f"private_key={state.private_key.hex()}")
    if state.listen_port:
        out.append(f"listen_port={state.listen_port}")
    if state.fwmark:
        out.append(f"fwmark={state.fwmark}")
    if state.own_public_key is not None:
        out.append(f"own_public_key={state.own_public_key.hex()}")
    if state.wgpy_version is not None:
        out.append(f"wgpy_version={state.wgpy_version}")
    if state.datapath is not None:
        out.append(f"datapath={state.datapath}")
    if state.firewall.rules:
        out.append(f"wgpy_firewall={firewall_rules.to_json(state.firewall)}")
    out.extend(
        f"wgpy_offload={name} {'on' if on else 'off'}" for name, on in state.offloads.items()
    )
    out.extend(f"wgpy_counter={name} {count}" for name, count in state.counters.items())
    if state.authority is not None:
        out.append(f"wgpy_authority={format_authority(state.authority)}")
    if state.identity is not None:
        out.append(f"wgpy_identity={format_identity(state.identity)}")
    if state.claims is not None:
        out.append(f"wgpy_claims={format_claims(state.claims)}")
    if state.nat is not None:
        out.append(f"wgpy_nat={format_nat(state.nat)}")
    if state.nat_state is not None:
        out.append(f"wgpy_way={format_way(state.nat_state)}")
    for peer in state.peers:
        seconds, nanoseconds = peer.last_handshake
        psk = "0" * 64 if peer.preshared_key is None else peer.preshared_key.hex()
        out.append(f"public_key={peer.public_key.hex()}")
        out.append(f"preshared_key={psk}\nprotocol_version=1")
        if peer.endpoint is not None:
            out.append(f"endpoint={peer.endpoint}")
        if peer.endpoint_name is not None:
            out.append(f"endpoint_name={format_name(peer.endpoint_name)}")
        out.append(f"last_handshake_time_sec={seconds}\nlast_handshake_time_nsec={nanoseconds}")
        out.append(f"tx_bytes={peer.tx_bytes}\nrx_bytes={peer.rx_bytes}")
        out.append(f"persistent_keepalive_interval={peer.persistent_keepalive}")
        if peer.admitted:
            out.append("wgpy_admitted=true")
        if peer.expectation is not None:
            out.append(f"wgpy_credential={format_expectation(peer.expectation)}")
        if peer.claims is not None:
            out.append(f"wgpy_claims={format_claims(peer.claims)}")
        if peer.nat:
            out.append("wgpy_nat_peer=true")
        if peer.path is not None:
            out.append(f"wgpy_path={format_path(peer.path)}")
        if peer.offer is not None:
            out.append(f"wgpy_offer={peer.offer}")
        out.extend(f"allowed_ip={prefix}" for prefix in peer.allowed_ips)
    return "\n".join(out) + "\n" if out else ""


def _checked_offer(text: str) -> str:
    """A line feed in it would write lines of its own. Raises UapiError (EINVAL)."""
    try:
        return parse_offer(text)
    except ValueError as error:
        raise UapiError(errno.EINVAL, str(error)) from None


def format_errno(code: int, reason: str | None = None) -> str:
    """The end of an answer: errno 0 or, as wireguard-go writes it, a negative number.

    `reason` is only for who asked with a key of wgpy's own.
    """
    if reason is None:
        return f"errno={-code}\n\n"
    line = "".join(char if char.isprintable() else "?" for char in reason[:_MAX_REASON])
    return f"errno={-code}\nwgpy_error={line}\n\n"


def parse_errno(text: str) -> None:
    """Read the answer to a `set=1` request. Raises UapiError if it is a refusal, or no answer."""
    # It is a `get=1` answer with nothing before its errno.
    parse_state(text)


def parse_state(text: str) -> DeviceState:
    """Read a whole answer, to the empty line after `errno`, of any implementation.

    Unknown keys are ignored. Raises UapiError with the answer's errno, or EPROTO for what is no
    answer at all, also when it breaks off.
    """
    state = DeviceState()
    peer: PeerState | None = None
    code: int | None = None
    reason: str | None = None
    key = ""
    try:
        for line in text.split("\n"):
            if not line:
                break
            key, equals, value = line.partition("=")
            if not equals:
                raise UapiError(errno.EPROTO, "the daemon's answer has a line that is no key=value")
            if key == "public_key":
                peer = PeerState(PublicKey.from_hex(value))
                state.peers.append(peer)
            elif key == "errno":
                code = parse_number(value.removeprefix("-"), MAX_U16)
            elif key == "wgpy_error":
                reason = value
            elif peer is not None:
                _read_peer_state(peer, key, value)
            else:
                _read_device_state(state, key, value)
    except ValueError as error:
        raise UapiError(errno.EPROTO, f"the daemon's answer is wrong: {key}: {error}") from None
    if code is None:
        raise UapiError(errno.EPROTO, "the daemon's answer breaks off")
    if code:
        raise UapiError(code, reason or os.strerror(code))
    return state


def _read_device_state(state: DeviceState, key: str, value: str) -> None:
    match key:
        case "private_key":
            private = PrivateKey.from_hex(value)
            state.private_key = None if private.is_zero() else private
        case "listen_port":
            state.listen_port = parse_number(value, MAX_U16)
        case "fwmark":
            state.fwmark = parse_number(value, MAX_U32)
        case "own_public_key":
            state.own_public_key = PublicKey.from_hex(value)
        case "wgpy_version":
            state.wgpy_version = value
        case "datapath":
            state.datapath = value
        case "wgpy_firewall":
            state.firewall = firewall_rules.from_json(value)
        case "wgpy_offload":
            name, _, on = value.rpartition(" ")
            if on not in ("on", "off"):
                raise ValueError("an offload is on or off")
            state.offloads[name] = on == "on"
        case "wgpy_counter":
            name, _, count = value.rpartition(" ")
            state.counters[name] = parse_number(count, MAX_U64)
        case "wgpy_authority":
            state.authority = parse_authority(value, exact=False)
        case "wgpy_identity":
            state.identity = parse_identity(value, exact=False)
        case "wgpy_claims":
            state.claims = parse_claims(value)
        case "wgpy_nat":
            state.nat = parse_nat(value, exact=False)
        case "wgpy_way":
            state.nat_state = parse_way(value)


def _read_peer_state(peer: PeerState, key: str, value: str) -> None:
    match key:
        case "allowed_ip":
            peer.allowed_ips.append(parse_prefix(value))
        case "preshared_key":
            psk = PresharedKey.from_hex(value)
            peer.preshared_key = None if psk.is_zero() else psk
        case "endpoint":
            peer.endpoint = parse_endpoint(value)
        case "endpoint_name":
            peer.endpoint_name = parse_name(value)
        case "last_handshake_time_sec":
            peer.last_handshake = (parse_number(value, MAX_U64), peer.last_handshake[1])
        case "last_handshake_time_nsec":
            peer.last_handshake = (peer.last_handshake[0], parse_number(value, MAX_U64))
        case "tx_bytes":
            peer.tx_bytes = parse_number(value, MAX_U64)
        case "rx_bytes":
            peer.rx_bytes = parse_number(value, MAX_U64)
        case "persistent_keepalive_interval":
            peer.persistent_keepalive = parse_number(value, MAX_U16)
        case "wgpy_admitted":
            peer.admitted = parse_true(value)
        case "wgpy_credential":
            peer.expectation = parse_expectation(value, exact=False)
        case "wgpy_claims":
            peer.claims = parse_claims(value)
        case "wgpy_nat_peer":
            peer.nat = parse_bool(value)
        case "wgpy_path":
            peer.path = parse_path(value)
        case "wgpy_offer":
            peer.offer = parse_offer(value)
