"""What the doctor prints: a line for each finding, or JSON."""

from collections.abc import Sequence
from typing import Any, Final

from wgpy.doctor.finding import Finding, Status, can_run

_STATUS_WIDTH: Final = max(len(status.value) for status in Status)
_NAME_WIDTH: Final = 10
_INDENT: Final = " " * (_STATUS_WIDTH + 2 + _NAME_WIDTH + 2)


def report(kernel: str, findings: Sequence[Finding]) -> str:
    """Everything for a person to read, without a newline at the end."""
    lines = [f"Linux {kernel}", ""]
    for found in findings:
        lines.append(
            f"{found.status.value:<{_STATUS_WIDTH}}  {found.name:<{_NAME_WIDTH}}  {found.fact}"
        )
        if found.meaning:
            lines.append(f"{_INDENT}{found.meaning}")
        if found.mend:
            lines.append(f"{_INDENT}-> {found.mend}")
    return "\n".join([*lines, "", verdict(findings)])


def verdict(findings: Sequence[Finding]) -> str:
    """The last line: whether a tunnel can run."""
    lacking = [found.name for found in findings if found.vital and found.status is Status.MISSING]
    if lacking:
        return f"No tunnel can run here yet: mend {', '.join(lacking)}."
    return "A tunnel can run here: `wgpy demo` shows one."


def as_json(kernel: str, findings: Sequence[Finding]) -> dict[str, Any]:
    """The same as plain values."""
    return {
        "kernel": kernel,
        "can_run": can_run(findings),
        "findings": [
            {
                "name": found.name,
                "status": found.status.value,
                "fact": found.fact,
                "meaning": found.meaning,
                "mend": found.mend,
                "vital": found.vital,
            }
            for found in findings
        ],
    }
