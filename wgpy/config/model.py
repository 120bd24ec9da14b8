"""The typed model of a configuration. Both file formats are read into it, and it never changes."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from wgpy.device.paths import NatSettings
from wgpy.device.uapi import AllowedIpChange
from wgpy.firewall.rules import Settings as FirewallSettings
from wgpy.identity.settings import AuthoritySettings, Expectation, IdentitySettings
from wgpy.ip import Prefix, address_text, mask
from wgpy.keys import PresharedKey, PrivateKey, PublicKey


class InterfaceAddress(NamedTuple):
    """An address of the interface: 4 or 16 bytes with their host bits, and the length in bits."""

    address: bytes
    length: int

    @property
    def version(self) -> int:
        """4 or 6."""
        return 4 if len(self.address) == 4 else 6

    @property
    def network(self) -> Prefix:
        """The prefix that the address is in."""
        return Prefix(mask(self.address, self.length), self.length)

    def __str__(self) -> str:
        return f"{address_text(self.address)}/{self.length}"


class EndpointSpec(NamedTuple):
    """Where a peer is to be found, as the file says it: a host name or an address (without
    brackets, with `%scope` if it is link-local), and a UDP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class InterfaceConfig:
    """One interface. None means that the file does not say.

    `table` is where `up` puts the routes: `auto` (main, and policy routing for a default route),
    `off` (nowhere), or the number of a table. Hooks are shell text in which `%i` stands for the
    interface's name.
    """

    private_key: PrivateKey | None = None
    listen_port: int | None = None
    fwmark: int | None = None
    addresses: tuple[InterfaceAddress, ...] = ()
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    mtu: int | None = None
    table: Literal["auto", "off"] | int = "auto"
    pre_up: tuple[str, ...] = ()
    post_up: tuple[str, ...] = ()
    pre_down: tuple[str, ...] = ()
    post_down: tuple[str, ...] = ()
    save_config: bool = False


@dataclass(frozen=True, slots=True)
class PeerConfig:
    """One peer. `persistent_keepalive` is in seconds: None is not mentioned, 0 is off.

    `allowed_ips` replaces what the peer has, in the order of the file, without repetitions. With
    `incremental`, which only files for `setconf`, `addconf` and `syncconf` can hold (`+CIDR` and
    `-CIDR`), these changes are made to what it has instead, and `allowed_ips` is empty.
    """

    public_key: PublicKey
    preshared_key: PresharedKey | None = None
    allowed_ips: tuple[Prefix, ...] = ()
    endpoint: EndpointSpec | None = None
    persistent_keepalive: int | None = None
    # Free text for people (TOML only); it is never sent anywhere.
    name: str | None = None
    incremental: tuple[AllowedIpChange, ...] | None = None
    # `credential = true` (TOML only): what it must prove, and that it uses no plain handshake.
    expectation: Expectation | None = None
    # `nat = true` (TOML only): the way to it is found by signalling.
    nat: bool = False


@dataclass(frozen=True, slots=True)
class Config:
    """What one file says, and which file it was; None when it was no file.

    `authority` is who may come in by credential, `identity` the credential that is presented,
    `nat` how ways through NATs are found.
    """

    interface: InterfaceConfig = InterfaceConfig()
    peers: tuple[PeerConfig, ...] = ()
    path: Path | None = None
    authority: AuthoritySettings | None = None
    identity: IdentitySettings | None = None
    nat: NatSettings | None = None
    # Whether the file's format can speak of all this. A .conf file cannot, and so leaves it in a
    # running interface as it is; a TOML file without it says that there is none.
    says_all: bool = field(default=False, compare=False)
    # None for a format that cannot say it; a TOML file without rules says that there are none.
    firewall: FirewallSettings | None = None
