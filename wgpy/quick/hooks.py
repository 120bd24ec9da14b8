"""Hooks of the configuration: shell text, run as wg-quick(8) runs it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from wgpy.quick.steps import QuickError, RunHook

# The text travels in the environment and is taken out of it before it runs, because a command
# line can be read by every user of the machine, and a hook may hold a password.
_VARIABLE = "WGPY_HOOK"
_BOOT = f'wgpy_hook=${_VARIABLE}; unset {_VARIABLE}; eval "$wgpy_hook"'


def shell() -> list[str]:
    """bash, in which wg-quick(8) runs hooks, or /bin/sh where there is none."""
    bash = shutil.which("bash")
    if bash is not None:
        return [bash, "-e", "-o", "pipefail", "-c", _BOOT, "wgpy"]
    return ["/bin/sh", "-e", "-c", _BOOT, "wgpy"]


def run_hook(hook: RunHook) -> None:
    """Run one hook, its output where ours goes. Raises QuickError if it fails."""
    # `wgpy` in a hook is this very wgpy; messages are not translated, for hooks that read them.
    here = str(Path(sys.argv[0]).resolve().parent)
    path = f"{here}:{os.environ.get('PATH', os.defpath)}"
    environment = {**os.environ, "LC_ALL": "C", "PATH": path, _VARIABLE: hook.command}
    try:
        done = subprocess.run(shell(), env=environment, check=False)
    except OSError as error:
        raise QuickError(f"no shell to run hooks with: {error.strerror}") from None
    if done.returncode < 0:
        raise QuickError(f"it was ended by signal {-done.returncode}")
    if done.returncode != 0:
        raise QuickError(f"it exited with {done.returncode}")
