"""Tools in Rust that are built by cargo the first time that a test needs them."""

import os
import shutil
import subprocess
from pathlib import Path

# A first build, of one small crate and one dependency, on a slow machine.
TIMEOUT = 300.0
_ABSENT = (
    "cargo is not installed; install it and run again "
    "(`apt-get install cargo`, or cargo-web on Debian 12)"
)


def binary(crate: Path) -> Path:
    """Where the program of a crate stands, which has the name of its directory."""
    return crate / "target" / "release" / crate.name


def build(crate: Path) -> str | None:
    """Build a crate; why it could not be, in one line, or None."""
    try:
        done = cargo(crate, "build", "--release", "--locked", "--quiet")
    except FileNotFoundError as error:
        return str(error)
    except subprocess.TimeoutExpired:
        return f"cargo did not end in {TIMEOUT:g} s"
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["nothing"])[0]
        return f"`cargo build` in {crate} says: {said}"
    return None


def cargo(crate: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run cargo on a crate; FileNotFoundError, with the reason, where it is not installed."""
    tool = shutil.which("cargo")
    if tool is None:
        raise FileNotFoundError(_ABSENT)
    return subprocess.run(
        [tool, *arguments],
        cwd=crate,
        # Not where a setting for another crate would put it.
        env={**os.environ, "CARGO_TARGET_DIR": str(crate / "target")},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
