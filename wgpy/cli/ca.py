"""`wgpy ca`: a certification authority in a directory.

Passphrases come from a prompt or a file, and are never arguments.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from wgpy.cli.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wgpy.identity.ca import Issuer
    from wgpy.identity.issued import Issued
    from wgpy.ip import Prefix

_PASSPHRASE_LIMIT: Final = 4_096


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One subcommand for each thing that a CA does."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def action(name: str, text: str) -> argparse.ArgumentParser:
        made = actions.add_parser(name, help=text, description=text, allow_abbrev=False)
        made.add_argument("directory", metavar="DIRECTORY", help="the CA's directory")
        if name != "signer":
            made.add_argument("--json", action="store_true", help="print the result as JSON")
        if name != "show":
            made.add_argument(
                "--passphrase-file", metavar="FILE", help="the file with the passphrase"
            )
        return made

    _add_init(action("init", "make a CA"))
    _add_extend(action("extend", "give an intermediate a new certificate for its key"))
    issue = action("issue", "issue a certificate for a peer's public key")
    issue.add_argument("key", metavar="PUBLIC-KEY", help="the peer's public key")
    issue.add_argument("name", metavar="NAME", help="the peer's name, such as laptop.mesh")
    issue.add_argument(
        "--address", metavar="ADDRESS", action="append", required=True, help="one or two"
    )
    _add_rights(issue)
    renew = action("renew", "issue the next certificate of a name")
    renew.add_argument("name", metavar="NAME", help="the peer's name")
    for made in (issue, renew):
        made.add_argument("--out", metavar="FILE", help="write the certificate here")
        made.add_argument("--days", metavar="DAYS", type=_days, help="how long it is valid")
    revoke = action("revoke", "revoke certificates, and sign a new CRL")
    what = revoke.add_mutually_exclusive_group(required=True)
    what.add_argument("--serial", metavar="SERIAL", help="one certificate")
    what.add_argument("--key", metavar="PUBLIC-KEY", help="a key, now and for ever")
    what.add_argument("--name", metavar="NAME", help="all certificates of a name until now")
    for made in (revoke, action("crl", "sign a new CRL")):
        made.add_argument("--days", metavar="DAYS", type=_days, help="how long the CRL is good")
    action("show", "show a CA and what it has issued")
    signer = action("signer", "sign for the coordinators of a mesh, until a signal ends it")
    signer.add_argument("--socket", metavar="PATH", required=True, help="where it listens")


def _add_init(init: argparse.ArgumentParser) -> None:
    init.add_argument("--name", metavar="NAME", required=True, help="what the CA is called")
    init.add_argument("--network", metavar="ID", help="the network's id, 32 hexadecimal digits")
    init.add_argument(
        "--domain", metavar="DOMAIN", action="append", required=True, help="names below it"
    )
    init.add_argument(
        "--range", metavar="PREFIX", action="append", required=True, help="addresses in it"
    )
    _add_rights(init)
    init.add_argument("--days", metavar="DAYS", type=_days, help="how long it is valid")
    above = init.add_mutually_exclusive_group()
    above.add_argument("--parent", metavar="DIRECTORY", help="the CA that signs this one")
    above.add_argument("--request", action="store_true", help="make a request for a root of others")
    init.add_argument(
        "--parent-passphrase-file", metavar="FILE", help="the file with the parent's passphrase"
    )


def _add_extend(extend: argparse.ArgumentParser) -> None:
    extend.add_argument(
        "--parent", metavar="DIRECTORY", required=True, help="the CA that signed this one"
    )
    extend.add_argument(
        "--parent-passphrase-file", metavar="FILE", help="the file with the parent's passphrase"
    )
    extend.add_argument("--days", metavar="DAYS", type=_days, help="how long it is valid")
    _add_rights(extend)


def _add_rights(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--group", metavar="GROUP", action="append", default=[], help="a group")
    parser.add_argument(
        "--prefix", metavar="PREFIX", action="append", default=[], help="what may be routed"
    )


def _days(text: str) -> float:
    try:
        days = float(text)
    except ValueError:
        days = 0.0
    if not 0 < days <= 36_500:
        raise argparse.ArgumentTypeError("a number above 0 and up to 36500 is wanted")
    return days


def run(args: argparse.Namespace) -> int:
    """Do what was asked; returns the exit code."""
    from wgpy.identity.ca_files import CaError
    from wgpy.identity.claims import CredentialError
    from wgpy.identity.ledger import LedgerError

    try:
        _ACTIONS[args.action](args)
    except (CaError, CredentialError, LedgerError) as error:
        raise CommandError(str(error)) from None
    return 0


# --- Actions ---


def _init(args: argparse.Namespace) -> None:
    from pathlib import Path

    from wgpy.identity import ca
    from wgpy.identity.settings import Limits

    directory = Path(args.directory)
    with _parent(args) as parent:
        request = ca.AuthorityRequest(
            name=args.name,
            network=_network(args.network, parent),
            limits=Limits(tuple(args.domain), _prefixes(args.range), tuple(args.group)),
            prefixes=_prefixes(args.prefix),
            days=args.days or (ca.ROOT_DAYS if parent is None else ca.INTERMEDIATE_DAYS),
        )
        passphrase = _passphrase(args.passphrase_file, f"Passphrase of {directory}", twice=True)
        if args.request:
            path = ca.create_request(directory, request, passphrase)
            if args.json:
                _print_json({"request": str(path), "network": request.network.hex()})
            else:
                print(f"{path}: let the root sign this request with its extensions,")
                print(f"and put the certificate into {directory}/ca.pem.")
            return
        ca.create(directory, request, passphrase, time.time(), parent)
    with ca.Issuer(directory) as issuer:
        _print_authority(issuer, args.json)


def _extend(args: argparse.Namespace) -> None:
    from pathlib import Path

    from wgpy.identity import ca
    from wgpy.identity.profile import Rights

    directory = Path(args.directory)
    passphrase = _passphrase(args.passphrase_file, f"Passphrase of {directory}")
    with _unlocked(args.parent, args.parent_passphrase_file) as parent:
        more = Rights(parent.rights.network, 0, tuple(args.group), _prefixes(args.prefix))
        days = args.days or ca.INTERMEDIATE_DAYS
        ca.extend(directory, passphrase, time.time(), parent, more, days)
    with ca.Issuer(directory) as issuer:
        _print_authority(issuer, args.json)


def _issue(args: argparse.Namespace) -> None:
    from wgpy.identity.ca import PEER_DAYS, PeerRequest
    from wgpy.keys import PublicKey

    request = PeerRequest(
        key=PublicKey.from_base64(args.key),
        name=args.name,
        addresses=_prefixes(args.address),
        groups=tuple(args.group),
        prefixes=_prefixes(args.prefix),
        days=args.days or PEER_DAYS,
    )
    with _unlocked(args.directory, args.passphrase_file) as issuer:
        _give_out(issuer, issuer.issue(request, time.time()), args)


def _renew(args: argparse.Namespace) -> None:
    with _unlocked(args.directory, args.passphrase_file) as issuer:
        _give_out(issuer, issuer.renew(args.name, time.time(), args.days), args)


def _revoke(args: argparse.Namespace) -> None:
    from wgpy.keys import PublicKey

    with _unlocked(args.directory, args.passphrase_file) as issuer:
        now = time.time()
        if args.serial is not None:
            found = issuer.revoke_serial(args.serial.replace(":", "").lower(), now)
        elif args.key is not None:
            found = issuer.revoke_key(PublicKey.from_base64(args.key), now)
        else:
            found = issuer.revoke_name(args.name, now)
        serials = [x.serial for x in found]
        _sign_crl(issuer, args, now, {"revoked": serials})


def _crl(args: argparse.Namespace) -> None:
    with _unlocked(args.directory, args.passphrase_file) as issuer:
        _sign_crl(issuer, args, time.time(), {})


def _show(args: argparse.Namespace) -> None:
    from pathlib import Path

    from wgpy.identity.ca import Issuer

    with Issuer(Path(args.directory)) as issuer:
        _print_authority(issuer, args.json)


def _signer(args: argparse.Namespace) -> None:
    from wgpy.cli.ca_signer import serve

    serve(args, _passphrase(args.passphrase_file, f"Passphrase of {args.directory}"))


_ACTIONS: Final[dict[str, Callable[[argparse.Namespace], None]]] = {
    "init": _init,
    "extend": _extend,
    "issue": _issue,
    "renew": _renew,
    "revoke": _revoke,
    "crl": _crl,
    "show": _show,
    "signer": _signer,
}


# --- What comes in ---


@contextmanager
def _unlocked(directory: str, passphrase_file: str | None) -> "Iterator[Issuer]":
    from pathlib import Path

    from wgpy.identity.ca import Issuer

    with Issuer(Path(directory)) as issuer:
        issuer.unlock(_passphrase(passphrase_file, f"Passphrase of {directory}"))
        yield issuer


@contextmanager
def _parent(args: argparse.Namespace) -> "Iterator[Issuer | None]":
    if args.parent is None:
        if args.parent_passphrase_file is not None:
            raise CommandError("--parent-passphrase-file belongs to --parent")
        yield None
        return
    with _unlocked(args.parent, args.parent_passphrase_file) as issuer:
        yield issuer


def _network(text: str | None, parent: "Issuer | None") -> bytes:
    """The id that was given, the parent's, or a new one."""
    import os

    if text is None:
        return os.urandom(16) if parent is None else parent.rights.network
    try:
        network = bytes.fromhex(text)
    except ValueError:
        network = b""
    if len(network) != 16:
        raise CommandError("a network's id is 32 hexadecimal digits")
    return network


