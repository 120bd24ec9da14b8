"""`wgpy save`: write the running configuration to the interface's file."""

import argparse

from wgpy.cli.errors import CommandError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A configuration."""
    parser.add_argument(
        "config", metavar="CONFIG|INTERFACE", help="a .conf file, or an interface's name"
    )


def run(args: argparse.Namespace) -> int:
    """Write the file whole, or leave it as it was."""
    from wgpy.config.load import find, interface_name, load
    from wgpy.quick.root import become_root
    from wgpy.quick.runner import FAILURES, reason, say
    from wgpy.quick.save import save

    try:
        become_root("save")
        path = find(args.config)
        config, warnings = load(path, "quick")
        for warning in warnings:
            say(f"[!] {warning}")
        save(interface_name(path), path, config)
    except FAILURES as error:
        raise CommandError(reason(error)) from None
    return 0
