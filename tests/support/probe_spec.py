"""Path probes and signals a second time, straight from docs/protocol.md.

Nothing of wgpy. X25519 and ChaCha20-Poly1305 are those of whitepaper.py; HChaCha20 is written out,
from section 2.2 of draft-irtf-cfrg-xchacha-03. It is slow and it is not for use.

    python -m tests.support.probe_spec > keys/probe.json

makes the published test vectors again.
"""

import base64
import hashlib
import ipaddress
import json
import struct
import sys
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from tests.support.whitepaper import dh, dh_public

PROBE, REPLY = 0x12, 0x13
OFFER, ANSWER, PUNCH = 1, 2, 3
HOST, MAPPED, REFLEXIVE, RELAYED, PREDICTED = 1, 2, 3, 4, 5
LABEL_PROBE, LABEL_SIGNAL = b"wgpy v1 path probe", b"wgpy v1 signal"


# --- XChaCha20-Poly1305 ---


def rotate(word: int, bits: int) -> int:
    return (word << bits | word >> (32 - bits)) & 0xFFFFFFFF


def quarter_round(s: list[int], a: int, b: int, c: int, d: int) -> None:
    for one, two, three, bits in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
        s[one] = (s[one] + s[two]) & 0xFFFFFFFF
        s[three] = rotate(s[three] ^ s[one], bits)


def hchacha20(key: bytes, nonce: bytes) -> bytes:
    s = list(struct.unpack("<16I", b"expand 32-byte k" + key + nonce))
    for _ in range(10):
        quarter_round(s, 0, 4, 8, 12)
        quarter_round(s, 1, 5, 9, 13)
        quarter_round(s, 2, 6, 10, 14)
        quarter_round(s, 3, 7, 11, 15)
        quarter_round(s, 0, 5, 10, 15)
        quarter_round(s, 1, 6, 11, 12)
        quarter_round(s, 2, 7, 8, 13)
        quarter_round(s, 3, 4, 9, 14)
    return struct.pack("<8I", *s[:4], *s[12:])


def seal(key: bytes, nonce: bytes, content: bytes, data: bytes) -> bytes:
    cipher = ChaCha20Poly1305(hchacha20(key, nonce[:16]))
    return cipher.encrypt(bytes(4) + nonce[16:], content, data)


def unseal(key: bytes, nonce: bytes, sealed: bytes, data: bytes) -> bytes:
    cipher = ChaCha20Poly1305(hchacha20(key, nonce[:16]))
    return cipher.decrypt(bytes(4) + nonce[16:], sealed, data)


def key_between(private: bytes, other: bytes, label: bytes, *, sending: bool) -> bytes:
    """The key of what the owner of `private` sends to, or gets from, the owner of `other`."""
    us = dh_public(private)
    sender, receiver = (us, other) if sending else (other, us)
    secret = dh(private, other)
    return hashlib.blake2s(label + sender + receiver, key=secret, digest_size=32).digest()


# --- Probes ---


def address(text: str) -> bytes:
    parsed = ipaddress.ip_address(text)
    if parsed.version == 4:
        return bytes(10) + b"\xff\xff" + parsed.packed
    return parsed.packed


def datagram(kind: int, path_id: bytes, nonce: bytes, key: bytes, content: bytes) -> bytes:
    head = struct.pack("<I", kind) + path_id
    return head + nonce + seal(key, nonce, content, head)


def probe_content(transaction: bytes, counter: int, length: int, version: int = 1) -> bytes:
    content = bytes([version]) + transaction + struct.pack("<Q", counter)
    return content.ljust(length - 52, b"\0")


def reply_content(
    transaction: bytes, counter: int, seen_as: str, port: int, arrived: int, version: int = 1
) -> bytes:
    content = bytes([version]) + transaction + struct.pack("<Q", counter)
    return content + address(seen_as) + struct.pack("<HH", port, arrived) + bytes(7)


def open_datagram(data: bytes, key: bytes) -> bytes:
    return unseal(key, data[12:36], data[36:], data[:12])


# --- Signals ---


def signal_content(
    kind: int,
    sequence: int,
    transaction: bytes,
    echo: bytes,
    life: int,
    delay: int,
    method: int = 0,
    facts: tuple[int, int, int, int, int] = (0, 0, 0, 1, 0),
    path_ids: list[bytes] | None = None,
    candidates: list[tuple[int, str, int]] | None = None,
) -> bytes:
    content = struct.pack("<BBQ", kind, method, sequence) + transaction + echo
    content += struct.pack("<HH", life, delay)
    if path_ids is not None and candidates is not None:
        content += struct.pack("<BBhBB", *facts) + b"".join(path_ids) + bytes([len(candidates)])
        for number, host, port in candidates:
            content += bytes([number]) + address(host) + struct.pack("<H", port)
    return content.ljust(280, b"\0")


