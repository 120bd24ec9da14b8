"""`wgpy mesh join` and `wgpy mesh leave`: into a network by one pasted line, and out of it again.

`join` makes the key and writes down what the line says; the agent does the rest, so that nothing is
lost when the terminal is closed or the connection breaks. `join` looks on, and says how it goes.
"""

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from wgpy.cli.errors import CommandError

if TYPE_CHECKING:
    from wgpy.mesh.line import JoinLine
    from wgpy.mesh.place import Place

INTERFACE: Final = "mesh0"
WAIT_SECONDS: Final = 60
_MAX_WAIT: Final = 3600
_POLL: Final = 0.1
# The agent's program has to be loaded first.
_START_SECONDS: Final = 15.0
_STOP_SECONDS: Final = 15.0
# What mail programs make of one line.
_MAX_LINES: Final = 100
_MAX_INPUT: Final = 16_384

# What `run` returns for `join`.
JOINED: Final = 0
NOT_JOINED: Final = 1
PENDING: Final = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `mesh join` or of `mesh leave`."""
    if parser.get_default("action") == "leave":
        parser.add_argument(
            "--force", action="store_true", help="forget the network though it cannot be told"
        )
        parser.add_argument(
            "interface", nargs="?", metavar="INTERFACE", help="of which mesh, if there are several"
        )
        return
    parser.add_argument(
        "--interface",
        default=INTERFACE,
        metavar="NAME",
        help=f"the interface to make, {INTERFACE} without this",
    )
    parser.add_argument(
        "--name", metavar="NAME", help="the name to ask for; without this, that of the machine"
    )
    parser.add_argument(
        "--port", type=int, default=0, metavar="PORT", help="the UDP port; without this any"
    )
    parser.add_argument(
        "--wait",
        type=int,
        default=WAIT_SECONDS,
        metavar="SECONDS",
        help=f"how long to look on, {WAIT_SECONDS} without this; the agent goes on after that",
    )
    parser.add_argument(
        "line",
        nargs="?",
        metavar="LINE",
        help="the joining line; without it, it is asked for or read from standard input, where no "
        "history and no list of processes shows it",
    )
    parser.epilog = (
        "The exit status is 0 if this machine is a node now, 2 if an operator has yet to approve "
        "it, and 1 otherwise."
    )


def run(args: argparse.Namespace) -> int:
    """Join or leave; returns the exit code."""
    from wgpy.quick.root import become_root

    become_root(f"mesh {args.action}")
    if args.action == "leave":
        return _leave(args.interface, force=args.force)
    return _join(args)


# --- Joining ---


def _join(args: argparse.Namespace) -> int:
    from wgpy.cli.mesh_run import check_library
    from wgpy.mesh import background
    from wgpy.mesh.place import Place, PlaceError

    check_library()
    if not 0 < args.wait <= _MAX_WAIT:
        raise CommandError(f"--wait takes 1 to {_MAX_WAIT} seconds")
    if not 0 <= args.port < 1 << 16:
        raise CommandError("--port takes 1 to 65535")
    place = Place(args.interface)
    try:
        _check_free(place)
        line, text = read_line(args.line)
        _check_is_elsewhere(place, line)
        _put_down(place, line, text, args.name, args.port)
    except PlaceError as error:
        raise CommandError(str(error)) from None
    try:
        how = background.start(args.interface)
    except background.StartError as error:
        raise CommandError(str(error)) from None
    code = watch(args.interface, args.wait, _ask(args.interface), _say)
    if code is None:
        _forget(place)
        return NOT_JOINED
    if code == JOINED and how is background.How.PROCESS:
        _say(f"No systemd keeps it here: run `wgpy mesh run {args.interface}` at boot.")
    return code


def _check_free(place: "Place") -> None:
    """Raise CommandError for an interface that is a node, or something else, already."""
    from wgpy.mesh.ask import AskError, ask_agent

    if place.exists():
        membership = place.membership()
        if membership.name is not None and membership.ended is None and not _is_over(place):
            raise CommandError(
                f"{place.interface} is {membership.name} already; `wgpy mesh leave "
                f"{place.interface}` first, or `--interface` for a second network"
            )
        with contextlib.suppress(AskError):  # none runs, which is as good
            ask_agent(place.interface, {"ask": "stop"})
        _wait(lambda: not place.socket.exists(), _STOP_SECONDS)
        return
    with contextlib.suppress(FileNotFoundError):
        os.stat(f"/sys/class/net/{place.interface}")
        raise CommandError(f"there is an interface {place.interface}; choose another one")


def _check_is_elsewhere(place: "Place", line: "JoinLine") -> None:
    """Raise CommandError if another interface of this machine is a node of that network: two of
    them would lead the same addresses to two tunnels."""
    from wgpy.mesh.place import Place, PlaceError, interfaces

    for name in interfaces():
        if name == place.interface or not os.path.exists(f"/sys/class/net/{name}"):
            continue
        with contextlib.suppress(PlaceError):  # what cannot be read is no reason to refuse another
            if Place(name).membership().network == line.network:
                raise CommandError(f"this machine is in that network already, by {name}")


def _is_over(place: "Place") -> bool:
    """Whether the certificate has ended, so that nobody but a new line helps."""
    from wgpy.identity.claims import CredentialError
    from wgpy.identity.leaf import read_leaf
    from wgpy.mesh.place import PlaceError

    try:
        return read_leaf(place.papers()[0]).not_after < time.time()
    except (PlaceError, CredentialError):
        return True


def _put_down(place: "Place", line: "JoinLine", text: str, name: str | None, port: int) -> None:
    """Write down who we are to be. The key of a node that was never let in, or whose certificate
    has ended, stays: the line may be spent by it already."""
    from wgpy.identity.profile import is_name
    from wgpy.keys import PrivateKey
    from wgpy.mesh.place import Membership

    if name is not None and not is_name(name):
        raise CommandError(f"{name!r} is no name: lower-case letters, digits and -")
    key = PrivateKey.generate()
    membership = Membership(
        interface=place.interface,
        network=line.network,
        domain=line.domain,
        line=text,
        wanted=name,
        contacts=line.coordinators,
        port=port,
    )
    if place.exists():
        former = place.membership()
        if former.network == line.network and former.ended is None:
            key = place.key()
            membership = replace(membership, port=port or former.port)
        place.remove()
    place.make(key, membership)
    place.set_token(line.token)


def read_line(given: str | None) -> "tuple[JoinLine, str]":
    """The line, and its text without white space. Raises CommandError for what is none."""
    from wgpy.mesh.line import LineError, parse_line

    text = given if given is not None else _input()
    try:
        return parse_line(text), "".join(text.split())
    except LineError as error:
        raise CommandError(str(error)) from None


def _input() -> str:
    """What is pasted at the prompt, or comes by standard input."""
    if not sys.stdin.isatty():
        return sys.stdin.read(_MAX_INPUT)
    import getpass

    from wgpy.mesh.line import LineError, parse_line

    text = ""
    prompt = "Paste the joining line (it is not shown): "
    for _ in range(_MAX_LINES):
        part = getpass.getpass(prompt)
        text, prompt = text + part, ""
        if not part:
            break
        with contextlib.suppress(LineError):  # the rest of it comes with the next line
            parse_line(text)
            break
    return text


Ask = Callable[[], dict[str, Any] | None]


def _ask(interface: str) -> Ask:
    from wgpy.mesh.ask import AskError, ask_agent

    def ask() -> dict[str, Any] | None:
        try:
            return ask_agent(interface, {"ask": "status"})
        except AskError:
            return None

    return ask


def watch(
    interface: str,
    seconds: float,
    ask: Ask,
    say: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> int | None:
    """Say how it goes until it is in, has to wait, or time is up: the exit code. None if it can
    never come in; that is said as well."""
    began = clock()
    found: dict[str, Any] | None = None
    told = ""
    while clock() - began < seconds:
        found = ask()
        if found is None and clock() - began > _START_SECONDS:
            raise CommandError(
                f"the agent does not run; `wgpy mesh run {interface}` says why, in the foreground"
            )
        state = "" if found is None else str(found.get("state"))
        if found is not None and state == "connected" and found.get("directory_revision"):
            say(_welcome(found))
            return JOINED
        if found is not None and state in ("joining", "removed") and found.get("ended"):
            say(f"wgpy: {found['reason']}")
            return None
        if found is not None and state == "pending":
            say("An operator has to approve this machine; it comes in by itself then.")
            say(f"`wgpy status {interface}` tells, and `wgpy mesh leave {interface}` gives up.")
            return PENDING
        reason = "" if found is None else str(found.get("problem") or found.get("reason") or "")
        if reason and reason != told and clock() - began > 2:
            say(f"Not yet: {reason}")
            told = reason
        sleep(_POLL)
    why = told or "no coordinator answers"
    say(f"wgpy: {why}; it goes on in the background, and `wgpy mesh leave {interface}` gives up")
    return NOT_JOINED


def _welcome(found: dict[str, Any]) -> str:
    others = len(found.get("nodes", ()))
    count = "no other node yet" if not others else f"{others} other node{'s' * (others > 1)}"
    return f"This machine is {found['name']}, {', '.join(found['addresses'])}; {count}."


def _forget(place: "Place") -> None:
    """It never comes in with this line: nothing of it stays."""
    from wgpy.mesh import background

    _leave_agent(place, force=True)
    with contextlib.suppress(background.StartError):  # there was nothing to forget
        background.forget(place.interface)


# --- Leaving ---


def _leave(interface: str | None, *, force: bool) -> int:
    from wgpy.mesh import background
    from wgpy.mesh.place import Place, interfaces

    if interface is None:
        found = list(interfaces())
        if len(found) != 1:
            several = f"name one of {', '.join(found)}" if found else "this machine is in no mesh"
            raise CommandError(several)
        interface = found[0]
    place = Place(interface)
    if not place.exists():
        raise CommandError(f"{interface} is in no mesh")
    _leave_agent(place, force=force)
    try:
        background.forget(interface)
    except background.StartError as error:
        raise CommandError(str(error)) from None
    return 0


def _leave_agent(place: "Place", *, force: bool) -> None:
    """Have the agent leave; with `force` the files go as well where none runs."""
    from wgpy.mesh.ask import AskError, ask_agent

    try:
        answer = ask_agent(place.interface, {"ask": "leave", "force": force})
    except AskError as error:
        if error.word or not force:
            raise
        place.remove()
        return
    if not _wait(lambda: not place.exists() and not place.socket.exists(), _STOP_SECONDS):
        raise CommandError(f"the agent of {place.interface} does not end")
    if answer.get("revoked"):
        _say(f"This machine is no node of {answer['left']} any more; its certificate is revoked.")


def _wait(done: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL)
    return True


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
