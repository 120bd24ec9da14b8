"""`wgpy up`: bring an interface up, with its addresses, routes and DNS."""

import argparse

from wgpy.cli.errors import CommandError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A configuration, and whether its daemon runs already."""
    parser.add_argument(
        "config", metavar="CONFIG|INTERFACE", help="a .conf or .toml file, or an interface's name"
    )
    parser.add_argument(
        "--attach", action="store_true", help="the daemon runs already (for systemd)"
    )


def run(args: argparse.Namespace) -> int:
    """Bring it up, or leave everything as it was."""
    from wgpy.cli.set import look_up
    from wgpy.config.load import find, interface_name, load, warning_without_key
    from wgpy.quick.control import DaemonControl
    from wgpy.quick.root import become_root
    from wgpy.quick.runner import FAILURES, reason, say
    from wgpy.quick.up import up

    try:
        become_root("up")
        path = find(args.config)
        name = interface_name(path)
        config, warnings = load(path, "quick")
        without_key = warning_without_key(config)
        for warning in [*warnings, *([without_key] if without_key else [])]:
            say(f"[!] {warning}")
        up(name, config, DaemonControl(name, config, look_up), attach=args.attach)
    except FAILURES as error:
        raise CommandError(reason(error)) from None
    return 0
