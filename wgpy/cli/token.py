"""`wgpy token`: a key that signs tokens, the JWKS of it, and tokens made, shown and verified.

A token to enrol is as good as a key for whoever reads it, so tokens come from files or standard
input and are never arguments.
"""

import argparse
import json
import re
import sys
from typing import Any, Final

from wgpy.cli.errors import CommandError

_UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
# What a peer's token lasts for, and one to enrol, when nothing is said.
_PEER_SECONDS: Final = 86_400
_ENROL_SECONDS: Final = 900
# A token, and room for what a mail program adds around it.
_MAX_INPUT: Final = 16_384


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The five things that `wgpy token` does."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True, title="actions")

    def action(name: str, text: str) -> argparse.ArgumentParser:
        return actions.add_parser(name, help=text, description=text, allow_abbrev=False)

    _add_genkey(action("genkey", "make a key that signs tokens"))
    _add_jwks(action("jwks", "print the JWKS that verifiers read"))
    _add_issue(action("issue", "make a token and print it"))
    _add_inspect(action("inspect", "show what a token says, without verifying"))
    _add_verify(action("verify", "verify a token as a peer would"))


def _add_genkey(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--algorithm",
        choices=("EdDSA", "ES256"),
        default="EdDSA",
        metavar="ALGORITHM",
        help="EdDSA (Ed25519, the default) or ES256 (P-256)",
    )
    _add_passphrase(parser)
    parser.add_argument("file", metavar="FILE", help="the new file; it must not be there yet")


def _add_jwks(parser: argparse.ArgumentParser) -> None:
    _add_passphrase(parser)
    parser.add_argument("file", metavar="FILE", nargs="+", help="a key that signs tokens")


