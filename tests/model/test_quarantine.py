"""Who enrols: in quarantine by a token, for a while, and out of it; on a fake clock, over both data
paths."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support import fake_network, tokens
from tests.support.fake_network import PORT, Machine, World
from tests.support.native_path import NativeFakeDataPath, needs_native
from tests.support.office import START, Caller, FakeGuard, Office, admitted, counter
from tests.support.packets import ip_packet
from tests.support.tokens import HEADER, P256, SIGNER, compact
from wgpy.device.uapi import (
    Address,
    AllowedIpChange,
    Cleared,
    DeviceChange,
    PeerChange,
    PeerState,
    UapiError,
)
from wgpy.firewall.rules import Settings
from wgpy.firewall.wall import Wall
from wgpy.identity.claims import Kind
from wgpy.identity.derived import quarantine_address, quarantine_range
from wgpy.identity.settings import Expectation, IdentitySettings, TokenIssuer
from wgpy.ip import Prefix, parse_prefix
from wgpy.keys import PrivateKey, PublicKey
from wgpy.protocol.constants import TYPE_CREDENTIAL_INITIATION
from wgpy.protocol.credential_payload import Offer, OfferKind

NETWORK = tokens.NETWORK
INSIDE = parse_prefix("fd09::1")
RANGE = quarantine_range(NETWORK)


@pytest.fixture(autouse=True, params=["portable", pytest.param("native", marks=needs_native)])
def datapath(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every life is lived on both data paths."""
    if request.param == "native":
        monkeypatch.setattr(fake_network, "FakeDataPath", NativeFakeDataPath)


class Desk:
    """A gate that is a coordinator, and who enrols at it."""

    def __init__(self, directory: Path) -> None:
        self.guard = FakeGuard()
        self.office = Office(World(), directory, self.guard)
        self.world, self.gate = self.office.world, self.office.gate
        jwks = tokens.jwks_file(directory / "jwks.json", SIGNER, P256)
        limits = replace(tokens.LIMITS, networks=(parse_prefix("10.7.0.0/16"),))
        deny = directory / "deny"
        deny.mkdir()
        self.settings = self.office.authority(
            issuers=(TokenIssuer(jwks, limits),),
            revocations=(str(directory / "crl"), str(deny)),
            enrol=True,
        )
        self.trust()

    def trust(self, **changes: object) -> None:
        settings = replace(self.settings, **changes)  # type: ignore[arg-type]
        self.gate.device.apply(DeviceChange(authority=settings))

    def move(self, network: bytes) -> None:
        """The gate goes to another network: with a token, and an issuer, of that."""
        own = tokens.peer_payload() | {"sub": "gate.mesh", "aud": network.hex()}
        own |= {"iat": int(START), "exp": int(START) + 3600, "cnf": tokens.cnf(self.key)}
        own["wgpy"] = {"use": "peer", "addr": ["10.7.0.1"], "gen": 1}
        path = self.office.directory / "gate.token"
        path.write_bytes(compact(HEADER, own))
        settings = replace(self.settings, network=network, anchors=(), revocations=())
        self.gate.device.apply(
            DeviceChange(authority=settings, identity=IdentitySettings(token=str(path)))
        )

    @property
    def key(self) -> PublicKey:
        return self.gate.private.public()

    def deny(self, key: PublicKey) -> None:
        (self.office.directory / "deny" / "one.deny").write_text(f"key {key}\n")
        self.gate.device.files_changed()

    def caller(self, number: int = 66) -> Caller:
        return Caller(
            self.office, number % 250 + 2, PrivateKey((number << 8).to_bytes(32, "little"))
        )

    def quarantined(self) -> dict[PublicKey, PeerState]:
        return {
            key: state
            for key, state in admitted(self.gate).items()
            if state.claims is not None and state.claims.kind is Kind.ENROLMENT
        }

    def joiner(self, address: str = "192.0.2.9") -> Machine:
        """A machine with a token to enrol, that knows the gate by its key alone."""
        ledger = self.office.directory / f"{address}.ledger"
        made = Machine(self.world, address, ledger=ledger)
        made.inner = f"10.7.0.{address.rpartition('.')[2]}"
        path = self.office.directory / f"{address}.token"
        path.write_bytes(token().body)
        made.device.apply(
            DeviceChange(
                identity=IdentitySettings(token=str(path)),
                peers=[
                    PeerChange(
                        self.gate.private.public(),
                        endpoint=Address(self.gate.address, PORT),
                        expectation=Expectation(None, key_suffices=True),
                        allowed_ips=[
                            AllowedIpChange(INSIDE),
                            AllowedIpChange(parse_prefix("10.7.0.0/16")),
                        ],
                    )
                ],
            )
        )
        return made


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def claims(*, own: dict[str, object] | None = None, **changes: object) -> dict[str, object]:
    """What a good token to enrol says, with something changed; None takes a claim away."""
    made = tokens.enrol_payload() | {"exp": int(START) + 3600}
    made["wgpy"] = made["wgpy"] | (own or {})
    return {k: v for k, v in (made | changes).items() if v is not None}


