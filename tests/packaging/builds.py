"""Building wheels of a copy of the sources, for the tests beside this.

The crates' dependencies are built once, in native/target.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Building every crate from nothing takes two minutes on two processors.
TIMEOUT = 600

needs_cargo = pytest.mark.skipif(
    shutil.which("cargo") is None, reason="cargo is not installed: the native path is not built"
)


def copy_sources(copy: Path) -> Path:
    """The files that git knows, as they are now, in a new folder."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in listed.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    return copy


def build(
    sources: Path, *, path: str | None = None, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run `pip wheel` on the sources, into their folder `dist`."""
    return subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", "dist", "."],
        cwd=sources,
        env={
            **os.environ,
            "CARGO_TARGET_DIR": str(ROOT / "native" / "target"),
            **({} if path is None else {"PATH": path}),
            **env,
        },
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


def wheel(sources: Path) -> Path:
    (made,) = (sources / "dist").glob("*.whl")
    return made
