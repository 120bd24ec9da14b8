"""The sentences of the journal: each is one line that a person can read."""

import inspect

import pytest

from tests.support.requirements import ROOT
from wgpy.mesh import events

SENTENCES = {
    name: function
    for name, function in inspect.getmembers(events, inspect.isfunction)
    if function.__module__ == events.__name__ and name not in ("clean", "short_key", "when")
}
# What each parameter is given, by its type.
VALUES = {
    str: "laptop\nof \x1b[31msomebody" + 300 * "x",
    int: 3,
    float: 1_795_852_800.0,
}


def called(name: str) -> str:
    """The sentence, with the worst words that others could have chosen."""
    values = []
    for parameter in inspect.signature(SENTENCES[name]).parameters.values():
        kind = parameter.annotation
        untrusted = parameter.name in (
            "reason",
            "message",
            "key",
            "former",
            "coordinators",
            "place",
        )
        if kind in (int, float):
            values.append(VALUES[kind])
        elif kind in (str, str | None):
            values.append(VALUES[str] if untrusted else "laptop.mesh")
        else:
            values.append([VALUES[str]] if untrusted else ["100.64.0.2", "fd00::2"])
    text: str = SENTENCES[name](*values)
    return text


@pytest.mark.parametrize("name", SENTENCES)
def test_a_sentence_is_one_line_of_a_bounded_length(name: str) -> None:
    text = called(name)
    assert text.isprintable()
    assert len(text) <= 500
    assert not text.endswith(".")
    assert inspect.getdoc(SENTENCES[name])


def test_no_two_sentences_are_the_same() -> None:
    texts = [called(name) for name in SENTENCES]
    assert len(set(texts)) == len(texts) > 20


def test_what_is_said() -> None:
    assert events.joined("laptop.mesh", ["100.64.0.2", "fd00::2"], 1_795_852_800) == (
        "joined as laptop.mesh, 100.64.0.2 and fd00::2; the certificate ends 2026-11-28 08:00 UTC"
    )
    assert events.path_found("b.mesh", "203.0.113.7:51820") == (
        "a direct path to b.mesh: 203.0.113.7:51820"
    )
    assert events.short_key("q+UCYV8kXyz=") == "q+UCYV8k…"
    assert events.clean("a\nb\x1b[2J") == "a?b?[2J"


def test_every_sentence_is_said_somewhere() -> None:
    sources = "".join(
        path.read_text() for path in (ROOT / "wgpy").rglob("*.py") if path.name != "events.py"
    )
    assert [name for name in SENTENCES if f"events.{name}(" not in sources] == []