def token(*, own: dict[str, object] | None = None, **changes: object) -> Offer:
    return Offer(OfferKind.TOKEN, compact(HEADER, claims(own=own, **changes)))


def home(machine: Machine | Caller) -> Prefix:
    return quarantine_address(NETWORK, machine.private.public())


def speak(machine: Machine, source: Prefix | None = None) -> bytes:
    """One packet of a machine that enrols, to the gate's tunnel address."""
    return carry(machine, source or home(machine), INSIDE)


def carry(machine: Machine, source: Prefix, target: Prefix) -> bytes:
    """Give a machine's data path one packet, of an experimental protocol (RFC 3692)."""
    packet = ip_packet(253, b"hello", source=source.address, target=target.address)
    machine.datapath.write(packet)
    return packet


# --- In, and out again ---


def test_who_has_a_token_is_in_quarantine(desk: Desk) -> None:
    joiner = desk.joiner()
    sent = speak(joiner)
    desk.world.run(1)
    (peer,) = admitted(desk.gate).values()
    assert peer.claims is not None
    assert (peer.claims.kind, peer.claims.serial) == (Kind.ENROLMENT, "once")
    assert (peer.claims.name, peer.claims.groups) == ("laptop.mesh", ("laptops",))
    assert peer.claims.issuer == tokens.issuer_key(SIGNER).fingerprint
    assert peer.allowed_ips == [home(joiner)]
    assert RANGE.address[:6] == peer.allowed_ips[0].address[:6]
    assert desk.gate.datapath.delivered == [sent]
    # What it says of itself: it enrols, and has no name.
    own = joiner.device.state().claims
    assert own is not None
    assert own.kind is Kind.ENROLMENT


def test_it_has_no_address_but_the_one_of_its_key(desk: Desk) -> None:
    joiner = desk.joiner()
    speak(joiner)
    desk.world.run(1)
    before = list(desk.gate.datapath.delivered)
    speak(joiner, parse_prefix("fd09::7"))
    joiner.send(desk.gate)
    desk.world.run(1)
    assert desk.gate.datapath.delivered == before
    assert counter(desk.gate, "wrong_source") == 2


def test_the_wall_stands_as_long_as_anybody_may_enrol(desk: Desk) -> None:
    assert desk.guard.wall == Wall(RANGE, 7100)
    desk.trust(enrol_port=7200)
    assert desk.guard.wall == Wall(RANGE, 7200)
    desk.gate.device.apply(DeviceChange(listen_port=PORT))
    assert desk.guard.wall == Wall(RANGE, 7200), "requests about other things change nothing"
    desk.trust(enrol=False)
    assert desk.guard.wall is None


def test_the_wall_outlasts_who_is_behind_it(desk: Desk) -> None:
    """It is taken down, or put around others, when nobody is left in there."""
    caller = desk.caller()
    caller.call(token(), wanted=None)
    caller.confirm()
    seen: list[tuple[Wall | None, int]] = []
    start = desk.guard.start

    def watch(settings: Settings, wall: Wall | None = None) -> None:
        seen.append((wall, len(desk.quarantined())))
        start(settings, wall)

    desk.guard.start = watch  # type: ignore[method-assign]
    desk.trust(enrol=False)
    assert seen == [(None, 0)]
    assert desk.guard.wall is None


def test_a_wall_that_moves_is_around_both(desk: Desk) -> None:
    caller = desk.caller()
    caller.call(token(), wanted=None)
    caller.confirm()
    assert len(desk.quarantined()) == 1
    del desk.guard.walls[:]
    other = bytes(range(1, 17))
    moved = quarantine_range(other)
    desk.move(other)
    assert desk.guard.walls == [Wall(moved, 7100, former=RANGE), Wall(moved, 7100)]
    assert desk.quarantined() == {}
    assert counter(desk.gate, "credential_quarantine_ended_wrong-network") == 1


