"""Who is measured: the implementations, and how each is started, configured and asked."""

import dataclasses
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


@dataclass(frozen=True, slots=True)
class Contender:
    """An implementation, and the command that configures it in daily use: `wgpy` or `wg`."""

    name: str
    implementation: Implementation
    tool: str

    @property
    def is_ours(self) -> bool:
        """Whether it is wgpy."""
        return self.tool == "wgpy"

    def missing(self) -> str | None:
        """Why it cannot be measured here, or None if it can."""
        for tool in (self.implementation.tool, self.tool):
            if find(tool) is None:
                return why_missing(tool)
        return None

    def version(self) -> str:
        """What it says of its version, in one line."""
        command = [*self.implementation.command("")[:1], "--version"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
        lines = (done.stdout or done.stderr).strip().splitlines()
        return lines[0] if lines else "unknown"


def _ours(datapath: str) -> Contender:
    name = f"wgpy-{datapath}"
    started = dataclasses.replace(WGPY, name=name, env={"WGPY_DATAPATH": datapath})
    return Contender(name, started, "wgpy")


OURS = _ours("portable")
OTHERS = (
    Contender("wireguard-go", WIREGUARD_GO, "wg"),
    Contender("wireguard-go-latest", WIREGUARD_GO_LATEST, "wg"),
    Contender("boringtun", BORINGTUN, "wg"),
)
CONTENDERS = {contender.name: contender for contender in (OURS, *OTHERS)}
