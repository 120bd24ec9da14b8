"""One interface that `wgpy up` brings up in a namespace, and everything it may touch there."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.netns import Namespace, link_name
from tests.support.requirements import program
from wgpy.keys import PrivateKey

DRIVER = Path(__file__).with_name("quick_driver.py")


def new_private_key() -> str:
    """A private key as configuration files have it."""
    return PrivateKey.generate().base64()


def new_public_key() -> str:
    """A public key as configuration files have it."""
    return PrivateKey.generate().public().base64()


class Quick:
    """A configuration file of an interface, and the commands on it, run in one namespace."""

    def __init__(self, space: Namespace, directory: Path, daemon: str = "wireguard-go") -> None:
        self.space = space
        self.name = link_name()
        self.run_directory = directory / "run"
        self.config = directory / f"{self.name}.conf"
        # A directory that is first on PATH, for programs that stand in for others.
        self.bin = directory / "bin"
        self.bin.mkdir()
        self.environment = {
            "WGPY_DAEMON": program(daemon),
            "PATH": f"{self.bin}:{os.environ['PATH']}",
        }

    def write(self, interface: str, peer: str) -> None:
        """Write the file; a private key and a public key are added to the two sections."""
        self.config.write_text(
            f"[Interface]\nPrivateKey = {new_private_key()}\n{interface}\n"
            f"[Peer]\nPublicKey = {new_public_key()}\n{peer}\n"
        )
        self.config.chmod(0o600)

    def call(self, command: str, *options: str) -> subprocess.CompletedProcess[str]:
        """Run up, down or save to its end; the caller looks at the exit code."""
        words = [command, str(self.config), str(self.run_directory), *options]
        return self.space.run(
            *(sys.executable, str(DRIVER), *words), check=False, env=self.environment
        )

    def up(self, *options: str) -> str:
        """Bring it up; returns what was printed on standard error."""
        return self._well(self.call("up", *options))

    def down(self, *options: str) -> str:
        """Take it down; returns what was printed on standard error."""
        return self._well(self.call("down", *options))

    def fail(self, command: str, *options: str) -> str:
        """Run a command that must fail; returns its last line, which says why."""
        done = self.call(command, *options)
        assert done.returncode == 1, done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr.splitlines()[-1]

    @staticmethod
    def _well(done: subprocess.CompletedProcess[str]) -> str:
        assert done.returncode == 0, done.stderr
        return done.stderr

    def journal(self) -> Path:
        """Where the journal is while the interface is up."""
        return self.run_directory / f"{self.name}.json"

    def stand_in(self, name: str, script: str) -> None:
        """Put a shell script on PATH under a program's name."""
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)


def machine(space: Namespace) -> dict[str, Any]:
    """Everything that `up` may change in a namespace, to be compared before and after."""
    nft = space.run(program("nft"), "-j", "list", "ruleset").stdout
    tables = [entry for entry in json.loads(nft)["nftables"] if "metainfo" not in entry]
    mark = space.run("cat", "/proc/sys/net/ipv4/conf/all/src_valid_mark").stdout
    return {
        "rules": _json(space, "rule") + _json(space, "-6", "rule"),
        "routes": routes(space),
        "nft": tables,
        "src_valid_mark": mark.strip(),
        "links": sorted(link["ifname"] for link in _json(space, "link")),
    }


def routes(space: Namespace) -> list[dict[str, Any]]:
    """Every route of every table, IPv4's before IPv6's."""
    found = []
    for family in ("-4", "-6"):
        found += _json(space, family, "route", "show", "table", "all")
    return found


def addresses(space: Namespace, name: str) -> list[tuple[str, int]]:
    """The addresses of a link, without those that the kernel gave it by itself."""
    (link,) = _json(space, "address", "show", "dev", name)
    return [
        (address["local"], address["prefixlen"])
        for address in link["addr_info"]
        if not address["local"].startswith("fe80")
    ]


def mtu(space: Namespace, name: str) -> int:
    """The MTU of a link, in bytes."""
    (link,) = _json(space, "link", "show", "dev", name)
    return int(link["mtu"])


def _json(space: Namespace, *arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(space.ip("-j", *arguments) or "[]")
    return found
