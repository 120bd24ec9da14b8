"""What the operator of a mesh says on a coordinator: `wgpy mesh invite`, `nodes`, `remove`, ..."""

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from wgpy.cli import style
from wgpy.cli.errors import CommandError
from wgpy.cli.mesh_init import duration
from wgpy.cli.table import Cell, Column, table

Answer = Mapping[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of one of the actions."""
    _ARGUMENTS[parser.get_default("action")](parser)
    parser.add_argument("--json", action="store_true", help="print the answer as JSON")
    parser.add_argument(
        "--interface", metavar="INTERFACE", help="of which mesh, if this machine has several"
    )


def _add_invite(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", metavar="NAME", help="what the node will be called")
    parser.add_argument("--groups", metavar="GROUPS", help="the groups that it will be in")
    parser.add_argument(
        "--uses", metavar="NUMBER", type=int, default=1, help="how many machines may join (1)"
    )
    parser.add_argument(
        "--expires", metavar="DURATION", default="1h", help="such as 30m, 24h or 7d (1h)"
    )
    parser.add_argument("--qr", action="store_true", help="print a QR code too")


def _add_invites(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--revoke", metavar="ID", help="take this invitation back")


def _add_nodes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--removed", action="store_true", help="those too that were removed")


def _add_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NODE", help="its name")


def _add_rights(parser: argparse.ArgumentParser) -> None:
    _add_name(parser)
    parser.add_argument("--groups", metavar="GROUPS", help="its groups, all of them; '' for none")
    parser.add_argument("--routes", metavar="PREFIXES", help="what it may route; '' for nothing")
    parser.add_argument("--offers", action="store_true", help="let it route what it offers")


def _add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--approval",
        choices=("on", "off"),
        metavar="WORD",
        help="on or off: let nodes in one by one",
    )
    parser.add_argument("--validity", metavar="DURATION", help="how long certificates are valid")
    parser.add_argument("--stun", metavar="SERVERS", help="the STUN servers; '' for none")
    parser.add_argument("--turn", metavar="URIS", help="the TURN servers; '' for none")
    parser.add_argument("--turn-secret-file", metavar="FILE", help="the secret that they have")
    parser.add_argument(
        "--endpoint",
        metavar="CHANGE",
        action="append",
        default=[],
        help="NODE=HOST:PORT,.. where a coordinator is; NODE= takes it from the list",
    )


_ARGUMENTS: Final[dict[str, Callable[[argparse.ArgumentParser], None]]] = {
    "invite": _add_invite,
    "invites": _add_invites,
    "nodes": _add_nodes,
    "approve": _add_name,
    "remove": _add_name,
    "rights": _add_rights,
    "settings": _add_settings,
}


def run(args: argparse.Namespace) -> int:
    """Ask the coordinator, and print what it answers; returns the exit code."""
    from wgpy.mesh import ask

    interface = args.interface or _only_coordinator()
    answer = ask.ask_operator(interface, _QUESTIONS[args.action](args, interface))
    if args.json:
        print(json.dumps(answer, indent=2))
    else:
        sys.stdout.write(style.finish(_TEXTS[args.action](args, answer)))
    return 0


def _only_coordinator() -> str:
    import os

    from wgpy.mesh.ask import RUN_DIRECTORY

    try:
        entries = os.listdir(RUN_DIRECTORY)
    except FileNotFoundError:
        entries = []
    suffix = ".coordinator.sock"
    found = sorted(x.removesuffix(suffix) for x in entries if x.endswith(suffix))
    if len(found) == 1:
        return found[0]
    if found:
        raise CommandError(f"several meshes are coordinated here: --interface {' or '.join(found)}")
    raise CommandError(
        "no coordinator runs here; this is said on a machine that coordinates (`wgpy status` "
        "tells which do)"
    )


# --- Questions ---


def _ask_invite(args: argparse.Namespace, _interface: str) -> dict[str, Any]:
    return {
        "ask": "invite",
        "name": args.name,
        "groups": _words(args.groups) or [],
        "uses": args.uses,
        "seconds": duration(args.expires),
    }


def _ask_invites(args: argparse.Namespace, _interface: str) -> dict[str, Any]:
    if args.revoke is not None:
        return {"ask": "revoke-invite", "jti": args.revoke}
    return {"ask": "invites"}


def _ask_nodes(args: argparse.Namespace, _interface: str) -> dict[str, Any]:
    return {"ask": "nodes", "removed": args.removed}


def _ask_name(args: argparse.Namespace, _interface: str) -> dict[str, Any]:
    return {"ask": args.action, "name": args.name}


def _ask_rights(args: argparse.Namespace, _interface: str) -> dict[str, Any]:
    asked: dict[str, Any] = {"ask": "rights", "name": args.name, "offers": args.offers}
    for what in ("groups", "routes"):
        words = _words(getattr(args, what))
        if words is not None:
            asked[what] = words
    if len(asked) == 3 and not args.offers:
        raise CommandError("say --groups, --routes or --offers")
    return asked


def _ask_settings(args: argparse.Namespace, interface: str) -> dict[str, Any]:
    from wgpy.keys import read_password
    from wgpy.mesh import ask

    asked: dict[str, Any] = {"ask": "settings"}
    changed: dict[str, Any] = {}
    if args.approval is not None:
        changed["approval"] = args.approval == "on"
    if args.validity is not None:
        changed["validity"] = duration(args.validity)
    for what in ("stun", "turn"):
        words = _words(getattr(args, what))
        if words is not None:
            changed[what] = words
    if args.turn_secret_file is not None:
        asked["turn_secret"] = read_password(args.turn_secret_file)
    if args.endpoint:
        now = ask.ask_operator(interface, {"ask": "settings"})
        nodes = ask.ask_operator(interface, {"ask": "nodes"})["nodes"]
        changed["coordinators"] = _coordinators(args.endpoint, now, nodes)
    if changed:
        asked["set"] = changed
    return asked


def _coordinators(
    changes: list[str], now: Answer, nodes: list[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    found = {x["name"]: dict(x) for x in now["coordinators"]}
    keys = {x["name"]: x["key"] for x in nodes}
    for change in changes:
        name, equals, places = change.partition("=")
        whole = name if "." in name else f"{name}.{now['domain']}"
        if not equals:
            raise CommandError("--endpoint is NODE=HOST:PORT, or NODE= to take it from the list")
        if whole not in keys:
            raise CommandError(f"there is no node {whole}")
        endpoints = _words(places) or []
        if endpoints:
            found[whole] = {"name": whole, "key": keys[whole], "endpoints": endpoints}
        else:
            found.pop(whole, None)
    return list(found.values())


def _words(text: str | None) -> list[str] | None:
    if text is None:
        return None
    return [x.strip() for x in text.split(",") if x.strip()]


_QUESTIONS: Final[dict[str, Callable[[argparse.Namespace, str], dict[str, Any]]]] = {
    "invite": _ask_invite,
    "invites": _ask_invites,
    "nodes": _ask_nodes,
    "approve": _ask_name,
    "remove": _ask_name,
    "rights": _ask_rights,
    "settings": _ask_settings,
}


# --- Answers, for people ---


def _show_invite(args: argparse.Namespace, answer: Answer) -> str:
    from wgpy.mesh.line import qr_text

    line = str(answer["line"])
    who = answer["name"] or "any name"
    uses = "once" if answer["uses"] == 1 else f"{answer['uses']} times"
    left = style.duration(max(0, int(answer["expires"] - time.time())))
    text = f"{line}\n\nOn the other machine, run `wgpy mesh join` and paste this line: for {who},\n"
    text += f"{uses}, within {left}. It is as good as a key: give it to nobody else.\n"
    if args.qr:
        # The colours of a code are no decoration.
        sys.stdout.write(qr_text(line))
    return text


def _show_invites(args: argparse.Namespace, answer: Answer) -> str:
    if args.revoke is not None:
        return f"{answer['jti']} was taken back; who has joined with it stays\n"
    columns = [Column("ID"), Column("NAME"), Column("GROUPS"), Column("USED"), Column("STATE")]
    rows = []
    for found in answer["invites"]:
        state = "open"
        if found["revoked"]:
            state = "taken back"
        elif found["expires"] <= answer["now"]:
            state = "expired"
        elif found["used"] >= found["uses"]:
            state = "spent"
        used = f"{found['used']} of {found['uses']}"
        rows.append(_cells(found["jti"], found["name"] or "", found["groups"], used, state))
    return _table(columns, rows, "There are no invitations; `wgpy mesh invite` makes one.")


def _show_nodes(_args: argparse.Namespace, answer: Answer) -> str:
    heads = ("NAME", "ADDRESSES", "STATE", "GROUPS", "ROUTES", "OFFERS", "CERTIFICATE ENDS", "SEEN")
    rows = []
    for node in answer["nodes"]:
        waiting = [x for x in node["offers"] if x not in node["routes"]]
        state = "connected" if node["connected"] else node["state"]
        addresses = [x.partition("/")[0] for x in node["addresses"]]
        ends = "" if node["expires"] is None else _in(node["expires"], answer["now"])
        seen = "" if node["last_seen"] is None else _ago(node["last_seen"], answer["now"])
        name = f"{node['name']} *" if node["coordinator"] else node["name"]
        rows.append(
            _cells(name, addresses, state, node["groups"], node["routes"], waiting, ends, seen)
        )
    columns = [Column(head, yields=place if place > 2 else 0) for place, head in enumerate(heads)]
    return _table(columns, rows, "There are no nodes.") + "* coordinates\n"


def _show_node(_args: argparse.Namespace, answer: Answer) -> str:
    addresses = ", ".join(x.partition("/")[0] for x in answer["addresses"])
    return f"{answer['name']} ({addresses}) is {answer['state']}\n"


def _show_rights(_args: argparse.Namespace, answer: Answer) -> str:
    groups = ", ".join(answer["groups"]) or "no group"
    routes = ", ".join(answer["routes"]) or "nothing"
    return (
        f"{answer['name']} will have {groups}, and may route {routes}, as soon as it renews its "
        "certificate\n"
    )


def _show_settings(_args: argparse.Namespace, answer: Answer) -> str:
    text = ""
    for name, value in answer.items():
        if name == "coordinators":
            for found in value:
                text += f"coordinator: {found['name']} at {', '.join(found['endpoints'])}\n"
            continue
        shown = ", ".join(value) if isinstance(value, list) else value
        if name == "validity":
            shown = style.COLOUR.sub("", style.duration(value))
        elif name == "approval":
            shown = "on" if value else "off"
        text += f"{name}: {style.printable(str(shown))}\n"
    return text


_TEXTS: Final[dict[str, Callable[[argparse.Namespace, Answer], str]]] = {
    "invite": _show_invite,
    "invites": _show_invites,
    "nodes": _show_nodes,
    "approve": _show_node,
    "remove": _show_node,
    "rights": _show_rights,
    "settings": _show_settings,
}


def _cells(*values: object) -> list[Cell]:
    return [Cell(style.printable(", ".join(x) if isinstance(x, list) else str(x))) for x in values]


def _table(columns: list[Column], rows: list[list[Cell]], empty: str) -> str:
    import shutil

    if not rows:
        return empty + "\n"
    width = shutil.get_terminal_size((100, 24)).columns if sys.stdout.isatty() else None
    return "\n".join(table(columns, rows, width)) + "\n"


def _in(then: float, now: float) -> str:
    return "over" if then <= now else f"in {_plain(int(then - now) or 1)}"


def _ago(then: float, now: float) -> str:
    return "now" if now - then < 90 else f"{_plain(int(now - then))} ago"


def _plain(seconds: int) -> str:
    """A time in its largest unit, without colours: a cell's width is counted."""
    return style.COLOUR.sub("", style.leading(seconds))