def test_a_wall_that_cannot_be_taken_down_stays(desk: Desk) -> None:
    desk.guard.recorder.fails = True
    desk.trust(enrol=False)
    authority = desk.gate.device.state().authority
    assert authority is not None
    assert not authority.enrol
    assert desk.guard.wall == Wall(RANGE, 7100)


def test_without_a_wall_nobody_enrols(desk: Desk) -> None:
    desk.trust(enrol=False)
    desk.guard.recorder.fails = True
    with pytest.raises(UapiError, match="no nft today"):
        desk.trust()
    assert desk.gate.device.state().authority == replace(desk.settings, enrol=False)
    caller = desk.caller()
    caller.call(token(), wanted=None)
    assert caller.answers() == []


def test_it_ends_after_a_minute_and_may_come_again(desk: Desk) -> None:
    caller = desk.caller()
    caller.call(token(), wanted=None)
    desk.world.run(2)
    caller.confirm()
    desk.world.run(59.5)
    assert list(desk.quarantined()) == [caller.key], "it counts from confirmation"
    desk.world.run(1)
    assert admitted(desk.gate) == {}
    assert desk.gate.session_count() == 0
    assert counter(desk.gate, "credential_quarantine_ended_over") == 1
    assert desk.guard.recorder.told == [("add", ""), ("remove", caller.key.base64())]
    caller.call(token(), wanted=None)
    caller.confirm()
    assert list(desk.quarantined()) == [caller.key]


def test_to_come_again_makes_it_no_longer(desk: Desk) -> None:
    caller = desk.caller()
    for _ in range(3):
        caller.call(token(), wanted=None)
        caller.confirm()
        desk.world.run(19)
    assert counter(desk.gate, "credential_quarantined") == 1
    assert len(desk.quarantined()) == 1
    desk.world.run(3)
    assert desk.quarantined() == {}


def test_a_token_that_is_nearly_over_gives_no_more_than_that(desk: Desk) -> None:
    caller = desk.caller()
    offer = token(exp=int(START) + 20)
    caller.call(offer, wanted=None)
    caller.confirm()
    assert len(desk.quarantined()) == 1
    desk.world.run(20)
    assert desk.quarantined() == {}
    caller.call(offer, wanted=None)
    assert len(caller.answers()) == 1, "then there is silence"
    assert counter(desk.gate, "credential_expired") == 1


def test_who_is_only_answered_is_nobody(desk: Desk) -> None:
    caller = desk.caller()
    caller.call(token(), wanted=None)
    assert len(caller.answers()) == 1
    assert desk.gate.device.state().peers == []
    desk.world.run(6)
    assert desk.gate.session_count() == 0
    assert counter(desk.gate, "credential_quarantined") == 0


def test_a_token_that_its_own_key_has_spent_lets_it_in_again(desk: Desk) -> None:
    caller, other = desk.caller(1), desk.caller(2)
    trust = desk.gate.device._admissions._trust  # type: ignore[union-attr]
    assert trust.authority is not None
    found = trust.authority.examine_enrolment(caller.key, token().body, START)
    assert trust.authority.spend(found, caller.key, START)
    for each in (caller, other):
        each.call(token(), wanted=None)
    caller.confirm()
    assert list(desk.quarantined()) == [caller.key]
    assert other.answers() == []
    assert counter(desk.gate, "credential_spent") == 1


# --- The certificate that comes of it ---


def test_a_certificate_ends_it_and_lets_in(desk: Desk) -> None:
    joiner = desk.joiner()
    speak(joiner)
    desk.world.run(5)
    desk.office.give(joiner, "laptop.mesh")
    certificate = str(desk.office.directory / f"{joiner.address}.pem")
    joiner.device.apply(
        DeviceChange(
            identity=IdentitySettings(certificate=certificate),
            peers=[
                PeerChange(
                    desk.gate.private.public(),
                    expectation=Expectation("gate.mesh", key_suffices=True),
                )
            ],
        )
    )
    sent = joiner.send(desk.gate)
    desk.world.run(1)
    (peer,) = admitted(desk.gate).values()
    assert peer.claims is not None
    assert (peer.claims.kind, peer.claims.name) == (Kind.CERTIFICATE, "laptop.mesh")
    assert peer.allowed_ips == [parse_prefix("10.7.0.9/32")]
    assert desk.gate.datapath.delivered[1:] == [sent]
    assert counter(desk.gate, "credential_enrolled") == 1
    assert desk.guard.recorder.told == [("add", ""), ("add", "laptop.mesh")]
    speak(joiner)
    desk.world.run(70)
    assert desk.gate.datapath.delivered[1:] == [sent], "its address of before is nobody's"
    assert counter(desk.gate, "credential_quarantine_ended_over") == 0
    assert [x.claims.name for x in admitted(desk.gate).values() if x.claims] == ["laptop.mesh"]


