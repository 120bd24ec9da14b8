"""The STUN responder: what it answers, how long an answer may be, and whom it does not serve."""

import struct

import pytest
from aioice.stun import message_fingerprint, set_body_length
from hypothesis import given
from hypothesis import strategies as st

from wgpy.nat.place import Place, Send
from wgpy.nat.stun import (
    CHANGE_ADDRESS,
    CHANGE_PORT,
    COOKIE,
    Class,
    Message,
    Method,
    mapped_address,
    pack,
    parse,
)
from wgpy.nat.stun_client import Answer, Failure, Reason, StunClient
from wgpy.nat.stun_server import (
    IN_ALL,
    MAX_DELAY,
    MAX_REQUEST,
    MAX_WAITING,
    MAX_WAITING_SOURCE,
    PER_SOURCE,
    SHORT_V4,
    SHORT_V6,
    Reply,
    Responder,
    partners,
)

A1, A2 = Place("192.0.2.1", 3478), Place("192.0.2.1", 3479)
B1, B2 = Place("192.0.2.2", 3478), Place("192.0.2.2", 3479)
V6 = Place("2001:db8::1", 3478), Place("2001:db8::1", 3479)
SQUARE = (A1, A2, B1, B2)
WE, WE_V6 = Place("203.0.113.5", 40000), Place("2001:db8:5::1", 40000)
TRANSACTION = bytes(range(12))
BARE = struct.pack("!HH", 1, 0) + COOKIE + TRANSACTION
CLASSIC = struct.pack("!HH", 1, 0) + bytes(range(16))


def request(length: int = 64, transaction: bytes = TRANSACTION, **attributes: object) -> bytes:
    """A request, filled up to `length` bytes if it is shorter."""
    made = {name.replace("_", "-"): value for name, value in attributes.items()}
    data = pack(Message(Method.BINDING, Class.REQUEST, transaction, made))
    if len(data) + 4 < length:
        made["SOFTWARE"] = " " * (length - len(data) - 4)
        data = pack(Message(Method.BINDING, Class.REQUEST, transaction, made))
    return data


def serve(
    responder: Responder, data: bytes, source: Place = WE, at: Place = A1, now: float = 1.0
) -> list[Reply]:
    responder.receive(data, source, at, now)
    return responder.take()


# --- What is told ---


@pytest.mark.parametrize(("source", "at"), [(WE, A1), (WE_V6, V6[0])])
def test_it_tells_where_one_is_seen_and_where_else_it_is(source: Place, at: Place) -> None:
    responder = Responder((*SQUARE, *V6))
    (reply,) = serve(responder, request(100), source, at)
    found = parse(reply.data)
    assert (reply.to, reply.at) == (source, at)
    assert (found.method, found.kind, found.transaction) == (
        Method.BINDING,
        Class.RESPONSE,
        TRANSACTION,
    )
    assert found.has_fingerprint
    assert mapped_address(found) == source[:2]
    assert found.attributes["RESPONSE-ORIGIN"] == at[:2]
    assert found.attributes["OTHER-ADDRESS"] == (B2 if at == A1 else V6[1])[:2]
    assert responder.counters == {"answered": 1}


@pytest.mark.parametrize(
    ("bound", "other"),
    [(SQUARE, B2), ((A1, A2), A2), ((A1, B1), B1), ((A1,), None)],
)
def test_the_other_address_is_that_which_differs_most(
    bound: tuple[Place, ...], other: Place | None
) -> None:
    (reply,) = serve(Responder(bound), request())
    assert parse(reply.data).attributes.get("OTHER-ADDRESS") == (other and other[:2])


@pytest.mark.parametrize(
    ("change", "at"),
    [(0, A1), (CHANGE_PORT, A2), (CHANGE_ADDRESS, B1), (CHANGE_ADDRESS | CHANGE_PORT, B2)],
)
def test_it_answers_from_where_it_is_asked_to(change: int, at: Place) -> None:
    (reply,) = serve(Responder(SQUARE), request(CHANGE_REQUEST=change))
    assert (reply.to, reply.at) == (WE, at)
    found = parse(reply.data)
    assert found.kind is Class.RESPONSE
    assert found.attributes["RESPONSE-ORIGIN"] == at[:2]
    # That of the socket that was asked.
    assert found.attributes["OTHER-ADDRESS"] == B2[:2]


