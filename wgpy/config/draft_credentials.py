"""[authority] and [identity] while they are being read, and what must stand in them together."""

from collections.abc import Callable
from dataclasses import dataclass, field

from wgpy.config.errors import ConfigError
from wgpy.identity.settings import (
    ENROL_PORT,
    Anchor,
    AuthoritySettings,
    IdentitySettings,
    TokenIssuer,
)
from wgpy.ip import Prefix

# Makes the error of a line, a key, a reason and a hint.
MakeError = Callable[[int | None, str | None, str, str | None], ConfigError]


@dataclass(slots=True)
class AuthorityDraft:
    """[authority] as far as it was read. `line` is that of its header."""

    line: int | None
    network: bytes | None = None
    accept: list[Prefix] = field(default_factory=list)
    anchors: list[Anchor] = field(default_factory=list)
    intermediates: list[str] = field(default_factory=list)
    revocations: list[str] = field(default_factory=list)
    issuers: list[TokenIssuer] = field(default_factory=list)
    require_groups: list[str] = field(default_factory=list)
    strict: bool = False
    preshared_key_file: str | None = None
    rotations: list[tuple[str, str]] = field(default_factory=list)
    enrol: bool = False
    enrol_line: int | None = None
    enrol_port: int | None = None
    enrol_port_line: int | None = None

    def finish(self, error: MakeError) -> AuthoritySettings:
        """The settings. Raises ConfigError if nobody could ever come in by them."""
        self._check_enrol(error)
        if self.network is None:
            raise error(
                self.line,
                "authority",
                "names no network",
                'write network = "..." with the 32 hexadecimal digits of it',
            )
        if not self.accept:
            raise error(
                self.line,
                "authority",
                "accepts no addresses, so nobody could come in",
                'write accept = ["10.7.0.0/16"] with the networks that peers may have addresses of',
            )
        if not self.anchors and not self.issuers:
            raise error(
                self.line,
                "authority",
                "trusts nobody",
                'write ca = ["FILE"], or [[authority.token_issuer]]',
            )
        return AuthoritySettings(
            network=self.network,
            accept=tuple(dict.fromkeys(self.accept)),
            anchors=tuple(self.anchors),
            intermediates=tuple(self.intermediates),
            revocations=tuple(self.revocations),
            issuers=tuple(self.issuers),
            require_groups=tuple(dict.fromkeys(self.require_groups)),
            strict=self.strict,
            preshared_key_file=self.preshared_key_file,
            rotations=tuple(self.rotations),
            enrol=self.enrol,
            enrol_port=self.enrol_port or ENROL_PORT,
        )

    def _check_enrol(self, error: MakeError) -> None:
        if self.enrol and not self.issuers:
            raise error(
                self.enrol_line,
                "enrol",
                "is by token, and there is no issuer of tokens",
                "write [[authority.token_issuer]]",
            )
        if self.enrol_port is not None and not self.enrol:
            raise error(
                self.enrol_port_line, "enrol_port", "goes with enrol = true", "write both or none"
            )


@dataclass(slots=True)
class IdentityDraft:
    """[identity] as far as it was read. `line` is that of its header."""

    line: int | None
    certificate: str | None = None
    intermediate: str | None = None
    intermediate_line: int | None = None
    token: str | None = None

    def finish(self, error: MakeError) -> IdentitySettings:
        """The settings. Raises ConfigError unless they are one credential."""
        if self.certificate is None and self.token is None:
            raise error(
                self.line, "identity", "presents nothing", "write certificate or token, with a file"
            )
        if self.certificate is not None and self.token is not None:
            raise error(
                self.line,
                "identity",
                "presents both a certificate and a token",
                "leave one of the two out",
            )
        if self.intermediate is not None and self.certificate is None:
            raise error(
                self.intermediate_line,
                "intermediate",
                "goes with a certificate, and a token has none",
                "leave it out",
            )
        return IdentitySettings(self.certificate, self.intermediate, self.token)