def test_a_certificate_on_its_way_survives_the_end(desk: Desk) -> None:
    caller = desk.caller()
    caller.call(token(), wanted=None)
    caller.confirm()
    desk.world.run(58)
    caller.call(caller.certificate())
    desk.world.run(3)
    assert desk.quarantined() == {}
    assert admitted(desk.gate) == {}
    caller.confirm()
    (peer,) = admitted(desk.gate).values()
    assert peer.allowed_ips == [parse_prefix(caller.inner)]


def test_a_certificate_that_never_confirms_leaves_nothing(desk: Desk) -> None:
    caller = desk.caller()
    caller.call(token(), wanted=None)
    caller.confirm()
    desk.world.run(58)
    caller.call(caller.certificate())
    desk.world.run(8)
    assert desk.gate.device.state().peers == []
    assert desk.gate.session_count() == 0
    assert desk.guard.recorder.told[:2] == [("add", ""), ("remove", caller.key.base64())]


def test_a_bad_certificate_leaves_it_in_quarantine(desk: Desk) -> None:
    caller = desk.caller()
    caller.call(token(), wanted=None)
    caller.confirm()
    caller.call(caller.certificate(not_after=START - 1))
    assert counter(desk.gate, "credential_expired") == 1
    assert list(desk.quarantined()) == [caller.key]
    # And where the firewall fails to take it over.
    desk.world.run(61)
    caller.call(token(), wanted=None)
    caller.confirm()
    caller.call(caller.certificate())
    desk.guard.recorder.fails = True
    caller.confirm()
    (peer,) = desk.quarantined().values()
    assert peer.allowed_ips == [home(caller)]


def test_who_is_in_by_a_certificate_may_enrol_anew(desk: Desk) -> None:
    """It lost its certificate and has its key: it gives up what the former one gave it."""
    caller = desk.caller()
    caller.enter()
    caller.call(token(), wanted=None)
    (peer,) = admitted(desk.gate).values()
    assert peer.allowed_ips == [parse_prefix(caller.inner)], "not before it confirms"
    caller.confirm()
    (peer,) = desk.quarantined().values()
    assert peer.allowed_ips == [home(caller)]
    assert desk.guard.recorder.told == [("add", "laptop.mesh"), ("add", "")]


def test_where_the_firewall_fails_nobody_enters(desk: Desk) -> None:
    caller = desk.caller()
    caller.call(token(), wanted=None)
    desk.guard.recorder.fails = True
    caller.confirm()
    assert desk.gate.device.state().peers == []
    assert counter(desk.gate, "credential_firewall") == 1


# --- Bounds ---


def test_four_at_once_may_show_one_token(desk: Desk) -> None:
    callers = [desk.caller(number) for number in range(1, 6)]
    for caller in callers[:4]:
        caller.call(token(), wanted=None)
        caller.confirm()
    last = callers[4]
    last.call(token(), wanted=None)
    assert last.answers() == []
    assert counter(desk.gate, "credential_quarantine_token_full") == 1
    # It is no fault of its own: as soon as there is room it is answered.
    desk.deny(callers[0].key)
    last.call(token(), wanted=None)
    last.confirm()
    assert set(desk.quarantined()) == {caller.key for caller in callers[1:]}
    # Another token of the same issuer has room of its own.
    more = desk.caller(7)
    more.call(token(jti="twice"), wanted=None)
    more.confirm()
    assert len(desk.quarantined()) == 5


def test_who_was_answered_in_time_does_not_exceed_it(desk: Desk) -> None:
    callers = [desk.caller(number) for number in range(1, 7)]
    for caller in callers:
        caller.call(token(), wanted=None)
    for caller in callers:
        caller.confirm()
    assert len(desk.quarantined()) == 4
    assert counter(desk.gate, "credential_quarantine_token_full") == 2


