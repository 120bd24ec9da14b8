"""The rules of the house that a program can check: sizes, forbidden words, and true documents."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import wgpy
from tests.support.requirements import ROOT
from wgpy.cli import COMMANDS

PACKAGE = ROOT / "wgpy"
MODULES = sorted(PACKAGE.rglob("*.py"))
DOCUMENTS = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / name / "README.md" for name in ("keys", "interop")),
    ]
)
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()

MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 70

Function = ast.FunctionDef | ast.AsyncFunctionDef


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def functions(path: Path) -> Iterator[Function]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, Function):
            yield node


# --- The code ---


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_is_short_and_says_what_it_is(path: Path) -> None:
    source = path.read_text()
    assert len(source.splitlines()) <= MAX_FILE_LINES
    assert ast.get_docstring(ast.parse(source)), "a module starts with what it is"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_functions_are_short(path: Path) -> None:
    long = [
        f"{found.name}: {lines} lines"
        for found in functions(path)
        if (lines := (found.end_lineno or 0) - found.lineno + 1) > MAX_FUNCTION_LINES
    ]
    assert long == []


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_is_left_for_later(path: Path) -> None:
    source = path.read_text()
    assert not re.search(r"\b(TODO|FIXME|XXX|HACK)\b", source)
    assert "NotImplementedError" not in source


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_exception_is_swallowed(path: Path) -> None:
    """`contextlib.suppress` says the same with its reason beside it."""
    swallowed = [
        f"line {node.lineno}"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ExceptHandler)
        and all(isinstance(x, ast.Pass) or _is_ellipsis(x) for x in node.body)
    ]
    assert swallowed == []


def _is_ellipsis(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and getattr(statement.value, "value", 0) is Ellipsis


# --- The documents ---


def test_every_room_and_every_module_is_in_the_architecture() -> None:
    """Each room has a heading, and under it stand the modules that there are and no others."""
    sections = re.split(r"^### ", ARCHITECTURE, flags=re.MULTILINE)[1:]
    written = {}
    for text in sections:
        heading, _, rest = text.partition("\n")
        items = re.findall(r"^- (.*?):", rest.split("\n## ")[0], re.MULTILINE)
        written[heading] = sorted(x for item in items for x in re.findall(r"`(\w+\.py)`", item))
    present: dict[str, list[str]] = {}
    for path in MODULES:
        present.setdefault(f"{path.parent.relative_to(ROOT)}/", []).append(path.name)
    assert written == {room: sorted(files) for room, files in present.items()}


def test_the_tree_names_what_is_at_the_top() -> None:
    tree = ARCHITECTURE.split("```")[1]
    made = {"build", "dist", "wgpy.egg-info"}
    rooms = [x.name for x in ROOT.iterdir() if x.is_dir() and not x.name.startswith((".", "_"))]
    assert [name for name in rooms if name not in made and f"\n{name}/" not in tree] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text()):
        if "://" not in target:
            assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_files_that_are_named_exist(path: Path) -> None:
    """`wgpy/ROOM/FILE.py` and the like, in code quotes."""
    named = re.findall(
        r"`((?:wgpy|tests|interop|bench|docs|man|deploy|keys|\.ci)/[\w./@-]*)`", path.read_text()
    )
    missing = [name for name in named if not (ROOT / name).exists()]
    assert [name for name in missing if name != "bench/results/"] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_commands_in_documents_exist(path: Path) -> None:
    """At the start of a line of a code block, and of what is in code quotes."""
    text = path.read_text()
    fenced = "\n".join(re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    indented = "\n".join(re.findall(r"^ {4}(.*)$", text, re.MULTILINE))
    quoted = "\n".join(re.findall(r"`([^`\n]+)`", text))
    start = r"^\s*(?:[#$] )?(?:sudo )?"
    makefile = (ROOT / "Makefile").read_text()
    for code in (fenced, indented, quoted):
        for word in re.findall(start + r"wgpy ([a-z-]+)\b", code, re.MULTILINE):
            assert word in (*COMMANDS, "help", "version"), f"wgpy {word}"
        for word in re.findall(start + r"make ([a-z]+)\b", code, re.MULTILINE):
            assert re.search(rf"^{word}:", makefile, re.MULTILINE), f"make {word}"


def test_the_readme_has_both_commands_and_says_what_does_not_work() -> None:
    text = (ROOT / "README.md").read_text()
    for word in ("make demo", "make test", "not yet", "wgpy genkey", "wgpy up wg0", "pip install"):
        assert word in text


def test_the_changelog_has_this_version_and_security_first() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    section = text.split(f"## [{wgpy.__version__}]")[1].split("\n## ")[0]
    kinds = re.findall(r"^### (\w+)$", section, re.MULTILINE)
    assert kinds[0] == "Security"
    assert set(kinds) <= {"Security", "Added", "Changed", "Deprecated", "Removed", "Fixed"}


def test_the_test_keys_are_all_accounted_for() -> None:
    table = (ROOT / "keys" / "README.md").read_text()
    files = {path.name for path in (ROOT / "keys").iterdir()} - {"README.md"}
    assert set(re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)) == files


def test_the_licence_is_the_one_that_is_declared() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert 'license = "Apache-2.0"' in (ROOT / "pyproject.toml").read_text()
