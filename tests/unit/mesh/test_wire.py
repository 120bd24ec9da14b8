"""Messages between nodes and coordinators: one JSON form each, and one refusal for all else."""

import json
from collections.abc import Callable
from dataclasses import fields as fields_of
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.stores import SETTINGS, key
from tests.unit.mesh.test_records import FULL, KEY, NAME, SERIAL
from wgpy.ip import parse_prefix
from wgpy.mesh import messages, wire
from wgpy.mesh.records import NodeState
from wgpy.mesh.wire import WireError

NODE = messages.NodeView(
    name="laptop.mesh",
    key=key(1),
    addresses=(parse_prefix("10.7.0.1"), parse_prefix("fd07::1")),
    groups=("laptops",),
    routes=(parse_prefix("192.168.4.0/24"),),
    certificate=b"\x30\x03abc",
    state=NodeState.ACTIVE,
    expires=3.5,
    coordinator=False,
    revision=9,
)
GONE = replace(NODE, certificate=None, state=NodeState.REMOVED, expires=None)
PAGE = messages.Directory(
    since=4,
    revision=9,
    reset=False,
    more=True,
    nodes=(NODE, GONE),
    revocations=(KEY, NAME, SERIAL),
    crl=(b"a list",),
    settings=FULL,
)
PATH = messages.Path(key(2), messages.PathKind.RELAY, "192.0.2.1:3478", 31.5, 0.25)
UNKNOWN = messages.Path(key(3), messages.PathKind.NONE)
SIGNAL = bytes(range(256)) + bytes(wire.SIGNAL_LENGTH - 256)

MESSAGES: list[Any] = [
    messages.Clock(1_790_000_000.5),
    messages.Refusal("name-taken", "laptop.mesh is taken", None),
    messages.Refusal("time", "Ihre Uhr geht vor: größer", 5.0),
    messages.EnrolRequest("Anna's laptop", None),
    messages.EnrolRequest("laptop", "laptop.mesh"),
    messages.RenewRequest(True),
    NODE,
    GONE,
    messages.Joined(b"leaf", (b"between",), (b"root",), SETTINGS, NODE),
    messages.Waiting(),
    PAGE,
    messages.Directory(0, 0, True, False, (), (), (), None),
    messages.SignalRequest(key(2), SIGNAL),
    messages.SignalAnswer(False),
    messages.OfferRequest((parse_prefix("0.0.0.0/0"), parse_prefix("::/0"))),
    PATH,
    messages.Report((PATH, UNKNOWN)),
    messages.MapNode("laptop.mesh", key(1), True),
    messages.MapPath(key(1), PATH, 7.0),
    messages.Map(
        (messages.MapNode("laptop.mesh", key(1), True),), (messages.MapPath(key(1), PATH, 7.0),)
    ),
    messages.TurnCredentials("179:laptop.mesh", "secret", 179.0, ("turn:turn.example:3478",)),
    messages.Done(),
    messages.Passed("0a1b", key(2), key(1), SIGNAL),
    messages.Changed(9, PAGE),
    messages.Changed(9),
    messages.Signalled(key(1), SIGNAL),
]
EVENTS = [x for x in MESSAGES if type(x) in {*wire.PUSHED.values(), *wire.SENT.values()}]


def kinds_of(event: object) -> dict[str, type]:
    return wire.PUSHED if type(event) in wire.PUSHED.values() else wire.SENT


@pytest.mark.parametrize("message", MESSAGES)
def test_what_is_written_is_read(message: Any) -> None:
    assert wire.decode(type(message), wire.encode(message)) == message


@pytest.mark.parametrize("event", EVENTS)
def test_events_say_what_they_are(event: Any) -> None:
    raw = wire.encode_event(event)
    assert json.loads(raw)["type"] in kinds_of(event)
    assert wire.decode_event(kinds_of(event), raw) == event


def test_every_kind_is_here() -> None:
    assert {type(x) for x in MESSAGES} == set(wire.KINDS)
    assert {type(x) for x in EVENTS} == {*wire.PUSHED.values(), *wire.SENT.values()}
    for kind in wire.KINDS:
        example = next(x for x in MESSAGES if type(x) is kind)
        assert list(wire.to_json(example)) == [x.name for x in fields_of(kind)]


def test_what_is_no_event_is_not_written_as_one() -> None:
    with pytest.raises(TypeError):
        wire.encode_event(messages.Done())


@pytest.mark.parametrize("message", MESSAGES)
def test_members_are_all_there_and_no_others(message: Any) -> None:
    whole = wire.to_json(message)
    for name in whole:
        left = {x: y for x, y in whole.items() if x != name}
        with pytest.raises(WireError, match=f"lacks `{name}`"):
            wire.decode(type(message), json.dumps(left).encode())
    with pytest.raises(WireError, match="nobody knows"):
        wire.decode(type(message), json.dumps({**whole, "more_of_it": 1}).encode())


