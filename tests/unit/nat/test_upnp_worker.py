"""Orders for UPnP, by a real process with a real miniupnpc, at a gateway that errs and lies."""

import asyncio
import subprocess
import sys

import pytest

from tests.support.fake_igd import EXTERNAL, HOST, PORT, FakeIgd
from wgpy.nat import upnp_run
from wgpy.nat.upnp import Deed, Order, Outcome
from wgpy.nat.upnp_run import MAX_ORDERS, Worker, carry_out, why_no_upnp

pytest.importorskip("miniupnpc", reason="the extra `upnp` is not installed")

OTHER = "192.168.1.9"


def do(order: Order) -> Outcome:
    return asyncio.run(carry_out(order))


def test_a_mapping_its_check_and_its_end() -> None:
    with FakeIgd() as igd:
        assert do(igd.order(Deed.MAP)) == Outcome("", EXTERNAL, PORT, 7_200)
        assert igd.entries == {PORT: (HOST, PORT, 7_200)}
        assert do(igd.order(Deed.CHECK)) == Outcome("", EXTERNAL, PORT, 7_200)
        assert do(igd.order(Deed.LOOK)) == Outcome("", EXTERNAL)
        assert do(igd.order(Deed.REMOVE)) == Outcome()
        assert igd.entries == {}
        assert do(igd.order(Deed.CHECK)).refusal == "the router has lost the mapping"


def test_where_leases_are_not_known_the_mapping_is_permanent() -> None:
    with FakeIgd() as igd:
        igd.only_permanent = True
        assert do(igd.order(Deed.MAP)) == Outcome("", EXTERNAL, PORT, 0)
        assert igd.entries == {PORT: (HOST, PORT, 0)}


def test_a_port_of_another_is_passed_over() -> None:
    """Of another machine, and of another program of this one, which a router would write over."""
    with FakeIgd() as igd:
        igd.entries = {PORT: (OTHER, PORT, 60), 5_000: (HOST, 22, 60)}
        before = dict(igd.entries)
        outcome = do(igd.order(Deed.MAP, PORT, 5_000, 6_000))
        assert outcome == Outcome("", EXTERNAL, 6_000, 7_200)
        assert igd.entries == {**before, 6_000: (HOST, PORT, 7_200)}
        outcome = do(igd.order(Deed.MAP, PORT, 5_000))
        assert outcome.refusal == "every port that was asked for is another's"
        for deed in (Deed.CHECK, Deed.REMOVE):
            assert do(igd.order(deed, 5_000)).refusal == "the router has lost the mapping"
        assert igd.entries == {**before, 6_000: (HOST, PORT, 7_200)}


def test_a_conflict_that_only_the_router_sees() -> None:
    with FakeIgd() as igd:
        igd.refuses = {"AddPortMapping": 718}
        outcome = do(igd.order(Deed.MAP, PORT, 5_000))
        assert outcome.refusal == "every port that was asked for is another's"
        assert igd.actions.count("AddPortMapping") == 2


def test_a_router_that_wants_equal_ports_gets_them() -> None:
    with FakeIgd() as igd:
        igd.refuses = {"AddPortMapping": 724}
        outcome = do(igd.order(Deed.MAP, 5_000, PORT))
        assert outcome.refusal == "SamePortValuesRequired", "it refuses equal ones as well"
        assert igd.actions.count("AddPortMapping") == 2


def test_a_router_that_says_port_0_of_every_mapping() -> None:
    with FakeIgd() as igd:
        igd.is_mute = True
        assert do(igd.order(Deed.MAP)).port == PORT
        assert do(igd.order(Deed.CHECK)).port == PORT
        assert do(igd.order(Deed.MAP, held=PORT)).port == PORT, "it is known to be ours"
        assert do(igd.order(Deed.MAP)).refusal, "it may be that of another program"
        assert do(igd.order(Deed.REMOVE)) == Outcome()
        assert igd.entries == {}


def test_a_mapping_that_the_router_gave_to_another() -> None:
    with FakeIgd() as igd:
        igd.enters = (OTHER, PORT, 7_200)
        assert "to another machine" in do(igd.order(Deed.MAP)).refusal


def test_a_router_that_cannot_look_up_one_mapping_is_taken_at_its_word() -> None:
    with FakeIgd() as igd:
        igd.refuses = {"GetSpecificPortMappingEntry": 401}
        assert do(igd.order(Deed.MAP)) == Outcome("", EXTERNAL, PORT, 7_200)


@pytest.mark.parametrize("external", ["", "router.lan", "::1", "1.2.3", "11.0.0.7.8", "\xe9" * 30])
def test_an_external_address_that_is_none_is_not_passed_on(external: str) -> None:
    with FakeIgd() as igd:
        igd.external = external
        assert do(igd.order(Deed.LOOK)) == Outcome()
        assert do(igd.order(Deed.MAP)).refusal == "the router tells no external address"
        assert igd.entries == {}


