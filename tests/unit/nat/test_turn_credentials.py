"""Credentials for TURN, and how they become a key."""

import base64

import pytest

from tests.support.openssl import openssl
from wgpy.nat.turn_credentials import (
    MAX_PASSWORD,
    MAX_USERNAME,
    Credentials,
    CredentialsError,
    fixed,
    handed_out,
    hmac_key,
    opaque,
    rest,
    rest_source,
)

WALL = 1_790_000_000.25
NOW = 5000.0


def test_time_limited_credentials_are_what_openssl_computes() -> None:
    found = rest(b"north", "laptop", wall=WALL, now=NOW, lifetime=600)
    assert found.username == "1790000600:laptop"
    said = openssl("dgst", "-sha1", "-hmac", "north", "-r", stdin=found.username)
    assert base64.b64decode(found.password).hex() == said.split()[0]
    # The name tells whole seconds.
    assert found.expires == pytest.approx(NOW + 599.75)
    assert found.good(NOW + 599)
    assert not found.good(NOW + 600)
    assert rest(b"north", "", wall=WALL, now=NOW).username == "1790086400"


def test_a_source_of_a_secret_makes_fresh_ones_each_time() -> None:
    clock = [WALL]
    source = rest_source(b"north", "laptop", lambda: clock[0], 600)
    first = source(NOW)
    clock[0] += 3600
    second = source(NOW + 3600)
    assert first is not None
    assert second is not None
    assert first.username != second.username
    assert second.good(NOW + 3600)
    assert not first.same_as(second)


def test_a_fixed_source_gives_them_until_they_end() -> None:
    source = fixed(Credentials("alice", "secret", 10.0))
    assert source(9.0) == Credentials("alice", "secret", 10.0)
    assert source(10.0) is None
    forever = Credentials("alice", "secret")
    assert fixed(forever)(1e9) is forever


def test_what_was_handed_out_says_itself_when_it_ends() -> None:
    found = handed_out("1790000600:bob", "cGFzcw==", wall=WALL, now=NOW)
    assert found.expires == pytest.approx(NOW + 599.75)
    for name in ("bob", ":bob", "-5:bob", "17900006001:bob", "\uff11\uff17:bob"):
        with pytest.raises(CredentialsError, match="does not begin with the time"):
            handed_out(name, "x", wall=WALL, now=NOW)


def test_the_password_is_shown_nowhere() -> None:
    found = Credentials("alice", "hush", 10.0)
    assert "hush" not in repr(found)
    assert "hush" not in str(found)
    with pytest.raises(CredentialsError) as error:
        Credentials("alice", "hush\n")
    assert "hush" not in str(error.value)


@pytest.mark.parametrize(
    ("username", "password"),
    [
        ("", "x"),
        ("x", ""),
        ("a" * (MAX_USERNAME + 1), "x"),
        ("é" * 255, "x"),
        ("x", "a" * (MAX_PASSWORD + 1)),
        ("a\0b", "x"),
        ("x", "a\tb"),
        ("x", "a\u200bb"),
        ("a\ud800", "x"),
    ],
)
def test_what_can_be_no_name_or_password_is_refused(username: str, password: str) -> None:
    with pytest.raises(CredentialsError):
        Credentials(username, password)
    Credentials("é" * 254, "a" * MAX_PASSWORD)


def test_texts_are_compared_as_opaque_strings() -> None:
    """RFC 8265, section 4.2: composed, spaces alike, case as it is."""
    assert opaque("x", "A\u0301", 10) == "Á".encode()
    assert opaque("x", "a\u00a0b\u3000c", 10) == b"a b c"
    assert opaque("x", "Ab", 10) == b"Ab"


def test_the_key_of_rfc_8489() -> None:
    """Section 9.2.2 has the example."""
    assert hmac_key(b"user", b"realm", b"pass").hex() == "8493fbc53ba582fb4c044c456bdc40eb"
    assert len(hmac_key(b"user", b"realm", b"pass", "sha256")) == 32
