"""`wgpy up` and `wgpy down` with a directory of the test's own, that may die between two steps.

    quick_driver.py up|down|save CONFIG RUN_DIRECTORY [--die-at N] [--attach]

With `--die-at N` the process kills itself with SIGKILL at the Nth moment at which a crash could
come: after a step is recorded, after it is taken; in `down` before and after it is undone.
Exits with 1 and one line on standard error for a failure that a person would see.
"""

import argparse
import os
import signal
import sys
from pathlib import Path

from wgpy.cli.set import look_up
from wgpy.config.load import interface_name, load
from wgpy.quick.control import DaemonControl
from wgpy.quick.down import down
from wgpy.quick.runner import FAILURES, reason
from wgpy.quick.save import save, save_locked
from wgpy.quick.steps import Step
from wgpy.quick.up import up


class Death:
    """An observer that ends the process at a moment chosen by its number."""

    def __init__(self, moment: int | None) -> None:
        self.left = moment

    def __call__(self, _moment: str, _step: Step) -> None:
        if self.left is None:
            return
        self.left -= 1
        if self.left < 0:
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["up", "down", "save"])
    parser.add_argument("config", type=Path)
    parser.add_argument("run_directory", type=Path)
    parser.add_argument("--die-at", type=int)
    parser.add_argument("--attach", action="store_true")
    args = parser.parse_args()
    name = interface_name(args.config)
    run = args.run_directory
    observe = Death(args.die_at)
    try:
        config = load(args.config, "quick").config
        if args.command == "up":
            control = DaemonControl(name, config, look_up)
            up(name, config, control, attach=args.attach, run_directory=run, observe=observe)
        elif args.command == "down":
            down(
                name,
                config.interface,
                (lambda: save_locked(name, args.config, config, run_directory=run))
                if config.interface.save_config
                else None,
                attach=args.attach,
                run_directory=run,
                observe=observe,
            )
        else:
            save(name, args.config, config, run_directory=run)
    except FAILURES as error:
        print(reason(error), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
