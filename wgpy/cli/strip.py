"""`wgpy strip`: a configuration without what only `wgpy up` understands."""

import argparse
import sys

from wgpy.cli import print_error
from wgpy.config.load import find, load, read_text
from wgpy.config.write import conf_text, left_out, strip_conf
from wgpy.keys import exposure_warning


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A configuration."""
    parser.add_argument(
        "config", metavar="CONFIG|INTERFACE", help="a .conf or .toml file, or an interface's name"
    )


def run(args: argparse.Namespace) -> int:
    """Print what `setconf`, `addconf` and `syncconf` read."""
    path = find(args.config)
    if path.suffix == ".toml":
        loaded = load(path, "quick")
        text = conf_text(loaded.config, quick=False)
        warnings = loaded.warnings
        lost = left_out(loaded.config)
        if lost is not None:
            warnings.append(f"{lost}; `wgpy syncconf --strip` takes the whole file")
    else:
        text = strip_conf(read_text(path), path)
        warning = exposure_warning(path)
        warnings = [] if warning is None else [warning]
    for warning in warnings:
        print_error(f"warning: {warning}")
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))
    return 0