def _add_issue(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--key", metavar="FILE", required=True, help="the key that signs")
    _add_passphrase(parser)
    parser.add_argument("--kid", metavar="KID", help="the key's kid, if it is not its thumbprint")
    parser.add_argument("--network", metavar="NETWORK", required=True, help="32 hexadecimal digits")
    parser.add_argument("--name", metavar="NAME", help="the peer's name")
    parser.add_argument(
        "--public-key", metavar="PUBLIC-KEY", help="the peer's; --enrol can do without"
    )
    for option, what in (
        ("address", "an address of the peer's; at most twice"),
        ("group", "a group that it is in"),
        ("prefix", "a prefix that it may route"),
    ):
        metavar = option.upper()
        parser.add_argument(f"--{option}", metavar=metavar, action="append", default=[], help=what)
    parser.add_argument(
        "--valid", metavar="DURATION", help="such as 90s, 15m, 24h or 7d; 24h, or 15m to enrol"
    )
    parser.add_argument(
        "--generation", metavar="NUMBER", help="in the place of the next one of the key's ledger"
    )
    parser.add_argument("--enrol", action="store_true", help="a token to enrol with, once")
    parser.add_argument("--json", action="store_true", help="print what it says as well, as JSON")


def _add_inspect(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    _add_token(parser)


def _add_verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--issuers", metavar="JWKS", action="append", required=True, help="a JWKS of an issuer"
    )
    parser.add_argument("--network", metavar="NETWORK", required=True, help="32 hexadecimal digits")
    parser.add_argument("--public-key", metavar="PUBLIC-KEY", help="the key that would show it")
    parser.add_argument("--json", action="store_true", help="print what it says as JSON")
    _add_token(parser)


def _add_passphrase(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--passphrase-file", metavar="FILE", help="a file with the key's passphrase"
    )


def _add_token(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "token", metavar="TOKEN", nargs="?", help="a file with a token; else standard input"
    )


def run(args: argparse.Namespace) -> int:
    """Do one of the five."""
    action = {
        "genkey": _genkey,
        "jwks": _jwks,
        "issue": _issue,
        "inspect": _inspect,
        "verify": _verify,
    }[args.action]
    action(args)
    return 0


def _genkey(args: argparse.Namespace) -> None:
    from wgpy.identity.signer import make_signing_key

    try:
        made = make_signing_key(args.file, args.algorithm, _passphrase(args))
    except FileExistsError:
        raise CommandError(
            f"{args.file} is there already, and a key is never written over"
        ) from None
    print(made.kid)


def _jwks(args: argparse.Namespace) -> None:
    from wgpy.identity.jwks import make_jwks

    signers = [_signer(path, args) for path in args.file]
    print(json.dumps(make_jwks((x.kid, x.public) for x in signers), indent=2))


def _issue(args: argparse.Namespace) -> None:
    import time

    from wgpy.identity.claims import CredentialError
    from wgpy.identity.signer import BACKDATE_SECONDS, Content, issue, issue_recorded, new_jti

    signer = _signer(args.key, args, args.kid)
    now = time.time()
    content = Content(
        network=_network(args.network),
        not_before=int(now) - BACKDATE_SECONDS,
        not_after=int(now) + _seconds(args),
        name=args.name,
        key=_public_key(args.public_key),
        addresses=_prefixes(args.address),
        groups=tuple(args.group),
        prefixes=_prefixes(args.prefix),
        generation=_generation(args),
        jti=new_jti() if args.enrol else None,
    )
    if not args.enrol and (args.name is None or content.key is None):
        raise CommandError("a token for a peer wants --name and --public-key; or say --enrol")
    try:
        if args.enrol or args.generation is not None:
            text = issue(signer, content, now)
        else:
            text = issue_recorded(signer, content, f"{args.key}.ledger", now)
    except CredentialError as error:
        raise CommandError(f"no verifier would take this token: {error}") from None
    if args.json:
        _print_json({"token": text.decode(), **_read(text)})
    else:
        print(text.decode())


def _inspect(args: argparse.Namespace) -> None:
    found = _read(_token(args))
    if args.json:
        _print_json(found)
        return
    print("not verified: anybody could have written this")
    for part in ("header", "payload"):
        for name, value in found[part].items():
            print(f"{part} {json.dumps(name)[1:-1]}: {json.dumps(value)}")


def _verify(args: argparse.Namespace) -> None:
    import time

    from wgpy.identity import token
    from wgpy.identity.jwks import Issuers
    from wgpy.identity.settings import TokenIssuer

    text = _token(args)
    parts = token.read(text)
    # What an issuer may sign for is the configuration's to say, and not asked here.
    limits = token.asked_for(parts)
    issuers = Issuers.load(TokenIssuer(path, limits) for path in args.issuers)
    network, key, now = _network(args.network), _public_key(args.public_key), time.time()
    use = "enrol" if parts.payload["wgpy"].get("use") == "enrol" else "peer"
    verify = token.verify_enrolment if use == "enrol" else token.verify
    described = _describe(verify(text, issuers, network, now, key), use)
    if args.json:
        _print_json(described)
        return
    print("good; whether its issuer may sign for this is the configuration's to say")
    for name, value in described.items():
        print(f"{name}: {' '.join(value) if isinstance(value, list) else value}")


def _describe(found: Any, use: str) -> dict[str, Any]:
    """What a verified token (Claims or Enrolment) says, for people and for programs."""
    described: dict[str, Any] = {
        "use": use,
        "name": found.name,
        "public_key": str(found.key) if found.key is not None else None,
        "network": found.network.hex(),
        "addresses": [str(x) for x in found.addresses],
        "groups": sorted(found.groups),
        "prefixes": [str(x) for x in found.prefixes],
        "generation": getattr(found, "generation", None),
        "jti": getattr(found, "jti", None),
        "not_before": _utc(found.not_before),
        "not_after": _utc(found.not_after),
        "issuer": found.issuer.hex(),
    }
    return {name: value for name, value in described.items() if value not in (None, [])}


def _read(text: bytes) -> dict[str, Any]:
    from wgpy.identity import token

    parts = token.read(text)
    return {"header": parts.header, "payload": parts.payload}


def _print_json(value: dict[str, Any]) -> None:
    print(json.dumps(value, indent=2))


def _utc(seconds: float) -> str:
    import datetime

    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# --- What the arguments say ---


def _signer(path: str, args: argparse.Namespace, kid: str | None = None) -> Any:
    """The Signer of a key's file; says so when others can read it."""
    from wgpy.cli import print_error
    from wgpy.identity.signer import Signer
    from wgpy.keys import exposure_warning

    signer = Signer.load(path, _passphrase(args), kid)
    warning = exposure_warning(path)
    if warning is not None:
        print_error(warning)
    return signer


def _passphrase(args: argparse.Namespace) -> bytes | None:
    """The first line of the passphrase's file."""
    if args.passphrase_file is None:
        return None
    with open(args.passphrase_file, "rb") as file:
        line = file.read(_MAX_INPUT).split(b"\n")[0].rstrip(b"\r")
    if not line:
        raise CommandError(f"{args.passphrase_file}: the first line is empty, and no passphrase")
    return line


def _token(args: argparse.Namespace) -> bytes:
    """The token of a file or of standard input, without the white space around it."""
    if args.token is not None:
        with open(args.token, "rb") as file:
            return file.read(_MAX_INPUT).strip()
    if sys.stdin is None:
        raise CommandError("standard input is closed; give the token there, or name its file")
    return sys.stdin.buffer.read(_MAX_INPUT).strip()


def _network(text: str) -> bytes:
    if not re.fullmatch(r"[0-9a-fA-F]{32}", text):
        raise CommandError("--network is the network's id: 32 hexadecimal digits")
    return bytes.fromhex(text)


def _public_key(text: str | None) -> Any:
    from wgpy.keys import PublicKey

    return None if text is None else PublicKey.from_base64(text)


def _prefixes(texts: list[str]) -> tuple[Any, ...]:
    from wgpy.ip import parse_prefix

    try:
        return tuple(parse_prefix(text) for text in texts)
    except ValueError as error:
        raise CommandError(str(error)) from None


def _seconds(args: argparse.Namespace) -> int:
    if args.valid is None:
        return _ENROL_SECONDS if args.enrol else _PEER_SECONDS
    match = re.fullmatch(r"([0-9]{1,6})([smhd])", args.valid)
    if match is None or int(match[1]) == 0:
        raise CommandError(f"--valid {args.valid!r} is no duration such as 90s, 15m, 24h or 7d")
    return int(match[1]) * _UNITS[match[2]]


def _generation(args: argparse.Namespace) -> int | None:
    if args.generation is None:
        return None
    if not re.fullmatch(r"[0-9]{1,19}", args.generation):
        raise CommandError("--generation is a number from 1")
    return int(args.generation)
