"""Lines of keys in TOML, held against documents whose lines are known."""

import tomli
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from wgpy.config.toml_lines import line_index

DOCUMENT = r'''# [interface]
# private_key = "no"

[interface] # x = 1
address = [
    # "a ] comment"
    "10.0.0.1/24", "[not] # a comment",

    "fd00::1/64"
    ,
]   # after
post_up = """
[[peer]]
fake = 1 \""" still """
pre_up = QQQ'
also = "fake"
'QQQ
mtu=1400
dotted . "key \u0041\n" . 'li"teral' = { a = 1, "b#" = [1, {c = 2}], d.e = 3 }
"quoted # = [" = 'x # y'
when = 1979-05-27 07:32:00

[[peer]]
name = "one"
allowed_ips = [[1,
  2], []]

[[peer]]

name = ""
[peer.sub]
z = -inf
[[ "peer" . inner ]]
deep = true
'''.replace("QQQ", "'''")


def test_every_kind_of_line() -> None:
    tomli.loads(DOCUMENT)
    lines = line_index(DOCUMENT)
    text = DOCUMENT.split("\n")

    def shown(*path: str | int) -> str:
        return text[lines[path] - 1].strip()

    assert shown("interface") == "[interface] # x = 1"
    assert shown("interface", "address") == "address = ["
    assert shown("interface", "address", 0) == '"10.0.0.1/24", "[not] # a comment",'
    assert lines["interface", "address", 1] == lines["interface", "address", 0]
    assert shown("interface", "address", 2) == '"fd00::1/64"'
    assert shown("interface", "post_up") == 'post_up = """'
    assert shown("interface", "pre_up") == "pre_up = ''''"
    assert shown("interface", "mtu") == "mtu=1400"
    dotted = ("interface", "dotted", "key A\n", 'li"teral')
    assert shown(*dotted).startswith("dotted . ")
    for inner in (("a",), ("b#",), ("b#", 1, "c"), ("d", "e")):
        assert lines[(*dotted, *inner)] == lines[dotted]
    assert shown("interface", "quoted # = [").startswith('"quoted #')
    assert shown("interface", "when").startswith("when")
    assert shown("peer", 0) == shown("peer") == "[[peer]]"
    assert shown("peer", 0, "name") == 'name = "one"'
    assert shown("peer", 0, "allowed_ips", 0, 1) == "2], []]"
    assert shown("peer", 0, "allowed_ips", 1) == "2], []]"
    assert lines["peer", 1] == lines["peer", 0] + 5
    assert shown("peer", 1, "name") == 'name = ""'
    assert shown("peer", 1, "sub", "z") == "z = -inf"
    assert shown("peer", 1, "inner", 0, "deep") == "deep = true"
    assert ("fake",) not in lines
    assert ("interface", "fake") not in lines
    assert ("peer", 0, "fake") not in lines


def test_windows_line_ends() -> None:
    document = 'a = 1\r\nb = """\r\nc = 2\r\n"""\r\nd = [\r\n1,\r\n2]\r\n'
    assert tomli.loads(document)["d"] == [1, 2]
    lines = line_index(document)
    assert lines[("a",)] == 1
    assert lines[("b",)] == 2
    assert lines[("d",)] == 5
    assert lines["d", 1] == 7


def places(value: object, path: tuple[str | int, ...] = ()) -> set[tuple[str | int, ...]]:
    """The path of every key and element in a parsed document."""
    found: set[tuple[str | int, ...]] = {path} if path else set()
    if isinstance(value, dict):
        for key, inner in value.items():
            found |= places(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            found |= places(inner, (*path, index))
    return found


KEYS = st.text(st.characters(codec="utf-8"), max_size=6) | st.sampled_from(["a", "b", "a.b", "]"])
VALUES = st.recursive(
    st.booleans() | st.integers(-99, 99) | st.text(st.characters(codec="utf-8"), max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(KEYS, VALUES, max_size=5), st.booleans())
def test_every_place_of_any_document_has_its_line(document: dict[str, object], ml: bool) -> None:
    text = tomli_w.dumps(document, multiline_strings=ml)
    parsed = tomli.loads(text)
    lines = line_index(text)
    assert places(parsed) <= set(lines)
    assert all(1 <= line <= text.count("\n") + 1 for line in lines.values())


@given(st.integers(0, 20), st.lists(st.integers(0, 3), min_size=1, max_size=8))
def test_the_line_is_exact(before: int, gaps: list[int]) -> None:
    """Keys at known lines, after comments, strings and arrays that hold line ends."""
    filler = ["# = [", 's{} = """\n[x]\n"""', "l{} = '''\n'''", "r{} = [\n'[',\n]"]
    text, expected = "\n" * before, {}
    for number, gap in enumerate(gaps):
        text += filler[gap].format(number) + "\n"
        expected[(f"key{number}",)] = text.count("\n") + 1
        text += f"key{number} = {number} # {number}\n"
    tomli.loads(text)
    lines = line_index(text)
    assert {place: lines[place] for place in expected} == expected


@given(st.text(st.sampled_from("a=.[]{}\"'\\\n#, 1") | st.characters(), max_size=60))
def test_any_text_is_walked_to_its_end(text: str) -> None:
    line_index(text)


def test_depth_has_a_bound() -> None:
    line_index("a = " + "[" * 100_000)
    assert line_index("x = 1\na = " + "[" * 50 + "]" * 50)[("x",)] == 1
