"""docs/certificates.md against the code: every reason for a refusal, and the numbers."""

import ast
import re

import pytest

from tests.support.requirements import ROOT
from wgpy.identity import profile

DOCUMENT = (ROOT / "docs" / "certificates.md").read_text()
# The modules that read certificates and lists; tokens have reasons of their own.
MODULES = (
    "anchors",
    "certificate",
    "constraints",
    "crl",
    "denylist",
    "leaf",
    "profile",
    "revocation",
    "x509der",
)


def reasons(module: str) -> set[str]:
    """The first argument of each CredentialError that a module makes."""
    tree = ast.parse((ROOT / "wgpy" / "identity" / f"{module}.py").read_text())
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "CredentialError":
            first = node.args[0]
            found |= {
                x.value
                for x in ast.walk(first)
                if isinstance(x, ast.Constant) and isinstance(x.value, str)
            }
    return found


def documented() -> set[str]:
    table = DOCUMENT.split("## Why one was refused")[1]
    cells = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    return {word for cell in cells for word in re.findall(r"`([a-z0-9-]+)`", cell)}


def test_every_reason_is_described_and_no_other() -> None:
    assert set().union(*map(reasons, MODULES)) == documented()


@pytest.mark.parametrize(
    "text",
    [
        f"at most {profile.MAX_LEAF} bytes",
        profile.RIGHTS.dotted_string.removesuffix(".1"),
        profile.DENIALS.dotted_string,
        f"(0..{profile.MAX_GENERATION})",
        f"SIZE (0..{profile.MAX_GROUPS})",
        f"SIZE (0..{profile.MAX_PREFIXES})",
    ],
)
def test_the_numbers_are_those_of_the_code(text: str) -> None:
    assert text in DOCUMENT