@pytest.mark.parametrize("change", [CHANGE_ADDRESS, CHANGE_ADDRESS | CHANGE_PORT])
def test_it_refuses_what_it_has_no_address_for(change: int) -> None:
    responder = Responder((A1, A2))
    (reply,) = serve(responder, request(CHANGE_REQUEST=change))
    found = parse(reply.data)
    assert found.kind is Class.ERROR
    assert found.attributes["ERROR-CODE"] == (420, "")
    assert found.attributes["UNKNOWN-ATTRIBUTES"] == (3,)
    assert responder.counters == {"unknown_attribute": 1}


@pytest.mark.parametrize("kind", [0x0027, 0x0026, 0x7FFF])
def test_response_port_and_the_like_are_refused(kind: int) -> None:
    """RESPONSE-PORT (0x0027) would make it send to where nobody asked from."""
    attribute = struct.pack("!HHI", kind, 4, 53 << 16)
    data = struct.pack("!HH", 1, len(attribute) + 44) + COOKIE + TRANSACTION + attribute
    filled = request(64)[20:-8]
    body = data + filled
    whole = set_body_length(body, len(body) - 12)
    whole += struct.pack("!HHI", 0x8028, 4, message_fingerprint(whole))
    (reply,) = serve(Responder(SQUARE), whole)
    found = parse(reply.data)
    assert (reply.to, found.kind) == (WE, Class.ERROR)
    assert found.attributes["UNKNOWN-ATTRIBUTES"] == (kind,)


# --- Never more than was sent ---


@given(
    st.integers(28, 200),
    st.sampled_from([0, 2, 4, 6, 8]),
    st.sampled_from([(WE, A1), (WE_V6, V6[0])]),
    st.sampled_from([(*SQUARE, *V6), (A1, V6[0])]),
)
def test_an_answer_is_never_longer_than_its_request(
    length: int, change: int, ends: tuple[Place, Place], bound: tuple[Place, ...]
) -> None:
    data = request(length & ~3, CHANGE_REQUEST=change)
    for reply in serve(Responder(bound), data, *ends):
        assert len(reply.data) <= len(data)


@pytest.mark.parametrize(
    ("length", "told"),
    [
        (76, {"OTHER-ADDRESS", "RESPONSE-ORIGIN", "MAPPED-ADDRESS"}),
        (64, {"OTHER-ADDRESS", "RESPONSE-ORIGIN"}),
        (52, {"OTHER-ADDRESS"}),
        (40, set()),
    ],
)
def test_what_has_no_room_is_left_out(length: int, told: set[str]) -> None:
    data = request(length)
    assert len(data) == length
    (reply,) = serve(Responder(SQUARE), data)
    assert set(parse(reply.data).attributes) == {"XOR-MAPPED-ADDRESS", "FINGERPRINT", *told}
    assert len(reply.data) == length


def test_a_request_shorter_than_any_answer_gets_none() -> None:
    responder = Responder(SQUARE)
    assert serve(responder, request(28)) == []
    assert serve(responder, request(28, CHANGE_REQUEST=0)) == []
    assert responder.counters == {"too_short": 2}
    lonely = Responder((A1,))
    assert serve(lonely, request(28, CHANGE_REQUEST=2)) == []
    assert lonely.counters == {"unknown_attribute": 1}


@pytest.mark.parametrize(("source", "at", "most"), [(WE, A1, SHORT_V4), (WE_V6, V6[0], SHORT_V6)])
@pytest.mark.parametrize("data", [BARE, CLASSIC])
def test_clients_of_others_are_answered_if_that_is_wanted(
    data: bytes, source: Place, at: Place, most: int
) -> None:
    bound = (*SQUARE, *V6)
    assert serve(Responder(bound), data, source, at) == []
    (reply,) = serve(Responder(bound, any_client=True), data, source, at)
    assert len(reply.data) <= most
    found = parse(reply.data, classic=True)
    assert mapped_address(found) == source[:2]
    names = {"OTHER-ADDRESS", "FINGERPRINT"} if data is BARE else {"CHANGED-ADDRESS"}
    assert names <= set(found.attributes)


