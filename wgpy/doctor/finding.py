"""What the doctor says of one thing."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

# The command that gets a newer kernel on Debian, of the machine's own architecture.
NEWER_KERNEL: Final = "apt-get install linux-image-$(dpkg --print-architecture)"


class Status(Enum):
    """How well a thing stands."""

    OK = "ok"
    WARNING = "warning"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor: what was looked at, what it is, what that means, what mends it.

    `meaning` and `mend` (a command) are empty where all is well.
    """

    name: str
    status: Status
    fact: str
    meaning: str = ""
    mend: str = ""
    vital: bool = False


def can_run(findings: Sequence[Finding]) -> bool:
    """Whether a tunnel can run: nothing vital is missing."""
    return not any(found.vital and found.status is Status.MISSING for found in findings)