def _prefixes(texts: Sequence[str]) -> "tuple[Prefix, ...]":
    from wgpy.ip import parse_prefix

    try:
        return tuple(parse_prefix(text) for text in texts)
    except ValueError as error:
        raise CommandError(str(error)) from None


def _passphrase(path: str | None, prompt: str, *, twice: bool = False) -> bytes:
    """The first line of a file, or what is typed at a terminal."""
    if path is not None:
        from wgpy.cli import print_error
        from wgpy.keys import exposure_warning

        warning = exposure_warning(path)
        if warning:
            print_error(warning)
        with open(path, "rb") as file:
            return file.read(_PASSPHRASE_LIMIT).split(b"\n")[0].rstrip(b"\r")
    import getpass

    if sys.stdin is None or not sys.stdin.isatty():
        raise CommandError("there is no terminal to ask for the passphrase; use --passphrase-file")
    typed = getpass.getpass(f"{prompt}: ")
    if twice and getpass.getpass("The same again: ") != typed:
        raise CommandError("the two passphrases differ; nothing was made")
    return typed.encode()


# --- What goes out ---


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2))


def _give_out(issuer: "Issuer", issued: "Issued", args: argparse.Namespace) -> None:
    from pathlib import Path

    from wgpy.identity import ca_files

    pem = ca_files.pem(issued.der, "CERTIFICATE").decode("ascii")
    if args.out is not None:
        ca_files.write_public(Path(args.out), issued.der, "CERTIFICATE")
    if args.json:
        intermediate = issuer.parent is not None
        result = {
            **_issued_json(issued),
            "length": len(issued.der),
            "fits_beside_intermediate": issuer.fits_beside(issued) if intermediate else None,
            "certificate": pem,
        }
        _print_json(result)
    elif args.out is None:
        print(pem, end="")
    else:
        print(f"{args.out}: {issued.name}, generation {issued.generation}, serial {issued.serial}")


