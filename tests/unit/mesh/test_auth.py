"""The headers of a request: made by one key, good once, and for a minute."""

import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgpy.keys import KeyFormatError, PrivateKey, PublicKey
from wgpy.mesh import auth
from wgpy.mesh.auth import AuthError, Nonces, read_proof, sign, verify

NODE = PrivateKey(hashlib.sha256(b"node").digest())
COORDINATOR = PrivateKey(hashlib.sha256(b"coordinator").digest())
K = auth.api_key(COORDINATOR.shared_secret(NODE.public()), NODE.public(), COORDINATOR.public())
WALL = 1_790_000_000.0
NONCE = bytes(range(16))
TARGET = "/v1/directory?since=5"


def headers(**changed: str) -> dict[str, str]:
    made = sign(K, NODE.public(), "POST", TARGET, b"{}", now=WALL + 0.9, nonce=NONCE)
    return {**made, **{f"Wgpy-{x}": y for x, y in changed.items()}}


def accept(
    *,
    method: str = "POST",
    target: str = TARGET,
    body: bytes = b"{}",
    wall: float = WALL,
    now: float = 0.0,
    key: bytes = K,
    nonces: Nonces | None = None,
) -> None:
    proof = read_proof(headers())
    # An empty table of nonces is false.
    used = Nonces() if nonces is None else nonces
    verify(proof, key, method, target, body, wall=wall, now=now, nonces=used)


def test_both_ends_have_one_key() -> None:
    mine = auth.api_key(
        NODE.shared_secret(COORDINATOR.public()), NODE.public(), COORDINATOR.public()
    )
    assert mine == K
    other = auth.api_key(
        NODE.shared_secret(COORDINATOR.public()), COORDINATOR.public(), NODE.public()
    )
    assert other != K


def test_a_key_of_low_order_shares_nothing() -> None:
    with pytest.raises(KeyFormatError):
        NODE.shared_secret(PublicKey(bytes(32)))


def test_the_mac_is_what_the_protocol_says() -> None:
    """Written out, from docs/protocol.md."""
    made = headers()
    time, nonce = made["Wgpy-Time"], made["Wgpy-Nonce"]
    assert (time, nonce) == ("1790000000", "AAECAwQFBgcICQoLDA0ODw")
    said = f"wgpy api v1\nPOST\n{TARGET}\n{hashlib.sha256(b'{}').hexdigest()}\n{time}\n{nonce}"
    digest = hmac.new(K, said.encode(), "sha256").digest()
    assert made["Wgpy-Mac"] == base64.urlsafe_b64encode(digest).decode().rstrip("=")
    assert made["Wgpy-Key"] == NODE.public().base64()


def test_what_was_signed_is_accepted() -> None:
    accept()
    accept(wall=WALL + auth.WINDOW)
    accept(wall=WALL - auth.WINDOW)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"method": "GET"}, "mac"),
        ({"target": "/v1/directory?since=6"}, "mac"),
        ({"body": b"{ }"}, "mac"),
        ({"key": bytes(32)}, "mac"),
        ({"wall": WALL + auth.WINDOW + 1}, "time"),
        ({"wall": WALL - auth.WINDOW - 1}, "time"),
    ],
)
def test_what_was_not_signed_is_refused(changed: dict[str, object], reason: str) -> None:
    nonces = Nonces()
    with pytest.raises(AuthError) as refused:
        accept(nonces=nonces, **changed)  # type: ignore[arg-type]
    assert refused.value.reason == reason
    assert len(nonces) == 0


def test_a_nonce_is_good_once() -> None:
    nonces = Nonces()
    accept(nonces=nonces)
    for now in (0.0, auth.REMEMBER):
        with pytest.raises(AuthError) as refused:
            accept(nonces=nonces, now=now)
        assert refused.value.reason == "replayed"


def test_no_request_is_good_for_longer_than_its_nonce_is_remembered() -> None:
    """It may come when its time is WINDOW ahead, and again until it is WINDOW behind."""
    nonces = Nonces()
    accept(nonces=nonces, wall=WALL - auth.WINDOW, now=0.0)
    for later in (1.0, 2 * auth.WINDOW, 2 * auth.WINDOW + 1):
        with pytest.raises(AuthError) as refused:
            accept(nonces=nonces, wall=WALL - auth.WINDOW + later, now=later)
        assert refused.value.reason in ("replayed", "time")


def test_nonces_are_bounded_for_a_key_and_in_all() -> None:
    nonces = Nonces(of_key=2, in_all=3)
    first, second = NODE.public(), COORDINATOR.public()
    nonces.use(first, b"1", 0.0)
    nonces.use(first, b"2", 1.0)
    for key, nonce in ((first, b"3"), (second, b"2")):
        if key == second:
            nonces.use(second, b"1", 2.0)
        with pytest.raises(AuthError) as refused:
            nonces.use(key, nonce, 2.0)
        assert refused.value.reason == "too-many"
    assert len(nonces) == 3
    # The first is forgotten, and there is room again.
    nonces.use(first, b"1", auth.REMEMBER + 0.5)
    assert len(nonces) == 3


@pytest.mark.parametrize(
    "changed",
    [
        {"Key": "AAAA"},
        {"Time": ""},
        {"Time": "+5"},
        {"Time": "05"},
        {"Time": "1.5"},
        {"Time": "\u0665"},
        {"Time": "9" * 13},
        {"Nonce": "AAAA"},
        {"Nonce": "!"},
        {"Nonce": "AAECAwQFBgcICQoLDA0ODx"},
        {"Mac": ""},
        {"Mac": "AAECAwQFBgcICQoLDA0ODw"},
    ],
)
def test_headers_have_one_spelling(changed: dict[str, str]) -> None:
    with pytest.raises(AuthError) as refused:
        read_proof(headers(**changed))
    assert refused.value.reason == "headers"


@pytest.mark.parametrize("name", [auth.KEY, auth.TIME, auth.NONCE, auth.MAC])
def test_no_header_may_lack(name: str) -> None:
    made = headers()
    del made[name]
    with pytest.raises(AuthError, match="lacks"):
        read_proof(made)


@given(st.dictionaries(st.sampled_from([auth.KEY, auth.TIME, auth.NONCE, auth.MAC]), st.text()))
def test_any_headers_are_read_or_refused(changed: dict[str, str]) -> None:
    try:
        proof = read_proof({**headers(), **changed})
    except AuthError:
        return
    if proof != read_proof(headers()):
        with pytest.raises(AuthError):
            verify(proof, K, "POST", TARGET, b"{}", wall=WALL, now=0.0, nonces=Nonces())


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 20), st.integers(0, 100)), max_size=60))
def test_nonces_are_as_a_naive_list_says(uses: list[tuple[int, int, int]]) -> None:
    nonces = Nonces(of_key=5, in_all=12)
    keys = [PublicKey(bytes([x + 9]) * 32) for x in range(4)]
    kept: list[tuple[int, int, float]] = []
    now = 0.0
    for who, nonce, wait in uses:
        now += wait
        kept = [x for x in kept if now - x[2] <= auth.REMEMBER]
        expected = None
        if any(x[:2] == (who, nonce) for x in kept):
            expected = "replayed"
        elif sum(x[0] == who for x in kept) >= 5 or len(kept) >= 12:
            expected = "too-many"
        if expected is None:
            nonces.use(keys[who], bytes([nonce]), now)
            kept.append((who, nonce, now))
        else:
            with pytest.raises(AuthError) as refused:
                nonces.use(keys[who], bytes([nonce]), now)
            assert refused.value.reason == expected
        assert len(nonces) == len(kept)
