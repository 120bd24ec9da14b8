"""`wgpy showconf`: the configuration of an interface as a file for `setconf`, secrets included."""

import argparse
import sys

from wgpy.cli import print_error
from wgpy.config.write import conf_text, from_state, left_out
from wgpy.device import client


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `showconf`."""
    parser.add_argument("interface", metavar="INTERFACE", help="the interface to show")


def run(args: argparse.Namespace) -> int:
    """Print the configuration; returns the exit code."""
    config = from_state(client.get(args.interface))
    lost = left_out(config)
    if lost is not None:
        print_error(f"warning: {args.interface}: {lost}")
    sys.stdout.write(conf_text(config, quick=False))
    return 0
