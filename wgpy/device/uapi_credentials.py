"""The values of wgpy's own keys about credentials: one line of JSON each, and back.

    wgpy_authority={"network":"00..","accept":["10.7.0.0/16"],"anchors":[{"file":"/etc/.."}],..}
    wgpy_identity={"certificate":"/etc/wgpy/laptop.pem"}
    wgpy_credential={"name":"server.mesh","expect":"certificate"}       (of a peer)
    wgpy_claims={"kind":"certificate","name":"laptop.mesh","groups":[],..}   (in answers)

Files are named by absolute paths, because the daemon has a working directory of its own; nothing
here is secret. Each reader raises ValueError and nothing else (uapi_json.py).
"""

from typing import Final

from wgpy.device.uapi import ClaimsSummary
from wgpy.device.uapi_json import (
    Fields,
    as_path,
    as_text,
    check_length,
    dump_json,
    load_json,
    named,
)
from wgpy.device.uapi_values import parse_prefix, shown
from wgpy.identity.claims import Kind
from wgpy.identity.settings import (
    ENROL_PORT,
    Anchor,
    AuthoritySettings,
    Expectation,
    IdentitySettings,
    Limits,
    TokenIssuer,
)
from wgpy.identity.words import is_dns_name, is_fingerprint, is_group, parse_network_id
from wgpy.ip import Prefix

# The year 9999: no certificate is valid longer (RFC 5280 section 4.1.2.5).
_MAX_TIME: Final = 253_402_300_799
# A credential has no more.
MAX_GROUPS: Final = 16


def format_authority(settings: AuthoritySettings) -> str:
    """One line of JSON. Raises UapiError (EMSGSIZE) if the settings name too much for one."""
    value = {
        "network": settings.network.hex(),
        "accept": [str(prefix) for prefix in settings.accept],
        "anchors": [
            {"file": anchor.path}
            if anchor.limits is None
            else {"file": anchor.path, "limits": _limits_value(anchor.limits)}
            for anchor in settings.anchors
        ],
        "intermediates": settings.intermediates,
        "revocations": settings.revocations,
        "issuers": [
            {"jwks": issuer.jwks, "limits": _limits_value(issuer.limits)}
            for issuer in settings.issuers
        ],
        "require_groups": settings.require_groups,
        "strict": settings.strict,
        "preshared_key_file": settings.preshared_key_file,
        "rotations": settings.rotations,
        # Said only where it is so: who does not know it must not pass over it.
        **({"enrol": True, "enrol_port": settings.enrol_port} if settings.enrol else {}),
    }
    return dump_json(value, "the authority names too many files")


def parse_authority(text: str, *, exact: bool = True) -> AuthoritySettings:
    """Read what `format_authority` writes. Raises ValueError."""
    fields = Fields(load_json(text), exact)
    settings = AuthoritySettings(
        network=parse_network_id(fields.text("network")),
        accept=fields.each("accept", _prefix),
        anchors=fields.each("anchors", lambda value: _anchor(value, exact)),
        intermediates=fields.each("intermediates", as_path),
        revocations=fields.each("revocations", as_path),
        issuers=fields.each("issuers", lambda value: _issuer(value, exact)),
        require_groups=fields.each("require_groups", _group),
        strict=fields.flag("strict"),
        preshared_key_file=fields.optional("preshared_key_file", as_path),
        rotations=fields.each("rotations", _rotation),
        enrol=fields.flag("enrol"),
        enrol_port=fields.optional("enrol_port", _port) or ENROL_PORT,
    )
    fields.finish()
    check_length(format_authority, settings)
    return settings


def format_identity(settings: IdentitySettings) -> str:
    """One line of JSON. Raises UapiError (EMSGSIZE)."""
    value = {
        "certificate": settings.certificate,
        "intermediate": settings.intermediate,
        "token": settings.token,
    }
    return dump_json({key: path for key, path in value.items() if path}, "the identity's paths")


def parse_identity(text: str, *, exact: bool = True) -> IdentitySettings:
    """Read what `format_identity` writes. Raises ValueError."""
    fields = Fields(load_json(text), exact)
    settings = IdentitySettings(
        certificate=fields.optional("certificate", as_path),
        intermediate=fields.optional("intermediate", as_path),
        token=fields.optional("token", as_path),
    )
    fields.finish()
    if (settings.certificate is None) == (settings.token is None):
        raise ValueError("it takes a certificate or a token")
    if settings.intermediate is not None and settings.certificate is None:
        raise ValueError("an intermediate goes with a certificate")
    check_length(format_identity, settings)
    return settings


