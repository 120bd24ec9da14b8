"""A configuration while it is being read, and the rules that span more than one line of it.

Both formats fill a Draft. `finish` makes the Config of it, or refuses: in quick mode whatever
would not do what was written (a peer, an address or an allowed IP twice), where wg mode does what
wg(8) does, with a warning.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from wgpy.config.draft_credentials import AuthorityDraft, IdentityDraft
from wgpy.config.draft_nat import NatDraft
from wgpy.config.errors import ConfigError, located
from wgpy.config.model import (
    Config,
    EndpointSpec,
    InterfaceAddress,
    InterfaceConfig,
    PeerConfig,
)
from wgpy.config.values import BadValueError, has_host_bits, parse_network, shown
from wgpy.device.uapi import AllowedIpChange
from wgpy.firewall.rules import Rule, RulesError
from wgpy.firewall.rules import Settings as FirewallSettings
from wgpy.firewall.rules import named as names_in
from wgpy.firewall.rules import to_json as firewall_json
from wgpy.identity.settings import Expectation
from wgpy.identity.words import is_dns_name
from wgpy.ip import Prefix, mask
from wgpy.keys import PresharedKey, PrivateKey, PublicKey

# wg: what wg(8) reads with setconf, addconf and syncconf. quick: what wg-quick(8) reads.
Mode = Literal["wg", "quick"]


@dataclass(slots=True)
class Spelling:
    """How a format spells what messages must name."""

    public_key: str
    allowed_ips: str
    address: str


@dataclass(slots=True)
class PeerDraft:
    """A peer as far as it was read. `line` is that of its section."""

    line: int | None
    public_key: PublicKey | None = None
    public_key_line: int | None = None
    preshared_key: PresharedKey | None = None
    endpoint: EndpointSpec | None = None
    persistent_keepalive: int | None = None
    name: str | None = None
    name_line: int | None = None
    # `credential` and `expect`, and where they were written.
    credential: bool = False
    credential_line: int | None = None
    expect: Literal["certificate", "key"] | None = None
    expect_line: int | None = None
    nat: bool = False
    nat_line: int | None = None
    # What was written, in order, with its lines; and whether it replaces what the peer has.
    changes: list[tuple[AllowedIpChange, int | None]] = field(default_factory=list)
    replace: bool = True


@dataclass(slots=True)
class Draft:
    """A configuration as far as it was read."""

    path: Path | None
    mode: Mode
    spelling: Spelling
    private_key: PrivateKey | None = None
    listen_port: int | None = None
    fwmark: int | None = None
    addresses: list[tuple[InterfaceAddress, int | None]] = field(default_factory=list)
    dns: list[str] = field(default_factory=list)
    dns_search: list[str] = field(default_factory=list)
    mtu: int | None = None
    table: Literal["auto", "off"] | int = "auto"
    hooks: dict[str, list[str]] = field(default_factory=dict)
    save_config: bool = False
    peers: list[PeerDraft] = field(default_factory=list)
    authority: AuthorityDraft | None = None
    identity: IdentityDraft | None = None
    nat: NatDraft | None = None
    # Rules in the order of the file; None for a format that has none.
    rules: list[Rule] | None = None
    warnings: list[str] = field(default_factory=list)

    def error(
        self, line: int | None, key: str | None, reason: str, hint: str | None = None
    ) -> ConfigError:
        """The error to raise for this file."""
        return ConfigError(self.path, line, key, reason, hint)

    def warn(self, line: int | None, key: str | None, reason: str, hint: str | None = None) -> None:
        """Remember a warning."""
        self.warnings.append(located(self.path, line, key, reason, hint))

    def add_allowed_ip(self, peer: PeerDraft, text: str, line: int | None) -> None:
        """Read one word of the allowed IPs, in wg mode also `+CIDR` and `-CIDR`.

        Raises BadValueError.
        """
        sign = text[:1] if text[:1] in ("+", "-") else ""
        if sign and self.mode != "wg":
            raise BadValueError(
                f"{shown(text)} changes what the peer has, and `up` starts with nothing",
                "leave the sign out",
            )
        written = text[len(sign) :]
        address, length = parse_network(written)
        prefix = Prefix(mask(address, length), length)
        if has_host_bits(address, prefix):
            self.warn(
                line,
                self.spelling.allowed_ips,
                f"{shown(written)} has bits beyond its prefix length",
                f"it is taken as {prefix}",
            )
        if sign:
            peer.replace = False
        peer.changes.append((AllowedIpChange(prefix, remove=sign == "-"), line))

    def finish(self) -> Config:
        """The Config, once everything was read. Raises ConfigError."""
        self._check_addresses()
        peers = self._merge_peers()
        expectations = {key: self._expectation(peer) for key, peer in peers.items()}
        allowed = self._share_out(peers)
        self._check_nat(peers)
        self._check_enrol()
        return Config(
            InterfaceConfig(
                private_key=self.private_key,
                listen_port=self.listen_port,
                fwmark=self.fwmark,
                addresses=tuple(address for address, _ in self.addresses),
                dns=tuple(self.dns),
                dns_search=tuple(self.dns_search),
                mtu=self.mtu,
                table=self.table,
                pre_up=tuple(self.hooks.get("pre_up", ())),
                post_up=tuple(self.hooks.get("post_up", ())),
                pre_down=tuple(self.hooks.get("pre_down", ())),
                post_down=tuple(self.hooks.get("post_down", ())),
                save_config=self.save_config,
            ),
            tuple(
                PeerConfig(
                    public_key=key,
                    preshared_key=peer.preshared_key,
                    allowed_ips=tuple(allowed[key]),
                    endpoint=peer.endpoint,
                    persistent_keepalive=peer.persistent_keepalive,
                    name=peer.name,
                    incremental=None if peer.replace else tuple(c for c, _ in peer.changes),
                    expectation=expectations[key],
                    nat=peer.nat,
                )
                for key, peer in peers.items()
            ),
            self.path,
            authority=None if self.authority is None else self.authority.finish(self.error),
            identity=None if self.identity is None else self.identity.finish(self.error),
            nat=None if self.nat is None else self.nat.finish(self.error),
            firewall=self._firewall(peers),
        )

    def _check_nat(self, peers: dict[PublicKey, PeerDraft]) -> None:
        """What changes a running interface may leave [nat] to what it has."""
        for peer in peers.values():
            if peer.nat and self.nat is None and self.mode == "quick":
                raise self.error(
                    peer.nat_line,
                    "nat",
                    "there is no [nat] to find the way to this peer by",
                    "write one, or leave nat out",
                )

    def _check_enrol(self) -> None:
        """Who enrols names nobody: that has a meaning only where others name us."""
        enrols = self.authority is not None and self.authority.enrol
        if enrols and self.identity is None and self.mode == "quick":
            raise self.error(
                self.authority.enrol_line if self.authority is not None else None,
                "enrol",
                "lets others enrol where we have no credential ourselves",
                "write [identity] with ours, or leave enrol out",
            )

    def _expectation(self, peer: PeerDraft) -> Expectation | None:
        """What a peer with `credential = true` must prove."""
        if not peer.credential:
            if peer.expect is not None:
                raise self.error(
                    peer.expect_line, "expect", "goes with credential = true", "write both or none"
                )
            return None
        by_key = peer.expect == "key"
        if peer.name is None and not by_key:
            raise self.error(
                peer.credential_line,
                "credential",
                "this peer has no name for its credential to carry",
                'write name = "server.mesh", with the name in it',
            )
        if peer.name is not None and not is_dns_name(peer.name):
            raise self.error(
                peer.name_line,
                "name",
                f"{shown(peer.name)} is no name that a credential carries",
                "write it as in the credential: lower-case letters, digits, hyphens and dots",
            )
        # What changes a running interface may leave these to what it has.
        if self.mode == "quick":
            self._check_expectation(peer, by_key)
        return Expectation(peer.name, key_suffices=by_key)

    def _check_expectation(self, peer: PeerDraft, by_key: bool) -> None:
        if not by_key and self.authority is None:
            raise self.error(
                peer.credential_line,
                "credential",
                "there is no [authority] to judge this peer's credential by",
                'write one, or expect = "key" if its public key suffices',
            )
        if by_key and self.identity is None:
            raise self.error(
                peer.credential_line,
                "credential",
                "there is no [identity], so neither side has a credential",
                "write one, or leave credential out",
            )

    def _firewall(self, peers: dict[PublicKey, PeerDraft]) -> FirewallSettings | None:
        """The rules, with the keys of the configured peers that they name."""
        if self.rules is None:
            return None
        named: dict[str, str] = {}
        for name in sorted(names_in(self.rules)):
            keys = [key for key, peer in peers.items() if peer.name == name]
            if len(keys) > 1:
                raise self.error(
                    peers[keys[1]].line,
                    "name",
                    f"{shown(name)} is the name of two peers, and a rule speaks of it",
                    "give each its own",
                )
            if keys:
                named[name] = keys[0].base64()
        settings = FirewallSettings(tuple(self.rules), named)
        try:
            firewall_json(settings)
        except RulesError as error:
            raise self.error(None, None, error.reason, "make them fewer") from None
        return settings

    def _check_addresses(self) -> None:
        # The kernel holds an IPv6 address once, whatever its length; an IPv4 one once per length.
        seen: dict[object, int | None] = {}
        for address, line in self.addresses:
            unit = address if address.version == 4 else address.address
            if unit in seen:
                raise self.error(
                    line,
                    self.spelling.address,
                    f"{address} is here twice{_at(seen[unit])}",
                    "take one of the two out",
                )
            seen[unit] = line

    def _merge_peers(self) -> dict[PublicKey, PeerDraft]:
        """Peers by key, in order. In wg mode a second section of a key goes on with the first."""
        peers: dict[PublicKey, PeerDraft] = {}
        for peer in self.peers:
            if peer.public_key is None:
                key = self.spelling.public_key
                raise self.error(peer.line, None, f"this peer has no {key}", "give it one")
            first = peers.setdefault(peer.public_key, peer)
            if first is peer:
                continue
            reason = f"this peer is here twice{_at(first.public_key_line)}"
            line, key = peer.public_key_line, self.spelling.public_key
            if self.mode != "wg":
                raise self.error(line, key, reason, "make one section of the two")
            self.warn(line, key, reason, "the last value of each key counts")
            first.preshared_key = peer.preshared_key or first.preshared_key
            first.endpoint = peer.endpoint or first.endpoint
            if peer.persistent_keepalive is not None:
                first.persistent_keepalive = peer.persistent_keepalive
            if peer.credential_line is not None:
                first.credential, first.credential_line = peer.credential, peer.credential_line
            if peer.expect is not None:
                first.expect, first.expect_line = peer.expect, peer.expect_line
            if peer.nat_line is not None:
                first.nat, first.nat_line = peer.nat, peer.nat_line
            if peer.name is not None:
                first.name, first.name_line = peer.name, peer.name_line
            if peer.replace:
                first.changes, first.replace = peer.changes, True
            else:
                first.changes += peer.changes
        return peers

    def _share_out(self, peers: dict[PublicKey, PeerDraft]) -> dict[PublicKey, list[Prefix]]:
        """The prefixes of each peer: each prefix to the last one that names it."""
        # Dicts for their order: a peer's prefixes stay as the file has them.
        owned: dict[PublicKey, dict[Prefix, None]] = {key: {} for key in peers}
        owner: dict[Prefix, tuple[PublicKey, int | None]] = {}
        for key, peer in peers.items():
            if not peer.replace:
                continue
            for (prefix, remove), line in peer.changes:
                if remove:
                    owned[key].pop(prefix, None)
                    continue
                before = owner.get(prefix)
                if before is not None and prefix in owned[before[0]]:
                    self._say_taken(prefix, line, before, same=before[0] == key)
                    if before[0] != key:
                        del owned[before[0]][prefix]
                owned[key][prefix] = None
                owner[prefix] = key, line
        return {key: list(prefixes) for key, prefixes in owned.items()}

    def _say_taken(
        self, prefix: Prefix, line: int | None, before: tuple[PublicKey, int | None], *, same: bool
    ) -> None:
        key, spelled = self.spelling.allowed_ips, _at(before[1])
        if same:
            self.warn(line, key, f"{prefix} is here twice{spelled}", "one of the two is enough")
        elif self.mode == "wg":
            self.warn(line, key, f"{prefix} is another peer's{spelled}", "the last peer has it")
        else:
            raise self.error(
                line,
                key,
                f"{prefix} is another peer's{spelled}",
                "a prefix belongs to one peer; take it from the other",
            )


def _at(line: int | None) -> str:
    return "" if line is None else f" (see line {line})"
