"""What `wgpy show` says of ways through NATs, for people and as JSON."""

from typing import Any, Final

from wgpy.cli import style
from wgpy.device.paths import (
    NatSettings,
    NatState,
    PathKind,
    PathState,
    Transport,
    TurnSettings,
    TurnUri,
)
from wgpy.device.servers import format_server, format_turn_uri

# What is worth a line: a probe that got lost now and then is not.
_LOSS: Final = 0.05
_COLOURS: Final = {
    PathKind.DIRECT: style.GREEN,
    PathKind.RELAY: style.YELLOW,
    PathKind.SEARCHING: style.RED,
    PathKind.NONE: "",
}
# As an operator calls them, where there is another word for one.
_KINDS: Final = {"reflexive": "seen from outside", "mapped": "forwarded by the router"}


def way_lines(state: NatState | None) -> list[str]:
    """Where others may find this side, and what is known of the NAT before it."""
    if state is None:
        return []
    lines = []
    found = [f"{place} ({_KINDS.get(kind, kind)})" for kind, place in state.candidates]
    lines.append(style.label("found at", ", ".join(found) or "(none)"))
    parts = [f"{state.mapping} mapping"] if state.mapping else []
    parts += [f"a port by {state.portmap}"] if state.portmap else []
    parts += [f"kept by a packet each {state.keepalive:g} s"] if state.keepalive else []
    if parts:
        lines.append(style.label("nat", ", ".join(parts)))
    return lines


def path_text(path: PathState) -> str:
    """`direct 203.0.113.7:51820, 23 ms`, or what is the matter."""
    colour = _COLOURS[path.kind]
    parts = [f"{colour}{path.kind.value}{style.RESET}" if colour else path.kind.value]
    if path.kind is PathKind.DIRECT and path.place is not None:
        parts.append(str(path.place))
    if path.kind is PathKind.RELAY and path.relay is not None:
        parts.append(relay_text(path.relay))
    text = " ".join(parts)
    if path.round_trip is not None:
        text += f", {milliseconds(path.round_trip)}"
    if path.loss >= _LOSS:
        text += f", {style.RED}{path.loss:.0%} lost{style.RESET}"
    if path.reason and path.kind is not PathKind.DIRECT:
        text += f" ({path.reason})"
    return text


def relay_text(uri: TurnUri) -> str:
    """`192.0.2.1:3478`, `turn.example.org:443 by TLS`."""
    by = "" if uri.transport is Transport.UDP else f" by {uri.transport.value.upper()}"
    return format_server(uri.host, uri.port) + by


def milliseconds(seconds: float) -> str:
    """A round trip as people say it: `23 ms`, `1.5 ms`."""
    count = seconds * 1000
    return f"{count:.0f} ms" if count >= 10 else f"{count:.1f} ms"


# --- For programs ---


def nat_json(settings: NatSettings | None) -> dict[str, Any] | None:
    """The settings; files by their paths."""
    if settings is None:
        return None
    return {
        "stun": [format_server(*server) for server in settings.stun],
        "turn": [_turn_json(turn) for turn in settings.turn],
        "portmap": settings.portmap,
        "signal": settings.signal,
        "birthday": settings.birthday,
        "relayOnly": settings.relay_only,
    }


def _turn_json(turn: TurnSettings) -> dict[str, Any]:
    return {
        "uris": [format_turn_uri(uri) for uri in turn.uris],
        "username": turn.username or None,
        "passwordFile": turn.password_file,
        "secretFile": turn.secret_file,
        "ca": turn.ca_file,
    }


def way_json(state: NatState | None) -> dict[str, Any] | None:
    """What is known of the way out."""
    if state is None:
        return None
    return {
        "candidates": [{"kind": kind, "address": str(at)} for kind, at in state.candidates],
        "mapping": state.mapping or None,
        "portmap": state.portmap or None,
        "keepalive": state.keepalive or None,
    }


def path_json(path: PathState | None) -> dict[str, Any] | None:
    """The way to a peer; `roundTrip` is in seconds, `loss` a share, `mtu` in bytes."""
    if path is None:
        return None
    return {
        "kind": path.kind.value,
        "place": None if path.place is None else str(path.place),
        "relay": None if path.relay is None else format_turn_uri(path.relay),
        "roundTrip": path.round_trip,
        "loss": path.loss,
        "mtu": path.mtu or None,
        "reason": path.reason or None,
    }
