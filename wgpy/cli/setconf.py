"""`wgpy setconf`, `addconf` and `syncconf`: bring an interface to what a file says."""

import argparse

from wgpy.cli import print_error
from wgpy.cli.set import look_up
from wgpy.config.load import find, load
from wgpy.config.sync import add_change, set_change, sync_change
from wgpy.device import client
from wgpy.device.uapi import DeviceChange


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the three commands."""
    parser.add_argument("interface", metavar="INTERFACE", help="the interface to change")
    parser.add_argument("file", metavar="FILE", help="a configuration as wg(8) reads it, or TOML")
    parser.add_argument(
        "--strip",
        action="store_true",
        help="pass over what only `wgpy up` understands; FILE may be an interface's name",
    )
    epilogues = {
        "setconf": "What the file does not mention is reset, and peers it lacks are removed.",
        "addconf": "What the file does not mention stays as it is.",
        "syncconf": "Peers that are as the file says are not touched: their sessions go on.",
    }
    parser.epilog = epilogues.get(parser.get_default("command"))


def run(args: argparse.Namespace) -> int:
    """Read the whole file, then send one request; returns the exit code."""
    # A whole file, and not the output of `strip`: that form cannot speak of credentials.
    loaded = load(find(args.file), "quick") if args.strip else load(args.file, "wg")
    for warning in loaded.warnings:
        print_error(f"warning: {warning}")
    change: DeviceChange
    # Names are for wgpy's own daemon; the client takes them out for others.
    if args.command == "syncconf":
        state = client.get(args.interface)
        names = state.wgpy_version is not None
        # A mark that `up` chose for a default route is not the file's to clear.
        keep = _is_chosen(args.interface, state.fwmark)
        change = sync_change(loaded.config, state, look_up, names=names, keep_fwmark=keep)
        if change == DeviceChange():
            return 0
    elif args.command == "addconf":
        change = add_change(loaded.config, look_up, names=True)
    else:
        change = set_change(loaded.config, look_up, names=True)
    client.apply(args.interface, change)
    return 0


def _is_chosen(interface: str, mark: int) -> bool:
    """Whether `up` chose this firewall mark by itself."""
    if not mark:
        return False
    from wgpy.quick.journal import RUN_DIRECTORY, read_journal

    journal = read_journal(RUN_DIRECTORY, interface)
    return journal is not None and mark in journal.chosen_marks()
