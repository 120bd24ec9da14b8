"""Settings and records in JSON: what is written is read, and all else is refused in one way."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.stores import SETTINGS, key
from wgpy.ip import Prefix, parse_prefix
from wgpy.mesh import line as lines
from wgpy.mesh.fields import RecordError
from wgpy.mesh.place import Membership, membership_from_json, membership_to_json
from wgpy.mesh.records import (
    InviteRecord,
    NodeRecord,
    NodeState,
    Revocation,
    RevocationKind,
    invite_from_json,
    invite_to_json,
    node_from_json,
    node_to_json,
    revocation_from_json,
    revocation_to_json,
)
from wgpy.mesh.settings import Coordinator, settings_from_json, settings_to_json

FULL = replace(
    SETTINGS,
    approval=True,
    stun=("stun.example:3478",),
    turn=("turn:turn.example:3478?transport=tcp", "turns:[2001:db8::1]:443"),
    coordinators=(
        Coordinator("one.mesh", key(1), ("192.0.2.1:51820", "one.example:51820")),
        Coordinator("two.mesh", key(2)),
    ),
)
NODE = NodeRecord(
    name="laptop.mesh",
    key=key(1),
    addresses=(parse_prefix("10.7.0.1"), parse_prefix("fd07::1")),
    state=NodeState.ACTIVE,
    groups=("laptops",),
    routes=(parse_prefix("192.168.4.0/24"), parse_prefix("::/0")),
    offers=(parse_prefix("0.0.0.0/0"),),
    generation=3,
    certificate=b"\x30\x03abc",
    created=1.5,
    last_seen=2.0,
    expires=3.0,
    revision=9,
)
INVITE = InviteRecord("a jti", 5.0, "laptop.mesh", ("laptops",), 7, 2, 1.0, True)
MEMBERSHIP = Membership(
    interface="mesh0",
    network=SETTINGS.id,
    domain="mesh",
    line="wgpy-join:abc",
    contacts=(
        lines.Coordinator(key(1), (lines.Endpoint("192.0.2.1", 51820),), (b"\xfd" + bytes(15),)),
    ),
    accept=("10.1.0.0/16", "router.mesh"),
    offers=(parse_prefix("192.168.0.0/24"),),
)
KEY = Revocation(RevocationKind.KEY, key(1).base64(), 1.0, 2.0, revision=4)
NAME = Revocation(RevocationKind.NAME, "laptop.mesh", 1.0, 2.0, generation=6)
SERIAL = Revocation(RevocationKind.SERIAL, "0a1b", 1.0, 2.0, issuer=b"\1\2")

FORMS: list[tuple[Any, Any, Any]] = [
    (FULL, settings_to_json, settings_from_json),
    (SETTINGS, settings_to_json, settings_from_json),
    (NODE, node_to_json, node_from_json),
    (
        replace(NODE, certificate=None, last_seen=None, expires=None, state=NodeState.PENDING),
        node_to_json,
        node_from_json,
    ),
    (INVITE, invite_to_json, invite_from_json),
    (replace(INVITE, name=None), invite_to_json, invite_from_json),
    (KEY, revocation_to_json, revocation_from_json),
    (NAME, revocation_to_json, revocation_from_json),
    (SERIAL, revocation_to_json, revocation_from_json),
    (MEMBERSHIP, membership_to_json, membership_from_json),
]


@pytest.mark.parametrize(("record", "write", "read"), FORMS)
def test_what_is_written_is_read(record: Any, write: Any, read: Any) -> None:
    assert read(json.loads(json.dumps(write(record)))) == record


@pytest.mark.parametrize(("record", "write", "read"), FORMS)
def test_every_member_is_there_and_no_other(record: Any, write: Any, read: Any) -> None:
    form = write(record)
    for name in form:
        with pytest.raises(RecordError, match=name):
            read({x: y for x, y in form.items() if x != name})
        with pytest.raises(RecordError):
            read({**form, name: object()})
    with pytest.raises(RecordError):
        read({**form, "colour": "green"})


WRONG: list[tuple[Any, Any, dict[str, Any]]] = [
    *(
        (settings_to_json(FULL), settings_from_json, change)
        for change in (
            {"id": "00"},
            {"id": SETTINGS.id.hex().upper()},
            {"domain": "Mesh"},
            {"domain": "7"},
            {"range4": "10.7.0.1/24"},
            {"range4": "11.0.0.0/8"},
            {"range6": "fd00::/64"},
            {"range6": "FD00::/48"},
            {"validity": 59},
            {"validity": True},
            {"validity": 3600.0},
            {"validity": 367 * 86_400},
            {"approval": 1},
            {"stun": ["stun.example:3478"] * 2},
            {"stun": [f"s{n}.example:1" for n in range(9)]},
            {"stun": ["http://x"]},
            {"stun": "stun.example"},
            {"turn": ["stun:x"]},
            {"turn": ["turn:" + "x" * 300]},
            {"coordinators": [{"name": "one.mesh", "key": key(1).base64()}]},
            {"coordinators": [{"name": "one.else", "key": key(1).base64(), "endpoints": []}]},
            {
                "coordinators": [
                    {"name": f"{n}.mesh", "key": key(1).base64(), "endpoints": []} for n in "ab"
                ]
            },
        )
    ),
    *(
        (node_to_json(NODE), node_from_json, change)
        for change in (
            {"name": "laptop mesh"},
            {"name": "x" * 254},
            {"key": key(1).base64()[:-1]},
            {"addresses": ["10.7.0.0/24"]},
            {"addresses": ["10.7.0.1/32", "10.7.0.2/32", "10.7.0.3/32"]},
            {"addresses": ["10.7.0.1"]},
            {"state": "asleep"},
            {"state": []},
            {"groups": ["a"] * 2},
            {"groups": ["A"]},
            {"groups": {"a": 1}},
            {"routes": ["10.0.0.1/8"]},
            {"routes": ["010.0.0.0/8"]},
            {"generation": -1},
            {"generation": 2**63},
            {"certificate": ""},
            {"certificate": "AAA"},
            {"certificate": "AAF="},
            {"certificate": "A" * 1604},
            {"created": "now"},
            {"created": float("inf")},
            {"created": float("nan")},
            {"created": 10**400},
            {"last_seen": -1},
            {"revision": 1.0},
        )
    ),
    *(
        (invite_to_json(INVITE), invite_from_json, change)
        for change in (
            {"jti": ""},
            {"jti": "a\nb"},
            {"jti": "é"},
            {"uses": 0},
            {"used": 8},
            {"name": ""},
            {"revoked": None},
        )
    ),
    *(
        (revocation_to_json(record), revocation_from_json, change)
        for record, change in (
            (KEY, {"kind": "colour"}),
            (KEY, {"kind": []}),
            (KEY, {"value": "laptop.mesh"}),
            (KEY, {"issuer": "00"}),
            (KEY, {"generation": 1}),
            (NAME, {"value": "Laptop"}),
            (SERIAL, {"value": "0A"}),
            (SERIAL, {"value": "123"}),
            (SERIAL, {"issuer": ""}),
            (SERIAL, {"issuer": "00" * 33}),
        )
    ),
]


@pytest.mark.parametrize(("form", "read", "change"), WRONG)
def test_each_member_has_one_type_one_spelling_and_a_bound(
    form: dict[str, Any], read: Any, change: dict[str, Any]
) -> None:
    read(form)
    with pytest.raises(RecordError) as error:
        read({**form, **change})
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 200


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=60),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)


@given(st.sampled_from(FORMS), st.data())
def test_nothing_but_the_one_exception_comes_out(form: tuple[Any, Any, Any], data: Any) -> None:
    record, write, read = form
    whole = write(record)
    name = data.draw(st.sampled_from(sorted(whole)))
    for value in (data.draw(values), {**whole, name: data.draw(values)}):
        try:
            found = read(value)
        except RecordError:
            continue
        # What is accepted means what it says.
        assert write(found) == value


def test_settings_cannot_be_made_wrong_either() -> None:
    for change in (
        {"id": b""},
        {"validity": 0},
        {"range4": Prefix(bytes([10, 7, 0, 1]), 24)},
        {"stun": ("",)},
        {"coordinators": (Coordinator("mesh", key(1)),)},
        {"coordinators": (Coordinator("a.mesh", key(1)), Coordinator("a.mesh", key(2)))},
        {"coordinators": tuple(Coordinator(f"n{n}.mesh", key(n)) for n in range(9))},
    ):
        with pytest.raises(RecordError):
            replace(SETTINGS, **change)


def test_a_certificate_is_not_in_the_way_when_a_node_is_printed() -> None:
    assert "abc" not in repr(NODE)
