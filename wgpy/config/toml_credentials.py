"""What each key of [authority] and [identity] in wgpy.toml does with its value.

Files are named as everywhere in TOML, and go to the daemon by their absolute paths: it reads them,
and reads them again when they change. Here they must be there, so that an error has its line.
"""

from collections.abc import Callable, Mapping
from typing import Final

from wgpy.config.draft_credentials import AuthorityDraft, IdentityDraft
from wgpy.config.toml_keys import Value
from wgpy.config.toml_parts import (
    elements,
    fields_of,
    file_path,
    file_paths,
    read_part,
    required,
)
from wgpy.config.values import BadValueError, has_host_bits, parse_network, shown
from wgpy.identity.settings import Anchor, Limits, TokenIssuer
from wgpy.identity.words import is_dns_name, is_fingerprint, is_group, parse_network_id
from wgpy.ip import Prefix, mask
from wgpy.keys import PresharedKey

# The keys of what an issuer may sign for.
LIMITS: Final = ("names", "networks", "groups")
MAX_PORT: Final = 65_535


def _networks(item: Value) -> tuple[Prefix, ...]:
    found = []

    def read(text: str, line: int | None) -> None:
        address, length = parse_network(text)
        prefix = Prefix(mask(address, length), length)
        if has_host_bits(address, prefix):
            item.draft.warn(
                line,
                item.key,
                f"{shown(text)} has bits beyond its prefix length",
                f"it is taken as {prefix}",
            )
        found.append(prefix)

    item.each(read)
    return tuple(found)


def _names(item: Value) -> tuple[str, ...]:
    found = []

    def read(text: str, _line: int | None) -> None:
        if not is_dns_name(text):
            raise BadValueError(
                f"{shown(text)} is no ending of names",
                "write it in lower case without a dot before it: `mesh` permits `laptop.mesh`",
            )
        found.append(text)

    item.each(read)
    return tuple(found)


def _groups(item: Value) -> tuple[str, ...]:
    found = []

    def read(text: str, _line: int | None) -> None:
        if not is_group(text):
            raise BadValueError(
                f"{shown(text)} is no group",
                "write up to 32 lower-case letters, digits and hyphens",
            )
        found.append(text)

    item.each(read)
    return tuple(found)


def _limits(item: Value, fields: Mapping[str, Value]) -> Limits:
    """What an issuer may sign for. What is not stated is nothing, so two must be."""
    return Limits(
        names=required(item, fields, "names", _names),
        networks=required(item, fields, "networks", _networks),
        groups=read_part(fields["groups"], _groups) if "groups" in fields else (),
    )


# --- [authority] ---


def _authority(item: Value) -> AuthorityDraft:
    assert item.draft.authority is not None, "a key of [authority] is read with its table"
    return item.draft.authority


def _network(item: Value) -> None:
    text = item.text()
    try:
        _authority(item).network = parse_network_id(text)
    except ValueError as error:
        raise BadValueError(
            f"{shown(text)}: {error}", "`wgpy ca show` tells that of a CA"
        ) from None


def _accept(item: Value) -> None:
    for prefix in _networks(item):
        if prefix.length == 0:
            raise BadValueError(
                f"{prefix} would let a peer take any address", "write the networks of the peers"
            )
        _authority(item).accept.append(prefix)


def _ca(item: Value) -> None:
    for element in elements(item):
        _authority(item).anchors.append(read_part(element, _anchor))


def _anchor(item: Value) -> Anchor:
    if not isinstance(item.value, dict):
        return Anchor(file_path(item))
    fields = fields_of(item, ("file", *LIMITS))
    path = required(item, fields, "file", file_path)
    return Anchor(path, _limits(item, fields) if len(fields) > 1 else None)


def _intermediates(item: Value) -> None:
    _authority(item).intermediates += file_paths(item)


def _crl(item: Value) -> None:
    _authority(item).revocations += file_paths(item, directory=True)


def _token_issuers(item: Value) -> None:
    for element in elements(item):
        _authority(item).issuers.append(read_part(element, _token_issuer))


def _token_issuer(item: Value) -> TokenIssuer:
    fields = fields_of(item, ("jwks", *LIMITS))
    return TokenIssuer(required(item, fields, "jwks", file_path), _limits(item, fields))


def _require_groups(item: Value) -> None:
    _authority(item).require_groups += _groups(item)


def _strict(item: Value) -> None:
    _authority(item).strict = item.flag()


def _preshared_key_file(item: Value) -> None:
    # Read for its errors and warnings; the daemon reads it again.
    PresharedKey.from_base64(item.key_file()).wipe()
    _authority(item).preshared_key_file = file_path(item)


def _rotations(item: Value) -> None:
    for element in elements(item):
        _authority(item).rotations.append(read_part(element, _rotation))


def _rotation(item: Value) -> tuple[str, str]:
    fields = fields_of(item, ("old", "new"))
    old, new = (required(item, fields, key, _fingerprint) for key in ("old", "new"))
    if old == new:
        raise BadValueError("is from one CA to itself", "write the new one under new")
    return old, new


def _fingerprint(item: Value) -> str:
    text = item.text().lower().replace(":", "")
    if not is_fingerprint(text):
        raise BadValueError(
            f"{shown(text)} is no SHA-256 of a CA's public key",
            "write 64 hexadecimal digits, as `wgpy ca show` tells them",
        )
    return text


def _enrol(item: Value) -> None:
    authority = _authority(item)
    authority.enrol, authority.enrol_line = item.flag(), item.line


def _enrol_port(item: Value) -> None:
    authority = _authority(item)
    number = item.number()
    if number is None or not 0 < number <= MAX_PORT:
        reason = f"{shown(str(item.value))} is no port"
        raise BadValueError(reason, "write a number from 1 to 65535")
    authority.enrol_port, authority.enrol_port_line = number, item.line


AUTHORITY: Final[dict[str, Callable[[Value], None]]] = {
    "network": _network,
    "accept": _accept,
    "ca": _ca,
    "intermediates": _intermediates,
    "crl": _crl,
    "token_issuer": _token_issuers,
    "require_groups": _require_groups,
    "strict": _strict,
    "preshared_key_file": _preshared_key_file,
    "rotation": _rotations,
    "enrol": _enrol,
    "enrol_port": _enrol_port,
}


# --- [identity] ---


def _identity(item: Value) -> IdentityDraft:
    assert item.draft.identity is not None, "a key of [identity] is read with its table"
    return item.draft.identity


def _certificate(item: Value) -> None:
    _identity(item).certificate = file_path(item)


def _intermediate(item: Value) -> None:
    identity = _identity(item)
    identity.intermediate, identity.intermediate_line = file_path(item), item.line


def _token(item: Value) -> None:
    # The head of every token in its usual form: `{"` in base64. It is a secret of some kind.
    if item.text("a file's name in quotes").startswith("eyJ"):
        raise BadValueError("is a token itself", "write it to a file and name that, with mode 0600")
    _identity(item).token = file_path(item)


IDENTITY: Final[dict[str, Callable[[Value], None]]] = {
    "certificate": _certificate,
    "intermediate": _intermediate,
    "token": _token,
}
