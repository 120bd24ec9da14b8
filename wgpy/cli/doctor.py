"""`wgpy doctor`: what this machine has for a tunnel, what it lacks, and what mends it."""

import argparse
import json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `wgpy doctor`."""
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def run(args: argparse.Namespace) -> int:
    """Examine the machine; 0 if a tunnel can run on it, 1 if not."""
    from wgpy.doctor import words
    from wgpy.doctor.checks import examine
    from wgpy.doctor.finding import can_run
    from wgpy.doctor.probe import probe

    facts = probe()
    findings = examine(facts)
    if args.json:
        print(json.dumps(words.as_json(facts.kernel, findings), indent=2))
    else:
        print(words.report(facts.kernel, findings))
    return 0 if can_run(findings) else 1