def signal(private: bytes, other: bytes, nonce: bytes, content: bytes) -> bytes:
    head = b"\x01" + dh_public(private)
    key = key_between(private, other, LABEL_SIGNAL, sending=True)
    return head + nonce + seal(key, nonce, content, head)


def blob(message: bytes) -> str:
    check = hashlib.blake2s(b"wgpy v1 blob" + message).digest()[:4]
    return "wgpy1:" + base64.urlsafe_b64encode(message + check).decode().rstrip("=")


# --- The published vectors ---


def pattern(start: int, step: int = 7, length: int = 32) -> bytes:
    """Bytes that are plainly nobody's secret."""
    return bytes((start + step * i) % 256 for i in range(length))


ALICE, BOB = pattern(0x31), pattern(0x62)
PATH_IDS = [pattern(0x10 * i, 1, 8) for i in range(1, 5)]
TRANSACTION, ECHO = pattern(0x71, 3, 8), pattern(0x91, 5, 8)
NONCES = [pattern(0xA1 + i, 11, 24) for i in range(8)]
SEQUENCE = 1_790_000_000_123
CANDIDATES = [
    (HOST, "192.168.1.20", 51820),
    (HOST, "2001:db8::20", 51820),
    (MAPPED, "203.0.113.5", 40000),
    (REFLEXIVE, "203.0.113.5", 51820),
    (RELAYED, "198.51.100.9", 49152),
    (PREDICTED, "203.0.113.5", 51821),
]


def probes() -> list[dict[str, Any]]:
    """From Alice to Bob, and Bob's replies."""
    there = key_between(ALICE, dh_public(BOB), LABEL_PROBE, sending=True)
    back = key_between(BOB, dh_public(ALICE), LABEL_PROBE, sending=True)
    found: list[dict[str, Any]] = []
    for number, length in enumerate((96, 1400)):
        content = probe_content(TRANSACTION, 7 + number, length)
        found.append(
            {
                "name": f"a probe of {length} bytes",
                "type": PROBE,
                "path_id": PATH_IDS[0].hex(),
                "nonce": NONCES[number].hex(),
                "transaction": TRANSACTION.hex(),
                "counter": 7 + number,
                "length": length,
                "datagram": datagram(PROBE, PATH_IDS[0], NONCES[number], there, content).hex(),
            }
        )
    for number, (host, arrived) in enumerate((("203.0.113.5", 96), ("2001:db8::20", 1400)), 2):
        content = reply_content(TRANSACTION, 7 + number, host, 51820, arrived)
        found.append(
            {
                "name": f"a reply about {host}",
                "type": REPLY,
                "path_id": PATH_IDS[1].hex(),
                "nonce": NONCES[number].hex(),
                "transaction": TRANSACTION.hex(),
                "counter": 7 + number,
                "host": host,
                "port": 51820,
                "arrived": arrived,
                "datagram": datagram(REPLY, PATH_IDS[1], NONCES[number], back, content).hex(),
            }
        )
    return found


def signals() -> list[dict[str, Any]]:
    """Alice offers, Bob answers, Alice punches."""
    facts = {"mapping": 3, "filtering": 2, "step": -2, "layers": 2, "birthday": True}
    known = (3, 2, -2, 2, 1)
    rows: list[tuple[str, bytes, bytes, bytes]] = [
        (
            "an offer",
            ALICE,
            BOB,
            signal_content(
                OFFER, SEQUENCE, TRANSACTION, bytes(8), 60, 0, 1, known, PATH_IDS, CANDIDATES
            ),
        ),
        (
            "an answer",
            BOB,
            ALICE,
            signal_content(
                ANSWER, SEQUENCE, ECHO, TRANSACTION, 60, 125, 0, known, PATH_IDS, CANDIDATES[:1]
            ),
        ),
        ("a punch", ALICE, BOB, signal_content(PUNCH, SEQUENCE + 1, bytes(8), ECHO, 60, 40)),
    ]
    found = []
    for number, (name, sender, receiver, content) in enumerate(rows, 4):
        message = signal(sender, dh_public(receiver), NONCES[number], content)
        found.append(
            {
                "name": name,
                "sender": "alice" if sender == ALICE else "bob",
                "nonce": NONCES[number].hex(),
                "content": content.hex(),
                "facts": None if name == "a punch" else facts,
                "message": message.hex(),
                "blob": blob(message),
            }
        )
    return found


