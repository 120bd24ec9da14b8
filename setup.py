"""Builds the native data path where a cargo that is new enough can be found.

Everything else of the distribution is declared in pyproject.toml. With cargo a failed build is an
error, for a data path that went missing in silence would be noticed only by its slowness. Without
cargo, or with WGPY_NATIVE=0, the portable data path serves alone. WGPY_NATIVE=1 insists.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent
NATIVE = ROOT / "native"


def minimum_rust() -> tuple[int, int]:
    """The Rust that the workspace asks for."""
    text = (NATIVE / "Cargo.toml").read_text()
    found = re.search(r'^rust-version = "(\d+)\.(\d+)', text, re.MULTILINE)
    assert found is not None
    return int(found[1]), int(found[2])


def rust_version() -> tuple[int, int] | None:
    """The version of the rustc beside cargo, None if either is missing.

    Debian 12's rustc-web and cargo-web, which are new enough, have the usual names.
    """
    if shutil.which("cargo") is None:
        return None
    try:
        done = subprocess.run(
            [os.environ.get("RUSTC", "rustc"), "--version"], capture_output=True, text=True
        )
    except OSError:
        return None
    found = re.match(r"rustc (\d+)\.(\d+)", done.stdout)
    return None if found is None else (int(found[1]), int(found[2]))


def why_not() -> str:
    """Why the native data path is not built, or an empty text."""
    wanted = os.environ.get("WGPY_NATIVE", "auto")
    if wanted not in ("0", "1", "auto"):
        sys.exit(f"WGPY_NATIVE={wanted}: write 0 (leave it out), 1 (insist), or auto")
    if wanted == "0":
        return "WGPY_NATIVE=0"
    have, need = rust_version(), minimum_rust()
    reason = ""
    if have is None:
        reason = "no cargo was found"
    elif have < need:
        reason = f"Rust {have[0]}.{have[1]} is too old, {need[0]}.{need[1]} is wanted"
    if reason and wanted == "1":
        sys.exit(f"WGPY_NATIVE=1: {reason}; install Rust from your distribution or rustup")
    return reason


def remove_stale() -> None:
    """What earlier builds left would get into a wheel, or hide what is built now."""
    shutil.rmtree(ROOT / "build", ignore_errors=True)
    # Of native/target the result alone: cargo knows when its dependencies are stale.
    for old in (*ROOT.glob("wgpy/_native*.so"), *NATIVE.glob("target/*/lib_native.*")):
        old.unlink()


def extensions() -> list[object]:
    """The extension to build, if any."""
    building = {"bdist_wheel", "build", "build_ext", "develop", "editable_wheel", "install"}
    if not building & set(sys.argv[1:]):
        return []
    remove_stale()
    reason = why_not()
    if reason:
        print(f"wgpy: the portable data path alone: {reason}", file=sys.stderr)
        return []
    from setuptools_rust import Binding, RustExtension

    return [
        RustExtension(
            "wgpy._native",
            path="native/python/Cargo.toml",
            binding=Binding.PyO3,
            # An editable installation would be a debug build else, ten times slower.
            debug=False,
            py_limited_api=True,
            args=["--locked"],
        )
    ]


rust = extensions()
setup(
    rust_extensions=rust,
    # A wheel with the extension serves every Python from 3.11; one without it is pure.
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if rust else {},
    zip_safe=False,
)
