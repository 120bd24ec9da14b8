"""`wgpy demo`: a tunnel between two namespaces, made, tried, shown and removed."""

import argparse
import json
import sys

from wgpy.cli.errors import CommandError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `wgpy demo`."""
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--keep", action="store_true", help="leave everything running at the end")
    what.add_argument("--clean", action="store_true", help="remove what --keep left, and end")
    parser.add_argument("--json", action="store_true", help="print only the result, as JSON")
    parser.add_argument(
        "--implementation",
        metavar="PROGRAM",
        help="the daemon to show, instead of wgpyd: any that runs as `PROGRAM -f INTERFACE`",
    )


def run(args: argparse.Namespace) -> int:
    """Run the demo, or remove one that was kept."""
    from wgpy.demo import words
    from wgpy.demo.machines import DemoError
    from wgpy.demo.run import Stopped, clean
    from wgpy.demo.run import run as run_demo

    try:
        if args.clean:
            removed = clean()
            print(json.dumps({"removed": removed}) if args.json else words.removal(removed))
            return 0
        result = run_demo(
            words.teller(quiet=args.json), implementation=args.implementation, keep=args.keep
        )
    except DemoError as error:
        raise CommandError(str(error)) from None
    except Stopped as stopped:
        print(f"wgpy: {stopped}: the demo was stopped and removed", file=sys.stderr)
        return 128 + stopped.number
    if args.json:
        print(json.dumps(words.as_json(result, args.keep), indent=2))
    else:
        print(words.describe_rest(result))
        print(words.invitation() if args.keep else words.FAREWELL)
    return 0
