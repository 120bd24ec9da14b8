"""What a default route through a tunnel needs of nftables and of sysctl.

One table an IP version, named after the interface:

- preraw: a packet for the tunnel's address that comes in by another interface is dropped, unless
  this machine sent it, so that a neighbour on the local network cannot talk to that address.
- postmangle, premangle: the mark of the tunnel's own UDP packets is kept in conntrack and put on
  the answers, so that reverse-path filtering looks up the way that they really took.

The text for nft(8) is JSON (libnftables-json(5)): interface names need no quoting there.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wgpy.linux import nft

# Priorities of the kernel's own hooks (linux/netfilter_ipv4.h): before conntrack, and mangle.
_PRIORITY_RAW = -300
_PRIORITY_MANGLE = -150
# The kernel consults the mark in reverse-path filtering only with this (ip-sysctl: src_valid_mark).
SRC_VALID_MARK = "net.ipv4.conf.all.src_valid_mark"


def table_name(interface: str) -> str:
    """The name of the interface's table."""
    return f"wgpy-{interface}"


def _family(version: int) -> str:
    return "ip" if version == 4 else "ip6"


def add_commands(
    version: int, interface: str, addresses: Sequence[str], mark: int
) -> list[dict[str, Any]]:
    """The commands that make the table, instead of one of that name that was left behind.

    `addresses` are the interface's of that IP version, without lengths.
    """
    family, table = _family(version), table_name(interface)
    where = {"family": family, "table": table}
    udp = _match("==", {"meta": {"key": "l4proto"}}, "udp")
    ct_mark, meta_mark = {"ct": {"key": "mark"}}, {"meta": {"key": "mark"}}
    rules = [
        (
            "preraw",
            [
                _match("!=", {"meta": {"key": "iifname"}}, interface),
                _match("==", {"payload": {"protocol": family, "field": "daddr"}}, address),
                _match("!=", {"fib": {"result": "type", "flags": ["saddr"]}}, "local"),
                {"drop": None},
            ],
        )
        for address in addresses
    ]
    rules += [
        ("postmangle", [udp, _match("==", meta_mark, mark), _mangle(ct_mark, meta_mark)]),
        ("premangle", [udp, _mangle(meta_mark, ct_mark)]),
    ]
    chains = (
        ("preraw", "prerouting", _PRIORITY_RAW),
        ("premangle", "prerouting", _PRIORITY_MANGLE),
        ("postmangle", "postrouting", _PRIORITY_MANGLE),
    )
    head = {"table": {"family": family, "name": table}}
    return [
        {"add": head},  # so that the next one never fails
        {"delete": head},
        {"add": head},
        *(
            {
                "add": {
                    "chain": {
                        **where,
                        "name": name,
                        "type": "filter",
                        "hook": hook,
                        "prio": priority,
                        "policy": "accept",
                    }
                }
            }
            for name, hook, priority in chains
        ),
        *({"add": {"rule": {**where, "chain": chain, "expr": expr}}} for chain, expr in rules),
    ]


def _match(operator: str, left: dict[str, Any], right: str | int) -> dict[str, Any]:
    return {"match": {"op": operator, "left": left, "right": right}}


def _mangle(key: dict[str, Any], value: dict[str, Any]) -> dict[str, Any]:
    return {"mangle": {"key": key, "value": value}}


def delete_table(version: int, interface: str) -> None:
    """Delete the interface's table; nothing is done when there is none. Raises FirewallError."""
    nft.delete_table(_family(version), table_name(interface))


def read_sysctl(name: str) -> str | None:
    """The value of a sysctl in this namespace, or None if the kernel has none of that name."""
    path = _sysctl_path(name)
    return path.read_text().strip() if path.exists() else None


def write_sysctl(name: str, value: str) -> None:
    """Set a sysctl. Raises OSError, as on a read-only /proc/sys in a container."""
    _sysctl_path(name).write_text(f"{value}\n")


def _sysctl_path(name: str) -> Path:
    return Path("/proc/sys", *name.split("."))
