"""The verifier's ledger: names, reserved addresses and spent tokens, after a kill as well."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.requirements import ROOT
from tests.support.tokens import NOW, OTHER, PEER
from wgpy.identity import admissions
from wgpy.identity.admissions import Admissions, Confirmation, Rotations
from wgpy.identity.claims import Claims, CredentialError, Kind
from wgpy.identity.ledger import LedgerError
from wgpy.ip import parse_prefix
from wgpy.keys import PublicKey

OLD, NEW, THIRD = b"o" * 32, b"n" * 32, b"t" * 32
ROTATION: Rotations = frozenset({(OLD, NEW)})
NONE: Rotations = frozenset()

CLAIMS = Claims(
    kind=Kind.TOKEN,
    key=PEER,
    name="laptop.mesh",
    network=bytes(16),
    addresses=(parse_prefix("10.9.0.2"), parse_prefix("fd09::2")),
    groups=frozenset(),
    prefixes=(),
    generation=3,
    not_before=NOW,
    not_after=NOW + 3600,
    issuer=OLD,
    serial="",
)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Admissions]:
    made = Admissions(tmp_path / "wg0.ledger")
    yield made
    made.close()


def refused(
    ledger: Admissions, claims: Claims, wall: float = NOW, rotations: Rotations = NONE
) -> str:
    """The reason why claims may not take effect, by asking and by trying."""
    with pytest.raises(CredentialError) as asked:
        ledger.check(claims, wall, rotations)
    with pytest.raises(CredentialError) as tried:
        ledger.confirm(claims, wall, rotations)
    assert asked.value.reason == tried.value.reason
    return tried.value.reason


def test_the_first_is_who_the_name_is(ledger: Admissions) -> None:
    assert ledger.holder("laptop.mesh", NOW) is None
    assert ledger.check(CLAIMS, NOW, NONE) is None
    assert ledger.holder("laptop.mesh", NOW) is None, "to ask changes nothing"
    assert ledger.confirm(CLAIMS, NOW, NONE) == Confirmation(CLAIMS, changed=True)
    holder = ledger.holder("laptop.mesh", NOW)
    assert holder is not None
    assert (holder.issuer, holder.generation, holder.key) == (OLD, 3, PEER)
    assert ledger.reserved(CLAIMS.addresses[1], NOW) == "laptop.mesh"


def test_the_same_again_writes_nothing(ledger: Admissions) -> None:
    ledger.confirm(CLAIMS, NOW, NONE)
    revision = ledger.revision
    assert ledger.confirm(CLAIMS, NOW + 1, NONE) == Confirmation(CLAIMS, changed=False)
    assert ledger.revision == revision


def test_what_took_effect_last_is_known_without_the_disk(ledger: Admissions) -> None:
    assert not ledger.took_effect(CLAIMS)
    ledger.confirm(CLAIMS, NOW, NONE)
    assert ledger.took_effect(replace(CLAIMS))
    assert ledger.in_force(replace(CLAIMS)) is CLAIMS
    assert not ledger.took_effect(CLAIMS, reserve=False)
    following = replace(CLAIMS, generation=4)
    assert not ledger.took_effect(following)
    ledger.confirm(following, NOW, NONE)
    assert (ledger.took_effect(CLAIMS), ledger.took_effect(following)) == (False, True)


def test_a_greater_generation_follows_and_a_lower_one_is_refused(ledger: Admissions) -> None:
    ledger.confirm(CLAIMS, NOW, NONE)
    newer = replace(CLAIMS, generation=4, key=OTHER)
    assert ledger.confirm(newer, NOW, NONE).former_key == PEER
    assert refused(ledger, CLAIMS) == "old-generation"
    assert refused(ledger, replace(CLAIMS, key=OTHER)) == "old-generation"


def test_one_generation_is_one_key(ledger: Admissions) -> None:
    ledger.confirm(CLAIMS, NOW, NONE)
    assert refused(ledger, replace(CLAIMS, key=OTHER)) == "key-conflict"


def test_a_renewal_with_the_same_key_changes_no_key(ledger: Admissions) -> None:
    ledger.confirm(CLAIMS, NOW, NONE)
    done = ledger.confirm(replace(CLAIMS, generation=4, not_after=NOW + 7200), NOW, NONE)
    assert (done.changed, done.former_key, done.former_issuer) == (True, None, None)


def test_an_older_one_that_ends_later_does_not_come_back(ledger: Admissions) -> None:
    """The thief's credential outlives that of the owner, who has not renewed yet."""
    ledger.confirm(CLAIMS, NOW, NONE)
    ledger.confirm(replace(CLAIMS, generation=4, key=OTHER, not_after=NOW + 60), NOW, NONE)
    assert refused(ledger, CLAIMS, NOW + 61) == "old-generation"


