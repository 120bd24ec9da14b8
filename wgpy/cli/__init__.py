"""The `wgpy` command: finds the module of the command asked for, parses, runs, reports failures.

The convention for a command module:

- It is named in COMMANDS below, and imported only when its command is the one asked for.
- `def add_arguments(parser: argparse.ArgumentParser) -> None` says what it takes.
- `def run(args: argparse.Namespace) -> int` does it, and returns the exit code.
- A module that serves several commands finds which one in `args.command`, and while it adds
  arguments in `parser.get_default("command")`.
- A failure that a person sees is `raise CommandError("what is wrong; what to do")` (errors.py).
  OSError, ConfigError, KeyFormatError and UapiError are printed the same way, in one line.
- What is slow to import (asyncio, pyroute2, cryptography, rich) is imported inside `run`.

Usage errors exit with 1 and not with argparse's 2, as those of wg(8) do.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Final, NamedTuple, NoReturn

from wgpy.cli.errors import CommandError


class Command(NamedTuple):
    """Where a command lives, and what it does in one line."""

    module: str
    help: str


COMMANDS: Final[dict[str, Command]] = {
    "show": Command("wgpy.cli.show", "show the configuration and the state of interfaces"),
    "showconf": Command("wgpy.cli.showconf", "print the configuration as a file for setconf"),
    "set": Command("wgpy.cli.set", "change the configuration, add, change or remove peers"),
    "setconf": Command("wgpy.cli.setconf", "replace the configuration by that of a file"),
    "addconf": Command("wgpy.cli.setconf", "add the configuration of a file"),
    "syncconf": Command("wgpy.cli.setconf", "bring in a file without disturbing live sessions"),
    "genkey": Command("wgpy.cli.keys", "make a private key and print it"),
    "genpsk": Command("wgpy.cli.keys", "make a pre-shared key and print it"),
    "pubkey": Command(
        "wgpy.cli.keys", "read a private key on standard input, print its public key"
    ),
    "up": Command("wgpy.cli.up", "bring an interface up, with its addresses, routes and DNS"),
    "down": Command("wgpy.cli.down", "take an interface down and undo what up did"),
    "save": Command("wgpy.cli.save", "write the running configuration to the interface's file"),
    "strip": Command("wgpy.cli.strip", "print a configuration without what only up understands"),
    "ca": Command("wgpy.cli.ca", "be a certification authority: issue, renew and revoke"),
    "cert": Command("wgpy.cli.cert", "show what a certificate says"),
    "token": Command("wgpy.cli.token", "make, look at and verify tokens that let peers in"),
    "firewall": Command("wgpy.cli.firewall", "show the rules by group, and explain a verdict"),
    "netcheck": Command("wgpy.cli.netcheck", "see what NAT stands between this machine and others"),
    "punch": Command("wgpy.cli.punch", "find a direct way to a peer, with the help of two people"),
    "stun-server": Command("wgpy.cli.stun_server", "tell machines behind NATs where they are seen"),
    "portmap": Command("wgpy.cli.portmap", "say what the router forwards ports by, or have one"),
    "status": Command("wgpy.cli.status", "show every node, and the way to it, as it is now"),
    "ping": Command("wgpy.cli.ping", "ping a node, and say by which path answers come"),
    "mesh": Command("wgpy.cli.mesh", "a network of machines that find each other by name"),
    "coordinator": Command("wgpy.cli.coordinator", "serve a mesh, beside the daemon of it"),
    "bugreport": Command("wgpy.cli.bugreport", "write what is needed to find a fault, no secrets"),
    "demo": Command("wgpy.cli.demo", "bring up a tunnel between two namespaces and show it"),
    "doctor": Command("wgpy.cli.doctor", "say what this machine has and what it lacks"),
}

# What a shell reports for a command that the signal ended: 128 and the signal's number.
_INTERRUPTED: Final = 128 + 2
_BROKEN_PIPE: Final = 128 + 13


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line and a CommandError."""

    def error(self, message: str) -> NoReturn:
        """Raise CommandError with the message and where to read more."""
        raise CommandError(f"{message}; see `{self.prog} --help`")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line (without the program's name) and return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _dispatch(words)
        if sys.stdout is not None:
            sys.stdout.flush()
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        _abandon_output()
        return _BROKEN_PIPE
    except SystemExit as stop:  # argparse's --help
        return stop.code if isinstance(stop.code, int) else 0
    except Exception as error:
        reason = _reason(error)
        if reason is None:
            raise
        print_error(reason)
        if sys.stdout is not None:
            try:
                sys.stdout.flush()
            except OSError:
                _abandon_output()
        return 1
    return code


def _abandon_output() -> None:
    """Nobody takes what is left to print: the interpreter must not complain of it at exit."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)


def print_error(reason: str) -> None:
    """Print `wgpy: REASON` on standard error, in one line."""
    print("wgpy:", " ".join(reason.split("\n")), file=sys.stderr)


def make_parser(name: str) -> Parser:
    """The parser of one command. Imports the command's module."""
    command = COMMANDS[name]
    parser = Parser(prog=f"wgpy {name}", description=command.help, allow_abbrev=False)
    parser.set_defaults(command=name)
    importlib.import_module(command.module).add_arguments(parser)
    return parser


def _dispatch(words: list[str]) -> int:
    if not words:
        words = ["show"]
    name, *rest = words
    if name in ("help", "-h", "--help"):
        if name == "help" and rest and rest[0] in COMMANDS:
            make_parser(rest[0]).print_help()
        else:
            print(usage(), end="")
        return 0
    if name in ("version", "-v", "--version"):
        from wgpy import __version__

        print(f"wgpy {__version__}")
        return 0
    if name not in COMMANDS:
        raise CommandError(f"there is no command {name!r}; `wgpy help` lists them")
    args = make_parser(name).parse_args(rest)
    code: int = sys.modules[COMMANDS[name].module].run(args)
    return code


def usage() -> str:
    """What `wgpy help` prints."""
    width = max(map(len, COMMANDS))
    lines = ["usage: wgpy COMMAND [ARGUMENT ...]", "", "commands:"]
    lines += [f"  {name:<{width}}  {command.help}" for name, command in COMMANDS.items()]
    lines += [
        "",
        "`wgpy` alone is `wgpy show`; `wgpy COMMAND --help` says what a command takes;",
        "`wgpy version` prints the version. wgpy(1) says it all.",
    ]
    return "\n".join(lines) + "\n"


def _reason(error: Exception) -> str | None:
    """The line for a failure that a person should see; None for a fault of the program."""
    if isinstance(error, CommandError):
        return str(error)
    if isinstance(error, OSError):
        text = error.strerror or str(error)
        return f"{error.filename}: {text}" if error.filename is not None else text
    # These modules are loaded already if one of their exceptions was raised.
    from wgpy.config.errors import ConfigError
    from wgpy.device.uapi import UapiError
    from wgpy.identity.claims import CredentialError
    from wgpy.identity.ledger import LedgerError
    from wgpy.keys import KeyFormatError

    if isinstance(error, ConfigError | CredentialError | KeyFormatError | LedgerError | UapiError):
        return str(error)
    return None
