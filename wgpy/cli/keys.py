"""`wgpy genkey`, `genpsk` and `pubkey`, byte for byte as wg(8)'s."""

import argparse
import os
import sys
from typing import Final, TextIO

from wgpy.cli.errors import CommandError
from wgpy.keys import BASE64_LENGTH, KeyFormatError, PresharedKey, PrivateKey, is_world_readable

# What may follow a key on standard input: C's white space, and NUL.
_MAY_FOLLOW: Final = b" \t\n\v\f\r\0"

_WARNING: Final = (
    "Warning: writing to world accessible file.\n"
    "Consider setting the umask to 077 and trying again.\n"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """They take none."""
    if parser.get_default("command") == "pubkey":
        parser.epilog = "The private key is read on standard input: wgpy genkey | wgpy pubkey"


def run(args: argparse.Namespace) -> int:
    """Print one key."""
    if args.command == "pubkey":
        text = PrivateKey.from_base64(_read_key(sys.stdin)).public().base64()
    else:
        _warn_if_exposed(sys.stdout)
        made = PrivateKey.generate() if args.command == "genkey" else PresharedKey.generate()
        text = made.base64()
    print(text)
    return 0


def _warn_if_exposed(stdout: TextIO | None) -> None:
    """Say so when the secret goes into a file that others can open."""
    if stdout is None:
        raise CommandError("standard output is closed, and the key would be lost")
    if is_world_readable(os.fstat(1).st_mode):
        sys.stderr.write(_WARNING)


def _read_key(stdin: TextIO | None) -> str:
    """The 44 characters of a key, after which only white space comes."""
    if stdin is None:  # as the interpreter has it when the descriptor is closed
        raise CommandError("standard input is closed; give the private key there")
    stream = stdin.buffer
    raw = stream.read(BASE64_LENGTH)
    if len(raw) != BASE64_LENGTH:
        raise KeyFormatError(
            f"a key is {BASE64_LENGTH} characters of base64; standard input had {len(raw)}"
        )
    while rest := stream.read(4096):
        if rest.strip(_MAY_FOLLOW):
            raise KeyFormatError("standard input goes on after the key; give it the key alone")
    return raw.decode("ascii", "replace")
