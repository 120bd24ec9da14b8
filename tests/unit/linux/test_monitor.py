"""Following a link: up, down, MTU, name, another namespace, and its end."""

import select
from collections.abc import Callable, Iterator

import pytest

from tests.support.netns import Namespace, wait_until
from wgpy.linux.monitor import Change, LinkState, Monitor
from wgpy.linux.tun import Tun, open_tun

pytestmark = pytest.mark.root

NAME = "montest0"


class Followed:
    """A TUN in a namespace, and a monitor of it."""

    def __init__(self, space: Namespace) -> None:
        self.space = space

        def make() -> tuple[Tun, Monitor]:
            tun = open_tun(NAME)
            return tun, Monitor(tun)

        self.tun, self.monitor = space.inside(make)

    def state(self) -> LinkState | None:
        return self.monitor.state()

    def hears(self, wanted: Change, action: Callable[[], object]) -> None:
        """Carry out `action`; an event that says `wanted` must follow."""
        self.monitor.read()
        action()
        heard = Change.NOTHING

        def listen() -> bool:
            nonlocal heard
            select.select([self.monitor.fd], [], [], 0.1)
            heard |= self.monitor.read()
            return wanted in heard

        wait_until(listen, f"an event of {wanted}")

    def close(self) -> None:
        self.monitor.close()
        self.tun.close()


@pytest.fixture
def followed(clean_machine: None) -> Iterator[Followed]:
    with Namespace("monitor") as space:
        made = Followed(space)
        yield made
        made.close()


def test_a_new_link_is_down(followed: Followed) -> None:
    state = followed.state()
    assert state is not None
    assert (state.name, state.up, state.mtu, state.elsewhere) == (NAME, False, 1420, False)


def test_up_down_and_mtu_are_followed(followed: Followed) -> None:
    link = ("link", "set", NAME)
    followed.hears(Change.LINK, lambda: followed.space.ip(*link, "up"))
    assert followed.state().up
    followed.hears(Change.LINK, lambda: followed.space.ip(*link, "mtu", "9000"))
    assert followed.state().mtu == 9000
    followed.hears(Change.LINK, lambda: followed.space.ip(*link, "down"))
    assert not followed.state().up


def test_addresses_and_routes_are_reported(followed: Followed) -> None:
    space = followed.space
    followed.hears(Change.LINK, lambda: space.ip("link", "set", NAME, "up"))
    address = ("10.5.5.1/24", "dev", NAME)
    followed.hears(Change.ROUTES, lambda: space.ip("address", "add", *address))
    route = ("10.6.0.0/16", "dev", NAME)
    followed.hears(Change.ROUTES, lambda: space.ip("route", "add", *route))
    followed.hears(Change.ROUTES, lambda: space.ip("route", "del", *route))
    followed.hears(Change.ROUTES, lambda: space.ip("address", "del", *address))
    six = ("fd55::1/64", "dev", NAME, "nodad")
    followed.hears(Change.ROUTES, lambda: space.ip("address", "add", *six))


def test_a_new_name_is_followed(followed: Followed) -> None:
    new = ("link", "set", NAME, "name", "renamed0")
    followed.hears(Change.LINK, lambda: followed.space.ip(*new))
    assert followed.state().name == "renamed0"


def test_a_link_in_another_namespace_is_followed_there(followed: Followed) -> None:
    with Namespace("away") as away:
        move = ("link", "set", NAME, "netns", away.name)
        followed.hears(Change.LINK, lambda: followed.space.ip(*move))
        state = followed.state()
        assert state is not None
        assert (state.name, state.elsewhere, state.up) == (NAME, True, False)
        followed.hears(Change.LINK, lambda: away.ip("link", "set", NAME, "up"))
        assert followed.state().up
        followed.hears(Change.LINK, lambda: away.ip("link", "set", NAME, "mtu", "2000"))
        assert followed.state().mtu == 2000
        away_and_new = ("link", "set", NAME, "down", "name", "renamed0")
        followed.hears(Change.LINK, lambda: away.ip(*away_and_new))
        assert (followed.state().name, followed.state().up) == ("renamed0", False)
        back = ("link", "set", "renamed0", "netns", followed.space.name)
        followed.hears(Change.LINK, lambda: away.ip(*back))
        assert not followed.state().elsewhere


def test_a_link_of_the_same_name_elsewhere_is_not_taken_for_it(followed: Followed) -> None:
    with Namespace("away") as away:
        followed.space.ip("link", "set", NAME, "netns", away.name)
        followed.space.ip("link", "add", NAME, "type", "veth", "peer", "name", "other0")
        followed.space.ip("link", "set", NAME, "mtu", "1111")
        assert followed.state().mtu == 1420
        followed.space.ip("link", "set", NAME, "up")
        assert not followed.state().up


@pytest.mark.parametrize("where", ["here", "away"])
def test_a_deleted_link_is_noticed(followed: Followed, where: str) -> None:
    with Namespace("away") as away:
        space = followed.space
        if where == "away":
            move = ("link", "set", NAME, "netns", away.name)
            followed.hears(Change.LINK, lambda: space.ip(*move))
            assert followed.state().elsewhere
            space = away
        followed.hears(Change.LINK, lambda: space.ip("link", "del", NAME))
        assert followed.state() is None


def test_events_that_were_lost_mean_that_anything_may_have_changed(followed: Followed) -> None:
    batch = "".join(f"route add 10.{n // 250}.{n % 250}.0/24 dev lo\n" for n in range(4000))
    followed.space.run("ip", "-batch", "-", stdin=batch)
    assert followed.monitor.read() == Change.LINK | Change.ROUTES
    # What was queued before the loss is still there.
    while followed.monitor.read():
        continue
    assert followed.state() is not None
