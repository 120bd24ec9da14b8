"""`wgpy down`: take an interface down, and undo what `wgpy up` did."""

import argparse

from wgpy.cli.errors import CommandError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A configuration, and whether its daemon is ended by others."""
    parser.add_argument(
        "config", metavar="CONFIG|INTERFACE", help="a .conf or .toml file, or an interface's name"
    )
    parser.add_argument(
        "--attach", action="store_true", help="the daemon is ended by others (for systemd)"
    )


def run(args: argparse.Namespace) -> int:
    """Take it down, as far as it is up."""
    from pathlib import Path

    from wgpy.config.errors import ConfigError
    from wgpy.config.load import find, interface_name, is_interface_name, load
    from wgpy.quick.down import down
    from wgpy.quick.root import become_root
    from wgpy.quick.runner import FAILURES, reason, say
    from wgpy.quick.save import save_locked

    def save() -> None:
        if path is not None and loaded is not None:
            save_locked(name, path, loaded)

    path, loaded = None, None
    written = Path(args.config)
    name = written.stem if written.suffix in (".conf", ".toml") else args.config
    try:
        become_root("down")
        try:
            path = find(args.config)
            name = interface_name(path)
            loaded, _ = load(path, "quick")
        except ConfigError as error:
            # The journal knows what to undo; the file would only add its present down hooks.
            if not is_interface_name(name):
                raise
            say(f"[!] {error}; going by what `wgpy up` recorded")
        interface = loaded.interface if loaded is not None else None
        saves = interface is not None and interface.save_config
        down(name, interface, save if saves else None, attach=args.attach)
    except FAILURES as error:
        raise CommandError(reason(error)) from None
    return 0
