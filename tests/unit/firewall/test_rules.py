"""Rules as text and as JSON: what is read, what is refused, and that nothing else comes out."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgpy.firewall.rules import (
    MAX_JSON_LENGTH,
    MAX_RULES,
    MAX_WORDS,
    Action,
    Rule,
    RulesError,
    Settings,
    from_json,
    named,
    parse_selector,
    parse_service,
    to_json,
)

SELECTORS = ["any", "this", "group:staff", "name:ada.mesh", "name:the office", "net:10.0.0.0/8"]
SERVICES = ["tcp", "udp", "icmp", "22/tcp", "8000-8999/udp"]
KEY = "A" * 43 + "="


@pytest.mark.parametrize("text", [*SELECTORS, "net:fd00::/8"])
def test_a_selector_is_written_as_it_is_read(text: str) -> None:
    assert str(parse_selector(text)) == text


@pytest.mark.parametrize("text", SERVICES)
def test_a_service_is_written_as_it_is_read(text: str) -> None:
    assert str(parse_service(text)) == text


@pytest.mark.parametrize(
    "text",
    ["", "staff", "Any", "group:", "group:Staff", f"group:{'a' * 33}", "name:", "name:a\nb",
     "net:10.0.0.0/33", "net:x", "this:", "any:any", "peer:x"],
)  # fmt: skip
def test_what_is_no_selector(text: str) -> None:
    with pytest.raises(RulesError):
        parse_selector(text)


@pytest.mark.parametrize(
    "text", ["", "22", "0/tcp", "65536/tcp", "9-8/tcp", "22/icmp", "TCP", "22/sctp", "-1/tcp"]
)
def test_what_is_no_service(text: str) -> None:
    with pytest.raises(RulesError):
        parse_service(text)


def rule(words: int = 1) -> Rule:
    return Rule(
        Action.ALLOW, (parse_selector("any"),) * words, (parse_selector("this"),), (), "f:1"
    )


settings = st.builds(
    Settings,
    st.lists(
        st.builds(
            Rule,
            st.sampled_from(Action),
            st.lists(st.sampled_from(SELECTORS).map(parse_selector), min_size=1).map(tuple),
            st.lists(st.sampled_from(SELECTORS).map(parse_selector), min_size=1).map(tuple),
            st.lists(st.sampled_from(SERVICES).map(parse_service)).map(tuple),
            st.none() | st.just("/etc/wgpy/wg0.toml:12"),
        ),
        max_size=3,
    ).map(tuple),
    st.dictionaries(st.sampled_from(["the office", "x"]), st.just(KEY)),
)


@given(settings)
def test_json_comes_back(value: Settings) -> None:
    if all(max(len(r.sources), len(r.destinations), len(r.services)) <= MAX_WORDS
           for r in value.rules):  # fmt: skip
        text = to_json(value)
        assert text.isascii()
        assert "\n" not in text
        assert from_json(text) == value


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from([*SELECTORS, KEY]),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text(), inner)
        | st.fixed_dictionaries({"rules": inner, "peers": inner})
        | st.fixed_dictionaries(
            {"action": st.sampled_from(["allow", "deny"]), "from": inner, "to": inner},
            optional={"ports": inner, "at": inner},
        )
    ),
    max_leaves=20,
)


@given(st.text() | json_values.map(json.dumps))
def test_nothing_but_rules_error_comes_out(text: str) -> None:
    try:
        read = from_json(text)
    except RulesError:
        return
    assert from_json(to_json(read)) == read


def test_limits() -> None:
    with pytest.raises(RulesError, match="not of 1 to"):
        from_json(to_json(Settings((rule(MAX_WORDS + 1),))))
    with pytest.raises(RulesError, match=f"at most {MAX_RULES}"):
        from_json(to_json(Settings((rule(),) * (MAX_RULES + 1))))
    with pytest.raises(RulesError, match=f"at most {MAX_JSON_LENGTH}"):
        to_json(Settings((rule(400),) * MAX_RULES))
    with pytest.raises(RulesError, match="over"):
        from_json(" " * (MAX_JSON_LENGTH + 1))
    with pytest.raises(RulesError):
        from_json("[" * 20_000)


def test_a_rule_reads_as_a_sentence() -> None:
    made = Rule(
        Action.DENY,
        (parse_selector("group:staff"), parse_selector("name:x")),
        (parse_selector("this"),),
        (parse_service("22/tcp"), parse_service("icmp")),
    )
    assert str(made) == "deny from group:staff, name:x to this, 22/tcp, icmp"
    assert named([made]) == {"x"}