def test_a_name_is_free_when_its_last_credential_is_over(ledger: Admissions) -> None:
    ledger.confirm(CLAIMS, NOW, NONE)
    other = replace(CLAIMS, key=OTHER, generation=1, issuer=THIRD, not_after=NOW + 9000)
    assert refused(ledger, other, NOW + 3599) == "other-issuer"
    done = ledger.confirm(other, NOW + 3600, NONE)
    assert (done.former_key, done.former_issuer) == (None, None)


def test_a_name_moves_between_issuers_only_by_a_rotation_and_one_way(ledger: Admissions) -> None:
    ledger.confirm(CLAIMS, NOW, ROTATION)
    # Generations of two issuers do not compare.
    moved = replace(CLAIMS, issuer=NEW, generation=1)
    assert refused(ledger, moved) == "other-issuer"
    assert refused(ledger, replace(moved, issuer=THIRD), NOW, ROTATION) == "other-issuer"
    assert ledger.confirm(moved, NOW, ROTATION).former_issuer == OLD
    assert refused(ledger, replace(CLAIMS, generation=99), NOW, ROTATION) == "other-issuer"


def test_a_rotation_of_anchors_is_one_of_what_is_below_them(ledger: Admissions) -> None:
    old = replace(CLAIMS, issuer=b"a" * 32, chain=((OLD, "01"),))
    new = replace(CLAIMS, issuer=b"b" * 32, chain=((NEW, "01"),))
    ledger.confirm(old, NOW, ROTATION)
    assert refused(ledger, replace(new, chain=((OLD, "02"),)), NOW, ROTATION) == "other-issuer"
    ledger.confirm(new, NOW, ROTATION)
    assert refused(ledger, old, NOW, ROTATION) == "other-issuer"


def test_addresses_are_reserved_until_the_end_whether_live_or_not(ledger: Admissions) -> None:
    ledger.confirm(CLAIMS, NOW, NONE)
    other = replace(CLAIMS, name="thief.mesh", key=OTHER, not_after=NOW + 9000)
    assert refused(ledger, other, NOW + 3599) == "address-reserved"
    one = replace(other, addresses=(parse_prefix("10.9.0.3"), parse_prefix("fd09::2")))
    assert refused(ledger, one, NOW + 3599) == "address-reserved"
    assert ledger.holder("thief.mesh", NOW) is None, "nothing of a refusal stays"
    assert ledger.reserved(parse_prefix("10.9.0.3"), NOW) is None
    ledger.confirm(other, NOW + 3600, NONE)
    assert ledger.reserved(CLAIMS.addresses[0], NOW + 3600) == "thief.mesh"


def test_an_address_given_up_stays_reserved_for_its_name(ledger: Admissions) -> None:
    ledger.confirm(CLAIMS, NOW, NONE)
    moved = replace(CLAIMS, generation=4, addresses=(parse_prefix("10.9.0.9"),))
    ledger.confirm(moved, NOW, NONE)
    other = replace(CLAIMS, name="other.mesh", key=OTHER)
    assert refused(ledger, other) == "address-reserved"


def test_several_wait_for_the_disk_once(ledger: Admissions) -> None:
    ledger.confirm(numbered(0), NOW, NONE)
    statements: list[str] = []
    ledger._connection.set_trace_callback(statements.append)
    thief = replace(numbered(2), name="thief.mesh", addresses=numbered(1).addresses)
    wanted = [numbered(0), numbered(1), thief, numbered(2), replace(numbered(1), generation=2)]
    done = ledger.confirm_all([(x, True) for x in wanted], NOW, NONE)
    ledger._connection.set_trace_callback(None)
    assert statements.count("COMMIT") == 1
    assert [x.reason if isinstance(x, CredentialError) else x.changed for x in done] == [
        False,
        True,
        "address-reserved",
        True,
        "old-generation",
    ]
    assert ledger.holder("thief.mesh", NOW) is None
    assert ledger.holder(numbered(2).name, NOW) is not None


def test_what_is_followed_in_the_same_moment_is_not_remembered(ledger: Admissions) -> None:
    ledger.confirm(CLAIMS, NOW, NONE)
    newer = replace(CLAIMS, generation=4, key=OTHER)
    for batch in ([newer, CLAIMS], [CLAIMS, newer]):
        ledger.confirm_all([(x, True) for x in batch], NOW, NONE)
        assert refused(ledger, CLAIMS) == "old-generation"
        assert ledger.takeovers == 1