def test_refusals_are_said_in_words() -> None:
    with FakeIgd() as igd:
        igd.refuses = {"AddPortMapping": 606}
        assert do(igd.order(Deed.MAP)).refusal == "Action not authorized"
        igd.refuses = {"AddPortMapping": 899}
        assert do(igd.order(Deed.MAP)).refusal == "UnknownError"


def test_a_control_url_of_another_host_is_not_called() -> None:
    with FakeIgd() as igd, FakeIgd() as victim:
        for base, control in (
            ("", victim.url.replace(HOST, "localhost")),
            (victim.url.replace(HOST, "127.0.0.2"), "/control"),
        ):
            igd.base, igd.control = base, control
            assert do(igd.order(Deed.MAP)).refusal == "the router's description names another host"
        assert victim.actions == []
        assert igd.actions == []


def test_another_address_of_ours_is_refused() -> None:
    with FakeIgd() as igd:
        outcome = do(igd.order(Deed.MAP, own="192.168.1.50"))
        assert outcome.refusal == "the router is reached from 127.0.0.1, not from 192.168.1.50"


def test_a_closed_port_is_a_refusal() -> None:
    with FakeIgd() as igd:
        order = igd.order(Deed.MAP)
    assert do(order).refusal == "No UPnP device discovered"


@pytest.mark.parametrize("page", ["", "<", "x" * 100_000, "<device>" * 20_000, "<a b='\x00"])
def test_what_is_no_description_is_a_refusal(page: str) -> None:
    with FakeIgd() as igd:
        igd.page = page
        assert do(igd.order(Deed.MAP)).refusal
        assert igd.actions == []


def test_a_router_that_answers_without_end_costs_little_memory() -> None:
    with FakeIgd() as igd:
        igd.floods = 1 << 30
        assert do(igd.order(Deed.MAP)).refusal


def test_a_router_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upnp_run, "ORDER_LIMIT", 0.5)
    with FakeIgd() as igd:
        igd.hangs = True
        assert do(igd.order(Deed.MAP)).refusal == "the router answers too slowly"


# --- The process ---


def test_the_process_can_do_nothing_else(tmp_path: object) -> None:
    """No capability, no file to be written, no more time and memory than it needs."""
    program = f"""
import resource
from wgpy.nat.upnp_worker import _restrict
_restrict()
status = dict(x.split(":\\t") for x in open("/proc/self/status").read().splitlines() if ":\\t" in x)
assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0, status
assert status["NoNewPrivs"] == "1"
assert resource.getrlimit(resource.RLIMIT_AS)[1] <= 1 << 28
assert resource.getrlimit(resource.RLIMIT_CPU)[1] <= 10
try:
    open("{tmp_path}/x", "w")
except PermissionError:
    print("forbidden")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "forbidden\n", done.stderr


def test_what_a_broken_process_prints_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    for program in ("/bin/false", "/bin/true", "/usr/bin/yes"):
        monkeypatch.setattr(sys, "executable", program)
        with FakeIgd() as igd:
            assert do(igd.order(Deed.MAP)).refusal == "the process for UPnP failed"
    monkeypatch.setattr(sys, "executable", "/nonexistent")
    assert "no process for UPnP" in do(igd.order(Deed.MAP)).refusal


def test_orders_are_carried_out_in_turn_and_bounded() -> None:
    done: list[tuple[Order, Outcome]] = []

    async def life() -> None:
        worker = Worker(lambda order, outcome: done.append((order, outcome)))
        with FakeIgd() as igd:
            orders = [igd.order(Deed.MAP, 5_000 + n, port=n + 1) for n in range(MAX_ORDERS + 2)]
            for order in orders:
                worker.take(order)
            assert not worker.idle
            while not worker.idle:
                await asyncio.sleep(0.01)
            refused = [order for order, outcome in done if outcome.refusal]
            assert refused == orders[MAX_ORDERS:]
            assert [order for order, outcome in done if not outcome.refusal] == orders[:MAX_ORDERS]
            assert worker.counters["orders dropped"] == 2
            await worker.close()

    asyncio.run(life())


def test_closing_kills_what_is_under_way() -> None:
    async def life() -> None:
        worker = Worker(lambda order, outcome: pytest.fail("nobody waits for it"))
        with FakeIgd() as igd:
            igd.hangs = True
            worker.take(igd.order(Deed.MAP))
            worker.take(igd.order(Deed.MAP))
            await asyncio.sleep(0.3)
            await worker.close()
            assert worker.idle

    asyncio.run(life())


def test_without_the_extra_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert why_no_upnp() == ""
    monkeypatch.setitem(sys.modules, "miniupnpc", None)
    assert "miniupnpc is not installed" in why_no_upnp()
