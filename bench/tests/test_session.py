"""What a run keeps between its samples."""

from pathlib import Path

import pytest

from bench.contenders import BARE, CONTENDERS
from bench.search import Start
from bench.session import KNOWN_STEP, RELATED_STEP, Session

GO = CONTENDERS["wireguard-go"]


def test_a_search_begins_where_the_last_one_ended() -> None:
    session = Session()
    assert session.start(GO, "udp", 64) is None
    session.remember(GO, "udp", 64, 50_000)
    session.remember(GO, "udp", 1420, 40_000)
    assert session.start(GO, "udp", 64) == Start(50_000, KNOWN_STEP)
    assert session.start(GO, "udp", 128) == Start(50_000, RELATED_STEP)
    assert session.start(GO, "udp", 1280) == Start(40_000, RELATED_STEP)
    assert session.start(GO, "burst", 64) is None
    assert session.start(BARE, "udp", 64) is None


def test_nothing_found_is_no_place_to_begin() -> None:
    session = Session()
    session.remember(GO, "udp", 64, 0.0)
    assert session.start(GO, "udp", 64) is None


@pytest.mark.root
@pytest.mark.tool("ip", "ping", "wg", "wireguard-go")
@pytest.mark.usefixtures("clean_machine")
def test_a_tunnel_lasts_for_a_round_and_its_session_for_a_sample() -> None:
    with Session() as session:
        with session.tunnel(GO) as (_, first):
            handshake = first.left_sees()[1]
        with session.tunnel(GO) as (_, second):
            assert second is first
            # The counters are those of a peer that was made anew.
            assert second.left_sees()[1] <= handshake
        session.end_round()
        with session.tunnel(GO) as (_, third):
            assert third is not first


@pytest.mark.root
@pytest.mark.tool("ip", "ping", "wg", "wireguard-go")
@pytest.mark.usefixtures("clean_machine")
def test_a_road_on_which_something_failed_is_not_taken_again() -> None:
    with Session() as session:
        with pytest.raises(ZeroDivisionError), session.road(GO) as broken:
            raise ZeroDivisionError
        assert not Path(f"/proc/{broken.pids[0]}").exists()
        with session.road(GO) as road, session.road(BARE) as bare:
            assert road.pids != broken.pids
            assert bare.pids == ()
    assert not Path(f"/proc/{road.pids[0]}").exists()