def changed(content: bytes, position: int, new: bytes) -> bytes:
    return content[:position] + new + content[position + len(new) :]


def bad_contents() -> list[dict[str, Any]]:
    """What must be dropped although it is sealed by the right key."""
    probe = probe_content(TRANSACTION, 1, 96)
    reply = reply_content(TRANSACTION, 1, "203.0.113.5", 1, 96)
    offer = signal_content(
        OFFER, 1, TRANSACTION, bytes(8), 60, 0, 0, (1, 1, 0, 1, 0), PATH_IDS, CANDIDATES
    )
    punch = signal_content(PUNCH, 1, bytes(8), ECHO, 60, 0)
    rows = [
        ("probe", "version 0", changed(probe, 0, b"\0")),
        ("probe", "version 2", changed(probe, 0, b"\2")),
        ("probe", "padding that is not zeros, first", changed(probe, 17, b"\1")),
        ("probe", "padding that is not zeros, last", changed(probe, 43, b"\1")),
        ("reply", "version 2", changed(reply, 0, b"\2")),
        ("reply", "padding that is not zeros", changed(reply, 43, b"\1")),
        ("reply", "a probe of 95 bytes arrived", changed(reply, 35, b"\x5f\0")),
        ("reply", "a probe of 8,973 bytes arrived", changed(reply, 35, b"\x0d\x23")),
        ("signal", "kind 0", changed(offer, 0, b"\0")),
        ("signal", "kind 4", changed(offer, 0, b"\4")),
        ("signal", "method 3", changed(offer, 1, b"\3")),
        ("signal", "an offer without a transaction", changed(offer, 10, bytes(8))),
        ("signal", "an offer with an echo", changed(offer, 18, ECHO)),
        ("signal", "an answer without an echo", changed(offer, 0, b"\2")),
        ("signal", "a life of 0", changed(offer, 26, b"\0\0")),
        ("signal", "a life of 601 s", changed(offer, 26, b"\x59\2")),
        ("signal", "a delay of 10,001 ms", changed(offer, 28, b"\x11\x27")),
        ("signal", "mapping 4", changed(offer, 30, b"\4")),
        ("signal", "filtering 4", changed(offer, 31, b"\4")),
        ("signal", "no layer", changed(offer, 34, b"\0")),
        ("signal", "4 layers", changed(offer, 34, b"\4")),
        ("signal", "a flag that there is not", changed(offer, 35, b"\2")),
        ("signal", "one path id twice", changed(offer, 44, PATH_IDS[0])),
        ("signal", "11 candidates", changed(offer, 68, b"\x0b")),
        ("signal", "255 candidates", changed(offer, 68, b"\xff")),
        ("signal", "fewer candidates than there are", changed(offer, 68, b"\5")),
        ("signal", "a candidate of kind 0", changed(offer, 69, b"\0")),
        ("signal", "a candidate of kind 6", changed(offer, 69, b"\6")),
        ("signal", "padding that is not zeros", changed(offer, 279, b"\1")),
        ("signal", "a punch with a transaction", changed(punch, 10, TRANSACTION)),
        ("signal", "a punch without an echo", changed(punch, 18, bytes(8))),
        ("signal", "a punch with a method", changed(punch, 1, b"\1")),
        ("signal", "a punch with facts", changed(punch, 30, b"\1")),
        ("signal", "a punch with a candidate", changed(punch, 68, b"\1\1")),
    ]
    return [{"of": what, "name": name, "content": data.hex()} for what, name, data in rows]


def vectors() -> dict[str, Any]:
    keys = {}
    for name, label in (("probe", LABEL_PROBE), ("signal", LABEL_SIGNAL)):
        for sender, private, other in (("alice", ALICE, BOB), ("bob", BOB, ALICE)):
            key = key_between(private, dh_public(other), label, sending=True)
            keys[f"{name}_from_{sender}"] = key.hex()
    return {
        "source": "made by tests/support/probe_spec.py from the keys given here",
        "alice_private": ALICE.hex(),
        "bob_private": BOB.hex(),
        "secret": dh(ALICE, dh_public(BOB)).hex(),
        "keys": keys,
        "path_ids": [each.hex() for each in PATH_IDS],
        "candidates": CANDIDATES,
        "probes": probes(),
        "signals": signals(),
        "bad_contents": bad_contents(),
    }


def text() -> str:
    """The file keys/probe.json."""
    return json.dumps(vectors(), indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