def test_without_reservation_addresses_are_left_alone(ledger: Admissions) -> None:
    ledger.confirm(CLAIMS, NOW, NONE, reserve=False)
    assert ledger.reserved(CLAIMS.addresses[0], NOW) is None
    other = replace(CLAIMS, name="other.mesh", key=OTHER)
    ledger.confirm(other, NOW, NONE)
    # A peer of the configuration has the addresses of the configuration.
    assert ledger.confirm(CLAIMS, NOW, NONE, reserve=False).changed is False


def test_who_is_superseded(ledger: Admissions) -> None:
    ledger.confirm(CLAIMS, NOW, NONE)
    ledger.check_current(CLAIMS, NOW)
    ledger.confirm(replace(CLAIMS, generation=4), NOW, NONE)
    ledger.check_current(CLAIMS, NOW)
    ledger.confirm(replace(CLAIMS, generation=5, key=OTHER), NOW, NONE)
    with pytest.raises(CredentialError) as caught:
        ledger.check_current(CLAIMS, NOW)
    assert caught.value.reason == "superseded"


def test_a_token_is_spent_by_one_key_which_may_ask_again(ledger: Admissions) -> None:
    ledger.check_unspent(OLD, "once", PEER)
    assert ledger.spend(OLD, "once", PEER, NOW + 900, NOW) is True
    assert ledger.spend(OLD, "once", PEER, NOW + 900, NOW) is False
    ledger.check_unspent(OLD, "once", PEER)
    for ask in (
        lambda: ledger.check_unspent(OLD, "once", OTHER),
        lambda: ledger.spend(OLD, "once", OTHER, NOW + 900, NOW),
    ):
        with pytest.raises(CredentialError) as caught:
            ask()
        assert caught.value.reason == "spent"
    assert ledger.spend(NEW, "once", OTHER, NOW + 900, NOW) is True, "another issuer's is another"


def test_crl_numbers_are_a_mapping_on_disk(tmp_path: Path) -> None:
    ledger = Admissions(tmp_path / "ledger")
    numbers = ledger.crl_numbers
    numbers[OLD] = 7
    numbers[NEW] = 2**159
    numbers[OLD] = 8
    ledger.close()
    again = Admissions(tmp_path / "ledger")
    assert dict(again.crl_numbers) == {OLD: 8, NEW: 2**159}
    del again.crl_numbers[OLD]
    with pytest.raises(KeyError):
        again.crl_numbers[OLD]
    with pytest.raises(KeyError):
        del again.crl_numbers[OLD]
    assert len(again.crl_numbers) == 1
    again.close()


# --- Bounds ---


def test_what_is_remembered_is_bounded_and_never_wrong(
    ledger: Admissions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admissions, "MAX_REMEMBERED", 2)
    for number in range(4):
        ledger.confirm(numbered(number), NOW, NONE)
    assert len(ledger._effective) == 2
    for number in range(4):
        assert not ledger.confirm(numbered(number), NOW, NONE).changed
    newer = replace(numbered(3), generation=4, key=OTHER)
    assert ledger.confirm(newer, NOW, NONE).changed
    assert refused_to_confirm(ledger, numbered(3), NOW) == "old-generation"
    assert ledger.takeovers == 1


def test_the_ledger_is_bounded_and_forgets_what_is_long_over(
    ledger: Admissions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admissions, "MAX_NAMES", 2)
    monkeypatch.setattr(admissions, "_SWEEP_EVERY", 1)
    for number in range(2):
        ledger.confirm(numbered(number), NOW, NONE)
    assert refused_to_confirm(ledger, numbered(2), NOW) == "ledger-full"
    # Who is there already may renew.
    ledger.confirm(replace(numbered(1), generation=4), NOW, NONE)
    later = NOW + 3600 + admissions.KEEP_SECONDS
    assert refused_to_confirm(ledger, numbered(2), later) == "ledger-full"
    ledger.confirm(replace(numbered(2), not_after=later + 9), later + 1, NONE)
    assert ledger.holder(numbered(1).name, NOW) is None, "it was erased"


def test_spent_tokens_and_addresses_are_bounded(
    ledger: Admissions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admissions, "MAX_SPENT", 1)
    monkeypatch.setattr(admissions, "MAX_ADDRESSES", 3)
    ledger.spend(OLD, "a", PEER, NOW + 900, NOW)
    with pytest.raises(CredentialError) as caught:
        ledger.spend(OLD, "b", PEER, NOW + 900, NOW)
    assert caught.value.reason == "ledger-full"
    ledger.confirm(CLAIMS, NOW, NONE)
    # What replaces itself is no more than before.
    ledger.confirm(replace(CLAIMS, generation=4, addresses=CLAIMS.addresses[:1]), NOW, NONE)
    ledger.confirm(replace(CLAIMS, generation=5, addresses=CLAIMS.addresses[:1]), NOW, NONE)
    moved = tuple(parse_prefix(x) for x in ("10.9.0.8", "10.9.0.9"))
    assert refused_to_confirm(ledger, replace(CLAIMS, generation=6, addresses=moved), NOW) == (
        "ledger-full"
    )


