"""Keys: their texts, what is refused and why, and that no secret shows itself."""

import base64
import os
import stat
import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgpy.keys import (
    KeyFormatError,
    PresharedKey,
    PrivateKey,
    PublicKey,
    exposure_warning,
    is_world_readable,
    read_key_text,
    write_secret,
)

KINDS = (PublicKey, PrivateKey, PresharedKey)
RAW = st.binary(min_size=32, max_size=32)


@given(RAW)
def test_public_and_preshared_keys_survive_both_texts(raw: bytes) -> None:
    for kind in (PublicKey, PresharedKey):
        key = kind(raw)
        assert bytes(key) == raw
        assert kind.from_base64(key.base64()) == key
        assert kind.from_hex(key.hex()) == key
        assert (len(key.base64()), len(key.hex())) == (44, 64)


@given(RAW)
def test_a_private_key_is_clamped_once_and_for_all(raw: bytes) -> None:
    key = PrivateKey(raw)
    made = bytes(key)
    if any(raw):
        assert made[0] & 7 == 0
        assert made[31] & 0xC0 == 0x40
        assert made[1:31] == raw[1:31]
    assert PrivateKey(made) == key == PrivateKey.from_base64(key.base64())


def test_zeros_mean_no_key_and_are_not_clamped() -> None:
    assert PrivateKey(bytes(32)).is_zero()
    assert bytes(PrivateKey(bytes(32))) == bytes(32)
    assert PresharedKey(bytes(32)).is_zero()
    assert not PrivateKey.generate().is_zero()


def test_public_key_of_rfc_7748() -> None:
    # Section 6.1: Bob's key pair.
    bob = PrivateKey.from_hex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
    public = "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
    assert bob.public().hex() == public


@given(st.text(max_size=80))
def test_any_text_is_a_key_or_a_key_format_error(text: str) -> None:
    for kind in KINDS:
        for read in (kind.from_base64, kind.from_hex):
            try:
                key = read(text)
            except KeyFormatError:
                continue
            assert text.lower() in (key.hex(), key.base64().lower()) or kind is PrivateKey


GOOD = base64.b64encode(bytes(range(32))).decode()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "44 characters of base64; this has 0"),
        (GOOD[:-1], "this has 43"),
        (GOOD + "=", "this has 45"),
        (GOOD[:-1] + "\n", "character that base64 lacks"),
        (" " + GOOD[:-1], "character that base64 lacks"),
        ("\N{FULLWIDTH DIGIT ONE}" + GOOD[1:], "character that base64 lacks"),
        (GOOD[:10] + "-" + GOOD[11:], "character that base64 lacks"),
        (GOOD[:-2] + "==", "this base64 holds 31"),
        (GOOD[:-1] + "A", "this base64 holds 33"),
        (GOOD[:-2] + "9=", "spare bits"),
    ],
)
def test_base64_is_refused_with_the_reason(text: str, reason: str) -> None:
    for kind in KINDS:
        with pytest.raises(KeyFormatError, match=reason) as caught:
            kind.from_base64(text)
        assert GOOD[:10] not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0" * 63,
        "0" * 65,
        "g" + "0" * 63,
        "0x" + "0" * 62,
        "00 " * 21 + "0",
        "\N{ARABIC-INDIC DIGIT ONE}" * 64,
    ],
)
def test_hex_is_refused(text: str) -> None:
    for kind in KINDS:
        with pytest.raises(KeyFormatError, match="hexadecimal"):
            kind.from_hex(text)


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_other_lengths_are_refused(length: int) -> None:
    for kind in KINDS:
        with pytest.raises(KeyFormatError, match=f"32 bytes; this is {length}"):
            kind(bytes(length))


@given(RAW)
def test_a_secret_never_shows_itself(raw: bytes) -> None:
    for kind in (PrivateKey, PresharedKey):
        key = kind(raw)
        texts = [f"{key}", f"{key!r}", f"{[key]}", "%s" % key, f"{key!a}", f"{key:}"]  # noqa: UP031
        assert all("hidden" in text for text in texts)
        assert not any(key.base64() in text or key.hex() in text for text in texts)


def test_no_secret_in_a_traceback() -> None:
    secret = PrivateKey.generate().base64()
    for text in (secret + "x", secret[:20] + "!" + secret[21:], secret[:-2]):
        with pytest.raises(KeyFormatError) as caught:
            PrivateKey.from_base64(text)
        shown = "".join(traceback.format_exception(caught.value))
        assert secret[:20] not in shown
        assert secret[21:-2] not in shown
        assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_wiping_leaves_zeros() -> None:
    key = PresharedKey.generate()
    key.wipe()
    assert bytes(key) == bytes(32)


def test_kinds_are_not_equal_to_each_other() -> None:
    raw = bytes([8] * 31 + [64])
    assert PrivateKey(raw) != PresharedKey(raw)
    assert PublicKey(raw) != PrivateKey(raw)
    assert len({PublicKey(raw), PublicKey(raw)}) == 1
    assert len({PrivateKey(raw), PresharedKey(raw)}) == 2


def test_generated_keys_differ() -> None:
    assert len({PrivateKey.generate().base64() for _ in range(50)}) == 50
    assert len({PresharedKey.generate().base64() for _ in range(50)}) == 50


# --- Files ---


def test_a_secret_is_written_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("old")
    path.chmod(0o644)
    before = os.umask(0)
    try:
        write_secret(path, b"new")
    finally:
        os.umask(before)
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["key"]


def test_a_symbolic_link_stays_and_its_file_is_replaced(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)
    write_secret(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    directory = tmp_path / "taken"
    directory.mkdir()
    with pytest.raises(IsADirectoryError):
        write_secret(directory, b"new")
    assert os.listdir(tmp_path) == ["taken"]
    with pytest.raises(FileNotFoundError):
        write_secret(tmp_path / "missing" / "key", b"new")


@pytest.mark.parametrize(
    ("mode", "directory", "warned"),
    [
        (0o600, 0o755, False),
        (0o640, 0o755, False),
        (0o644, 0o755, True),
        (0o602, 0o755, True),
        (0o644, 0o711, True),
        (0o644, 0o700, False),
        (0o644, 0o754, False),
    ],
)
def test_files_open_to_others_are_warned_of(
    tmp_path: Path, mode: int, directory: int, warned: bool
) -> None:
    path = tmp_path / "wg0.conf"
    path.touch()
    path.chmod(mode)
    tmp_path.chmod(directory)
    warning = exposure_warning(path)
    assert (warning is not None) is warned
    if warning is not None:
        assert str(path) in warning
        assert "chmod 600" in warning


def test_no_warning_of_what_is_no_file(tmp_path: Path) -> None:
    assert exposure_warning(tmp_path / "missing") is None
    assert exposure_warning("/dev/null") is None
    assert exposure_warning("a\0b") is None
    assert not is_world_readable(stat.S_IFIFO | 0o666)


def test_reading_a_key_file(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(f"  {GOOD}\r\n\n")
    assert read_key_text(path) == GOOD
    assert read_key_text("/dev/null") == ""
    for content in (GOOD + " x", GOOD + " " * 5000, GOOD * 200):
        path.write_text(content)
        with pytest.raises(KeyFormatError, match="holds more"):
            read_key_text(path)
    path.write_bytes(b"\xff" * 44)
    with pytest.raises(KeyFormatError):
        PrivateKey.from_base64(read_key_text(path))
