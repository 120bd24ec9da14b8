"""`wgpy mesh routes`: what other nodes offer, what of it is taken here, and what this node offers.

The agent keeps it and carries it out; what is chosen stays chosen when this command has ended, and
over a restart.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any, Final

from wgpy.cli import style
from wgpy.cli.errors import CommandError
from wgpy.ip import Prefix, parse_prefix

# What `offer exit` offers.
EXITS: Final = ("0.0.0.0/0", "::/0")
# As many as a certificate has room for.
MAX_OFFERS: Final = 16
MAX_ACCEPTED: Final = 256


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `wgpy mesh routes`."""
    parser.add_argument("--interface", metavar="NAME", help="of which mesh, if there are several")
    parser.add_argument("--json", action="store_true", help="print what is known as JSON")
    parser.add_argument(
        "--masquerade",
        action="store_true",
        help="with offer: what comes from the mesh leaves here with this node's own address",
    )
    parser.add_argument(
        "change",
        nargs="?",
        metavar="ACTION",
        choices=("accept", "drop", "exit", "offer"),
        help="take routes, take them no more, choose an exit, or offer routes",
    )
    parser.add_argument(
        "words",
        nargs="*",
        metavar="WORD",
        help="prefixes or nodes; of exit one node, or off; of offer prefixes, exit, or off",
    )


def run(args: argparse.Namespace) -> int:
    """Ask the agent, change what is asked for, print what is in force; returns the exit code."""
    from wgpy.mesh import ask

    if args.masquerade and args.change != "offer":
        raise CommandError("--masquerade is for `wgpy mesh routes offer`")
    interface = args.interface or ask.only_interface()
    found = _routes(ask.ask_agent(interface, {"ask": "routes"}))
    if args.change is not None:
        change = change_for(args.change, args.words, found, masquerade=args.masquerade)
        found = _routes(ask.ask_agent(interface, {"ask": "routes", **change}))
    if args.json:
        print(json.dumps(found, indent=2))
        return 0
    sys.stdout.write(style.finish(text(found)))
    return 0


def _routes(answer: Mapping[str, Any]) -> dict[str, Any]:
    found = answer.get("routes")
    return found if isinstance(found, dict) else {}


# --- What is asked for ---


def change_for(
    action: str, words: list[str], found: Mapping[str, Any], *, masquerade: bool = False
) -> dict[str, Any]:
    """The members of the question that change something. Raises CommandError."""
    if not words:
        raise CommandError(f"`wgpy mesh routes {action}` needs a word more; see `--help`")
    accepted = [str(x) for x in _list(found.get("accept"))]
    match action:
        case "accept":
            chosen = [_accepted(x) for x in words]
            both = list(dict.fromkeys([*accepted, *chosen]))
            if len(both) > MAX_ACCEPTED:
                raise CommandError(f"more than {MAX_ACCEPTED} routes and nodes are not accepted")
            return {"accept": both}
        case "drop":
            if words == ["all"]:
                return {"accept": []}
            gone = [_accepted(x) for x in words]
            missing = [x for x in gone if x not in accepted]
            if missing:
                has = ", ".join(accepted) or "nothing"
                raise CommandError(f"{missing[0]} is not accepted here; what is: {has}")
            return {"accept": [x for x in accepted if x not in gone]}
        case "exit":
            return {"exit": _exit(words)}
        case _:
            return {"offer": _offered(words), "masquerade": masquerade}


def _accepted(word: str) -> str:
    prefix = _prefix(word)
    if prefix is None:
        return word.lower()
    if not prefix.length:
        raise CommandError(f"{word} is an exit: `wgpy mesh routes exit NODE` chooses one")
    return str(prefix)


def _exit(words: list[str]) -> str | None:
    if len(words) != 1:
        raise CommandError("there is one exit at a time: name one node, or say `off`")
    if _prefix(words[0]) is not None:
        raise CommandError(f"an exit is a node, and {words[0]} is none; name one, or say `off`")
    return None if words[0] == "off" else words[0].lower()


def _offered(words: list[str]) -> list[str]:
    if words == ["off"]:
        return []
    offered: list[str] = []
    for word in words:
        prefix = _prefix(word)
        if word == "exit":
            offered += EXITS
        elif prefix is None:
            raise CommandError(f"{word} is no prefix as 10.1.0.0/16, nor `exit`, nor `off`")
        else:
            offered.append(str(prefix))
    offered = list(dict.fromkeys(offered))
    if len(offered) > MAX_OFFERS:
        raise CommandError(f"a node offers {MAX_OFFERS} prefixes at the most")
    return offered


def _prefix(word: str) -> Prefix | None:
    """The prefix, or None for a name. Raises CommandError for what only looks like a prefix."""
    try:
        return parse_prefix(word)
    except ValueError as error:
        if "/" in word or ":" in word:
            raise CommandError(str(error)) from None
        return None


# --- For people ---


def text(found: Mapping[str, Any]) -> str:
    """What is in force, with its colours, and a newline at the end."""
    taken = {style.printable(x.get("prefix")): x for x in _objects(found.get("taken"))}
    lines = [f"{style.BOLD}offered by others{style.RESET}"]
    offers = _objects(found.get("offers"))
    exit_ = style.printable(found.get("exit")) if found.get("exit") else ""
    for offer in offers:
        node = style.printable(offer.get("node"))
        for written in _list(offer.get("prefixes")):
            lines.append(f"  {_offer_line(style.printable(written), node, taken, exit_)}")
    if not offers:
        lines.append("  nothing")
    accepted = ", ".join(style.printable(x) for x in _list(found.get("accept")))
    lines.append(f"{style.BOLD}accepted here{style.RESET}: {accepted or 'nothing'}")
    lines.append(f"{style.BOLD}exit{style.RESET}: {_exit_text(found, exit_)}")
    offered = ", ".join(style.printable(x) for x in _list(found.get("offered")))
    if offered and found.get("masquerade"):
        offered += " (masqueraded)"
    lines.append(f"{style.BOLD}offered here{style.RESET}: {offered or 'nothing'}")
    waiting = [x for x in _list(found.get("asked")) if x not in _list(found.get("offered"))]
    if waiting:
        names = ", ".join(style.printable(x) for x in waiting)
        lines.append(f"{style.YELLOW}! an operator has yet to approve {names}{style.RESET}")
    for line in _list(found.get("said")):
        lines.append(f"{style.YELLOW}! {style.printable(line)}{style.RESET}")
    if found.get("problem"):
        lines.append(f"{style.RED}! {style.printable(found['problem'])}{style.RESET}")
    return "\n".join(lines) + "\n"


def _offer_line(written: str, node: str, taken: Mapping[str, Mapping[str, Any]], exit_: str) -> str:
    is_exit = written in EXITS
    used = node == exit_ if is_exit else taken.get(written, {}).get("node") == node
    mark = f"{style.GREEN}taken{style.RESET}" if used else "-----"
    return f"{mark}  {written:<24} {node}{'  (an exit)' if is_exit else ''}".rstrip()


def _exit_text(found: Mapping[str, Any], exit_: str) -> str:
    if not exit_:
        left = "; its guard is still in force" if found.get("guarded") else ""
        return f"none{left}"
    versions = [f"IPv{x}" for x in (4, 6) if x in _list(found.get("exit_versions"))]
    if not versions:
        return f"{style.RED}{exit_}, which offers none now: everything is blocked{style.RESET}"
    return f"{style.GREEN}{exit_}{style.RESET}, {' and '.join(versions)}"


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _objects(value: object) -> Iterable[Mapping[str, Any]]:
    return [x for x in _list(value) if isinstance(x, dict)]
