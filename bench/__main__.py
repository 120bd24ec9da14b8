"""The command: `python -m bench [OPTIONS]`, `python -m bench report FILE`, `... list`."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench import plot, report, results, runner
from bench.contenders import CONTENDERS, Contender, default_ours
from bench.measures import MEASURES
from bench.measures.measure import Measure
from tests.support.netns import remove_leftovers

# Seven pairs are the least with quartiles that mean something.
PAIRS = 7
# Seven rounds against everyone of what is of every round, and some of all the rest.
MINUTES = 45.0
AGAINST = "all"
# Exit codes: a measure of ours failed, and the convention for what Ctrl-C ended.
FAILED = 1
INTERRUPTED = 130


class UsageError(Exception):
    """A command line that cannot be followed: one line."""


def main(argv: Sequence[str]) -> int:
    """Run the command line (without the program's name) and return its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        code: int = arguments.do(arguments)
    except (UsageError, results.ResultsError, plot.PlotError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("bench: interrupted; namespaces and daemons were removed", file=sys.stderr)
        return INTERRUPTED
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="measure wgpy in pairs")
    parser.set_defaults(do=measure)
    parser.add_argument("--pairs", type=int, default=PAIRS, help=f"samples of each ({PAIRS})")
    parser.add_argument(
        "--only",
        metavar="NAME,...",
        help="these measures, groups or beginnings of names (`udp-plain`); `all` is everything",
    )
    parser.add_argument(
        "--ours",
        metavar="NAME",
        help="who is compared (wgpy-native where it is built, else wgpy-portable)",
    )
    parser.add_argument(
        "--against",
        default=AGAINST,
        metavar="NAME,...",
        help=f"with whom ({AGAINST}); `all` is everyone else who is installed, `none` nobody",
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=MINUTES,
        help=f"plan for so many, and stop after them ({MINUTES:g})",
    )
    parser.add_argument(
        "--resume",
        type=Path,
        metavar="FILE",
        help="go on with a run that ended early: the same measures and contenders",
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="where the raw JSON goes")
    commands = parser.add_subparsers(metavar="")
    again = commands.add_parser("report", help="the tables and plots of a run that was kept")
    again.set_defaults(do=report_again)
    again.add_argument("file", type=Path, help="the raw JSON of a run")
    again.add_argument(
        "--plot", type=Path, metavar="FILE", help="where the plots go (beside it, as PNG)"
    )
    again.add_argument(
        "--markdown", type=Path, metavar="FILE", help="where the tables go (standard output)"
    )
    listing = commands.add_parser("list", help="what can be measured, and who")
    listing.set_defaults(do=list_all)
    return parser


def measure(arguments: argparse.Namespace) -> int:
    """Measure, print the table, keep the raw numbers."""
    if os.geteuid() != 0:
        raise UsageError("namespaces need root: run `sudo python -m bench`")
    if arguments.pairs < 1:
        raise UsageError("--pairs is at least 1")
    ours = named(arguments.ours) if arguments.ours else default_ours()
    contenders = [ours, *select_others(arguments.against)]
    measures = select_measures(arguments.only)
    for contender in contenders:
        if (reason := contender.missing()) is not None:
            raise UsageError(f"{contender.name} cannot be measured: {reason}")
    # Ended from outside, clean up as for Ctrl-C; a shell has the background ignore the latter.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)
    remove_leftovers()
    stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H%M%S")
    path = arguments.output or results.DIRECTORY / f"{stamp}.json"
    found = runner.run(
        measures,
        contenders,
        arguments.pairs,
        arguments.minutes * 60,
        _say,
        lambda part: results.save(part, path),
        None if arguments.resume is None else results.load(arguments.resume),
    )
    print(report.table(found))
    print(f"The raw numbers are in {path}; `python -m bench report {path}` plots them.")
    if found.interrupted:
        return INTERRUPTED
    failed = any(ours.name in result.failures for result in found.measures.values())
    return FAILED if failed else 0


def report_again(arguments: argparse.Namespace) -> int:
    """Print or write the tables of a run, and draw it."""
    found = results.load(arguments.file)
    if arguments.markdown:
        arguments.markdown.write_text(report.table(found))
    else:
        print(report.table(found))
    made = plot.plot(found, arguments.plot or arguments.file.with_suffix(".png"))
    _say(f"The plots are in {', '.join(map(str, made))}.")
    return 0


def list_all(arguments: argparse.Namespace) -> int:
    """Print the names that --only, --ours and --against take."""
    del arguments
    print("measures:")
    for name, each in MEASURES.items():
        lacking = each.missing()
        print(f"  {name:<20} {f'NOT HERE: {lacking}' if lacking else each.what}")
    print("contenders:")
    for name, contender in CONTENDERS.items():
        print(f"  {name:<20} {contender.missing() or 'ready'}")
    return 0


def named(name: str) -> Contender:
    """The contender of this name. Raises UsageError."""
    if name not in CONTENDERS:
        raise UsageError(f"there is no contender {name!r}; there are {', '.join(CONTENDERS)}")
    return CONTENDERS[name]


def select_others(names: str) -> list[Contender]:
    """Whom to compare with. Raises UsageError."""
    if names == "none":
        return []
    if names == "all":
        return [each for each in CONTENDERS.values() if not each.is_ours and not each.missing()]
    return [named(name) for name in names.split(",")]


def select_measures(names: str | None) -> list[Measure]:
    """What to measure: what is usual, or what answers to these names. Raises UsageError."""
    if names is None:
        return [each for each in MEASURES.values() if not each.extra]
    wanted = names.split(",")
    for name in wanted:
        if not any(each.answers_to(name) for each in MEASURES.values()):
            raise UsageError(f"there is no measure {name!r}; there are {', '.join(MEASURES)}")
    return [each for each in MEASURES.values() if any(map(each.answers_to, wanted))]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
