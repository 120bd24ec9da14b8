"""The handshake with credentials a second time, straight from docs/protocol.md.

Nothing of wgpy, no Noise library: the functions of whitepaper.py, which come from section 5.4 of
the whitepaper, and the document. It is slow and it is not for use.

    python -m tests.support.credential_spec > keys/credential.json

makes the published test vectors again.
"""

import json
import struct
import sys
from dataclasses import dataclass, field
from typing import Any

from tests.support.whitepaper import (
    CONSTRUCTION,
    aead,
    aead_open,
    dh,
    dh_public,
    hash_,
    kdf,
    mac,
    macs,
)

PROLOGUE = b"wgpy v1 credential handshake"
ISSUER, NAME, CERTIFICATE, INTERMEDIATE, TOKEN = 0x01, 0x81, 0x82, 0x83, 0x84


@dataclass
class State:
    """C and H after the first message, and the two keys that sealed it."""

    chain: bytes
    hash: bytes
    keys: list[bytes] = field(default_factory=list)


def tlvs(fields: dict[int, bytes]) -> bytes:
    return b"".join(
        bytes([number]) + len(fields[number]).to_bytes(2, "little") + fields[number]
        for number in sorted(fields)
    )


def initiation_payload(timestamp: bytes, network: bytes, fields: dict[int, bytes]) -> bytes:
    """1,064 bytes."""
    content = timestamp + b"\x01" + network + tlvs(fields)
    return content + bytes(1064 - len(content))


def response_payload(network: bytes, fields: dict[int, bytes]) -> bytes:
    """1,108 bytes."""
    content = b"\x01" + network + tlvs(fields)
    return content + bytes(1108 - len(content))


def make_initiation(
    static: bytes,
    peer_public: bytes,
    ephemeral: bytes,
    sender: int,
    payload: bytes,
    prologue: bytes = PROLOGUE,
) -> tuple[bytes, State]:
    """As initiator: the 1,200 bytes without a cookie."""
    c = hash_(CONSTRUCTION)
    h = hash_(c + prologue)
    h = hash_(h + peer_public)
    e_public = dh_public(ephemeral)
    (c,) = kdf(1, c, e_public)
    h = hash_(h + e_public)
    c, k1 = kdf(2, c, dh(ephemeral, peer_public))
    sealed_static = aead(k1, 0, dh_public(static), h)
    h = hash_(h + sealed_static)
    c, k2 = kdf(2, c, dh(static, peer_public))
    sealed_payload = aead(k2, 0, payload, h)
    h = hash_(h + sealed_payload)
    message = struct.pack("<B3xI", 0x10, sender) + e_public + sealed_static + sealed_payload
    return macs(message, peer_public), State(c, h, [k1, k2])


def read_initiation(static: bytes, message: bytes) -> tuple[bytes, bytes, State]:
    """As responder: the initiator's static key and its payload."""
    c = hash_(CONSTRUCTION)
    h = hash_(c + PROLOGUE)
    h = hash_(h + dh_public(static))
    e_public, sealed_static, sealed_payload = message[8:40], message[40:88], message[88:1168]
    (c,) = kdf(1, c, e_public)
    h = hash_(h + e_public)
    c, k1 = kdf(2, c, dh(static, e_public))
    peer_public = aead_open(k1, 0, sealed_static, h)
    h = hash_(h + sealed_static)
    c, k2 = kdf(2, c, dh(static, peer_public))
    payload = aead_open(k2, 0, sealed_payload, h)
    h = hash_(h + sealed_payload)
    return peer_public, payload, State(c, h, [k1, k2])


def make_response(
    state: State,
    initiation: bytes,
    peer_public: bytes,
    ephemeral: bytes,
    sender: int,
    payload: bytes,
    psk: bytes = bytes(32),
) -> tuple[bytes, bytes, bytes]:
    """As responder: the message, the key for sending, the one for receiving."""
    c, h = state.chain, state.hash
    e_public = dh_public(ephemeral)
    (c,) = kdf(1, c, e_public)
    h = hash_(h + e_public)
    (c,) = kdf(1, c, dh(ephemeral, initiation[8:40]))
    (c,) = kdf(1, c, dh(ephemeral, peer_public))
    c, tau, k = kdf(3, c, psk)
    h = hash_(h + tau)
    sealed = aead(k, 0, payload, h)
    message = struct.pack("<B3xI", 0x11, sender) + initiation[4:8] + e_public + sealed
    receive, send = kdf(2, c, b"")
    return macs(message, peer_public), send, receive


