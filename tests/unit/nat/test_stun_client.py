"""Transactions with STUN servers: sent again, given up, answered, and not fooled."""

import itertools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgpy.nat.place import Place, Send
from wgpy.nat.stun import CHANGE_PORT, Class, Message, Method, pack, parse
from wgpy.nat.stun_client import (
    MAX_ENDED,
    MAX_PER_SERVER,
    MAX_TRANSACTIONS,
    REQUEST_LENGTH_V4,
    REQUEST_LENGTH_V6,
    Answer,
    Failure,
    Reason,
    Schedule,
    StunClient,
    is_usable,
)

SERVER = Place("192.0.2.1", 3478)
OTHER = Place("192.0.2.2", 3479)
SERVER_V6 = Place("2001:db8::1", 3478)
WE = ("203.0.113.5", 40000)


def counting() -> Callable[[int], bytes]:
    """Randomness that never repeats, and is the same each time."""
    numbers = itertools.count(1)
    return lambda length: next(numbers).to_bytes(length, "big")


@pytest.fixture
def client() -> StunClient:
    return StunClient(counting())


def sends(client: StunClient) -> list[Send]:
    taken = client.take()
    found = [x for x in taken if isinstance(x, Send)]
    assert len(found) == len(taken), "there are results as well"
    return found


def results(client: StunClient) -> list[Answer | Failure]:
    return [x for x in client.take() if not isinstance(x, Send)]


def answer(request: bytes, mapped: tuple[str, int] = WE, **attributes: object) -> bytes:
    """What a server would say."""
    made = {"XOR-MAPPED-ADDRESS": mapped}
    made.update({name.replace("_", "-"): value for name, value in attributes.items()})
    return pack(Message(Method.BINDING, Class.RESPONSE, parse(request).transaction, made))


def refusal(request: bytes, code: int) -> bytes:
    attributes = {"ERROR-CODE": (code, "no")}
    return pack(Message(Method.BINDING, Class.ERROR, parse(request).transaction, attributes))


# --- What goes out ---


@pytest.mark.parametrize(
    ("server", "length"), [(SERVER, REQUEST_LENGTH_V4), (SERVER_V6, REQUEST_LENGTH_V6)]
)
def test_a_request_is_filled_up_and_says_nothing_of_us(
    client: StunClient, server: Place, length: int
) -> None:
    for attributes in ({}, {"CHANGE-REQUEST": CHANGE_PORT}):
        transaction = client.ask(server, 0.0, attributes)
        (sent,) = sends(client)
        assert sent.to == server
        assert len(sent.data) == length
        found = parse(sent.data)
        assert (found.method, found.kind) == (Method.BINDING, Class.REQUEST)
        assert found.transaction == transaction
        assert found.has_fingerprint
        assert set(found.attributes) == {*attributes, "SOFTWARE", "FINGERPRINT"}
        assert not found.attributes["SOFTWARE"].strip()


def test_it_is_sent_at_these_times_and_then_given_up(client: StunClient) -> None:
    transaction = client.ask(SERVER, 100.0)
    assert transaction is not None
    (first,) = sends(client)
    times = []
    while (due := client.due()) is not None:
        client.tick(due - 0.001)
        assert client.take() == []
        client.tick(due)
        times.append(due - 100.0)
        if len(client):
            assert sends(client) == [first], "the same bytes each time"
    assert times == [0.5, 1.5, 3.5, 5.0]
    assert results(client) == [Failure(transaction, SERVER, Reason.TIMEOUT)]
    assert client.counters == {"sent": 4, "timeout": 1}


def test_a_sleep_does_not_make_a_volley(client: StunClient) -> None:
    client.ask(SERVER, 0.0)
    client.take()
    client.tick(3600.0)
    assert len(sends(client)) == 1
    client.tick(3600.1)
    assert client.take() == []


def test_another_schedule(client: StunClient) -> None:
    client.ask(SERVER, 0.0, schedule=Schedule(first=0.2, sends=2, last=0.3))
    client.take()
    client.tick(0.2)
    assert len(sends(client)) == 1
    assert client.due() == pytest.approx(0.5)
    client.tick(0.5)
    assert [type(x) for x in client.take()] == [Failure]
    assert client.due() is None


# --- What comes back ---