@given(st.binary(min_size=20, max_size=60), st.booleans(), st.booleans())
def test_the_bound_for_clients_of_others(body: bytes, cookie: bool, is_v6: bool) -> None:
    rest = body[4 * cookie : len(body) & ~3]
    data = struct.pack("!HH", 1, max(0, len(rest) + 4 * cookie - 16))
    data += (COOKIE if cookie else b"") + rest
    source, at, most = (WE_V6, V6[0], SHORT_V6) if is_v6 else (WE, A1, SHORT_V4)
    for reply in serve(Responder((*SQUARE, *V6), any_client=True), data, source, at):
        assert len(reply.data) <= max(most, len(data))


# --- What gets no answer ---


@pytest.mark.parametrize(
    ("data", "counter"),
    [
        (b"", "no_stun"),
        (bytes(64), "no_stun"),
        (CLASSIC, "no_stun"),
        (request()[:-4], "no_stun"),
        (BARE, "no_fingerprint"),
        (request()[:-1] + b"\0", "wrong_fingerprint"),
        (request()[:20] + b"\x80\x22\xff" + request()[23:], "malformed"),
        (pack(Message(Method.BINDING, Class.INDICATION, TRANSACTION)), "no_request"),
        (pack(Message(Method.BINDING, Class.RESPONSE, TRANSACTION)), "no_request"),
        (pack(Message(Method.ALLOCATE, Class.REQUEST, TRANSACTION)), "no_request"),
        (request(MAX_REQUEST + 4), "too_long"),
    ],
)
def test_no_answer(data: bytes, counter: str) -> None:
    responder = Responder(SQUARE)
    assert serve(responder, data) == []
    assert responder.counters == {counter: 1}


def test_two_servers_do_not_answer_each_other() -> None:
    """A forger who makes them talk must not start a conversation without end."""
    one, two = Responder(SQUARE, any_client=True), Responder((WE,), any_client=True)
    (first,) = serve(one, BARE, WE)
    assert serve(two, first.data, A1, WE) == []


def test_port_zero_is_nowhere() -> None:
    responder = Responder(SQUARE)
    assert serve(responder, request(), WE._replace(port=0)) == []
    assert responder.counters == {"no_port": 1}


@given(st.binary(max_size=120), st.booleans())
def test_nothing_that_comes_raises(data: bytes, any_client: bool) -> None:
    responder = Responder(SQUARE, any_client=any_client)
    serve(responder, data)
    assert responder.counters.total() == 1


# --- How often ---


def test_one_source_gets_so_many() -> None:
    responder = Responder(SQUARE)
    answered = sum(len(serve(responder, request(), WE._replace(port=1 + n))) for n in range(100))
    assert answered == PER_SOURCE
    assert responder.counters["too_many_of_source"] == 100 - PER_SOURCE
    assert len(serve(responder, request(), Place("203.0.113.6", 1))) == 1, "others are served"
    assert len(serve(responder, request(), now=2.0)) == 1


def test_a_whole_64_is_one_source() -> None:
    responder = Responder(V6)
    sources = [Place(f"2001:db8:5::{n:x}", 1) for n in range(1, 101)]
    answered = sum(len(serve(responder, request(100), source, V6[0])) for source in sources)
    assert answered == PER_SOURCE
    assert len(serve(responder, request(100), Place("2001:db8:6::1", 1), V6[0])) == 1


def test_all_together_get_so_many() -> None:
    responder = Responder(SQUARE)
    sources = [Place(f"10.0.{n >> 8}.{n & 255}", 1) for n in range(IN_ALL + 50)]
    assert sum(len(serve(responder, request(), source)) for source in sources) == IN_ALL
    assert responder.counters["too_many"] == 50


def test_made_up_sources_do_not_fill_the_memory() -> None:
    responder = Responder(SQUARE)
    for number in range(20_000):
        serve(responder, BARE, Place(f"10.1.{number >> 8 & 255}.{number & 255}", 1 + number))
    assert len(responder._sources) <= 8192


# --- Later ---


