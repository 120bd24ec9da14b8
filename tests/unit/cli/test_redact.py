"""Secrets are planted in every form that they are known to take, and none may come through."""

import base64
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgpy.cli.redact import LEAST_SECRET, Redactor, forms_of_key

KEY = bytes(range(100, 132))
PUBLIC = bytes(range(32))
BASE64 = base64.b64encode(KEY).decode()
PASSWORD = "correct horse battery"
JWT = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJsYXB0b3AifQ.c2lnbmF0dXJl"
LINE = "wgpy-join:" + "AbC-_9" * 40
PEM = (
    "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIGbMFcGCSqG\nabc=\n-----END ENCRYPTED PRIVATE KEY-----"
)


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        (f"PrivateKey = {BASE64}", BASE64),
        (f"privatekey={BASE64} # mine", BASE64),
        (f"Private Key = {BASE64}", BASE64),
        (f'private_key = "{BASE64}"', BASE64),
        (f'private_key = """\n{BASE64}"""', BASE64),
        (f"private_key={KEY.hex()}", KEY.hex()),
        (f"PresharedKey = {BASE64[:20]}", BASE64[:20]),
        (f"somewhere {BASE64} in a line", BASE64),
        (f"somewhere {BASE64.rstrip('=')}.", BASE64.rstrip("=")),
        (f"hex {KEY.hex().upper()};", KEY.hex().upper()),
        (f"password: {PASSWORD}", PASSWORD),
        (f'{{"password": "{PASSWORD}", "a": 1}}', PASSWORD),
        ('{"turn_secret": "quo\\"ted x"}', "ted x"),
        (f"turn_secret = '{PASSWORD}'", PASSWORD),
        ("TURN-Secret=hunter2", "hunter2"),
        ("store = postgresql://wgpy:hunter2@db/wgpy", "hunter2"),
        ("postgresql://wgpy@db/wgpy?password=hunter2", "hunter2"),
        (f"token {JWT} refused", JWT.split(".")[1]),
        (f"the beginning {JWT[:25]}", JWT[:25]),
        (f"joined with {LINE} then", LINE[10:40]),
        (f"wgpy-join:\n  {LINE[10:]}", LINE[10:40]),
        (f"a file:\n{PEM}\nend", "MIGbMFcG"),
        (PEM[:60], "MIGbMFcG"),
        ("PostUp = curl -u me:hunter2 http://x", "hunter2"),
        ('post_up = [\n  "curl hunter2",\n  "x",\n]', "hunter2"),
        ("Authorization: Bearer hunter2", "hunter2"),
        ("Wgpy-Mac: aHVudGVyMg", "aHVudGVyMg"),
        ("wgpy1:aaaaBBBB-_ is the offer", "aaaaBBBB"),
    ],
)
def test_what_looks_like_a_secret_is_taken_out(text: str, secret: str) -> None:
    out = Redactor()(text)
    assert secret in text
    assert secret not in out
    assert "removed)" in out


@pytest.mark.parametrize("form", sorted(forms_of_key(KEY)))
@pytest.mark.parametrize("around", ["{}", "x{}y", '"{}"', "a={}&b", "\\n{}\\n"])
def test_a_known_key_is_taken_out_wherever_it_stands(form: str, around: str) -> None:
    text = around.format(form)
    out = Redactor(keys=[KEY])(text)
    assert form not in out


def test_a_known_word_is_taken_out_and_a_word_of_three_letters_is_not() -> None:
    assert Redactor(words=[f" {PASSWORD}\n"])(f"said {PASSWORD}!") == "said (secret removed)!"
    assert Redactor(words=["key"])("a key") == "a key"


def test_what_is_public_stays_and_what_is_both_goes() -> None:
    text = f"peer {base64.b64encode(PUBLIC).decode()} and {PUBLIC.hex()}"
    assert Redactor(public=[PUBLIC])(text) == text
    assert "removed" in Redactor(keys=[PUBLIC], public=[PUBLIC])(text)
    assert Redactor()(text).count("removed") == 2


@pytest.mark.parametrize(
    "text",
    [
        'private_key_file = "key"',
        "password_file = '/etc/wgpy/turn'",
        '"presharedKey": null,',
        '"privateKey": "(hidden)",',
        "preshared key: (hidden)",
        "ListenPort = 51820\nAddress = 10.0.0.1/24",
        "the handshake with 192.0.2.1:51820 took 23 ms",
        '"counters": {"dropped_replay": 3}',
        "https://example.org:443/path",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert Redactor()(text) == text


def test_json_stays_json() -> None:
    before = {"privateKey": BASE64, "password": 'a"b', "list": [1, {"token": JWT}], "psk": None}
    after = json.loads(Redactor()(json.dumps(before, indent=2)))
    assert after["list"][0] == 1
    assert after["psk"] is None
    assert "removed" in after["privateKey"]
    assert "removed" in after["list"][1]["token"]


@given(
    before=st.text(max_size=50),
    after=st.text(max_size=50),
    key=st.binary(min_size=32, max_size=32),
    word=st.text(alphabet="abcdefgh0123456789-_/+.", min_size=LEAST_SECRET, max_size=40),
)
def test_no_surroundings_save_a_known_secret(
    before: str, after: str, key: bytes, word: str
) -> None:
    redact = Redactor(keys=[key], words=[word])
    for form in forms_of_key(key):
        assert form not in redact(before + form + after)
    if word not in "(secret removed)":
        assert word not in redact("< > " + word + " < >")


def test_a_large_text_takes_no_long_time() -> None:
    text = ("password " * 2000 + "=" * 2000 + "eyJ" * 2000 + "a" * 20_000 + "\n") * 5
    text += os.urandom(100_000).hex()
    assert len(Redactor(keys=[KEY])(text)) > 1000