def _sign_crl(
    issuer: "Issuer", args: argparse.Namespace, now: float, result: dict[str, Any]
) -> None:
    from wgpy.identity.ca import CRL_DAYS
    from wgpy.identity.ca_files import CRL

    number, _ = issuer.crl(now, args.days or CRL_DAYS)
    path = issuer.directory / CRL
    if args.json:
        _print_json({**result, "crl": str(path), "number": number})
        return
    for serial in result.get("revoked", ()):
        print(f"revoked: {serial}")
    print(f"{path}: CRL number {number}; bring it to every machine that trusts this CA")


def _issued_json(issued: "Issued") -> dict[str, Any]:
    import base64

    is_peer = issued.kind.value == "peer"
    return {
        "kind": issued.kind.value,
        "name": issued.name,
        "key": base64.b64encode(issued.key).decode() if is_peer else issued.key.hex(),
        "generation": issued.generation if is_peer else None,
        "serial": issued.serial,
        "not_before": issued.not_before,
        "not_after": issued.not_after,
        "revoked": issued.revoked,
    }


def _print_authority(issuer: "Issuer", as_json: bool) -> None:
    from wgpy.cli.cert import description_json, description_text
    from wgpy.identity.describe import describe
    from wgpy.identity.x509der import time_text

    description = describe(issuer.authority.der)
    issued = issuer.ledger.all()
    if as_json:
        _print_json({**description_json(description), "issued": [_issued_json(x) for x in issued]})
        return
    print(description_text(description), end="")
    for found in issued:
        state = "revoked" if found.revoked is not None else f"until {time_text(found.not_after)}"
        what = f"generation {found.generation}" if found.kind.value == "peer" else "CA"
        print(f"  {found.name}: {what}, serial {found.serial}, {state}")