def read_response(
    state: State, static: bytes, ephemeral: bytes, message: bytes, psk: bytes = bytes(32)
) -> tuple[bytes, bytes, bytes]:
    """As initiator: the payload, the key to send with and the key to receive with."""
    c, h = state.chain, state.hash
    e_public, sealed = message[12:44], message[44:-32]
    (c,) = kdf(1, c, e_public)
    h = hash_(h + e_public)
    (c,) = kdf(1, c, dh(ephemeral, e_public))
    (c,) = kdf(1, c, dh(static, e_public))
    c, tau, k = kdf(3, c, psk)
    h = hash_(h + tau)
    payload = aead_open(k, 0, sealed, h)
    send, receive = kdf(2, c, b"")
    return payload, send, receive


def der(tag: int, content: bytes) -> bytes:
    """One element of at most 127 bytes."""
    assert len(content) < 128
    return bytes([tag, len(content)]) + content


def rights(network: bytes, generation: int, groups: list[str], prefixes: list[bytes]) -> bytes:
    """Our extension of a certificate."""
    return der(
        0x30,
        der(0x04, network)
        + der(0x02, generation.to_bytes(1, "big"))
        + der(0x30, b"".join(der(0x0C, group.encode()) for group in groups))
        + der(0x30, b"".join(der(0x04, prefix) for prefix in prefixes)),
    )


# --- The published vectors ---


def pattern(start: int, step: int = 7) -> bytes:
    """32 bytes that are plainly nobody's secret."""
    return bytes((start + step * i) % 256 for i in range(32))


INITIATOR, RESPONDER = pattern(0x21), pattern(0x52)
INITIATOR_EPHEMERAL, RESPONDER_EPHEMERAL = pattern(0x83), pattern(0xB4)
PSK = pattern(0xE5)
NETWORK = bytes(range(0xA0, 0xB0))
TIMESTAMP = bytes.fromhex("400000006553f10a00000000")
LEAF = bytes(i * 11 % 256 for i in range(523))
ANSWER = bytes(i * 13 % 256 for i in range(531))
ABOVE = bytes(i * 17 % 256 for i in range(400))
TOKEN_TEXT = b"eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJsYXB0b3AubWVzaCJ9.c2lnbmF0dXJl"
COOKIE = pattern(0x16)[:16]

CASES: list[dict[str, Any]] = [
    {
        "name": "certificates on both sides",
        "initiator_fields": {NAME: b"server.mesh", ISSUER: pattern(1), CERTIFICATE: LEAF},
        "responder_fields": {ISSUER: pattern(2), CERTIFICATE: ANSWER},
        "preshared_key": bytes(32),
    },
    {
        "name": "a pre-shared key, and a certificate with its intermediate",
        "initiator_fields": {NAME: b"server.mesh", CERTIFICATE: LEAF, INTERMEDIATE: ABOVE},
        "responder_fields": {ISSUER: pattern(2), CERTIFICATE: ANSWER},
        "preshared_key": PSK,
    },
    {
        "name": "a token to a responder without a credential",
        "initiator_fields": {TOKEN: TOKEN_TEXT},
        "responder_fields": None,
        "preshared_key": bytes(32),
    },
]


def fields_json(fields: dict[int, bytes] | None) -> dict[str, str] | None:
    return None if fields is None else {f"{k:#04x}": fields[k].hex() for k in sorted(fields)}