def test_an_answer(client: StunClient) -> None:
    transaction = client.ask(SERVER, 10.0)
    assert transaction is not None
    (sent,) = sends(client)
    other = ("192.0.2.2", 3479)
    assert client.receive(answer(sent.data, OTHER_ADDRESS=other), SERVER, 10.03)
    (found,) = client.take()
    assert isinstance(found, Answer)
    assert found == Answer(transaction, SERVER, WE, other, pytest.approx(0.03), 1)
    assert len(client) == 0
    assert client.due() is None


def test_the_round_trip_counts_from_the_first_and_says_so(client: StunClient) -> None:
    client.ask(SERVER, 0.0)
    (sent,) = sends(client)
    client.tick(0.5)
    client.receive(answer(sent.data), SERVER, 0.6)
    (found,) = results(client)
    assert isinstance(found, Answer)
    assert (found.round_trip, found.sends) == (0.6, 2)


def test_a_server_of_rfc_3489(client: StunClient) -> None:
    client.ask(SERVER, 0.0)
    (sent,) = sends(client)
    attributes = {"MAPPED-ADDRESS": WE, "CHANGED-ADDRESS": ("192.0.2.2", 3479)}
    reply = Message(Method.BINDING, Class.RESPONSE, parse(sent.data).transaction, attributes)
    # It copies the cookie as a part of the id, and has no FINGERPRINT.
    bare = pack(reply)[:-8]
    assert client.receive(bare[:2] + (len(bare) - 20).to_bytes(2, "big") + bare[4:], SERVER, 0.0)
    (found,) = results(client)
    assert isinstance(found, Answer)
    assert (found.mapped, found.other) == (WE, ("192.0.2.2", 3479))


def test_a_refusal(client: StunClient) -> None:
    transaction = client.ask(SERVER, 0.0)
    assert transaction is not None
    (sent,) = sends(client)
    assert client.receive(refusal(sent.data, 420), SERVER, 0.1)
    assert results(client) == [Failure(transaction, SERVER, Reason.REFUSED, 420)]


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"XOR-MAPPED-ADDRESS": ("203.0.113.5", 0)},
        {"XOR-MAPPED-ADDRESS": ("0.0.0.0", 40000)},
        {"XOR-MAPPED-ADDRESS": ("224.0.0.1", 40000)},
        {"XOR-MAPPED-ADDRESS": ("255.255.255.255", 40000)},
        {"XOR-MAPPED-ADDRESS": ("::", 40000)},
        {"XOR-MAPPED-ADDRESS": ("ff02::1", 40000)},
    ],
)
def test_an_answer_of_no_use(client: StunClient, attributes: dict[str, object]) -> None:
    client.ask(SERVER, 0.0)
    (sent,) = sends(client)
    reply = Message(Method.BINDING, Class.RESPONSE, parse(sent.data).transaction, attributes)
    assert client.receive(pack(reply), SERVER, 0.1)
    (found,) = results(client)
    assert isinstance(found, Failure)
    assert found.reason is Reason.UNUSABLE


def test_an_answer_with_what_must_be_understood_and_is_not(client: StunClient) -> None:
    client.ask(SERVER, 0.0)
    (sent,) = sends(client)
    bare = answer(sent.data)[:-8] + bytes.fromhex("0027000400000000")
    client.receive(bare[:2] + (len(bare) - 20).to_bytes(2, "big") + bare[4:], SERVER, 0.1)
    (found,) = results(client)
    assert isinstance(found, Failure)
    assert found.reason is Reason.UNUSABLE


def test_an_answer_from_another_port_if_that_was_asked_for(client: StunClient) -> None:
    expected = SERVER._replace(port=3479)
    client.ask(SERVER, 0.0, {"CHANGE-REQUEST": CHANGE_PORT}, source=expected)
    (sent,) = sends(client)
    assert not client.receive(answer(sent.data), SERVER, 0.1)
    assert client.receive(answer(sent.data), expected, 0.1)
    assert client.counters["wrong_source"] == 1


# --- What does not count ---