def format_expectation(expectation: Expectation) -> str:
    """One line of JSON."""
    expect = "key" if expectation.key_suffices else "certificate"
    value = {"expect": expect}
    if expectation.name is not None:
        value["name"] = expectation.name
    return dump_json(value, "the name is too long")


def parse_expectation(text: str, *, exact: bool = True) -> Expectation:
    """Read what `format_expectation` writes. Raises ValueError."""
    fields = Fields(load_json(text), exact)
    name = fields.optional("name", as_text)
    if name is not None and not is_dns_name(name):
        raise ValueError(f"{shown(name)} is no name that a credential carries")
    expect = fields.text("expect")
    fields.finish()
    if expect not in ("certificate", "key"):
        raise ValueError(f"{shown(expect)} is neither certificate nor key")
    return Expectation(name, key_suffices=expect == "key")


def format_claims(claims: ClaimsSummary) -> str:
    """One line of JSON."""
    value = {
        "kind": claims.kind.value,
        "name": claims.name,
        "groups": claims.groups,
        "serial": claims.serial,
        "issuer": None if claims.issuer is None else claims.issuer.hex(),
        "expiry": claims.expiry,
    }
    return dump_json(value, "the claims are too long")


def parse_claims(text: str) -> ClaimsSummary:
    """Read what `format_claims` writes; unknown fields are passed over. Raises ValueError."""
    fields = Fields(load_json(text), exact=False)
    issuer, expiry = fields.take("issuer"), fields.take("expiry")
    groups = fields.each("groups", _group)
    if len(groups) > MAX_GROUPS:
        raise ValueError(f"it has more than {MAX_GROUPS} groups")
    if issuer is not None and not (isinstance(issuer, str) and is_fingerprint(issuer)):
        raise ValueError("the issuer is no SHA-256")
    if not isinstance(expiry, int) or isinstance(expiry, bool) or not 0 <= expiry <= _MAX_TIME:
        raise ValueError("the expiry is no time")
    return ClaimsSummary(
        kind=Kind(fields.text("kind")),
        name=fields.text("name"),
        groups=groups,
        serial=fields.text("serial"),
        issuer=None if issuer is None else bytes.fromhex(issuer),
        expiry=expiry,
    )


def _prefix(value: object) -> Prefix:
    return parse_prefix(as_text(value))


def _port(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 1 << 16:
        raise ValueError("it is no port")
    return value


def _group(value: object) -> str:
    text = as_text(value)
    if not is_group(text):
        raise ValueError(f"{shown(text)} is no group")
    return text


def _name(value: object) -> str:
    text = as_text(value)
    if not is_dns_name(text):
        raise ValueError(f"{shown(text)} is no name in the DNS, in lower case")
    return text


def _rotation(value: object) -> tuple[str, str]:
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError("it is no pair")
    old, new = map(as_text, value)
    if not (is_fingerprint(old) and is_fingerprint(new)):
        raise ValueError("it is no pair of SHA-256")
    return old, new


def _limits_value(limits: Limits) -> dict[str, object]:
    return {
        "names": limits.names,
        "networks": [str(prefix) for prefix in limits.networks],
        "groups": limits.groups,
    }


def _limits(value: object, exact: bool) -> Limits:
    fields = Fields(value, exact)
    limits = Limits(
        names=fields.each("names", _name),
        networks=fields.each("networks", _prefix),
        groups=fields.each("groups", _group),
    )
    fields.finish()
    return limits


def _anchor(value: object, exact: bool) -> Anchor:
    fields = Fields(value, exact)
    path = named("file", as_path, fields.take("file"))
    anchor = Anchor(path, fields.optional("limits", lambda limits: _limits(limits, exact)))
    fields.finish()
    return anchor


def _issuer(value: object, exact: bool) -> TokenIssuer:
    fields = Fields(value, exact)
    path = named("jwks", as_path, fields.take("jwks"))
    issuer = TokenIssuer(path, _limits(fields.take("limits"), exact))
    fields.finish()
    return issuer
