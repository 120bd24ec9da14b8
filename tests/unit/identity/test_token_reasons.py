"""docs/tokens.md has every reason for which tokens and their bearers are refused, and no other."""

import ast
import re
from collections.abc import Iterator

from tests.support.requirements import ROOT

MODULES = (
    "admissions",
    "authority",
    "checks",
    "jwks",
    "material",
    "own",
    "place",
    "signer",
    "token",
)
# They judge the keys of certificates and tokens alike.
SHARED = {"key-encoding", "key-order"}


def reasons(module: str) -> Iterator[str]:
    """The first argument of every CredentialError that a module makes."""
    for node in ast.walk(ast.parse((ROOT / f"wgpy/identity/{module}.py").read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "CredentialError":
            first = node.args[0]
            if isinstance(first, ast.Constant):
                yield str(first.value)
            else:
                # Another's reason, with the path of the file before its text.
                assert ast.unparse(first) == "error.reason"


def test_every_reason_is_described_and_no_other() -> None:
    text = (ROOT / "docs" / "tokens.md").read_text().split("\n## Reasons\n")[1]
    described = re.findall(r"^\| `([a-z-]+)` \|", text, re.MULTILINE)
    assert len(described) == len(set(described))
    assert set(described) == SHARED | {x for module in MODULES for x in reasons(module)}