def numbered(number: int) -> Claims:
    key = PublicKey(bytes([number + 9]) * 32)
    return replace(
        CLAIMS, name=f"n{number}.mesh", key=key, addresses=(parse_prefix(f"10.9.1.{number}"),)
    )


def refused_to_confirm(ledger: Admissions, claims: Claims, wall: float) -> str:
    with pytest.raises(CredentialError) as caught:
        ledger.confirm(claims, wall, NONE)
    return caught.value.reason


# --- Restarts ---

KILLED = """
import os, signal, sys
from dataclasses import replace
from tests.unit.identity.test_admissions import CLAIMS, NONE, NOW, OLD, PEER, numbered
from wgpy.identity.admissions import Admissions
ledger = Admissions(sys.argv[1])
ledger.confirm(CLAIMS, NOW, NONE)
ledger.spend(OLD, "once", PEER, NOW + 900, NOW)
ledger.crl_numbers[OLD] = 7
print("confirmed", flush=True)
for number in range(10**6):
    ledger.confirm(numbered(number % 200), NOW, NONE)
    ledger.confirm(replace(numbered(number % 200), generation=4 + number), NOW, NONE)
"""


def test_what_was_confirmed_is_there_after_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "wg0.ledger"
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "confirmed\n"
        os.kill(writer.pid, signal.SIGKILL)
        assert writer.wait(30) == -signal.SIGKILL
    ledger = Admissions(path)
    holder = ledger.holder("laptop.mesh", NOW)
    assert holder is not None
    assert (holder.key, holder.generation) == (PEER, 3)
    assert refused(ledger, replace(CLAIMS, generation=2)) == "old-generation"
    other = replace(CLAIMS, name="other.mesh", key=OTHER)
    assert refused(ledger, other) == "address-reserved"
    with pytest.raises(CredentialError):
        ledger.spend(OLD, "once", OTHER, NOW + 900, NOW)
    assert ledger.crl_numbers[OLD] == 7
    # Each name with its address, or neither.
    for number in range(200):
        claims = numbered(number)
        there = ledger.holder(claims.name, NOW) is not None
        assert (ledger.reserved(claims.addresses[0], NOW) is not None) == there
    ledger.close()


def test_a_ledger_that_cannot_be_written_refuses(tmp_path: Path) -> None:
    path = tmp_path / "wg0.ledger"
    ledger = Admissions(path)
    other = Admissions(path)
    ledger._connection.execute("PRAGMA busy_timeout = 10")
    other._connection.execute("BEGIN EXCLUSIVE")
    with pytest.raises(LedgerError):
        ledger.confirm(CLAIMS, NOW, NONE)
    other._connection.execute("ROLLBACK")
    ledger.confirm(CLAIMS, NOW, NONE)
    ledger.close()
    other.close()


# --- Any history ---

steps = st.lists(
    st.tuples(
        st.sampled_from(["a.mesh", "b.mesh"]),
        st.integers(1, 4),
        st.sampled_from([PEER, OTHER]),
        st.sampled_from([OLD, NEW]),
        st.sampled_from(["10.9.0.2", "10.9.0.3"]),
        st.integers(1, 50),
    ),
    max_size=25,
)


@settings(max_examples=40)
@given(steps)
def test_whatever_happens_a_name_goes_forward_and_an_address_has_one_name(
    tmp_path_factory: pytest.TempPathFactory,
    history: list[tuple[str, int, PublicKey, bytes, str, int]],
) -> None:
    ledger = Admissions(tmp_path_factory.mktemp("model") / "ledger")
    model: dict[str, tuple[bytes, int, PublicKey]] = {}
    taken: dict[str, str] = {}
    for name, generation, key, issuer, address, _life in history:
        claims = replace(
            CLAIMS,
            name=name,
            generation=generation,
            key=key,
            issuer=issuer,
            addresses=(parse_prefix(address),),
        )
        before = model.get(name)
        forward = before is None or (
            (before[1], before[2]) == (generation, key) or generation > before[1]
            if before[0] == issuer
            else (before[0], issuer) == (OLD, NEW)
        )
        expected = forward and taken.get(address, name) == name
        try:
            ledger.confirm(claims, NOW, ROTATION)
            happened = True
        except CredentialError:
            happened = False
        assert happened == expected
        if happened:
            model[name], taken[address] = (issuer, generation, key), name
    ledger.close()