LONG = "x" * 501
BAD: list[tuple[Any, str, Any]] = [
    (messages.Clock(1.0), "time", -1),
    (messages.Clock(1.0), "time", True),
    (messages.Clock(1.0), "time", 2**40),
    (MESSAGES[1], "error", "x" * 41),
    (MESSAGES[1], "message", LONG),
    (MESSAGES[1], "message", "two\nlines"),
    (MESSAGES[1], "message", 5),
    (MESSAGES[3], "hostname", ""),
    (MESSAGES[3], "hostname", "x" * 254),
    (MESSAGES[3], "hostname", "caf\u00e9"),
    (MESSAGES[3], "name", "Laptop"),
    (MESSAGES[3], "name", "a" * 254),
    (messages.RenewRequest(), "force", 1),
    (NODE, "key", "AAAA"),
    (NODE, "addresses", ["10.7.0.0/24"]),
    (NODE, "addresses", ["10.7.0.1/32", "10.7.0.1/32"]),
    (NODE, "addresses", ["10.7.0.1/32", "10.7.0.2/32", "10.7.0.3/32"]),
    (NODE, "groups", ["Laptops"]),
    (NODE, "groups", [f"g{x}" for x in range(17)]),
    (NODE, "routes", ["192.168.4.1/24"]),
    (NODE, "certificate", "not base64"),
    (NODE, "certificate", "A" * 1_604),
    (NODE, "state", "lost"),
    (NODE, "state", ["active"]),
    (NODE, "expires", float(2**33)),
    (NODE, "coordinator", None),
    (NODE, "revision", 2**63),
    (NODE, "revision", 1.0),
    (messages.Waiting(), "state", "active"),
    (PAGE, "nodes", [wire.to_json(NODE)] * 501),
    (PAGE, "nodes", {}),
    (PAGE, "nodes", [{}]),
    (PAGE, "revocations", [{}]),
    (PAGE, "crl", ["AAAA", "AAAA"]),
    (PAGE, "crl", [""]),
    (PAGE, "settings", {}),
    (messages.SignalRequest(key(2), SIGNAL), "data", "AAAA"),
    (messages.SignalRequest(key(2), SIGNAL), "data", None),
    (messages.OfferRequest(()), "offers", [f"10.{x}.0.0/16" for x in range(17)]),
    (PATH, "kind", "carrier pigeon"),
    (PATH, "via", "x" * 81),
    (PATH, "rtt_ms", -0.5),
    (PATH, "rtt_ms", 3_600_001),
    (PATH, "rtt_ms", True),
    (PATH, "loss", 1.01),
    (messages.Report(()), "paths", [wire.to_json(UNKNOWN)] * 251),
    (MESSAGES[20], "uris", ["u"] * 2),
]


@pytest.mark.parametrize(("message", "member", "value"), BAD)
def test_bad_values_are_refused(message: Any, member: str, value: Any) -> None:
    raw = json.dumps({**wire.to_json(message), member: value}).encode()
    with pytest.raises(WireError) as refused:
        wire.decode(type(message), raw)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b'{"time":NaN}',
        b'{"time":1,"time":1}',
        b"\xff",
        b"[" * 100_000,
        b'{"time":%s}' % (b"9" * 5_000),
    ],
)
def test_what_is_no_message_is_refused(raw: bytes) -> None:
    with pytest.raises(WireError):
        wire.decode(messages.Clock, raw)


@pytest.mark.parametrize("name", [None, 5, [], "signalled", "settings"])
def test_an_event_of_another_type_is_refused(name: Any) -> None:
    raw = json.dumps({"type": name, "revision": 5, "page": None}).encode()
    with pytest.raises(WireError, match="type"):
        wire.decode_event(wire.PUSHED, raw)


def test_a_node_does_not_say_what_coordinators_say() -> None:
    raw = wire.encode_event(messages.Changed(5))
    with pytest.raises(WireError):
        wire.decode_event(wire.SENT, raw)


def test_the_longest_report_fits_a_request() -> None:
    longest = messages.Path(
        key(2), messages.PathKind.DIRECT, "x" * 80, 3_599_999.123456789, 0.1 + 0.2
    )
    assert len(wire.encode_event(messages.Report((longest,) * wire.MAX_REPORTED))) <= wire.MAX_BODY


def test_secrets_do_not_print_themselves() -> None:
    assert "secret" not in repr(MESSAGES[20])


def read_or_reason(read: Callable[[], object]) -> object:
    """What is read, or why nothing was."""
    try:
        return read()
    except WireError as error:
        return str(error)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.sampled_from(MESSAGES), st.data())
def test_any_value_is_read_or_refused(message: Any, data: st.DataObject) -> None:
    whole = wire.to_json(message)
    if whole:
        member = data.draw(st.sampled_from(sorted(whole)))
        whole = {**whole, member: data.draw(JSON)}
    found = read_or_reason(lambda: wire.decode(type(message), json.dumps(whole).encode()))
    if not isinstance(found, str):
        assert wire.to_json(found) == whole


@given(st.binary(max_size=200), st.sampled_from(wire.KINDS))
def test_any_bytes_are_read_or_refused(raw: bytes, kind: type) -> None:
    for read in (lambda: wire.decode(kind, raw), lambda: wire.decode_event(wire.SENT, raw)):
        found = read_or_reason(read)
        assert not isinstance(found, str) or "\n" not in found
