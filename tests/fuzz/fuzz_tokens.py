"""A fuzz target for tokens: what a stranger sends, and what an issuer might sign.

    python tests/fuzz/fuzz_tokens.py -max_total_time=30

Needs the `fuzz` extra (atheris). Arguments are libFuzzer's. The first byte chooses how deep the
rest goes: raw bytes in the place of a token; a good token with bytes changed; or, signed by a key
that is trusted, a header or claims of any bytes, or good ones with a part replaced. Only
CredentialError may be raised; what is accepted must be what was asked for, and no changed token is.
"""

import contextlib
import json
import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

with atheris.instrument_imports(include=["wgpy"]):
    from tests.support.tokens import (
        HEADER,
        ISSUERS,
        LIMITS,
        NETWORK,
        NOW,
        PEER,
        compact,
        enrol_payload,
        made,
        peer_payload,
    )
    from wgpy.identity import profile, token
    from wgpy.identity.claims import Claims, CredentialError
    from wgpy.identity.jose import JsonError
    from wgpy.identity.jwks import parse_jwks
    from wgpy.identity.token import Enrolment

GOOD = made()
MEMBERS = ("sub", "aud", "exp", "iat", "nbf", "jti", "cnf", "wgpy")
OWN = ("use", "addr", "groups", "routes", "net", "gen")


def judge(text: bytes) -> list[Claims | Enrolment]:
    """What is accepted of a token, in both uses; nothing but CredentialError comes out."""
    accepted: list[Claims | Enrolment] = []
    for verify in (token.verify, token.verify_enrolment):
        try:
            accepted.append(verify(text, ISSUERS, NETWORK, NOW, PEER))
        except CredentialError as error:
            if "\n" in str(error):
                raise AssertionError("a reason is not one line") from error
    for look in (token.unverified, token.unverified_enrolment, token.use_of):
        with contextlib.suppress(CredentialError):
            look(text)
    return accepted


def check(found: Claims | Enrolment) -> None:
    """Whether accepted claims are within the limits of their issuer, and of this moment."""
    networks = LIMITS.networks
    right = (
        found.network == NETWORK
        and found.key in (PEER, None)
        and found.not_before - 300 <= NOW < found.not_after
        and found.groups <= set(LIMITS.groups)
        and all(profile.within(x, networks) for x in (*found.addresses, *found.prefixes))
        and all(x.length == 8 * len(x.address) for x in found.addresses)
        and (found.name is None or profile.under(found.name, LIMITS.names))
    )
    if isinstance(found, Claims):
        right = right and found.key == PEER and bool(found.addresses) and found.generation > 0
    if not right:
        raise AssertionError(f"accepted: {found}")


def changed(data: bytes) -> None:
    """A good token with bytes changed: each pair is a place, and what to mix in there."""
    text = bytearray(GOOD)
    for place, value in zip(data[::2], data[1::2], strict=False):
        text[place * 3 % len(text)] ^= value
    if bytes(text) != GOOD and judge(bytes(text)):
        raise AssertionError("a changed token was accepted")


def replaced(data: bytes) -> None:
    """Good claims, of which one is whatever JSON the bytes are."""
    if len(data) < 2:
        return
    try:
        value = json.loads(data[2:].decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return
    payload = enrol_payload() if data[0] & 1 else peer_payload()
    if data[0] & 2:
        payload["wgpy"][OWN[data[1] % len(OWN)]] = value
    else:
        payload[MEMBERS[data[1] % len(MEMBERS)]] = value
    for found in judge(compact(HEADER, payload)):
        check(found)


def test_one_input(data: bytes) -> None:
    if not data:
        return
    rest = data[1:]
    match data[0] % 6:
        case 0:
            judge(rest)
        case 1:
            changed(rest)
        case 2:
            judge(compact(rest, peer_payload()))
        case 3:
            for found in judge(compact(HEADER, rest)):
                check(found)
        case 4:
            replaced(rest)
        case 5:
            try:
                parse_jwks(rest, LIMITS)
            except JsonError:
                return


def main() -> None:
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
