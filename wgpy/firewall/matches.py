"""What a packet must be for a rule to speak of it, in nft's JSON (libnftables-json(5))."""

from typing import Any


def equals(left: dict[str, Any], right: object) -> dict[str, Any]:
    """Something of the packet is equal to a value, or in a set."""
    return {"match": {"op": "==", "left": left, "right": right}}


def address_is(version: int, field: str, right: object) -> dict[str, Any]:
    """`saddr` or `daddr` of a packet of this IP version."""
    protocol = "ip" if version == 4 else "ip6"
    return equals({"payload": {"protocol": protocol, "field": field}}, right)


def link_is(key: str, link: str) -> dict[str, Any]:
    """It came in by a link (`iif`), or goes out by it (`oif`)."""
    return equals({"meta": {"key": key}}, link)


def state_in(*states: str) -> dict[str, Any]:
    """What connection tracking says of it is one of these."""
    return {"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": [*states]}}
