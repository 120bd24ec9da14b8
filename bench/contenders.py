"""Who is measured: the implementations, and how each is started, configured and asked."""

import dataclasses
import importlib
import platform
import subprocess
from dataclasses import dataclass

from tests.support.programs import (
    BORINGTUN,
    WGPY,
    WIREGUARD_GO,
    WIREGUARD_GO_LATEST,
    Implementation,
)
from tests.support.requirements import find, why_missing

# What the data path of a contender needs in this Python, beside its program.
_NATIVE_MODULES = ("wgpy._native", "wgpy.datapath.native")


@dataclass(frozen=True, slots=True)
class Contender:
    """An implementation, and the command that configures it in daily use: `wgpy` or `wg`.

    `modules` are what must be importable for it.
    """

    name: str
    implementation: Implementation
    tool: str
    modules: tuple[str, ...] = ()

    @property
    def is_ours(self) -> bool:
        """Whether it is wgpy."""
        return self.tool == "wgpy"

    @property
    def is_bare(self) -> bool:
        """Whether it is no tunnel at all: the limit that the machine sets to everyone."""
        return self.tool == "ip"

    def missing(self) -> str | None:
        """Why it cannot be measured here, or None if it can."""
        for tool in (self.implementation.tool, self.tool):
            if find(tool) is None:
                return why_missing(tool)
        for module in self.modules:
            try:
                importlib.import_module(module)
            except ImportError as error:
                return f"this installation has no native data path ({error}); install with cargo"
        return None

    def version(self) -> str:
        """What it says of its version, in one line."""
        if self.is_bare:
            return f"no tunnel: two namespaces and a veth, Linux {platform.release()}"
        command = [*self.implementation.command("")[:1], "--version"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
        lines = (done.stdout or done.stderr).strip().splitlines()
        return lines[0] if lines else "unknown"


def _ours(datapath: str, *modules: str) -> Contender:
    name = f"wgpy-{datapath}"
    # A daemon that cannot have the data path of this name ends at its start, and says so.
    started = dataclasses.replace(WGPY, name=name, env={"WGPY_DATAPATH": datapath})
    return Contender(name, started, "wgpy", modules)


NATIVE = _ours("native", *_NATIVE_MODULES)
PORTABLE = _ours("portable")
LATEST = Contender("wireguard-go-latest", WIREGUARD_GO_LATEST, "wg")
OTHERS = (
    LATEST,
    Contender("wireguard-go", WIREGUARD_GO, "wg"),
    Contender("boringtun", BORINGTUN, "wg"),
)
BARE = Contender("bare-veth", Implementation("no tunnel", "ip"), "ip")
CONTENDERS = {each.name: each for each in (NATIVE, PORTABLE, *OTHERS, BARE)}


def default_ours() -> Contender:
    """Ours, where nobody says which: the native data path where there is one."""
    return PORTABLE if NATIVE.missing() else NATIVE