def test_two_hundred_and_fifty_six_at_once(desk: Desk) -> None:
    admissions = desk.gate.device._admissions
    assert admissions is not None
    admissions._quarantine._life = 600.0
    for number in range(1, 258):
        caller = desk.caller(number)
        caller.call(token(jti=f"token {number}"), wanted=None)
        if number <= 256:
            caller.confirm()
    assert len(desk.quarantined()) == 256
    assert desk.caller(257).key not in desk.quarantined()
    assert counter(desk.gate, "credential_quarantine_full") == 1
    # Who is here may come again all the same.
    first = desk.caller(1)
    before = len(first.answers())
    first.call(token(jti="token 1"), wanted=None)
    assert len(first.answers()) == before + 1


def test_we_never_call_who_is_in_quarantine(desk: Desk) -> None:
    joiner = desk.joiner()
    speak(joiner)
    desk.world.run(2)
    carry(desk.gate, INSIDE, home(joiner))
    desk.world.run(50)
    assert desk.world.sent(TYPE_CREDENTIAL_INITIATION, desk.gate) == []


# --- What ends it before ---


ENDS: list[tuple[str, Callable[[Desk, Caller], None]]] = [
    ("denied-key", lambda desk, caller: desk.deny(caller.key)),
    ("no-enrolment", lambda desk, caller: desk.trust(enrol=False)),
    (
        "group-not-permitted",
        lambda desk, caller: desk.trust(
            issuers=tuple(
                replace(x, limits=replace(x.limits, groups=())) for x in desk.settings.issuers
            )
        ),
    ),
    (
        "own-address",
        lambda desk, caller: desk.gate.device.set_addresses((home(caller),), ()),
    ),
    (
        "configured-address",
        lambda desk, caller: desk.gate.device.apply(
            DeviceChange(
                peers=[
                    PeerChange(tokens.OTHER, allowed_ips=[AllowedIpChange(parse_prefix("::/0"))])
                ]
            )
        ),
    ),
    (
        "no-authority",
        lambda desk, caller: desk.gate.device.apply(DeviceChange(authority=Cleared.CLEARED)),
    ),
]


@pytest.mark.parametrize(("reason", "happens"), ENDS, ids=[reason for reason, _ in ENDS])
def test_what_ends_it(desk: Desk, reason: str, happens: Callable[[Desk, Caller], None]) -> None:
    caller = desk.caller()
    caller.call(token(), wanted=None)
    caller.confirm()
    assert list(desk.quarantined()) == [caller.key]
    happens(desk, caller)
    assert desk.quarantined() == {}
    assert desk.gate.session_count() == 0
    assert counter(desk.gate, f"credential_quarantine_ended_{reason}") == 1
    assert desk.guard.recorder.told[-1] == ("remove", caller.key.base64())


def test_an_operator_may_remove_it_and_not_change_it(desk: Desk) -> None:
    caller = desk.caller()
    caller.call(token(), wanted=None)
    caller.confirm()
    for change in (
        PeerChange(caller.key, allowed_ips=[AllowedIpChange(parse_prefix("10.7.0.77"))]),
        PeerChange(caller.key, endpoint=Address("192.0.2.200", 1)),
    ):
        with pytest.raises(UapiError, match="can be removed, not changed"):
            desk.gate.device.apply(DeviceChange(peers=[change]))
    desk.gate.device.apply(DeviceChange(replace_peers=True))
    assert list(desk.quarantined()) == [caller.key], "it is not configuration"
    desk.gate.device.apply(DeviceChange(peers=[PeerChange(caller.key, remove=True)]))
    assert desk.quarantined() == {}


# --- What is refused ---


