"""The checks in the order in which they are told: what is vital first."""

from collections.abc import Callable
from typing import Final

from wgpy.doctor import comfort, vital
from wgpy.doctor.facts import Facts
from wgpy.doctor.finding import Finding

_CHECKS: Final[tuple[Callable[[Facts], Finding], ...]] = (
    vital.check_privileges,
    vital.check_tun,
    vital.check_data_path,
    vital.check_daemon,
    vital.check_clock,
    comfort.check_offloads,
    comfort.check_buffers,
    comfort.check_ipv6,
    comfort.check_resolver,
    comfort.check_nft,
    comfort.check_sockets,
    comfort.check_others,
)


def examine(facts: Facts) -> list[Finding]:
    """Judge the facts: one finding for each check."""
    return [check(facts) for check in _CHECKS]