def test_an_answer_comes_later_if_that_is_asked_for() -> None:
    responder = Responder(SQUARE)
    assert serve(responder, request(ANSWER_AFTER=60), now=100.0) == []
    assert responder.due() == 160.0
    responder.tick(159.9)
    assert responder.take() == []
    responder.tick(160.0)
    (reply,) = responder.take()
    assert (reply.to, reply.at) == (WE, A1)
    assert mapped_address(parse(reply.data)) == WE[:2]
    assert responder.due() is None
    assert responder.counters == {"answered": 1, "waited": 1}


@pytest.mark.parametrize("delay", [0, MAX_DELAY + 1, 0xFFFFFFFF])
def test_too_late_is_at_once(delay: int) -> None:
    assert len(serve(Responder(SQUARE), request(ANSWER_AFTER=delay))) == 1


def test_what_waits_for_one_source_is_bounded() -> None:
    responder = Responder(SQUARE)
    at_once = 0
    for number in range(2 * MAX_WAITING_SOURCE):
        at_once += len(serve(responder, request(ANSWER_AFTER=60), now=100.0 + number))
    assert at_once == responder.counters["too_many_waiting"] == MAX_WAITING_SOURCE
    assert responder.counters["waited"] == MAX_WAITING_SOURCE
    assert len(serve(responder, request(ANSWER_AFTER=60), Place("203.0.113.6", 1), now=100.0)) == 0
    responder.tick(1000.0)
    assert len(responder.take()) == MAX_WAITING_SOURCE + 1
    assert not responder._waiting_of, "nothing is kept of who waited"
    assert serve(responder, request(ANSWER_AFTER=60), now=1000.0) == []


def test_what_waits_in_all_is_bounded() -> None:
    responder = Responder(SQUARE)
    for number in range(MAX_WAITING + 10):
        source = Place(f"10.0.{number >> 8}.{number & 255}", 1)
        serve(responder, request(ANSWER_AFTER=300), source, now=number / 100)
    assert responder.counters["waited"] == MAX_WAITING
    assert responder.counters["too_many_waiting"] == 10


# --- What it can be bound to ---


def test_the_corners_of_a_square() -> None:
    assert partners(SQUARE)[B1] == {CHANGE_PORT: B2, CHANGE_ADDRESS: A1, 6: A2}
    assert partners((*V6, A1)) == {V6[0]: {2: V6[1]}, V6[1]: {2: V6[0]}, A1: {}}


@pytest.mark.parametrize(
    "bound", [SQUARE[:3], (*SQUARE, Place("192.0.2.3", 3478)), (A1, A2, Place("192.0.2.1", 3480))]
)
def test_what_is_no_square_is_refused(bound: tuple[Place, ...]) -> None:
    with pytest.raises(ValueError, match="IPv4"):
        Responder(bound)


# --- With our own client ---


@pytest.mark.parametrize(("source", "at"), [(WE, A1), (WE_V6, V6[0])])
def test_our_client_is_told_everything(source: Place, at: Place) -> None:
    """Its requests are as long as the whole answer, CHANGE-REQUEST and all."""
    client = StunClient(lambda length: bytes(length))
    responder = Responder((*SQUARE, *V6))
    for change, expected in ((0, at), *responder._partners[at].items()):
        client.ask(at, 0.0, {"CHANGE-REQUEST": change} if change else None, source=expected)
        (sent,) = client.take()
        assert isinstance(sent, Send)
        (reply,) = serve(responder, sent.data, source, at)
        assert {"OTHER-ADDRESS", "RESPONSE-ORIGIN"} <= set(parse(reply.data).attributes)
        assert client.receive(reply.data, reply.at, 0.1)
        (found,) = client.take()
        assert isinstance(found, Answer)
        assert found.mapped == source[:2]


def test_our_client_hears_a_refusal() -> None:
    client = StunClient(lambda length: bytes(length))
    client.ask(A1, 0.0, {"CHANGE-REQUEST": CHANGE_ADDRESS}, source=B1)
    (sent,) = client.take()
    assert isinstance(sent, Send)
    (reply,) = serve(Responder((A1, A2)), sent.data)
    # It comes from where the request went, not from where the answer would have.
    assert client.receive(reply.data, reply.at, 0.1)
    (found,) = client.take()
    assert isinstance(found, Failure)
    assert (found.reason, found.code) == (Reason.REFUSED, 420)