REFUSED: dict[str, tuple[str, Callable[[Caller], Offer], dict[str, object]]] = {
    "named somebody": ("wrong_name", lambda c: token(), {"wanted": "other.mesh"}),
    "named us": ("wrong-use", lambda c: token(), {"wanted": "gate.mesh"}),
    "a certificate and no name": ("wrong_name", lambda c: c.certificate(), {}),
    "another network asked for": ("wrong_network", lambda c: token(), {"network": bytes(16)}),
    "a token of another network": ("wrong-aud", lambda c: token(aud=bytes(16).hex()), {}),
    "over": ("expired", lambda c: token(exp=int(START) - 1), {}),
    "not begun": ("not-yet-valid", lambda c: token(nbf=int(START) + 400), {}),
    "no end": ("no-exp", lambda c: token(exp=None), {}),
    "a peer's": (
        "wrong-use",
        lambda c: token(jti=None, cnf=tokens.cnf(c.key), own={"use": "peer", "gen": 1}),
        {},
    ),
    "no jti": ("no-jti", lambda c: token(jti=None), {}),
    "bound to another": ("wrong-cnf", lambda c: token(cnf=tokens.cnf()), {}),
    "another algorithm": (
        "wrong-alg",
        lambda c: Offer(OfferKind.TOKEN, compact({**HEADER, "alg": "HS256"}, claims())),
        {},
    ),
    "not signed": (
        "alg-none",
        lambda c: Offer(OfferKind.TOKEN, compact({**HEADER, "alg": "none"}, claims())),
        {},
    ),
    "another's key": (
        "bad-signature",
        lambda c: Offer(OfferKind.TOKEN, compact(HEADER, claims(), P256)),
        {},
    ),
    "unknown issuer": (
        "unknown-kid",
        lambda c: Offer(OfferKind.TOKEN, compact({**HEADER, "kid": "who"}, claims())),
        {},
    ),
    "a group too many": (
        "group-not-permitted",
        lambda c: token(own={"groups": ["kings"]}),
        {},
    ),
    "a name too far": ("name-not-permitted", lambda c: token(sub="laptop.other"), {}),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused(desk: Desk, what: str) -> None:
    reason, offer, asked = REFUSED[what]
    caller = desk.caller()
    caller.call(offer(caller), **({"wanted": None} | asked))
    assert caller.answers() == []
    assert counter(desk.gate, f"credential_{reason}") == 1
    assert desk.gate.device.state().peers == []
    # And not listened to for a minute, as anybody who is refused.
    caller.call(token(), wanted=None)
    assert caller.answers() == []
    assert counter(desk.gate, "credential_refused_lately") == 1


def test_a_denied_key_does_not_enrol(desk: Desk) -> None:
    caller = desk.caller()
    desk.deny(caller.key)
    caller.call(token(), wanted=None)
    assert caller.answers() == []
    assert counter(desk.gate, "credential_denied-key") == 1


def test_where_nobody_enrols_nobody_is_heard(desk: Desk) -> None:
    desk.trust(enrol=False)
    caller = desk.caller()
    caller.call(token(), wanted=None)
    assert caller.answers() == []
    assert counter(desk.gate, "credential_no_enrolment") == 1


def test_a_configured_key_does_not_enrol(desk: Desk) -> None:
    caller = desk.caller()
    desk.gate.device.apply(
        DeviceChange(
            peers=[PeerChange(caller.key, expectation=Expectation(None, key_suffices=True))]
        )
    )
    caller.call(token(), wanted=None)
    assert caller.answers() == []
    assert counter(desk.gate, "credential_no_enrolment") == 1


SETTINGS: dict[str, tuple[str, DeviceChange, dict[str, object]]] = {
    "no name of ours": ("credential ourselves", DeviceChange(identity=Cleared.CLEARED), {}),
    "no issuer": ("no issuer of tokens", DeviceChange(), {"issuers": ()}),
    "addresses that meet": (
        "is accepted, and meets",
        DeviceChange(),
        {"accept": (parse_prefix("fd00::/8"),)},
    ),
}


@pytest.mark.parametrize("what", SETTINGS)
def test_settings_that_cannot_be(desk: Desk, what: str) -> None:
    words, change, changes = SETTINGS[what]
    change.authority = replace(desk.settings, **changes)  # type: ignore[arg-type]
    with pytest.raises(UapiError, match=words):
        desk.gate.device.apply(change)
    assert desk.gate.device.state().authority == desk.settings
    assert desk.guard.wall == Wall(RANGE, 7100)


def test_a_device_without_a_firewall_lets_nobody_enrol(tmp_path: Path) -> None:
    office = Office(World(), tmp_path)
    jwks = tokens.jwks_file(tmp_path / "jwks.json", SIGNER)
    settings = office.authority(issuers=(TokenIssuer(jwks, tokens.LIMITS),), enrol=True)
    with pytest.raises(UapiError, match="no firewall"):
        office.gate.device.apply(DeviceChange(authority=settings))


def test_who_enrols_has_no_name_to_lend(desk: Desk) -> None:
    """A token to enrol as our own credential: others cannot enrol there, nor ask us by its name."""
    joiner = desk.joiner()
    with pytest.raises(UapiError, match="credential ourselves"):
        joiner.device.apply(DeviceChange(authority=desk.settings))
