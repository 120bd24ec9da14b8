"""A configuration as .conf text, in the order and the spelling of `wg showconf`."""

from pathlib import Path
from typing import Final

from wgpy.config.conf import QUICK_KEYS, lower, parse_bool
from wgpy.config.errors import ConfigError, located
from wgpy.config.model import Config, EndpointSpec, InterfaceConfig, PeerConfig
from wgpy.config.values import WHITESPACE, BadValueError
from wgpy.device.paths import PathKind
from wgpy.device.uapi import DeviceState, PeerState


def from_state(state: DeviceState) -> Config:
    """The configuration that an interface has: what `showconf` and `save` write.

    Peers that came in by their credentials are none of it: their right to be here ends by itself,
    and a file would make it last.
    """
    return Config(
        InterfaceConfig(
            private_key=state.private_key,
            listen_port=state.listen_port or None,
            fwmark=state.fwmark or None,
        ),
        tuple(
            PeerConfig(
                public_key=peer.public_key,
                preshared_key=peer.preshared_key,
                allowed_ips=tuple(peer.allowed_ips),
                endpoint=_endpoint(peer),
                persistent_keepalive=peer.persistent_keepalive or None,
                expectation=peer.expectation,
                nat=peer.nat,
            )
            for peer in state.peers
            if not peer.admitted
        ),
        authority=state.authority,
        identity=state.identity,
        nat=state.nat,
        says_all=True,
    )


def _endpoint(peer: PeerState) -> EndpointSpec | None:
    """Where a peer is, if that is of use to who has the file: what a relay calls it is not."""
    direct = peer.path is None or peer.path.kind is PathKind.DIRECT
    return EndpointSpec(*peer.endpoint) if peer.endpoint is not None and direct else None


def left_out(config: Config) -> str | None:
    """What of a configuration no .conf file can say, as a warning; None if it can say it all."""
    credentials = []
    if config.authority is not None:
        credentials.append("[authority]")
    if config.identity is not None:
        credentials.append("[identity]")
    peers = sum(peer.expectation is not None for peer in config.peers)
    if peers:
        credentials.append(f"{_peers(peers)} with credential = true")
    nat = [] if config.nat is None else ["[nat]"]
    peers = sum(peer.nat and peer.expectation is None for peer in config.peers)
    if peers:
        nat.append(f"nat = true of {_peers(peers)}")
    reasons = []
    if credentials:
        reasons.append(f"a .conf file knows no credentials: left out {', '.join(credentials)}")
    if nat:
        reasons.append(f"a .conf file knows no ways through NATs: left out {', '.join(nat)}")
    return located(config.path, None, None, "; ".join(reasons)) if reasons else None


def _peers(number: int) -> str:
    return f"{number} peer{'s' if number > 1 else ''}"


def conf_text(config: Config, *, quick: bool) -> str:
    """The text of a .conf file, secrets included; without `quick`, only what wg(8) reads.

    A peer that must prove a credential is left out: as an ordinary one its key would suffice.

    Raises ConfigError for a hook of several lines, which TOML can hold and .conf cannot.
    """
    interface = config.interface
    lines = ["[Interface]"]
    if quick:
        lines += _quick_lines(config)
    if interface.listen_port:
        lines.append(f"ListenPort = {interface.listen_port}")
    if interface.fwmark:
        lines.append(f"FwMark = {interface.fwmark:#x}")
    if interface.private_key is not None and not interface.private_key.is_zero():
        lines.append(f"PrivateKey = {interface.private_key.base64()}")
    sections = ["\n".join(lines) + "\n"]
    peers = [peer for peer in config.peers if peer.expectation is None]
    sections += ["\n".join(_peer_lines(peer)) + "\n" for peer in peers]
    if not peers:
        sections.append("")
    return "\n".join(sections)


def _quick_lines(config: Config) -> list[str]:
    interface = config.interface
    lines = [f"Address = {address}" for address in interface.addresses]
    lines += [f"DNS = {word}" for word in (*interface.dns, *interface.dns_search)]
    if interface.mtu is not None:
        lines.append(f"MTU = {interface.mtu}")
    if interface.table != "auto":
        lines.append(f"Table = {interface.table}")
    if interface.save_config:
        lines.append("SaveConfig = true")
    hooks = {
        "PreUp": interface.pre_up,
        "PostUp": interface.post_up,
        "PreDown": interface.pre_down,
        "PostDown": interface.post_down,
    }
    for key, texts in hooks.items():
        for text in texts:
            if "\n" in text:
                raise ConfigError(
                    config.path, None, key, "a hook of several lines fits into no .conf file"
                )
            lines.append(f"{key} = {text}")
    return lines


def _peer_lines(peer: PeerConfig) -> list[str]:
    lines = ["[Peer]", f"PublicKey = {peer.public_key.base64()}"]
    if peer.preshared_key is not None and not peer.preshared_key.is_zero():
        lines.append(f"PresharedKey = {peer.preshared_key.base64()}")
    allowed = [str(prefix) for prefix in peer.allowed_ips]
    if peer.incremental is not None:
        allowed = [f"{'-' if c.remove else '+'}{c.prefix}" for c in peer.incremental]
    if allowed:
        lines.append(f"AllowedIPs = {', '.join(allowed)}")
    if peer.endpoint is not None:
        lines.append(f"Endpoint = {peer.endpoint}")
    if peer.persistent_keepalive:
        lines.append(f"PersistentKeepalive = {peer.persistent_keepalive}")
    return lines


# What bash's `read` takes off both ends of a line.
_READ_TRIMS: Final = " \t\n"


def strip_conf(text: str, path: Path | None = None) -> str:
    """The text of a .conf file without the keys of wg-quick(8), as `wg-quick strip` prints it.

    Comments and whatever else wg(8) reads stay as they are; nothing is judged here but
    SaveConfig, as there. Raises ConfigError.
    """
    kept = []
    in_interface = False
    lines = text.replace("\0", "").split("\n")
    # What follows the last line end is a line only if `read` leaves something of it.
    if not lines[-1].strip(_READ_TRIMS):
        lines.pop()
    for number, line in enumerate(lines, 1):
        line = line.strip(_READ_TRIMS)
        code = line.partition("#")[0]
        written, equals, value = code.partition("=")
        key = lower(written.strip(WHITESPACE))
        if key.startswith("["):
            in_interface = key == "[interface]"
        if in_interface and key in QUICK_KEYS:
            if key == "saveconfig":
                _check_bool(path, number, value.strip(WHITESPACE) if equals else key)
            continue
        kept.append(line)
    # One more line end than lines: wg-quick prints the text with `echo`.
    return "\n".join([*kept, "", ""]) if kept else "\n"


def _check_bool(path: Path | None, line: int, value: str) -> None:
    try:
        parse_bool(value)
    except BadValueError as error:
        raise ConfigError(path, line, "SaveConfig", error.reason, error.hint) from None
