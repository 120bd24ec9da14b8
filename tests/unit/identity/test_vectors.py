"""The published certificates of keys/: accepted, revoked and refused as it is written there."""

from typing import Any

import pytest

from tests.support.vectors import load, raw
from wgpy.identity.anchors import Anchors, read_authority
from wgpy.identity.certificate import verify
from wgpy.identity.claims import Claims, CredentialError
from wgpy.identity.crl import read_crl
from wgpy.keys import PrivateKey, PublicKey

VECTORS = load("certificates")
KEY = PublicKey(raw(VECTORS["public_key"]))
TRUST = Anchors(raw(VECTORS["network"]), [read_authority(raw(VECTORS["root"]))])
INTERMEDIATE = raw(VECTORS["intermediate"])


def claims_of(vector: dict[str, Any]) -> Claims:
    intermediate = INTERMEDIATE if vector.get("intermediate") else None
    return verify(raw(vector["leaf"]), intermediate, TRUST, VECTORS["time"], KEY)


def test_the_key_is_that_of_the_private_one() -> None:
    assert PrivateKey(raw(VECTORS["private_key"])).public() == KEY


@pytest.mark.parametrize("vector", VECTORS["accepted"], ids=["leaf", "below an intermediate"])
def test_what_is_accepted_claims_what_it_should(vector: dict[str, Any]) -> None:
    claims = claims_of(vector)
    assert vector["claims"] == {
        "name": claims.name,
        "addresses": [str(x) for x in claims.addresses],
        "groups": sorted(claims.groups),
        "prefixes": [str(x) for x in claims.prefixes],
        "generation": claims.generation,
        "not_before": claims.not_before,
        "not_after": claims.not_after,
        "issuer": claims.issuer.hex(),
        "serial": claims.serial,
    }


@pytest.mark.parametrize("vector", VECTORS["refused"], ids=lambda vector: vector["reason"])
def test_what_is_refused_is_refused_for_its_reason(vector: dict[str, Any]) -> None:
    with pytest.raises(CredentialError) as caught:
        claims_of(vector)
    assert caught.value.reason == vector["reason"]


def test_the_crl_revokes_the_leaf_and_denies_its_key_and_name() -> None:
    (found,) = read_crl(raw(VECTORS["crl"]), tuple(TRUST.known()))
    claims = claims_of(VECTORS["accepted"][0])
    assert found is not None
    assert found.issuer == claims.issuer
    assert int(claims.serial, 16) in found.serials
    assert claims.key in found.denied.keys
    assert found.denied.names == {(claims.name, None): claims.generation}
