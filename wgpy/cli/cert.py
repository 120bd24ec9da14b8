"""`wgpy cert`: what a certificate says, for a person to read."""

import argparse
import json
from typing import TYPE_CHECKING, Any

from wgpy.cli.errors import CommandError

if TYPE_CHECKING:
    from wgpy.identity.describe import Description


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is done with certificates."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    text = "show what the certificates in a file say; nothing is verified"
    show = actions.add_parser("show", help=text, description=text, allow_abbrev=False)
    show.add_argument("file", metavar="FILE", help="certificates in PEM, or one in DER")
    show.add_argument("--json", action="store_true", help="print them as JSON")


def run(args: argparse.Namespace) -> int:
    """Show every certificate; 1 if one does not fit the profile."""
    from wgpy.identity.claims import CredentialError
    from wgpy.identity.describe import describe
    from wgpy.identity.x509der import certificates_in, read_file

    try:
        found = [describe(der) for der in certificates_in(read_file(args.file))]
    except CredentialError as error:
        raise CommandError(f"{args.file}: {error}") from None
    if args.json:
        print(json.dumps([description_json(x) for x in found], indent=2))
    else:
        print("\n".join(description_text(x) for x in found), end="")
    return 0 if all(x.fault is None for x in found) else 1


def description_json(found: "Description") -> dict[str, Any]:
    """A certificate as JSON has it. What does not fit the profile is `fault`."""
    fault = None
    if found.fault is not None:
        fault = {"reason": found.fault[0], "text": found.fault[1]}
    return {
        "kind": "ca" if found.is_authority else "peer",
        "key": found.key,
        "serial": found.serial,
        "subject": found.subject,
        "issuer": found.issuer,
        "issuer_key": found.issuer_key,
        "names": list(found.names),
        "addresses": list(found.addresses),
        "network": found.network,
        "generation": found.generation,
        "groups": list(found.groups),
        "prefixes": list(found.prefixes),
        "not_before": found.not_before,
        "not_after": found.not_after,
        "length": found.length,
        "fault": fault,
    }


def description_text(found: "Description") -> str:
    """A certificate as lines."""
    from wgpy.cli import style
    from wgpy.identity.x509der import time_text

    ca = found.is_authority
    title = found.subject if ca or not found.names else found.names[0]
    text = style.heading("CA" if ca else "peer", title, style.YELLOW)
    rows = [
        ("SHA-256 of its key" if ca else "public key", found.key),
        ("serial", found.serial),
        ("issuer", found.issuer),
        ("names", ", ".join(found.names) if ca else ""),
        ("addresses", ", ".join(found.addresses)),
        ("network", found.network or ""),
        ("generation", "" if found.generation is None else str(found.generation)),
        ("groups", ", ".join(found.groups)),
        ("prefixes", ", ".join(found.prefixes)),
        ("valid", f"{time_text(found.not_before)} to {time_text(found.not_after)}"),
        ("length", f"{found.length} bytes"),
        ("not to the profile", "" if found.fault is None else found.fault[1]),
    ]
    text += "".join(style.label(name, value) for name, value in rows if value)
    return style.finish(text)
