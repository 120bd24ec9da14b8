"""Names and routes of a node, as the applier brings them about beside the tunnel.

A tunnel works without either, so what fails here is said once, shown in the status, and tried again
with the next change.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Final

from wgpy.ip import Prefix
from wgpy.mesh import events
from wgpy.mesh.member import Member
from wgpy.mesh.names import Names, NamesError
from wgpy.mesh.routes import Offer, Outcome, Routes, RoutesError

_log = logging.getLogger(__name__)

_NOTHING: Final[dict[str, tuple[Prefix, ...]]] = {}


class MeshExtras:
    """`Extras` of one interface. `wake` is called, from any thread, when routes have changed by
    themselves: the machine is in another network."""

    def __init__(self, interface: str, wake: Callable[[], None]) -> None:
        self._interface = interface
        self._wake = wake
        self._names: Names | None = None
        self._routes: Routes | None = None
        # What names and routes were last told, and took.
        self._told_names: dict[str, tuple[bytes, ...]] | None = None
        self._told_routes: object = None
        self._allowed: Mapping[str, tuple[Prefix, ...]] = _NOTHING
        self._asked: tuple[Prefix, ...] = ()
        self._problems: dict[str, str] = {}
        self._said: tuple[str, ...] = ()

    def update(self, member: Member, started: bool) -> Mapping[str, tuple[Prefix, ...]]:
        """See Extras."""
        if member.papers is None:
            return _NOTHING
        self._asked = member.membership.offers
        self._update_names(member, started)
        self._update_routes(member, started)
        return self._allowed

    def _update_names(self, member: Member, started: bool) -> None:
        assert member.papers is not None
        assert member.directory is not None
        claims, settings = member.papers.claims, member.settings
        table = {
            name: tuple(x.address for x in addresses)
            for name, addresses in (
                (claims.name, claims.addresses),
                *((x.name, x.addresses) for x in member.directory.nodes.values()),
            )
        }
        # A resolver forgets what it was told of a link with the link.
        if table == self._told_names and not started and "names" not in self._problems:
            return
        if self._names is None:
            ranges = () if settings is None else (settings.range4, settings.range6)
            own = [x.address for x in claims.addresses]
            self._names = Names(self._interface, member.membership.domain, own, ranges)
        try:
            self._names.update(table)
        except NamesError as error:
            self._failed("names", events.names_not(member.membership.domain, str(error)))
            return
        if self._told_names is None:
            how = str(self._names.status().get("way"))
            _log.info("%s", events.names_by(member.membership.domain, how))
        self._told_names = table
        self._problems.pop("names", None)

    def _update_routes(self, member: Member, started: bool) -> None:
        assert member.papers is not None
        assert member.directory is not None
        claims, settings, membership = member.papers.claims, member.settings, member.membership
        offers = tuple(
            Offer(x.name, x.routes)
            for x in sorted(member.directory.nodes.values(), key=lambda x: x.name)
            if x.routes
        )
        ours = tuple(x for x in membership.offers if x in claims.prefixes)
        wish = (offers, membership.accept, membership.exit, ours, membership.masquerade)
        if wish == self._told_routes and not started and "routes" not in self._problems:
            return
        if self._routes is None:
            ranges = () if settings is None else (settings.range4, settings.range6)
            self._routes = Routes(self._interface, [x.address for x in claims.addresses], ranges)
            self._routes.on_change = self._changed
        try:
            outcome = self._routes.update(
                offers, membership.accept, membership.exit, ours, masquerade=membership.masquerade
            )
        except RoutesError as error:
            self._failed("routes", str(error))
            return
        self._told_routes = wish
        self._problems.pop("routes", None)
        self._take(outcome)

    def _take(self, outcome: Outcome) -> None:
        self._allowed = outcome.allowed
        for line in outcome.said if outcome.said != self._said else ():
            _log.info("%s", events.clean(line))
        self._said = outcome.said

    def _changed(self, outcome: Outcome) -> None:
        """From the thread that watches the machine's networks."""
        self._take(outcome)
        self._wake()

    def _failed(self, what: str, reason: str) -> None:
        if self._problems.get(what) != reason:
            _log.warning("%s", events.clean(reason))
        self._problems[what] = reason

    def stop(self, *, hold: bool) -> None:
        """See Extras."""
        # One that fails is no reason to leave the other as it is.
        try:
            if self._names is not None:
                self._names.stop()
        except NamesError as error:
            _log.error("%s", events.clean(str(error)))
        try:
            if self._routes is not None:
                self._routes.stop(hold_exit=hold)
        except RoutesError as error:
            _log.error("%s", events.clean(str(error)))
        self._told_names = self._told_routes = None

    def status(self) -> dict[str, object]:
        """See Extras."""
        routes = {} if self._routes is None else self._routes.status()
        if routes:
            # What an operator has not approved yet is not offered.
            routes["asked"] = list(map(str, self._asked))
        return {"names": {} if self._names is None else self._names.status(), "routes": routes}