@pytest.mark.parametrize(
    "source",
    [
        SERVER._replace(host="192.0.2.99"),
        SERVER._replace(port=3479),
        SERVER._replace(via=3),
        SERVER._replace(channel=0x4000),
    ],
)
def test_an_answer_from_elsewhere_is_forged(client: StunClient, source: Place) -> None:
    client.ask(SERVER, 0.0)
    (sent,) = sends(client)
    assert not client.receive(answer(sent.data, ("198.51.100.66", 6)), source, 0.1)
    assert client.counters["wrong_source"] == 1
    assert client.receive(answer(sent.data), SERVER, 0.2), "the true one still counts"
    (found,) = results(client)
    assert isinstance(found, Answer)
    assert found.mapped == WE


def test_a_guessed_id_is_forged(client: StunClient) -> None:
    client.ask(SERVER, 0.0)
    client.take()
    guess = Message(Method.BINDING, Class.RESPONSE, b"x" * 12, {"XOR-MAPPED-ADDRESS": WE})
    assert not client.receive(pack(guess), SERVER, 0.1)
    assert client.counters["unknown_transaction"] == 1
    assert len(client) == 1


def test_a_second_answer_is_late_and_not_forged(client: StunClient) -> None:
    client.ask(SERVER, 0.0)
    (sent,) = sends(client)
    client.receive(answer(sent.data), SERVER, 0.1)
    client.take()
    assert not client.receive(answer(sent.data, ("198.51.100.66", 6)), SERVER, 0.2)
    assert client.take() == []
    assert client.counters["late"] == 1
    assert "unknown_transaction" not in client.counters


def test_requests_and_other_methods_are_no_answers(client: StunClient) -> None:
    client.ask(SERVER, 0.0)
    (sent,) = sends(client)
    transaction = parse(sent.data).transaction
    for method, kind in (
        (Method.BINDING, Class.REQUEST),
        (Method.BINDING, Class.INDICATION),
        (Method.ALLOCATE, Class.RESPONSE),
    ):
        data = pack(Message(method, kind, transaction, {"XOR-MAPPED-ADDRESS": WE}))
        assert not client.receive(data, SERVER, 0.1)
    assert client.counters["no_answer_to_binding"] == 3
    assert len(client) == 1


@given(st.binary(max_size=120))
def test_nothing_that_comes_raises(data: bytes) -> None:
    client = StunClient(counting())
    client.ask(SERVER, 0.0)
    assert not client.receive(data, SERVER, 0.1)
    assert len(client) == 1
    assert client.counters.total() == 2


# --- Many at once ---


def test_several_servers_at_once(client: StunClient) -> None:
    servers = [Place(f"192.0.2.{n}", 3478, via=n % 2) for n in range(1, 6)]
    asked = {client.ask(server, 0.0): server for server in servers}
    for sent in reversed(sends(client)):
        client.receive(answer(sent.data, (f"203.0.113.{sent.to.host[-1]}", 1)), sent.to, 0.1)
    found = results(client)
    assert {x.transaction: x.server for x in found} == asked
    for one in found:
        assert isinstance(one, Answer)
        assert one.mapped[0][-1] == one.server.host[-1]


def test_transactions_are_bounded(client: StunClient) -> None:
    for number in range(MAX_PER_SERVER):
        # Over whichever socket, and whatever it is.
        assert client.ask(SERVER._replace(via=number), 0.0)
    assert client.ask(SERVER, 0.0) is None
    for number in range(MAX_TRANSACTIONS - MAX_PER_SERVER):
        assert client.ask(Place(f"198.51.100.{number}", 3478), 0.0)
    assert client.ask(OTHER, 0.0) is None
    assert len(client) == MAX_TRANSACTIONS
    assert client.counters["too_many"] == 2
    for _ in range(4):
        client.tick(client.due() or 0.0)
    assert len(client) == 0
    assert client.ask(SERVER, 10.0)


def test_what_is_remembered_of_ended_ones_is_bounded(client: StunClient) -> None:
    requests = []
    for _ in range(MAX_ENDED + 1):
        client.ask(SERVER, 0.0)
        (sent,) = sends(client)
        requests.append(sent.data)
        client.receive(answer(sent.data), SERVER, 0.0)
        client.take()
    client.receive(answer(requests[0]), SERVER, 0.0)
    client.receive(answer(requests[1]), SERVER, 0.0)
    assert client.counters["unknown_transaction"] == 1
    assert client.counters["late"] == 1


def test_where_one_machine_can_be() -> None:
    assert is_usable(("192.168.1.1", 1))
    assert is_usable(("2001:db8::1", 65535))
    assert not is_usable(("192.168.1.1", 0))
