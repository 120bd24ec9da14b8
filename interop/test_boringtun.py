"""wgpy against boringtun, the userspace WireGuard in Rust."""

import pytest

from interop.checks import Checks
from tests.support.netns import Pair
from tests.support.programs import BORINGTUN


@pytest.mark.tool("boringtun-cli")
class TestBoringtun(Checks):
    """The newest release of boringtun-cli."""

    other = BORINGTUN

    @pytest.mark.parametrize("silent", ["ours"])
    def test_passive_keepalive(self, net: Pair, silent: str) -> None:
        """Ours alone: boringtun-cli 0.7 sends none, to wireguard-go neither."""
        super().test_passive_keepalive(net, silent)