def run(case: dict[str, Any]) -> dict[str, Any]:
    first = initiation_payload(TIMESTAMP, NETWORK, case["initiator_fields"])
    fields = case["responder_fields"]
    second = b"" if fields is None else response_payload(NETWORK, fields)
    initiation, state = make_initiation(
        INITIATOR, dh_public(RESPONDER), INITIATOR_EPHEMERAL, 0x11223344, first
    )
    response, responder_sends, initiator_sends = make_response(
        state,
        initiation,
        dh_public(INITIATOR),
        RESPONDER_EPHEMERAL,
        0x55667788,
        second,
        case["preshared_key"],
    )
    covered = initiation[:-16]
    return {
        "name": case["name"],
        "preshared_key": case["preshared_key"].hex(),
        "initiator_fields": fields_json(case["initiator_fields"]),
        "responder_fields": fields_json(fields),
        "key_of_static": state.keys[0].hex(),
        "key_of_payload": state.keys[1].hex(),
        "chaining_key": state.chain.hex(),
        "handshake_hash": state.hash.hex(),
        "initiation": initiation.hex(),
        "initiation_mac2_with_cookie": mac(COOKIE, covered).hex(),
        "response": response.hex(),
        "initiator_sends": initiator_sends.hex(),
        "responder_sends": responder_sends.hex(),
    }


def payloads() -> list[dict[str, Any]]:
    """Contents of 0x10 behind timestamp, version and network, zeros to the end: good and bad."""
    name, leaf = tlvs({NAME: b"a.mesh"}), tlvs({CERTIFICATE: b"0"})
    token = tlvs({TOKEN: b"a.b.c"})
    rows: list[tuple[str, bytes, bool]] = [
        ("nothing", b"", True),
        ("a name", name, True),
        ("a name and a certificate", name + leaf, True),
        ("a name and a token", name + token, True),
        ("an unknown field that may be ignored", tlvs({0x02: b"x"}) + name + leaf, True),
        ("an unknown field of no length", tlvs({0x7F: b""}) + name + leaf, True),
        ("an unknown field that must be understood", name + leaf + tlvs({0x85: b""}), False),
        ("fields in descending order", leaf + name, False),
        ("a field twice", name + name, False),
        ("padding that is not zeros", name + b"\0\0\0\1", False),
        ("a length beyond the end", b"\x82\xff\xff", False),
        ("an upper-case name", tlvs({NAME: b"A.mesh"}), False),
        ("an empty name", tlvs({NAME: b""}), False),
        ("a name with a final dot", tlvs({NAME: b"a.mesh."}), False),
        ("a wildcard", tlvs({NAME: b"*.mesh"}), False),
        ("a certificate and a token", leaf + token, False),
        ("an empty certificate", tlvs({CERTIFICATE: b""}), False),
        ("an intermediate without a certificate", tlvs({INTERMEDIATE: b"0"}), False),
        ("an issuer without a certificate", tlvs({ISSUER: bytes(32)}), False),
        ("an issuer of 31 bytes", tlvs({ISSUER: bytes(31)}) + leaf, False),
        ("a token with an issuer", tlvs({ISSUER: bytes(32)}) + token, False),
        ("a token of 701 bytes", tlvs({TOKEN: b"a.b." + b"c" * 697}), False),
        ("a token of two parts", tlvs({TOKEN: b"a.b"}), False),
        ("a token with padding", tlvs({TOKEN: b"a.b.c="}), False),
    ]
    return [{"name": name, "fields": data.hex(), "good": good} for name, data, good in rows]


def extension() -> dict[str, Any]:
    groups, prefix = ["admins", "laptops"], bytes([10, 9, 0, 0, 16])
    return {
        "network": NETWORK.hex(),
        "generation": 3,
        "groups": groups,
        "prefixes": [prefix.hex()],
        "der": rights(NETWORK, 3, groups, [prefix]).hex(),
    }


def vectors() -> dict[str, Any]:
    return {
        "source": "made by tests/support/credential_spec.py from the keys given here",
        "prologue": PROLOGUE.decode(),
        "initiator_private": INITIATOR.hex(),
        "responder_private": RESPONDER.hex(),
        "initiator_ephemeral": INITIATOR_EPHEMERAL.hex(),
        "responder_ephemeral": RESPONDER_EPHEMERAL.hex(),
        "initiator_index": 0x11223344,
        "responder_index": 0x55667788,
        "timestamp": TIMESTAMP.hex(),
        "network": NETWORK.hex(),
        "cookie": COOKIE.hex(),
        "handshakes": [run(case) for case in CASES],
        "payloads": payloads(),
        "extension": extension(),
    }


def text() -> str:
    """The file keys/credential.json."""
    return json.dumps(vectors(), indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
